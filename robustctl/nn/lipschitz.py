"""What is known of a network's Lipschitz bound."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..errors import InvalidModelError
from ..lft import LFT, Bounded, block_form, series, static_gain
from ..pytrees import shape_of, traced
from ..system import Certifiable, Parameterization, explicit_of, form_of
from .activations import ACTIVATIONS, assumed, dtypes_of, fault, is_known, neurons

_TOLERANCE = 1e-6


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
        bound = float(phi.lipschitz_bound())  # pyright: ignore[reportFunctionMemberAccess]
        return bound if bound >= 0 else np.inf
    # The classes themselves: a subclass may compute something else.
    if kind is eqx.nn.Linear:
        return _linear_bound(phi)
    if kind is eqx.nn.MLP and phi.layers and not _mlp_fault(phi):
        found = [_linear_bound(layer) for layer in phi.layers]
        bounds = [bound for bound in found if bound is not None]
        return float(np.prod(bounds)) if len(bounds) == len(found) else None
    return None


def _linear_bound(layer: Any) -> float | None:
    """Norm of the weight; None for a subclass, a stack of layers (scan=True) and a bias that would repeat the output."""
    if type(layer) is not eqx.nn.Linear or layer.weight.ndim != 2:
        return None
    if layer.bias is not None and layer.bias.shape != layer.weight.shape[:1]:
        return None
    weight = np.asarray(layer.weight, np.float64)
    return float(np.linalg.norm(weight, 2)) if np.isfinite(weight).all() else np.inf


def _mlp_fault(phi: eqx.nn.MLP) -> str:
    return next(filter(None, (fault(a, *dtypes_of(phi)) for a in (phi.activation, phi.final_activation))), "")


def _mlp_form(phi: eqx.nn.MLP) -> LFT:
    """Return the form without state of an MLP that has a bound: a matrix and a block of neurons a layer."""
    form, dtypes = static_gain(np.eye(phi.layers[0].weight.shape[1])), dtypes_of(phi)
    for layer in phi.layers:
        form, n = series(form, static_gain(layer.weight)), len(layer.weight)
        function = phi.final_activation if layer is phi.layers[-1] else phi.activation
        # Equinox has the identity, which is no neuron, under no public name.
        if not is_known(function) or any(function is known for known in ACTIVATIONS.values()):
            form = series(form, block_form(neurons(n, function, dtypes)[0]))
    return form


def bounded(phi: Any, nv: int, nw: int) -> tuple[Bounded, tuple[str, ...]]:
    """Return the network as one block of an `LFT`, and what its bound assumes."""
    bound = lipschitz_bound(phi)
    gain = np.inf if bound is None else bound
    inside = form_of(phi)
    if inside is not None:
        return Bounded(nv, nw, gain, inside, _reason(inside)), inside.assumptions
    if type(phi) is eqx.nn.MLP:
        reason = _mlp_fault(phi)
        known = None if bound is None or not np.isfinite(bound) else _mlp_form(phi)
        assumptions = () if reason else assumed(phi.activation, phi.final_activation)
        return Bounded(nv, nw, gain, known, reason), assumptions
    # A network of another class vouches for its own bound.
    own = bound is not None and type(phi) is not eqx.nn.Linear
    text = f"the Lipschitz constant of {type(phi).__name__} is at most what its lipschitz_bound() returns: not checked"
    return Bounded(nv, nw, gain), (text,) if own else ()


def _reason(form: LFT) -> str:
    return next((block.reason for block in form.blocks if block.reason), "")


def check_phi(phi: Callable | Parameterization, nv: int, dtype) -> None:
    """Raise `InvalidModelError` unless `phi` maps `nv` features to `nv` and is, as far as can be seen, 1-Lipschitz.

    A network with a bound must have one of at most 1; one without is tried at 64 random points, which
    can refuse it but not certify it. Inside `jit` or `vmap` only the shapes are checked.
    """
    network = explicit_of(phi)
    v = jax.ShapeDtypeStruct((nv,), dtype)
    try:
        out = eqx.filter_eval_shape(network, v)
    except Exception as error:
        raise InvalidModelError(
            f"phi must accept a vector of nv = {nv} features; calling it raised: {error}"
        ) from error
    shape = shape_of(out)
    if shape != (nv,):
        raise InvalidModelError(
            f"phi must map nv = {nv} features to {nv}, got an output of shape {out if shape is None else shape}"
        )
    if traced(network):
        return
    bound = lipschitz_bound(network)
    found, how = (
        (_sampled(network, nv, dtype), "found at sampled points") if bound is None else (bound, "checked")
    )
    if not found <= 1 + _TOLERANCE:
        raise InvalidModelError(
            f"phi must be 1-Lipschitz, got a Lipschitz constant of {found:.6g} ({how}); "
            "divide its output by that or use LBDN, which is 1-Lipschitz for all weights"
        )


def _sampled(phi: Callable, nv: int, dtype) -> float:
    """Largest Jacobian norm at random points of several sizes."""
    points = jr.normal(jr.key(0), (64, nv), dtype) * jnp.logspace(-2, 2, 64, dtype=dtype)[:, None]
    return float(np.linalg.norm(np.asarray(_jacobians(phi, points), np.float64), 2, axis=(1, 2)).max())


@eqx.filter_jit
def _jacobians(phi: Callable, points):
    return jax.vmap(jax.jacfwd(phi))(points)
