"""Activations with slope in [0, 1], the class that every guarantee here assumes."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import InvalidModelError
from ..lft import Bounded, Slopes

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]

ACTIVATIONS: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "hard_tanh": jax.nn.hard_tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "identity": jax.nn.identity,
}
"""Known activations by the name a model file stores."""

IN_NUMPY: dict[Activation, Callable] = {
    jax.nn.relu: lambda z: np.maximum(z, 0),
    jnp.tanh: np.tanh,
    jax.nn.leaky_relu: lambda z: np.maximum(z, z * z.dtype.type(0.01)),
    jax.nn.hard_tanh: lambda z: np.clip(z, -1, 1),
    jax.nn.sigmoid: lambda z: 1 / (1 + np.exp(-z)),
    jax.nn.softplus: lambda z: np.logaddexp(z, 0),
    jax.nn.identity: lambda z: z,
}
"""The known activations on NumPy arrays."""

# Equinox' own identity has no public name; a network without a final activation holds it.
_IDENTITY = inspect.signature(eqx.nn.MLP.__init__).parameters["final_activation"].default
_DERIVED = (*ACTIVATIONS.values(), _IDENTITY)

# Dense where activations bend; from 1e2 on only to find growth and overflow, of exp at 89 in float32 and 710 in float64.
_SIZES = np.concatenate([np.logspace(-3, 2, 400), np.logspace(2, 15, 261)[1:]])
_PROBES = np.concatenate([-_SIZES[::-1], np.zeros(1), _SIZES])


def check_activation(activation: Any, *dtypes: Any) -> None:
    """Raise `InvalidModelError` unless an activation is elementwise with slope in [0, 1], as far as `fault` can find."""
    if found := fault(activation, *dtypes):
        raise InvalidModelError(found)


def fault(activation: Any, *dtypes: Any) -> str | None:
    """Return why an activation is none with slopes in [0, 1], None where nothing was found.

    Those in `ACTIVATIONS` are known to be; any other is evaluated from -1e15 to 1e15 in float64 and in the given dtypes of the
    model, which finds a slope outside the interval but cannot prove that there is none.
    """
    if is_known(activation):
        return None
    # JAX crashes where it is to trace a ufunc
    if not callable(activation) or isinstance(activation, np.ufunc):
        return f"activation must be a function of a JAX array, got {activation!r}; give jnp.tanh or jax.nn.relu, for example"
    try:
        hash(activation)
    except TypeError:
        return (
            f"activation must be a function without arrays in it, got {name_of(activation)}; with a constant in place of "
            "its array it is one, as functools.partial(jax.nn.leaky_relu, negative_slope=0.25) is for PReLU"
        )
    # A model that is built inside of jit, as for its shapes alone, has its activation evaluated all the same.
    with jax.ensure_compile_time_eval():
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            found = _fault_in(activation, np.dtype(float))
        others = (_fault_in(activation, dtype) for dtype in dict.fromkeys(map(np.dtype, dtypes)))
        return found or next(filter(None, others), None)


def is_known(activation: Any) -> bool:
    """Return whether the slope of an activation was derived, by hand, to be in [0, 1]."""
    return any(activation is known for known in _DERIVED)


def dtypes_of(tree: Any) -> tuple[np.dtype, ...]:
    """Return the dtypes of the floating-point arrays of a pytree, in which its activations are evaluated."""
    return tuple(dict.fromkeys(a.dtype for a in jax.tree.leaves(tree) if eqx.is_inexact_array(a)))


def _fault_in(activation: Callable[..., Any], dtype: np.dtype) -> str | None:
    points = np.unique(_PROBES.astype(dtype))
    points = points[np.isfinite(points)]
    changed = np.where(np.arange(points.size) % 2, points, points / 2).astype(dtype)
    compiled = jax.jit(activation)
    try:
        values, reversed_, others = (
            np.asarray(compiled(jnp.asarray(p))) for p in (points, points[::-1], changed)
        )
        single = np.asarray(activation(jnp.asarray(points[3])))
    except Exception as error:
        return f"activation must take an array and, entry by entry, a single number; {name_of(activation)} raised: {error}"
    if values.shape != points.shape or values.dtype != dtype:
        return (
            f"activation must keep shape and dtype of its argument, got {values.dtype}{list(values.shape)} of "
            f"{name_of(activation)} for {dtype}[{points.size}]"
        )
    # A function of one entry gives an entry the same value wherever it stands, whatever the others are.
    pairs = ((reversed_[::-1], values), (others[1::2], values[1::2]), (single, values[3]))
    near = 16 * float(jnp.finfo(dtype).eps)
    if single.shape or not all(np.allclose(a, b, near, near, equal_nan=True) for a, b in pairs):
        return (
            f"activation must depend on the entry itself alone, and {name_of(activation)} mixes entries; use one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    if not np.isfinite(values).all():
        return (
            f"activation must be finite, and {name_of(activation)} is not at {points[~np.isfinite(values)][0]:.3g} in {dtype}; write it "
            f"without overflow or use one of {', '.join(ACTIVATIONS)}"
        )
    return _slope_fault(activation, points.astype(float), values.astype(float), near)


def _slope_fault(
    activation: Callable[..., Any], points: np.ndarray, values: np.ndarray, near: float
) -> str | None:
    steps = np.diff(points)
    slopes = np.diff(values) / steps
    # What rounding of two neighboring values can do to their quotient.
    rounding = 1e-9 + near * np.maximum(np.abs(values[1:]), np.abs(values[:-1])) / steps
    if np.all(slopes >= -rounding) and np.all(slopes <= 1 + rounding):
        return None
    return (
        f"activation must have slope in [0, 1], got slopes from {slopes.min():.4g} to {slopes.max():.4g} of {name_of(activation)}; "
        f"use one of {', '.join(ACTIVATIONS)} or scale yours"
    )


def neurons(
    n: int, activation: Activation, dtypes: Iterable[Any]
) -> tuple[Slopes | Bounded, tuple[str, ...]]:
    """Return n neurons as a block of an `LFT`, and what is assumed of them: a block without a bound for a faulty activation."""
    if found := fault(activation, *dtypes):
        return Bounded(n, n, np.inf, reason=found), ()
    return Slopes(np.zeros(n), np.ones(n)), assumed(activation)


def assumed(*activations: Callable) -> tuple[str, ...]:
    """Return what is assumed of activations, in words: nothing of the known ones."""
    return tuple(
        f"the slope of the activation {name_of(activation)} is in [0, 1]: tried at {_PROBES.size:,} points up to 1e15, not proven"
        for activation in dict.fromkeys(activations)
        if not is_known(activation)
    )


def name_of(activation: Any) -> str:
    """Return what messages call an activation."""
    return getattr(activation, "__name__", None) or type(activation).__name__
