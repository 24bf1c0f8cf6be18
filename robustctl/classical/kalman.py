"""The steady-state Kalman filter, and estimate feedback."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..affine import affine_form
from ..checks import weight
from ..errors import InvalidModelError
from ..lft import LFT, is_linear
from ..loops.parts import Of
from ..registry import registered
from ..system import StrictlyProper, System
from .model import Model, as_array, linear_model
from .modes import LIKELY, check_detectable, check_stabilizable
from .riccati import riccati
from .summary import summary
from .types import ArrayLike, PlantLike


class Kalman(NamedTuple):
    """A Kalman filter design.

    ::

        x_hat+ = A x_hat + B u + L (y - C x_hat)

    **Arguments:**

    - `L`: the predictor's gain (nx, ny)
    - `P`: covariance (nx, nx) of the prediction's error
    - `E`: the poles of A - L C
    - `estimator`: the filter as a system, None in continuous time
    """

    L: np.ndarray
    P: np.ndarray
    E: np.ndarray
    estimator: "KalmanFilter | None"

    __repr__ = summary


@registered(name="classical.KalmanFilter")
class KalmanFilter(StrictlyProper):
    """A steady-state Kalman filter about an operating point, from the control and the measured output to the estimate.

    ::

        x[t|t] = x[t|t-1] + M (y - y0 - C x[t|t-1]),     x[t+1|t] = A x[t|t] + B (u - u0)

    Its output is `x0 + x[t|t]`, the optimal estimate given the outputs up to the same sample. It is a strictly
    proper system: control `u`, and `w` the measured output.

    **Arguments:**

    - `A`: (nx, nx), of the model in deviations from the operating point
    - `B`: (nx, nu)
    - `C`: (ny, nx)
    - `M`: the gain (nx, ny) of the correction
    - `x0`: the operating point's state
    - `u0`: its control
    - `y0`: its output
    - `dt`: sample time in seconds, None where unknown
    """

    A: Float[Array, "nx nx"]
    B: Float[Array, "nx nu"]
    C: Float[Array, "ny nx"]
    M: Float[Array, "nx ny"]
    x0: Float[Array, " nx"]
    u0: Float[Array, " nu"]
    y0: Float[Array, " ny"]
    dt: float | None = eqx.field(static=True, default=None)

    @property
    def nu(self) -> int:
        """Number of controls."""
        return self.u0.shape[0]

    @property
    def ny(self) -> int:
        """Number of outputs, which are the estimated states."""
        return self.x0.shape[0]

    def undisturbed(self, references: int = 0) -> Array:
        """Return the measured output at the operating point; `references`, which it does not read, are zeros after it."""
        return jnp.concatenate([self.y0, jnp.zeros(references, self.y0.dtype)])

    def lft(self) -> LFT:
        """Return the matrices, inputs `[u, y]`; it is affine."""
        return affine_form(self, (self.u0, self.y0))

    def init_state(self) -> Array:
        """Return the estimate at the operating point, in deviations."""
        return self.x0 * 0

    def _corrected(self, x: Array, y: Array) -> Array:
        return x + self.M @ (y[: self.y0.shape[0]] - self.y0 - self.C @ x)

    def output(self, x: Array, w: Array) -> Array:
        """Return the estimate of the state."""
        return self.x0 + self._corrected(x, w)

    def advance(self, x: Array, u: Array, w: Array) -> Array:
        """Return the next prediction."""
        return self.A @ self._corrected(x, w) + self.B @ (u - self.u0)


@registered(name="classical.EstimateFeedback")
class EstimateFeedback(System):
    """A controller from the measured output to the control: a state feedback law on an estimate of the state.

    ::

        u = law(estimator.output(x, y)),    x+ = estimator.advance(x, u, y)

    **Arguments:**

    - `estimator`: a strictly proper system from (u, y) to the state, for example a `KalmanFilter` or an
      `ExtendedKalmanFilter`
    - `law`: a system from the state to the control, for example the controller of `lqr` or `mpc`

    **Raises:** `InvalidModelError` for a law with a guard inside whose filter reads states and has no bound of the estimate's error.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        estimator = rc.classical.kalman(sampled, 0.1, 0.1).estimator
        controller = rc.classical.EstimateFeedback(estimator, rc.classical.lqr(sampled, [1.0, 1.0], 1.0).controller)
    """

    estimator: StrictlyProper
    law: System
    dt = Of("estimator")

    def __check_init__(self):
        """Refuse a guard that takes the estimate for the state."""
        if self.law.unbounded_state:
            raise InvalidModelError(
                "a guard that reads an estimate must have a bound of its error, and a filter of this one has none; give the filter error=, "
                "for example rc.observers.error_bound(...).ultimate()"
            )

    def check_parts(self) -> None:
        """Refuse a law that does not read as many states as are estimated.

        **Raises:** `InvalidModelError`.
        """
        e = self.estimator
        states = eqx.filter_eval_shape(lambda: e.output(e.init_state(), e.undisturbed())).shape
        reads = self.law.nu
        if reads is not None and states != (reads - self.law.references,):
            raise InvalidModelError(
                f"the law must read the {states[0]} estimated states, got one of {reads - self.law.references}"
            )

    def undisturbed(self, references: int = 0) -> PyTree:
        """Return one sample of the measured output, the estimator's own."""
        return self.estimator.undisturbed(references)

    def lft(self) -> LFT | None:
        """Return the matrices where estimator and law are linear."""
        estimator, law = self.estimator.lft(), self.law.lft()
        if estimator is None or law is None or not (is_linear(estimator) and is_linear(law)):
            return None
        return affine_form(self, estimator.nu - law.ny)  # the estimator reads [u, y]

    def prepare(self) -> "EstimateFeedback":
        """Return the same with its parts prepared for many steps."""
        return dataclasses.replace(self, estimator=self.estimator.prepare(), law=self.law.prepare())

    def init_state(self) -> tuple[PyTree, PyTree]:
        """Return the initial states of estimator and law."""
        return self.estimator.init_state(), self.law.init_state()

    def step(self, x: tuple[PyTree, PyTree], u: Array) -> tuple[tuple[PyTree, PyTree], Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        estimate, inner = x
        inner_next, control = self.law.step(inner, self.estimator.output(estimate, u))
        return (self.estimator.advance(estimate, control, u), inner_next), control


def kalman(plant: PlantLike, W: ArrayLike, V: ArrayLike, *, G: ArrayLike | None = None) -> Kalman:
    """Design the steady-state Kalman filter.

    ::

        x+ = A x + B u + G w,   y = C x + v,     cov w = W,  cov v = V     (dx/dt and intensities in continuous time)

    Computed on balanced matrices and checked, as `lqr` is. `L` is the predictor's gain.

    **Arguments:**

    - `plant`: as for `linear_model`
    - `W`: covariance (nw, nw) of the process noise, or its diagonal
    - `V`: covariance (ny, ny) of the measurement noise, or its diagonal
    - `G`: (nx, nw), how the process noise enters, default the identity

    **Raises:** `InvalidModelError` for covariances of the wrong shape or sign, an undetectable mode, and a mode on the
    boundary of stability that the process noise does not excite.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        estimator = rc.classical.kalman(sampled, 0.1, 0.1).estimator
    """
    model = linear_model(plant)
    L, P, E = filter_gains(model, W, V, G)
    if not model.discrete:
        return Kalman(L, P, E, None)
    sys = model.system
    # The correction's gain; the predictor's is L = A M
    M = P @ sys.C.T @ np.linalg.inv(sys.C @ P @ sys.C.T + weight(V, sys.noutputs, "V", definite=True))
    parts = (sys.A, sys.B, sys.C, M, model.x, model.u, model.y)
    return Kalman(L, P, E, KalmanFilter(*(as_array(a) for a in parts), dt=float(sys.dt)))


def filter_gains(
    model: Model, W: ArrayLike, V: ArrayLike, G: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return L, P and E of the steady-state filter.

    **Raises:** `InvalidModelError`, same errors as `kalman`.
    """
    sys = model.system
    G = np.eye(sys.nstates) if G is None else np.asarray(G, float)
    if G.ndim != 2 or G.shape[0] != sys.nstates:
        raise InvalidModelError(f"G must have one row per state, {sys.nstates}, got shape {G.shape}")
    W, V = weight(W, G.shape[1], "W", definite=False), weight(V, sys.noutputs, "V", definite=True)
    check_detectable(sys.A, sys.C, model.discrete)
    try:  # the filter is the regulator of the transposed system
        found = riccati(sys.A.T, sys.C.T, G @ W @ G.T, V, None, model.discrete)
    except np.linalg.LinAlgError as error:
        check_detectable(sys.A, sys.C, model.discrete, tolerance=LIKELY)
        # Only after a failure: an unstable mode that the noise does not excite has a solution, one on the boundary has not
        check_stabilizable(sys.A, G @ W, model.discrete, "(A, G W)", LIKELY)
        raise InvalidModelError(
            f"the filter's Riccati equation must have a stabilizing solution, but its solver reports: {error}; let the noise W excite "
            "every state, and check the plant's numbers"
        ) from error
    return found.K.T, found.X, found.poles
