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

        **Raises:** `InvalidModelError` for a loop that is not stable, with its poles.
        """
        from ..loops import Tube  # slow to import

        A, B, K = (np.atleast_2d(np.asarray(a, np.float64)) for a in (A, B, K))
        tube = Tube.linear(A - B @ K, B)
        P = np.asarray(tube.P, np.float64)
        rate = contraction(P, (A - B @ K)[None])
        return cls(P, Constant(rate, "proven", "the expert's loop is linear"), B)

    @classmethod
    def searched(cls, A: Any, B: Any, answers: ExpertAnswers) -> "ContractingLoop":
        """Return the loop of an expert by its slopes over a grid: of those metrics that suit a mean of them, the one with the least bound.

        **Arguments:**

        - `A`: of the plant `x+ = A x + B u` (nx, nx).
        - `B`: (nx, nu).
        - `answers`: of the expert.

        **Raises:** `RobustctlError` where the loop is contracting in none of these metrics.
        """
        from ..loops import Tube  # slow to import

        A, B = (np.asarray(a, np.float64) for a in (A, B))
        J = A + B @ answers.slopes @ np.linalg.inv(answers.widths)
        steepest = J[np.argmax(np.linalg.norm(answers.slopes, axis=(1, 2)))]
        found = []
        for share in np.linspace(0, 1, 11):
            middle = share * A + (1 - share) * steepest
            if np.abs(np.linalg.eigvals(middle)).max() < 1:
                P = np.asarray(Tube.linear(middle, B).P, np.float64)
                found.append((P, contraction(P, J)))
        best = min(found, key=lambda f: _worth(*f, B), default=None)
        if best is None or not best[1] < 1:
            raise RobustctlError(
                "the expert's loop must be contracting on the set of states, got no metric in which it is; take a smaller set, or "
                "the policy's own loop"
            )
        how = f"largest of the expert's loop over {len(J):,} cells of a grid"
        return cls(best[0], Constant(best[1], "searched", how), B)

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

        **Raises:** `RobustctlError` where no rate below 1 is proven.
        """
        A, B = (np.asarray(a, np.float64) for a in (A, B))
        inside = without_state(policy, "the policy").lft()
        if inside is None:
            raise RobustctlError("the policy must describe itself, got one without lft(); take one of rc.nn")
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


def contraction(P: np.ndarray, J: np.ndarray) -> float:
    """Return the largest norm of matrices (M, nx, nx) in a metric, rounding included."""
    root = np.linalg.cholesky(P).T
    return float(np.linalg.norm(root @ J @ np.linalg.inv(root), 2, axis=(1, 2)).max()) * (1 + 1e-9)


def _worth(P: np.ndarray, rate: float, B: np.ndarray) -> float:
    """Return how far errors of the action can move the states; infinitely for a loop that does not contract."""
    if not rate < 1:
        return np.inf
    root = np.linalg.cholesky(P).T
    reach = np.linalg.norm(root @ B, 2) / (1 - rate)
    return float(reach * np.sqrt(np.trace(np.linalg.inv(P))))
