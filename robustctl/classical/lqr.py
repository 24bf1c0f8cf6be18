"""Linear quadratic regulation, optionally with integral action."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..affine import affine_form
from ..checks import weight
from ..errors import InvalidModelError
from ..lft import LFT
from ..loops.parts import Of
from ..registry import registered
from ..system import SignalLimits, System
from .actuator_limits import ActuatorLimits, Limits, actuator_limits
from .model import Model, as_array, linear_model, require_discrete
from .modes import LIKELY, check_detectable, check_stabilizable
from .riccati import riccati
from .summary import summary
from .types import ArrayLike, PlantLike


class LQR(NamedTuple):
    """A linear quadratic regulator.

    **Arguments:**

    - `K`: the gain, u = -K x
    - `S`: the Riccati solution, of the optimal cost x' S x
    - `E`: the closed-loop poles
    - `controller`: the law as a system that reads the state
    """

    K: np.ndarray
    S: np.ndarray
    E: np.ndarray
    controller: System

    __repr__ = summary


@registered(name="classical.StateFeedback")
class StateFeedback(System):
    """State feedback about an operating point, with integrators on combinations of the state.

    ::

        u = u0 - K (x - x0) - Ki z,     z+ = z + dt_i (Ci x - r),     r = Ci x0 without a reference

    It reads `x` (nx,) or `[x, r]` (nx + ni,). With `limits` u is clipped, and the integrators do not wind up.

    **Arguments:**

    - `K`: gain (nu, nx) of the state
    - `Ki`: gain (nu, ni) of the integrators
    - `Ci`: (ni, nx), the combinations of the state that are integrated
    - `x0`: the operating point's state
    - `u0`: its control
    - `dt_i`: the sample time for gains of a continuous-time design, else 1
    - `dt`: sample time in seconds, None where unknown
    - `limits`: of the control, None without
    """

    K: Float[Array, "nu nx"]
    Ki: Float[Array, "nu ni"]
    Ci: Float[Array, "ni nx"]
    x0: Float[Array, " nx"]
    u0: Float[Array, " nu"]
    dt_i: Float[Array, ""]
    dt: float | None = eqx.field(static=True, default=None)
    limits: ActuatorLimits | None = None
    ny = Of("u0", "size")

    @property
    def nu(self) -> int:
        """Number of inputs, references included."""
        return sum(self.Ci.shape)

    @property
    def references(self) -> int:
        """Number of references, without which it works too."""
        return self.Ci.shape[0]

    def lft(self) -> LFT | None:
        """Return the matrices, with which it is affine; None with limits, whose clipping feeds back into the integrators."""
        return affine_form(self, self.nu) if self.limits is None else None

    def output_limits(self) -> SignalLimits | None:
        """Return the limits of the control."""
        return self.limits and (self.limits.low, self.limits.high)

    def init_state(self) -> Array:
        """Return the integrators' zero state."""
        return jnp.zeros(self.Ci.shape[0], self.K.dtype)

    def step(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return `(x_next, control)`; here the input is the plant's state."""
        nx = self.x0.shape[0]
        state, r = u[:nx], u[nx:] if u.shape[0] > nx else self.Ci @ self.x0
        control = self.u0 - self.K @ (state - self.x0) - self.Ki @ x
        x_next = x + self.dt_i * (self.Ci @ state - r)
        if self.limits is None:
            return x_next, control
        control, taken = self.limits.apply(control)
        return x_next + taken, control


def lqr(
    plant: PlantLike,
    Q: ArrayLike,
    R: ArrayLike,
    N: ArrayLike | None = None,
    *,
    integral: ArrayLike | None = None,
    limits: Limits = None,
    dt: float | None = None,
) -> LQR:
    """Design the state feedback that minimizes a quadratic cost.

    ::

        J = sum or integral of  x' Q x + u' R u + 2 x' N u,      u = -K x

    Computed on balanced matrices, so that units do not matter, and checked: the Riccati equation's relative residual is below 1e-7.

    **Arguments:**

    - `plant`: as for `linear_model`
    - `Q`: weight (nx, nx) of the state, or its diagonal; with integrators (nx + ni, nx + ni)
    - `R`: weight (nu, nu) of the control, or its diagonal
    - `N`: cross weight (nx, nu), default zero
    - `integral`: (ni, nx); the state is then extended by the running sum (or integral) of `integral @ x`
    - `limits`: lowest and highest control, each one number or one for each control, or True for the plant's; integrators then do not
      wind up
    - `dt`: sample time of the integrators, for a continuous-time plant

    **Raises:** `InvalidModelError` for weights of the wrong shape or sign, an uncontrollable unstable mode, a mode on the boundary of
    stability that Q does not weight, limits that do not enclose the operating point, and a missing dt.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        design = rc.classical.lqr(sampled, [1.0, 1.0], 1.0)
    """
    model = linear_model(plant)
    Ci = np.zeros((0, model.x.size)) if integral is None else np.atleast_2d(np.asarray(integral, float))
    A, B = extended(model, Ci)
    K, S, E = gains(A, B, Q, R, N, model.discrete)
    nx = model.x.size
    step = (
        1.0
        if model.discrete or not Ci.shape[0]
        else require_discrete(model, dt, "a controller with integrators")
    )
    parts = (K[:, :nx], K[:, nx:], Ci, model.x, model.u, step)
    known = model.system.dt if model.discrete else dt
    arrays, limited = (as_array(M) for M in parts), actuator_limits(limits, plant, model, K[:, nx:])
    return LQR(K, S, E, StateFeedback(*arrays, dt=known and float(known), limits=limited))


def extended(model: Model, Ci: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B with the integrators' states after the plant's.

    **Raises:** `InvalidModelError` for another number of columns.
    """
    sys, ni = model.system, Ci.shape[0]
    if Ci.shape[1] != sys.nstates:
        raise InvalidModelError(
            f"integral must have one column per state, {sys.nstates}, got shape {Ci.shape}"
        )
    corner = np.eye(ni) if model.discrete else np.zeros((ni, ni))
    A = np.block([[sys.A, np.zeros((sys.nstates, ni))], [Ci, corner]])
    return A, np.vstack([sys.B, np.zeros((ni, sys.ninputs))])


def gains(
    A: np.ndarray, B: np.ndarray, Q: ArrayLike, R: ArrayLike, N: ArrayLike | None, discrete: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return K, S and E of the regulator.

    **Raises:** `InvalidModelError`, same errors as `lqr`.
    """
    nx, nu = B.shape
    Q, R = weight(Q, nx, "Q", definite=False), weight(R, nu, "R", definite=True)
    N = np.zeros((nx, nu)) if N is None else np.asarray(N, float)
    if N.shape != (nx, nu):
        raise InvalidModelError(f"N must be {nx} by {nu}, got shape {N.shape}")
    check_stabilizable(A, B, discrete)
    try:
        found = riccati(A, B, Q, R, N, discrete)
    except np.linalg.LinAlgError as error:
        check_stabilizable(A, B, discrete, tolerance=LIKELY)
        # The cost that is left for the best control of a sample: a mode that it does not show is not worth a control.
        held = np.linalg.solve(R, N.T)
        check_detectable(
            A - B @ held, Q - N @ held, discrete, "(Q, A), the plant as weighted by the cost,", LIKELY
        )
        raise InvalidModelError(
            f"the Riccati equation must have a stabilizing solution, but its solver reports: {error}; weight every state, and check "
            "the plant's numbers"
        ) from error
    return found.K, found.X, found.poles
