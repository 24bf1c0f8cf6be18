"""The best fit of any map with a Lipschitz constant to samples: a yardstick for networks."""

from typing import NamedTuple

import numpy as np

from ..checks import is_positive
from ..errors import RobustctlError

MOST = 500
"""Samples up to which the quadratic program is solved."""

_ROUNDS = 200


class LipschitzOptimum(NamedTuple):
    """The map with a Lipschitz constant that fits samples best, in no form but its values there.

    Called with x (nx,), it returns the middle between the largest and the smallest continuation of the values that keeps the constant.

    **Arguments:**

    - `x`: where the samples are (N, nx).
    - `values`: the map's values there (N, nu).
    - `gamma`: the Lipschitz constant of each output.
    - `rms`: root mean square of the errors at the samples: no such map has a smaller one.
    """

    x: np.ndarray
    values: np.ndarray
    gamma: float
    rms: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the values (nu,) at x (nx,)."""
        reach = self.gamma * np.linalg.norm(self.x - np.asarray(x, np.float64), axis=1)[:, None]
        return ((self.values + reach).min(axis=0) + (self.values - reach).max(axis=0)) / 2


def lipschitz_optimum(x, u, gamma: float) -> LipschitzOptimum:
    """Return the values of the best fit to samples among all maps with a Lipschitz constant, each output separately.

    ::

        min over v  sum |v_i - u_i|^2    with   |v_i - v_j| <= gamma |x_i - x_j|      one output at a time

    Every map of that constant has such values, and McShane's continuation makes a map of any. The Lipschitz constant of several outputs
    together is up to sqrt(nu) larger. Constraints are added where they are violated; each program is solved by nonnegative least
    squares. Source: A. Al Makdah, V. Krishnan, F. Pasqualetti, "Learning Lipschitz feedback policies from expert demonstrations:
    closed-loop guarantees, generalization and robustness", IEEE Open Journal of Control Systems, 2022; least distance programming:
    C. Lawson, R. Hanson, "Solving least squares problems", 1974, chapter 23.

    **Arguments:**

    - `x`: where the samples are (N, nx), N at most 500.
    - `u`: the samples (N, nu).
    - `gamma`: the constant, in units of u over those of x.

    **Raises:** `RobustctlError` for samples that are not finite or do not fit each other, more than 500 of them, a gamma that is not
    positive, and a program that 200 rounds do not solve.

    **Example:** ::

        x = np.array([[0.0], [1.0], [2.0]])
        print(rc.train.lipschitz_optimum(x, np.array([[0.0], [3.0], [0.0]]), 1.0).values)     # 0.667, 1.667, 0.667
    """
    x, u = (np.asarray(a, np.float64) for a in (x, u))
    if x.ndim != 2 or u.ndim != 2 or len(x) != len(u) or not 1 <= len(x) <= MOST:
        raise RobustctlError(
            f"x and u must be (N, nx) and (N, nu) with N from 1 to {MOST}, got {x.shape} and {u.shape}; draw {MOST} samples at random"
        )
    if not (np.isfinite(x).all() and np.isfinite(u).all()):
        raise RobustctlError("x and u must be finite, got NaN or infinity; leave those samples out")
    if not is_positive(gamma):
        raise RobustctlError(f"gamma must be a positive, finite Lipschitz constant, got {gamma!r}")
    reach = gamma * np.linalg.norm(x[:, None] - x[None], axis=2)
    values = np.stack([_fitted(column, reach) for column in u.T], axis=1)
    return LipschitzOptimum(x, values, gamma, float(np.sqrt(np.mean((values - u) ** 2))))


def _fitted(u: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return the nearest values with `v_i - v_j <= reach_ij`."""
    scale = float(np.ptp(u)) or 1.0
    active, v, excess = np.zeros((0, 2), int), u, u[:, None] - u[None] - reach
    for _ in range(_ROUNDS):
        worst = excess.argmax(axis=1)
        violated = np.flatnonzero(excess.max(axis=1) > 1e-10 * scale)
        if not violated.size:
            return v
        # Constraints without a multiplier are dropped: the distance grows in every round, so that none repeats.
        pairs = np.unique(np.vstack([active, np.stack([violated, worst[violated]], axis=1)]), axis=0)
        z, multipliers = _least_distance(
            pairs, (u[pairs[:, 0]] - u[pairs[:, 1]] - reach[tuple(pairs.T)]) / scale, len(u)
        )
        v, active = u - scale * z, pairs[multipliers > 0]
        excess = v[:, None] - v[None] - reach
    raise RobustctlError(
        f"the best fit must be found within {_ROUNDS} rounds, and a constraint is still exceeded by {excess.max() / scale:.1e} of the "
        f"samples' range; give fewer than the {len(u)} samples, or leave out samples at nearly the same x"
    )


def _least_distance(pairs: np.ndarray, excess: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least z with `z_i - z_j >= excess` for all pairs, and their multipliers."""
    from scipy.optimize import nnls  # slow to import

    G = np.zeros((n + 1, len(pairs)))
    columns = np.arange(len(pairs))
    G[pairs[:, 0], columns], G[pairs[:, 1], columns], G[n] = 1.0, -1.0, excess
    multipliers, _ = nnls(G, np.eye(n + 1)[n], maxiter=50 * len(pairs))
    residual = G @ multipliers - np.eye(n + 1)[n]
    return -residual[:n] / residual[n], multipliers
