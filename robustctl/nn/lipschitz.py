"""What is known of a network's Lipschitz bound."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..errors import ModelError
from ..lft import Bounded
from ..system import Certifiable, explicit_of
from .activations import ACTIVATIONS, check_activation
from .numpy_maps import traced

_TOLERANCE = 1e-6

# Equinox' own identity has no public name; a network without a final activation holds it.
_IDENTITY = inspect.signature(eqx.nn.MLP.__init__).parameters["final_activation"].default


def lipschitz_bound(phi: Any) -> float | None:
    """Return a checked upper bound on the network's Lipschitz constant in the 2-norm, None where there is none.

    A network may offer one as a method `lipschitz_bound() -> float`, computed from its own weights;
    for `equinox.nn.Linear` and `equinox.nn.MLP` it is the product of the weights' spectral norms (float64). A subclass that
    overrides what its parent computes has no bound until it defines one itself.
    """
    kind: Any = type(phi)
    if issubclass(kind, Certifiable) and kind.lft is Certifiable.lft and "lipschitz_bound" not in vars(kind):
        return None  # a subclass that computes something else than the parent whose bound it inherited
    if hasattr(phi, "lipschitz_bound"):
        return float(phi.lipschitz_bound())  # pyright: ignore[reportFunctionMemberAccess]
    # The classes themselves: a subclass may compute something else.
    if kind is eqx.nn.Linear:
        return _norm(phi.weight)
    if kind is eqx.nn.MLP:
        try:
            check_activation(phi.activation)
            check_activation(phi.final_activation)
        except ModelError:
            return None
        if phi.layers and all(layer.weight.ndim <= 2 for layer in phi.layers):  # not with scan=True
            return float(np.prod([_norm(layer.weight) for layer in phi.layers]))
    return None


def bounded(phi: Callable, nv: int, nw: int) -> tuple[Bounded, tuple[str, ...]]:
    """Return the network as one block of an `LFT`, and what its bound assumes."""
    bound = lipschitz_bound(phi)
    gain = np.inf if bound is None else bound
    inside = phi.lft() if isinstance(phi, Certifiable) else None
    if inside is not None:
        assumptions = inside.assumptions
    elif isinstance(phi, eqx.nn.MLP):
        assumptions = assumed(phi.activation, phi.final_activation)
    else:
        assumptions = ()
    return Bounded(nv, nw, gain, inside), assumptions


def assumed(*activations: Callable) -> tuple[str, ...]:
    """Return what is assumed of activations, in words: nothing of the known ones, whose slopes were derived."""
    known = (*ACTIVATIONS.values(), _IDENTITY)
    if all(any(activation is other for other in known) for activation in activations):
        return ()
    return ("the activation's slope is in [0, 1]: tried at points, not proven",)


def check_phi(phi: Callable, nv: int, dtype) -> None:
    """Raise `ModelError` unless `phi` maps `nv` features to `nv` and is, as far as can be seen, 1-Lipschitz.

    A network with a bound must have one of at most 1; one without is tried at 64 random points, which
    can refuse it but not certify it. Inside `jit` or `vmap` only the shapes are checked.
    """
    network = explicit_of(phi)
    v = jax.ShapeDtypeStruct((nv,), dtype)
    try:
        out = eqx.filter_eval_shape(network, v)
    except Exception as error:
        raise ModelError(
            f"phi must accept a vector of nv = {nv} features; calling it raised: {error}"
        ) from error
    shape = getattr(out, "shape", out)
    if shape != (nv,):
        raise ModelError(f"phi must map nv = {nv} features to {nv}, got an output of shape {shape}")
    if traced(network):
        return
    bound = lipschitz_bound(network)
    found, how = (
        (_sampled(network, nv, dtype), "found at sampled points") if bound is None else (bound, "checked")
    )
    if not found <= 1 + _TOLERANCE:
        raise ModelError(
            f"phi must be 1-Lipschitz, got a Lipschitz constant of {found:.6g} ({how}); "
            "divide its output by that or use LBDN, which is 1-Lipschitz for all weights"
        )


def _norm(weight) -> float:
    weight = np.asarray(weight, np.float64)
    return float(np.linalg.norm(weight.reshape(1, -1) if weight.ndim < 2 else weight, 2))


def _sampled(phi: Callable, nv: int, dtype) -> float:
    """Largest Jacobian norm at random points of several sizes."""
    points = jr.normal(jr.key(0), (64, nv), dtype) * jnp.logspace(-2, 2, 64, dtype=dtype)[:, None]
    return float(np.linalg.norm(np.asarray(_jacobians(phi, points), np.float64), 2, axis=(1, 2)).max())


@eqx.filter_jit
def _jacobians(phi: Callable, points):
    return jax.vmap(jax.jacfwd(phi))(points)
