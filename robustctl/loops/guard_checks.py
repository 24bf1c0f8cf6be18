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
from .filters import Fallback, Filter
from .half_spaces import Allowed, nearest


def moving_poles(plant: StrictlyProper, controller: System) -> np.ndarray:
    """Return the poles of a loop about any strictly proper plant, linearized at its initial state in float64, less constant states'.

    `rc.classical.closed_loop_poles` is for sampled plants alone, and counts the poles at 1 of states that never change.
    """
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
    if listed := unstable(moving_poles(plant, fallback)):
        raise InvalidModelError(
            f"the fallback must stabilize the plant, got a loop with the poles {listed} (stable: inside the unit circle); "
            "rc.classical.linear_base and rc.classical.lqg give controllers that do"
        )


def check_start(filter: Filter, fallback: System, y0: Array, u0: Array) -> None:
    """Refuse a filter that excludes the first control, or allows none at the first measurement, not even that of the fallback.

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
    if filter.predicts and not _start_room(filter, fallback, y0, allowed) >= 0:
        raise InvalidModelError(
            f"the fallback's predicted trajectory from the start, y0 = {y0.tolist()}, must stay inside the limits less their margins, and "
            "does not; give a y0 further inside, wider limits, smaller disturbances or a better fallback"
        )


def _start_room(filter: Filter, fallback: System, y0: Array, allowed: Allowed) -> float:
    state, u = fallback.step(fallback.init_state(), y0)
    return float(filter.room(y0, jnp.clip(u, allowed.low, allowed.high), Fallback(fallback, state, filter)))


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
