"""Loops whose trajectories approach each other, and how far errors of the action move them."""

import dataclasses
from typing import Any

import numpy as np

from ..certificates.coordinates import opened
from ..certificates.progress import deadline_after
from ..certificates.prove import least_rate
from ..errors import RobustctlError
from ..lft import joined, linear, signals
from ..system import Parameterization, System
from .expert_answers import Constant, ExpertAnswers, constant, without_state


@dataclasses.dataclass(frozen=True, eq=False)
class ContractingLoop:
    """A loop whose trajectories approach each other: the expert's, or the policy's where that is certified.

    ::

        |F(x) - F(z)|_P <= rate |x - z|_P,      |B u|_P <= gain |u|

    **Arguments:**

    - `P`: metric (nx, nx) of the plant's state.
    - `rate`: of the loop, below 1.
    - `B`: how an action acts on the next state (nx, nu).

    **Raises:** `RobustctlError` for a rate that is not below 1, and matrices that do not fit.
    """

    P: np.ndarray
    rate: Constant
    B: np.ndarray

    def __post_init__(self):
        """Refuse what bounds nothing."""
        from ..loops.state_sets import metric_root  # slow to import

        object.__setattr__(self, "P", np.asarray(self.P, np.float64))
        object.__setattr__(self, "B", np.asarray(self.B, np.float64))
        object.__setattr__(self, "rate", constant(self.rate, "the rate"))
        metric_root(self.P)
        if not self.rate.value < 1:
            raise RobustctlError(
                f"the loop must be contracting, with a rate below 1, got {self.rate.value:.6g}; take a smaller set of "
                "states, or another expert"
            )
        if self.B.ndim != 2 or len(self.B) != len(self.P) or not np.isfinite(self.B).all():
            raise RobustctlError(
                f"B must be a finite matrix with a row for each of {len(self.P)} states, got shape {self.B.shape}"
            )

    @classmethod
    def linear(cls, A: Any, B: Any, K: Any) -> "ContractingLoop":
        """Return the loop of a linear expert, `x+ = (A - B K) x`, in the metric of the least ellipsoid that errors of the action fill.

        **Raises:** `InvalidModelError` for a loop that is not stable, with its poles; `RobustctlError` for matrices that do not fit.
        """
        from ..loops import Tube  # slow to import

        (A, B), K = _plant(A, B), np.atleast_2d(np.asarray(K, np.float64))
        if K.shape != B.T.shape or not np.isfinite(K).all():
            raise RobustctlError(f"K must be a finite matrix {B.T.shape}, got shape {K.shape}")
        J, P = (A - B @ K)[None], np.asarray(Tube.linear(A - B @ K, B).P, np.float64)
        P = _refined(P, J, B, np.sqrt(np.diag(np.linalg.inv(P))))
        return cls(P, Constant(contraction(P, J), "proven", "the expert's loop is linear"), B)

    @classmethod
    def searched(cls, A: Any, B: Any, answers: ExpertAnswers) -> "ContractingLoop":
        """Return the loop of an expert by its slopes over a grid: of those metrics that suit a mean of them, the one with the least bound.

        **Arguments:**

        - `A`: of the plant `x+ = A x + B u` (nx, nx).
        - `B`: (nx, nu).
        - `answers`: of the expert.

        **Raises:** `RobustctlError` where the loop is contracting in none of these metrics, and for matrices that do not fit.
        """
        from ..loops import Tube  # slow to import

        A, B = _plant(A, B)
        if B.T.shape != answers.slopes.shape[1:]:
            raise RobustctlError(
                f"the expert must read the plant's states and set its actions, B.T of shape {B.T.shape}, got answers of shape "
                f"{answers.slopes.shape[1:]}"
            )
        J = A + B @ answers.slopes @ np.linalg.inv(answers.widths)
        sizes = np.linalg.norm(answers.widths, axis=1)
        steepest = J[np.argmax(np.linalg.norm(answers.slopes, axis=(1, 2)))]
        # Most cells have one of a few slopes.
        J = np.unique(J.round(9), axis=0)
        found = []
        for share in np.linspace(0, 1, 11):
            middle = share * A + (1 - share) * steepest
            if np.abs(np.linalg.eigvals(middle)).max() < 1:
                P = np.asarray(Tube.linear(middle, B).P, np.float64)
                found.append((_worth(P, J, B, sizes), P))
        worth, P = min(found, key=lambda f: f[0], default=(np.inf, np.eye(len(A))))
        if not worth < np.inf:
            raise RobustctlError(
                "the expert's loop must be contracting on the set of states, got no metric in which it is; take a smaller set, or "
                "the policy's own loop"
            )
        P = _refined(P, J, B, sizes)
        how = f"largest of the expert's loop over {len(answers.slopes):,} cells of a grid"
        return cls(P, Constant(contraction(P, J), "searched", how), B)

    @classmethod
    def of_policy(
        cls, A: Any, B: Any, policy: Parameterization | System, seconds: float = 30.0
    ) -> "ContractingLoop":
        """Return the policy's own loop with the least rate that multipliers of its neurons prove: the expert can be anything.

        **Arguments:**

        - `A`: of the plant `x+ = A x + B u` (nx, nx).
        - `B`: (nx, nu).
        - `policy`: without state, from the plant's state to the action.
        - `seconds`: time limit.

        **Raises:** `RobustctlError` where no rate below 1 is proven, and for matrices that do not fit.
        """
        A, B = _plant(A, B)
        inside = without_state(policy, "the policy").lft()
        if inside is None:
            raise RobustctlError("the policy must describe itself, got one without lft(); take one of rc.nn")
        if inside.D22.shape != B.T.shape:
            raise RobustctlError(
                f"the policy must read the plant's states and set its actions, B.T of shape {B.T.shape}, got a policy of shape "
                f"{inside.D22.shape}"
            )
        parts = [linear(A, B, np.eye(len(A)), np.zeros(B.shape)), inside]
        # An error of the action enters: the proof's coordinates are balanced between inputs and outputs.
        x, u, error = signals(parts, B.shape[1])
        found = least_rate(opened(joined(parts, [u + error, x], [x])), deadline_after(seconds))
        if found.proof is None:
            raise RobustctlError(
                f"the policy's loop must be contracting, got no proof: {found.reason}; train with a smaller gamma or fewer neurons"
            )
        return cls(found.proof.P, Constant(found.proof.value, "proven", "the policy's loop"), B)

    @property
    def root(self) -> np.ndarray:
        """R with `R' R = P`."""
        return np.linalg.cholesky(self.P).T

    @property
    def gain(self) -> float:
        """The largest `|B u|_P` of `|u| <= 1`."""
        return float(np.linalg.norm(self.root @ self.B, 2)) * (1 + 1e-12)


def _plant(A: Any, B: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of `x+ = A x + B u`, or raise `RobustctlError`."""
    A, B = (np.asarray(a, np.float64) for a in (A, B))
    if A.ndim != 2 or B.ndim != 2 or not A.shape[0] == A.shape[1] == B.shape[0]:
        raise RobustctlError(f"A must be (nx, nx) and B (nx, nu), got {A.shape} and {B.shape}")
    if not (np.isfinite(A).all() and np.isfinite(B).all()):
        raise RobustctlError("A and B must be finite, got NaN or infinity")
    return A, B


def contraction(P: np.ndarray, J: np.ndarray) -> float:
    """Return the largest norm of matrices (M, nx, nx) in a metric, rounding included."""
    root = np.linalg.cholesky(P).T
    return float(np.linalg.norm(root @ J @ np.linalg.inv(root), 2, axis=(1, 2)).max()) * (1 + 1e-9)


def _worth(P: np.ndarray, J: np.ndarray, B: np.ndarray, sizes: np.ndarray) -> float:
    """Return how far errors of the action can move the states, over their sizes; infinitely for a loop that does not contract."""
    root, rate = np.linalg.cholesky(P).T, contraction(P, J)
    if not rate < 1:
        return np.inf
    reach = np.linalg.norm(root @ B, 2) / (1 - rate)
    return float(reach * np.linalg.norm(np.sqrt(np.diag(np.linalg.inv(P))) / sizes))


def _refined(P: np.ndarray, J: np.ndarray, B: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return a metric near P in which errors of the action move the states less."""
    from scipy.optimize import minimize  # slow to import

    root, at = np.linalg.cholesky(P).T, np.triu_indices(len(P))

    def metric(entries: np.ndarray) -> np.ndarray:
        change = np.eye(len(P))
        change[at] += entries
        return (R := change @ root).T @ R

    def log_worth(entries: np.ndarray) -> float:
        P = metric(entries)
        regular = np.linalg.cond(P) < 1e10
        return float(np.log(_worth(P, J, B, sizes))) if regular else np.inf

    found = minimize(
        log_worth, np.zeros(at[0].size), method="Nelder-Mead", options={"maxfev": 400 * len(P), "xatol": 1e-4}
    )
    return metric(found.x)
