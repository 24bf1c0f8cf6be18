"""Limits of actuators: of the plant or given, and integrators that do not wind up at them."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import InvalidModelError
from ..plants import limits
from ..registry import registered
from .model import Model, as_array, is_physical
from .modes import one_each
from .types import ArrayLike, PlantLike

Limits = tuple[ArrayLike, ArrayLike] | Literal[True] | None
"""Lowest and highest control, each one number or one for each control; True for the plant's, None for none."""


@registered(name="classical.ActuatorLimits")
class ActuatorLimits(eqx.Module):
    """Limits of the controls of a law with integrators z, `v = ... - Ki z`, which are corrected by what the limits took.

    ::

        u = clip(v, low, high),     z+ = z + error + Ki^+ (v - u)

    This is back-calculation in one sample: if nothing else changes, the next v of independent controls is at the limit, not beyond it.
    Source: Astrom and Hagglund, "Advanced PID Control", 2006, section 3.5.

    **Arguments:**

    - `low`: lowest control (nu,)
    - `high`: highest control (nu,)
    - `back`: (ni, nu), the pseudoinverse of Ki
    """

    low: Float[Array, " nu"]
    high: Float[Array, " nu"]
    back: Float[Array, "ni nu"]

    def apply(self, wanted: Array) -> tuple[Array, Array]:
        """Return the control that is applied, and what the integrators take back."""
        control = jnp.clip(wanted, self.low, self.high)
        return control, self.back @ (wanted - control)


def actuator_limits(given: Limits, plant: PlantLike, model: Model, Ki: np.ndarray) -> ActuatorLimits | None:
    """Return the limits of a law with gain `Ki` (nu, ni) of its integrators.

    **Raises:** `InvalidModelError` for what is neither a pair nor True, another number of limits, and limits that do not enclose the
    operating point.
    """
    if given is None:
        return None
    if given is not True and not (isinstance(given, tuple | list) and len(given) == 2):
        raise InvalidModelError(
            f"limits must be a pair of the lowest and the highest control, or True for the plant's, got {given!r}"
        )
    deviations = bounds(
        *((None, None) if given is True else given), model.u, control_limits(plant, model.u.size), "u"
    )
    low, high = (as_array(model.u + d) for d in deviations)
    return ActuatorLimits(low, high, as_array(np.linalg.pinv(Ki)))


def control_limits(plant: PlantLike, nu: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of a plant's control signals; infinite for a linear system without signals."""
    if is_physical(plant):
        return limits(plant.physical.controls)
    return np.full(nu, -np.inf), np.full(nu, np.inf)


def bounds(
    low: ArrayLike | None,
    high: ArrayLike | None,
    at: np.ndarray,
    default: tuple[np.ndarray, np.ndarray],
    letter: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return limits in deviations from the operating point.

    **Arguments:**

    - `low`: the lower limits as given, one number or one per signal
    - `high`: the upper limits, likewise
    - `at`: the operating point (n,)
    - `default`: the limits if none are given
    - `letter`: the signals' name for messages

    **Raises:** `InvalidModelError` for another number of limits, and limits that do not enclose the operating point.
    """
    given = [
        one_each(f"the limits on {letter}", d if v is None else v, at.size)
        for v, d in ((low, default[0]), (high, default[1]))
    ]
    if not (given[0] < at).all() or not (at < given[1]).all():
        raise InvalidModelError(
            f"the limits on {letter} must enclose its operating point {at}, got {given[0]} and {given[1]}; widen them or "
            "choose another operating point"
        )
    return given[0] - at, given[1] - at
