"""What a guarded controller must hold before it runs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..affine import to_float64
from ..errors import InvalidModelError
from ..linalg import unstable
from ..system import StrictlyProper, System
from .feedback import Feedback, feedback
from .filters import Filter
from .half_spaces import nearest


def loop_poles(plant: StrictlyProper, controller: System) -> np.ndarray:
    """Return the poles of a loop, linearized at its initial state in float64, without those of states that never change."""
    with jax.enable_x64(True):
        # Each alone first: a plant whose operating point follows from its float32 parameters does not step in float64.
        A = np.asarray(_state_matrix(feedback(to_float64(plant), to_float64(controller))))
    moves = np.any(np.eye(len(A)) != A, axis=1)
    return np.linalg.eigvals(A[moves][:, moves])


@eqx.filter_jit
def _state_matrix(loop: Feedback) -> Array:
    x, unravel = ravel_pytree(loop.init_state())
    w = loop.plant.undisturbed()
    return jax.jacfwd(lambda x: ravel_pytree(loop.step(unravel(x), w)[0])[0])(x)


def check_stabilizing(plant: StrictlyProper, fallback: System) -> None:
    """Refuse a fallback whose loop with a plant is unstable.

    **Raises:** `InvalidModelError` with the poles.
    """
    if listed := unstable(loop_poles(plant, fallback)):
        raise InvalidModelError(
            f"the fallback must stabilize the plant, got a loop with the poles {listed} (stable: inside the unit circle); "
            "rc.classical.linear_base and rc.classical.lqg give controllers that do"
        )


def check_start(filter: Filter, y0: Array, u0: Array) -> None:
    """Refuse a filter that excludes the first control, or allows none at the first measurement.

    **Raises:** `InvalidModelError`.
    """
    allowed = filter.allowed(y0, u0)
    low, high = (np.asarray(a) for a in (allowed.low, allowed.high))
    if low.shape != u0.shape or not ((low <= u0) & (u0 <= high)).all():
        raise InvalidModelError(
            f"u0 must be a control (nu,) within the filter's limits, got {u0.tolist()} with limits {low.tolist()} to {high.tolist()}; "
            "give u0, and limits for each control that do not contradict each other"
        )
    if not nearest(u0, allowed)[1]:
        raise InvalidModelError(
            f"the filter must allow a control at the start, y0 = {y0.tolist()}, and none was found; give a y0 inside the limits of the "
            "states, or wider limits"
        )


def check_range(low: Array, high: Array) -> None:
    """Refuse an empty range of measurements.

    **Raises:** `InvalidModelError`.
    """
    below, above = np.asarray(low), np.asarray(high)
    if below.shape != above.shape or not (below < above).all():
        raise InvalidModelError(
            f"y_low must be below y_high for each measurement, got {below.tolist()} and {above.tolist()}"
        )


def finite(tree) -> Array:
    """Return whether every floating-point number of a pytree is finite."""
    found = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return jnp.all(jnp.stack(found)) if found else jnp.asarray(True)
