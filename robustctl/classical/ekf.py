"""The extended Kalman filter of a sampled plant."""

import abc
import dataclasses
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..checks import weight
from ..errors import InvalidModelError
from ..loops import ModelPlant, noiseless
from ..loops.parts import Of
from ..plants import PlantState, Sampled
from ..registry import registered
from ..system import StrictlyProper
from .model import as_array, require_sampled
from .types import ArrayLike


class Belief(NamedTuple):
    """A filter's state: the predicted state of the plant, and the covariance `P` (nx, nx) of its physical part."""

    plant: PlantState
    P: Array


class NonlinearEstimator(StrictlyProper):
    """Base of estimators of a plant's state: its model, the covariances, the prior.

    **Arguments:**

    - `model`: the plant without noise
    - `W`: covariance (nx, nx) of the process noise
    - `V`: covariance (ny, ny) of the measurement noise
    - `P0`: prior covariance (nx, nx)
    - `x0`: prior mean (nx,)
    """

    model: Sampled | ModelPlant
    W: Float[Array, "nx nx"]
    V: Float[Array, "ny ny"]
    P0: Float[Array, "nx nx"]
    x0: Float[Array, " nx"]
    nu, dt = Of("model"), Of("model")
    inputs, input_units = Of("model"), Of("model")

    @property
    def ny(self) -> int:
        """Number of outputs, which are the estimated states."""
        return self.x0.shape[0]

    def prepare(self) -> Self:
        """Return the same with its model prepared for many steps."""
        return dataclasses.replace(self, model=self.model.prepare())


class NonlinearFilter(NonlinearEstimator):
    """Base of the extended and the unscented filter; the arguments are those of `NonlinearEstimator`."""

    model: Sampled

    def undisturbed(self, references: int = 0) -> Array:
        """Return the measured output at the prior mean; `references`, which it does not read, are zeros after it."""
        return jnp.concatenate([self.model.plant.output(self.x0), jnp.zeros(references, self.x0.dtype)])

    def check_parts(self) -> None:
        """Refuse covariances of other sizes than the model's.

        **Raises:** `InvalidModelError`.
        """
        plant = self.model.plant
        wanted, given = (len(plant.states), len(plant.outputs)), (self.x0.size, self.V.shape[0])
        if wanted != given:
            raise InvalidModelError(
                f"the covariances must be of the model's {wanted} states and outputs, got {given}"
            )

    def init_state(self) -> Belief:
        """Return the prior."""
        return Belief(self.model.state_at(self.x0), self.P0)

    @abc.abstractmethod
    def _corrected(self, belief: Belief, y: Array) -> Belief:
        """Return mean and covariance after a measurement."""

    def output(self, x: Belief, w: Array) -> Array:
        """Return the estimate of the physical state."""
        return self._corrected(x, w).plant.x


@registered(name="classical.ExtendedKalmanFilter")
class ExtendedKalmanFilter(NonlinearFilter):
    """An extended Kalman filter: the control and the measured output in, the estimated physical state out.

    ::

        M = P C' (C P C' + V)^-1,   x[t|t] = x + M (y - h(x)),   x+ = f(x[t|t], u),   P+ = A (I - M C) P A' + W

    with `A = df/dx`, `C = dh/dx` at the estimate, by JAX through the sampled plant; delay, rate limit and saturation
    act on the prediction as on the plant. An output that is not finite counts as not measured and changes nothing.
    It is a strictly proper system: control `u`, and `w` the measured output. Source: Anderson and Moore, "Optimal
    Filtering", 1979, section 8.2.

    The arguments are those of `NonlinearFilter`; `extended_kalman` makes one.
    """

    def _corrected(self, belief: Belief, y: Array) -> Belief:
        x, P = belief.plant.x, belief.P
        expected, C = self.model.plant.output(x), jax.jacobian(self.model.plant.output)(x)
        y = y[: expected.shape[0]]
        measured = jnp.isfinite(y)
        # A row of zeros in C makes the gain of a missing output zero; V keeps the innovation's covariance regular.
        C = jnp.where(measured[:, None], C, 0)
        M, P = measured_by(P, C, self.V)
        after = x + M @ jnp.where(measured, y - expected, 0)
        return Belief(belief.plant._replace(x=after), P)

    def advance(self, x: Belief, u: Array, w: Array) -> Belief:
        """Return the next prediction and its covariance."""
        plant, P = self._corrected(x, w)
        nominal = self.model.undisturbed()

        def predict(state):
            return self.model.advance(plant._replace(x=state), u, nominal)

        A = jax.jacobian(lambda state: predict(state).x)(plant.x)
        return Belief(predict(plant.x), A @ P @ A.T + self.W)


def extended_kalman(
    sampled: Sampled,
    W: ArrayLike,
    V: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    P0: ArrayLike | None = None,
) -> ExtendedKalmanFilter:
    """Design an extended Kalman filter for a sampled plant.

    **Arguments:**

    - `sampled`: the plant
    - `W`: covariance (nx, nx) of the process noise per sample, or its diagonal
    - `V`: covariance (ny, ny) of the measurement noise, or its diagonal
    - `x0`: prior mean (nx,), default the operating point
    - `P0`: prior covariance (nx, nx), default W

    **Raises:** `InvalidModelError` for covariances of the wrong shape or sign, and a plant that is not a `Sampled`.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        estimator = rc.classical.extended_kalman(sampled, 0.1, 0.1)
        controller = rc.classical.EstimateFeedback(estimator, rc.classical.lqr(sampled, [1.0, 1.0], 1.0).controller)
    """
    require_sampled(sampled)
    nx, ny = len(sampled.plant.states), len(sampled.plant.outputs)
    W, V = weight(W, nx, "W", definite=False), weight(V, ny, "V", definite=True)
    P0 = W if P0 is None else weight(P0, nx, "P0", definite=False)
    x0 = np.asarray(sampled.plant.operating_point()[0] if x0 is None else x0, float)
    if x0.shape != (nx,):
        raise InvalidModelError(f"x0 must have {nx} entries, got shape {x0.shape}")
    return ExtendedKalmanFilter(noiseless(sampled), *(as_array(a) for a in (W, V, P0, x0)))


def measured_by(
    P: Float[Array, "n n"], C: Float[Array, "m n"], V: Float[Array, "m m"]
) -> tuple[Float[Array, "n m"], Float[Array, "n n"]]:
    """Return the gain of a measurement `C x` with noise of covariance V, and the covariance of x after it."""
    M = jnp.linalg.solve(C @ P @ C.T + V, C @ P).T
    # Joseph's form: P stays symmetric and positive semidefinite whatever the rounding of M
    rest = jnp.eye(P.shape[0], dtype=P.dtype) - M @ C
    return M, rest @ P @ rest.T + M @ V @ M.T


def lower_factor(P: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the lower triangular L with `L L' = P` of a covariance, which may be singular."""
    diagonal = jnp.maximum(jnp.diagonal(P), 0)
    unit = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
    # Of the correlations, whose size depends on no unit; rounding makes them indefinite by a few eps times their trace n.
    margin = P.shape[0] * float(jnp.finfo(P.dtype).eps) * jnp.eye(P.shape[0], dtype=P.dtype)
    L = jnp.linalg.cholesky((P + P.T) / 2 / unit[:, None] / unit[None] + margin)
    return jnp.where(diagonal[:, None] > 0, unit[:, None] * L, 0)
