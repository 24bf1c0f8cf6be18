"""Linear controllers as policies: on the control error, about an operating point."""

import re

import control as ct
import numpy as np
from jaxtyping import Array, Float

from ..affine import affine_form
from ..errors import InvalidModelError
from ..lft import LFT
from ..loops.parts import Of
from ..registry import registered
from ..state_space import StateSpace
from ..system import System
from .convert import to_control
from .model import as_array, linear_model
from .types import LinearLike, PlantLike, Realization, typed


@registered(name="classical.ErrorFeedback")
class ErrorFeedback(System):
    """A linear controller on the control error, about an operating point.

    ::

        u = u0 + K (r - y),     r = y0 without a reference

    It reads `y` (ny,) or `[y, r]` (2 ny,).

    **Arguments:**

    - `K`: the controller, from the error to the control
    - `y0`: the operating point's output
    - `u0`: its control
    """

    K: StateSpace
    y0: Float[Array, " ny"]
    u0: Float[Array, " nu"]
    dt, references, ny = Of("K"), Of("y0", "size"), Of("u0", "size")

    def check_parts(self) -> None:
        """Refuse an operating point of other sizes than the controller's.

        **Raises:** `InvalidModelError`.
        """
        if (self.K.nu, self.K.ny) != (self.y0.size, self.u0.size):
            raise InvalidModelError(
                f"y0 and u0 must be of the controller's sizes, {self.K.nu} and {self.K.ny}, got {self.y0.size} and {self.u0.size}"
            )

    @property
    def nu(self) -> int:
        """Number of inputs, references included."""
        return 2 * self.y0.shape[0]

    def lft(self) -> LFT:
        """Return the matrices; it is affine."""
        return affine_form(self, self.nu)

    def init_state(self) -> Array:
        """Return the zero state."""
        return self.K.init_state()

    def step(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        y, r = split_reference(u, self.y0)
        x_next, out = self.K.step(x, r - y)
        return x_next, out + self.u0


def split_reference(u: Array, y0: Array) -> tuple[Array, Array]:
    """Split a controller's input into `(y, r)`; without references, r is `y0`.

    **Raises:** `InvalidModelError` for an input that is neither `y` nor `[y, r]`.
    """
    ny = y0.shape[0]
    if u.shape[0] not in (ny, 2 * ny):
        raise InvalidModelError(
            f"the controller must read {ny} outputs, or as many outputs and references, got {u.shape[0]}"
        )
    return u[:ny], u[ny:] if u.shape[0] > ny else y0


def implement(K: ct.StateSpace, dt: float | None) -> StateSpace | None:
    """Return a controller as a discrete-time system, by Tustin's method from continuous time; None without a dt."""
    if K.dt == 0:
        if dt is None:
            return None
        K = ct.c2d(K, dt, "tustin") if K.nstates else ct.StateSpace(K.A, K.B, K.C, K.D, dt)
    return implemented(typed(K))


def implemented(K: Realization) -> StateSpace:
    """Return a discrete-time controller as a system of robustctl."""
    names = {"inputs": K.input_labels, "outputs": K.output_labels, "states": K.state_labels}
    return StateSpace(as_array(K.A), as_array(K.B), as_array(K.C), as_array(K.D), float(K.dt), **names)


def policy(controller: LinearLike, plant: PlantLike, *, error: bool = True) -> System:
    """Return a linear controller K as a policy for a plant, about its operating point.

    ::

        u = u_e + K (r - y)   (error, the negative feedback of control.feedback),   or   u = u_e + K (y - y_e)

    **Arguments:**

    - `controller`: K in discrete time, for example from python-control
    - `plant`: in discrete time, as for `linear_model`
    - `error`: whether K acts on the error r - y or on the output

    **Raises:** `InvalidModelError` for another dt, other numbers of signals, and names (other than python-control's
    default ones) that are not the plant's.

    **Example:** ::

        import control as ct
        lead = ct.tf([12.0, -10.0], [1.0, -0.5], 2.0)
        policy = rc.classical.policy(lead, rc.plants.Sampled(rc.plants.TwoTanks(), 2.0))
    """
    model, K = linear_model(plant), typed(to_control(controller))
    if K.dt == 0 or not model.discrete:
        raise InvalidModelError(
            "controller and plant must be discrete; control.c2d(K, dt, 'tustin') converts a controller, Sampled(plant, dt) a plant"
        )
    if not np.isclose(K.dt, model.system.dt, rtol=1e-9, atol=0):
        raise InvalidModelError(
            f"dt must be the same, got {K.dt} s for the controller and {model.system.dt} s for the plant"
        )
    _check_names("inputs", K.input_labels, model.system.output_labels)
    _check_names("outputs", K.output_labels, model.system.input_labels)
    sign = 1.0 if error else -1.0
    # ErrorFeedback computes K (r - y); with r = y_e and the sign in B and D this is K (y - y_e)
    K = typed(ct.StateSpace(K.A, sign * K.B, K.C, sign * K.D, K.dt))
    return ErrorFeedback(implemented(K), as_array(model.y), as_array(model.u))


def _check_names(what: str, given: list[str], wanted: list[str]) -> None:
    """Refuse another number of signals, and other names if neither side has python-control's default names."""
    default = any(all(re.fullmatch(r"[uy]\[\d+\]", name) for name in names) for names in (given, wanted))
    if len(given) != len(wanted) or (not default and given != wanted):
        raise InvalidModelError(
            f"the controller's {what} must be {wanted}, got {given}; rename or reorder them"
        )
