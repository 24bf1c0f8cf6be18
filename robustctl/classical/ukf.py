"""The unscented Kalman filter of a sampled plant, which evaluates the plant at a few points instead of derivatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..plants import Sampled
from ..registry import registered
from .ekf import Belief, NonlinearFilter, extended_kalman, lower_factor
from .types import ArrayLike


@registered(name="classical.UnscentedKalmanFilter")
class UnscentedKalmanFilter(NonlinearFilter):
    """An unscented Kalman filter: the control and the measured output in, the estimated physical state out.

    ::

        X = [x, x + c L_i, x - c L_i],   L L' = P,   c = sqrt(n + 1),   weights 1 / (n + 1) and 1 / (2 n + 2)
        y_hat, S = mean, covariance of h(X) (+ V),   M = cov(X, h(X)) S^-1,   x[t|t] = x + M (y - y_hat)
        x+, P+   = mean, covariance of f(X[t|t], u) (+ W)

    An output that is not finite counts as not measured and changes nothing. It is a strictly proper system: control `u`,
    and `w` the measured output. Source: Julier, Uhlmann, "Unscented filtering and nonlinear estimation", Proc. IEEE,
    2004, with kappa = 1, so that all weights are positive.

    The arguments are those of `NonlinearFilter`; `unscented_kalman` makes one.
    """

    def _corrected(self, belief: Belief, y: Array) -> Belief:
        x, P = belief.plant.x, belief.P
        points, weights = _points(x, P)
        outputs = jax.vmap(self.model.plant.output)(points)
        expected, S = _moments(outputs, weights)
        measured = jnp.isfinite(y[: expected.shape[0]])
        # A missing output is decoupled: its row of `cross` is zero, and V's diagonal keeps S regular.
        both = measured[:, None] & measured[None]
        S = jnp.where(both, S + self.V, jnp.diag(jnp.diagonal(self.V)))
        cross = ((points - x[None]) * weights[:, None]).T @ (outputs - expected[None])
        M = jnp.linalg.solve(S, jnp.where(measured[None], cross, 0).T).T
        after = x + M @ jnp.where(measured, y[: expected.shape[0]] - expected, 0)
        return Belief(belief.plant._replace(x=after), P - M @ S @ M.T)

    def advance(self, x: Belief, u: Array, w: Array) -> Belief:
        """Return the next prediction and its covariance."""
        plant, P = self._corrected(x, w)
        nominal = self.model.undisturbed()
        points, weights = _points(plant.x, P)
        ahead = jax.vmap(lambda state: self.model.advance(plant._replace(x=state), u, nominal).x)(points)
        mean, spread = _moments(ahead, weights)
        # The actuators' memory (delay, rate limit) is the same for all points: it depends on the controls alone.
        after = self.model.advance(plant, u, nominal)
        return Belief(after._replace(x=mean), spread + self.W)


def unscented_kalman(
    sampled: Sampled,
    W: ArrayLike,
    V: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    P0: ArrayLike | None = None,
) -> UnscentedKalmanFilter:
    """Design an unscented Kalman filter for a sampled plant.

    **Arguments:**

    - `sampled`: the plant
    - `W`: covariance (nx, nx) of the process noise per sample, positive definite, or its diagonal
    - `V`: covariance (ny, ny) of the measurement noise, or its diagonal
    - `x0`: prior mean (nx,), default the operating point
    - `P0`: prior covariance (nx, nx), default W

    **Raises:** same errors as `extended_kalman`.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        estimator = rc.classical.unscented_kalman(sampled, 0.1, 0.1)
    """
    like = extended_kalman(sampled, W, V, x0=x0, P0=P0)
    return UnscentedKalmanFilter(like.model, like.W, like.V, like.P0, like.x0)


def _points(x: Float[Array, " n"], P: Float[Array, "n n"]) -> tuple[Array, Array]:
    """Return the sigma points (2n + 1, n) and their weights."""
    n = x.size
    L = jnp.sqrt(jnp.asarray(n + 1, x.dtype)) * lower_factor(P).T
    points = jnp.concatenate([x[None], x[None] + L, x[None] - L])
    weights = jnp.full(2 * n + 1, 1 / (2 * (n + 1)), x.dtype).at[0].set(1 / (n + 1))
    return points, weights


def _moments(points: Float[Array, "m n"], weights: Float[Array, " m"]) -> tuple[Array, Array]:
    # From the first point, which is near the others: differences are exact, and sums of them are rounded less than those of the points.
    offsets = points - points[:1]
    shift = weights @ offsets
    deviations = offsets - shift[None]
    return points[0] + shift, (deviations * weights[:, None]).T @ deviations
