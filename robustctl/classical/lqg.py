"""Linear quadratic Gaussian control, optionally with integral action."""

from typing import Literal, NamedTuple

import control as ct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..affine import affine_form
from ..errors import InvalidModelError
from ..lft import LFT
from ..loops.parts import Of
from ..registry import registered
from ..scaled import Scaled
from ..state_space import StateSpace
from ..system import SignalLimits, System
from .actuator_limits import ActuatorLimits, Limits, actuator_limits
from .kalman import KalmanFilter, filter_gains, kalman
from .lqr import extended, gains
from .model import Model, as_array, linear_model, require_discrete
from .policies import implement
from .summary import summary
from .types import ArrayLike, PlantLike


class LQG(NamedTuple):
    """A linear quadratic Gaussian design.

    **Arguments:**

    - `K`: the regulator's gain
    - `S`: its Riccati solution
    - `E`: the poles of A - B K
    - `L`: the predictor's gain
    - `P`: covariance of the prediction's error
    - `controller`: from the measured output y, or [y, r], to the control
    """

    K: np.ndarray
    S: np.ndarray
    E: np.ndarray
    L: np.ndarray
    P: np.ndarray
    controller: System

    __repr__ = summary


@registered(name="classical.IntegralLQG")
class IntegralLQG(System):
    """A Kalman filter, state feedback of its estimate, and integrators on measured errors, about an operating point.

    ::

        u = u0 - K x[t|t] - Ki z,     z+ = z + H y - r,     r = H y0 without a reference

    It reads `y` (ny,) or `[y, r]` (ny + ni,). With `limits` u is clipped, the filter expects the control that was applied, and the
    integrators do not wind up.

    **Arguments:**

    - `filter`: the estimator
    - `K`: gain (nu, nx) of the estimate
    - `Ki`: gain (nu, ni) of the integrators
    - `H`: (ni, ny), the outputs that are integrated
    - `limits`: of the control, None without
    """

    filter: KalmanFilter
    K: Float[Array, "nu nx"]
    Ki: Float[Array, "nu ni"]
    H: Float[Array, "ni ny"]
    limits: ActuatorLimits | None = None
    dt = Of("filter")

    @property
    def nu(self) -> int:
        """Number of inputs, references included."""
        return sum(self.H.shape)

    @property
    def references(self) -> int:
        """Number of references, without which it works too."""
        return self.H.shape[0]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.filter.u0.shape[0]

    def lft(self) -> LFT | None:
        """Return the matrices, with which it is affine; None with limits, whose clipping feeds back into the state."""
        return affine_form(self, self.nu) if self.limits is None else None

    def output_limits(self) -> SignalLimits | None:
        """Return the limits of the control."""
        return self.limits and (self.limits.low, self.limits.high)

    def init_state(self) -> tuple[Array, Array]:
        """Return the zero states of filter and integrators."""
        return self.filter.init_state(), jnp.zeros(self.H.shape[0], self.K.dtype)

    def step(self, x: tuple[Array, Array], u: Array) -> tuple[tuple[Array, Array], Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        estimate, z = x
        ny = self.filter.y0.shape[0]
        y, wanted = u[:ny], u[ny:] if u.shape[0] > ny else self.H @ self.filter.y0
        deviation = self.filter.output(estimate, y) - self.filter.x0
        control = self.filter.u0 - self.K @ deviation - self.Ki @ z
        z_next = z + self.H @ y - wanted
        if self.limits is not None:
            control, taken = self.limits.apply(control)
            z_next += taken
        return (self.filter.advance(estimate, control, y), z_next), control


def lqg(
    plant: PlantLike,
    Q: ArrayLike,
    R: ArrayLike,
    W: ArrayLike,
    V: ArrayLike,
    *,
    G: ArrayLike | None = None,
    N: ArrayLike | None = None,
    integral: ArrayLike | Literal[True] | None = None,
    limits: Limits = None,
    dt: float | None = None,
) -> LQG:
    """Design the linear quadratic Gaussian controller: LQR on the estimate of a Kalman filter.

    ::

        discrete:    u[t] = -K x[t|t] - Ki z[t],    z+ = z + H y - r
        continuous:  dx_hat/dt = A x_hat + B u + L (y - C x_hat),  u = -K x_hat, implemented at dt by Tustin's method

    In discrete time the estimate uses the output of the same sample, so the controller is optimal among all that use y
    up to t.

    **Arguments:**

    - `plant`: as for `linear_model`
    - `Q`: weight (nx, nx) or (nx + ni, nx + ni) of the state, as for `lqr`
    - `R`: weight (nu, nu) of the control, as for `lqr`
    - `N`: cross weight, as for `lqr`
    - `W`: covariance (nw, nw) of the process noise, as for `kalman`
    - `V`: covariance (ny, ny) of the measurement noise, as for `kalman`
    - `G`: (nx, nw), how the process noise enters, default the identity
    - `integral`: H (ni, ny), or True for all outputs. The outputs `H y` are integrated and Q is of size nx + ni;
      constant disturbances and references of these outputs then leave no error
    - `limits`: lowest and highest control of a sampled plant, each one number or one for each control, or True for the plant's; the
      filter then expects the control that is applied, and integrators do not wind up
    - `dt`: sample time of the controller, for a continuous-time plant

    **Raises:** `InvalidModelError` for an `integral` of another width and limits of a continuous-time plant; same errors as `lqr` and
    `kalman`.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        design = rc.classical.lqg(sampled, [1.0, 1.0], 1.0, 0.1, 0.1)
    """
    model = linear_model(plant)
    step = require_discrete(model, dt, "the controller")
    sys = model.system
    H = (
        np.zeros((0, sys.noutputs))
        if integral is None
        else np.eye(sys.noutputs)
        if integral is True
        else np.asarray(integral)
    )
    if H.ndim != 2 or H.shape[1] != sys.noutputs:
        raise InvalidModelError(
            f"integral must have one column per output, {sys.noutputs}, got shape {H.shape}"
        )
    if limits is not None and not model.discrete:
        raise InvalidModelError(
            "limits must be of a sampled plant, got a continuous-time one; sample it first, for example by rc.plants.Sampled(plant, dt)"
        )
    A, B = extended(model, H @ sys.C)
    K, S, E = gains(A, B, Q, R, N, model.discrete)
    L, P, _ = filter_gains(model, W, V, G)
    if model.discrete:
        estimator = kalman(model, W, V, G=G).estimator
        assert estimator is not None
        nx = sys.nstates
        arrays, limited = (
            (as_array(M) for M in (K[:, :nx], K[:, nx:], H)),
            actuator_limits(limits, plant, model, K[:, nx:]),
        )
        return LQG(K, S, E, L, P, IntegralLQG(estimator, *arrays, limits=limited))
    controller = implement(observer_controller(model, K, L, H), step)
    assert controller is not None
    return LQG(K, S, E, L, P, about(controller, model, H))


def observer_controller(model: Model, K: np.ndarray, L: np.ndarray, H: np.ndarray) -> ct.StateSpace:
    """Return the controller of an observer and state feedback, from `[y, r]` (r for each integrator) to u.

    ::

        x_hat+ = (A - B K - L C) x_hat - B Ki z + L y,    z+ = z + H y - r,    u = -K x_hat - Ki z

    In continuous time the left sides are derivatives, and dz/dt = H y - r.
    """
    sys, ni = model.system, H.shape[0]
    Kx, Ki = K[:, : sys.nstates], K[:, sys.nstates :]
    corner = np.eye(ni) if model.discrete else np.zeros((ni, ni))
    A = np.block([[sys.A - sys.B @ Kx - L @ sys.C, -sys.B @ Ki], [np.zeros((ni, sys.nstates)), corner]])
    B = np.block([[L, np.zeros((sys.nstates, ni))], [H, -np.eye(ni)]])
    return ct.StateSpace(A, B, -K, np.zeros((K.shape[0], B.shape[1])), sys.dt)


def about(controller: StateSpace, model: Model, H: np.ndarray) -> System:
    """Return the controller of `observer_controller` about the operating point; it reads `y` or `[y, r]`."""
    # `Scaled` with scales of one shifts the signals: its input mean is [y_e, H y_e], its output mean u_e
    mean = np.concatenate([model.y, H @ model.y])
    one = (np.ones_like(mean), model.u, np.ones_like(model.u))
    inner = Scaled(controller, *(as_array(a) for a in (mean, *one)), dt=controller.dt)
    return WithoutReference(inner, as_array(mean[len(model.y) :]))


@registered(name="classical.WithoutReference")
class WithoutReference(System):
    """A controller that reads `[y, r]`, with the constant reference `r0` if the loop has none."""

    inner: Scaled
    r0: Float[Array, " ni"]
    dt = Of("inner")

    def check_parts(self) -> None:
        """Refuse references that are more than the inner controller reads.

        **Raises:** `InvalidModelError`.
        """
        if self.r0.shape[0] > self.inner.nu:
            raise InvalidModelError(
                f"there must be at most {self.inner.nu} references, all that the controller reads, got {self.r0.shape[0]}"
            )

    @property
    def nu(self) -> int:
        """Number of inputs, references included."""
        return self.inner.nu

    @property
    def references(self) -> int:
        """Number of references, without which it works too."""
        return self.r0.shape[0]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.inner.ny

    def lft(self) -> LFT | None:
        """Return the affine form if the inner controller has an LFT, otherwise None."""
        return None if self.inner.lft() is None else affine_form(self, self.nu)

    def init_state(self) -> Array:
        """Return the inner controller's initial state."""
        return self.inner.init_state()

    def step(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        missing = self.inner.u_mean.shape[0] - u.shape[0]
        return self.inner.step(x, jnp.concatenate([u, self.r0]) if missing else u)
