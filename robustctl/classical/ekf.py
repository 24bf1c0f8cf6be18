"""The extended Kalman filter of a sampled plant."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..errors import ModelError
from ..loops import noiseless
from ..plants import PlantState, Sampled, undisturbed
from ..system import StrictlyProper
from .model import as_array
from .modes import weight


class Belief(NamedTuple):
    """A filter's state: the predicted state of the plant, and the covariance `P` (nx, nx) of its physical part."""

    plant: PlantState
    P: Array


class NonlinearFilter(StrictlyProper):
    """What the extended and the unscented filter share: the plant's model, the covariances, the prior."""

    model: Sampled
    W: Array
    V: Array
    P0: Array
    x0: Array

    def init_state(self) -> Belief:
        """Return the prior."""
        return Belief(self.model.state_at(self.x0), self.P0)

    @abc.abstractmethod
    def _corrected(self, belief: Belief, y: Array) -> Belief:
        """Return what is believed after a measurement."""

    def output(self, x: Belief, w: Array) -> Array:
        """Return the estimate of the physical state."""
        return self._corrected(x, w).plant.x


class ExtendedKalmanFilter(NonlinearFilter):
    """An extended Kalman filter: the control and the measured output in, the estimated physical state out.

    ::

        M = P C' (C P C' + V)^-1,   x[t|t] = x + M (y - h(x)),   x+ = f(x[t|t], u),   P+ = A (I - M C) P A' + W

    with `A = df/dx`, `C = dh/dx` at the estimate, by JAX through the sampled plant; delay, rate limit and saturation
    act on the prediction as on the plant. An output that is not finite was not measured and corrects nothing.
    Source: Anderson and Moore, "Optimal Filtering", 1979, section 8.2.

    A strictly proper system: control `u`, and `w` the measured output. See `extended_kalman`.
    """

    def _corrected(self, belief: Belief, y: Array) -> Belief:
        x, P = belief.plant.x, belief.P
        expected, C = self.model.plant.output(x), jax.jacobian(self.model.plant.output)(x)
        y = y[: expected.shape[0]]
        measured = jnp.isfinite(y)
        C = jnp.where(measured[:, None], C, 0)
        M = jnp.linalg.solve(C @ P @ C.T + self.V, C @ P).T
        rest = jnp.eye(x.size, dtype=x.dtype) - M @ C
        after = x + M @ jnp.where(measured, y - expected, 0)
        return Belief(belief.plant._replace(x=after), rest @ P @ rest.T + M @ self.V @ M.T)

    def advance(self, x: Belief, u: Array, w: Array) -> Belief:
        """Return the next prediction and its covariance."""
        plant, P = self._corrected(x, w)
        still = jax.tree.map(lambda a: a[0], undisturbed(self.model, 1))

        def predict(state):
            return self.model.advance(plant._replace(x=state), u, still)

        A = jax.jacobian(lambda state: predict(state).x)(plant.x)
        return Belief(predict(plant.x), A @ P @ A.T + self.W)


def extended_kalman(
    sampled: Sampled, W: Any, V: Any, *, x0: Any = None, P0: Any = None
) -> ExtendedKalmanFilter:
    """Design an extended Kalman filter for a sampled plant.

    **Arguments:** `W` (nx, nx): covariance of the process noise a sample; `V` (ny, ny): of the measurement noise;
    either a matrix or its diagonal; `x0`, `P0`: prior mean and covariance, default the operating point and W.

    **Raises:** `ModelError` for covariances of the wrong shape or sign, and something that is not a `Sampled`.
    """
    if not isinstance(sampled, Sampled):
        raise ModelError(
            f"the plant must be a Sampled, got {type(sampled).__name__}; Sampled(plant, dt) makes one"
        )
    nx, ny = len(sampled.plant.states), len(sampled.plant.outputs)
    W, V = weight(W, nx, "W", definite=False), weight(V, ny, "V", definite=True)
    P0 = W if P0 is None else weight(P0, nx, "P0", definite=False)
    x0 = np.asarray(sampled.plant.operating_point()[0] if x0 is None else x0, float)
    if x0.shape != (nx,):
        raise ModelError(f"x0 must have {nx} entries, got shape {x0.shape}")
    return ExtendedKalmanFilter(noiseless(sampled), *(as_array(a) for a in (W, V, P0, x0)))
