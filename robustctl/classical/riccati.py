"""Algebraic Riccati and Lyapunov equations on balanced matrices, with a check of what was solved.

Always by SciPy, so that an installed Slycot changes no number.
"""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.linalg

from .balance import connected, power_of_two, scaled
from .modes import is_stable

_RESIDUAL = 1e-7
"""Largest residual of a Riccati equation, relative to its terms. Ill-conditioned equations of the collections CAREX and DAREX leave up
to 1e-9 after refinement; a wrong subspace leaves 1e-3 and more."""


class Riccati(NamedTuple):
    """The stabilizing solution of a Riccati equation.

    **Arguments:**

    - `X`: the solution (nx, nx)
    - `K`: the gain (nu, nx) of `u = -K x`
    - `poles`: the eigenvalues of A - B K
    - `scaled`: X in balanced coordinates, in which the size of its entries means something
    """

    X: np.ndarray
    K: np.ndarray
    poles: np.ndarray
    scaled: np.ndarray


class _Equation(NamedTuple):
    """A Riccati equation; see `riccati`."""

    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    S: np.ndarray
    discrete: bool

    def solved(self) -> np.ndarray:
        """Return SciPy's solution."""
        solve = scipy.linalg.solve_discrete_are if self.discrete else scipy.linalg.solve_continuous_are
        try:
            return solve(self.A, self.B, self.Q, self.R, s=self.S)
        except ValueError as error:  # a pencil with entries that are not finite
            raise np.linalg.LinAlgError(str(error)) from error

    def gain(self, X: np.ndarray) -> np.ndarray:
        """Return K."""
        if self.discrete:
            return np.linalg.solve(self.R + self.B.T @ X @ self.B, self.B.T @ X @ self.A + self.S.T)
        return np.linalg.solve(self.R, self.B.T @ X + self.S.T)

    def residual(self, X: np.ndarray) -> float:
        """Return the size of what the equation leaves, relative to the sizes of its terms."""
        K = self.gain(X)
        closed = self.A - self.B @ K
        moved = (closed.T @ X @ closed, -X) if self.discrete else (closed.T @ X, X @ closed)
        terms = *moved, self.Q, -self.S @ K, -(self.S @ K).T, K.T @ self.R @ K
        size = sum(np.linalg.norm(M) for M in terms)
        return float(np.linalg.norm(sum(terms)) / max(size, np.finfo(float).tiny))

    def refined(self, X: np.ndarray) -> np.ndarray:
        """Return X after Newton's method (Kleinman, 1968), while it lowers the residual."""
        left = self.residual(X)
        for _ in range(4):  # quadratic: from SciPy's accuracy one or two steps reach rounding
            K = self.gain(X)
            closed, cost = self.A - self.B @ K, self.Q - self.S @ K - K.T @ self.S.T + K.T @ self.R @ K
            try:
                with warnings.catch_warnings():  # a step that does not help is dropped
                    warnings.simplefilter("ignore")
                    after = lyapunov(closed.T, cost, self.discrete)
            except np.linalg.LinAlgError:
                return X
            now = self.residual(after)
            if not now < left / 2:
                return X
            X, left = after, now
        return X


def riccati(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, S: np.ndarray | None, discrete: bool
) -> Riccati:
    """Return the stabilizing solution of an algebraic Riccati equation.

    ::

        continuous:  A'X + X A + Q - (X B + S) R^-1 (B'X + S') = 0
        discrete:    A'X A - X + Q - (A'X B + S) (R + B'X B)^-1 (B'X A + S') = 0

    R may be indefinite.

    **Arguments:**

    - `A`: (nx, nx)
    - `B`: (nx, nu)
    - `Q`: (nx, nx)
    - `R`: (nu, nu)
    - `S`: (nx, nu), None for zero
    - `discrete`: which equation

    **Raises:** `LinAlgError` without a stabilizing solution, and if what was found leaves a residual.
    """
    S = np.zeros(B.shape) if S is None else S
    s = 1 / power_of_two(np.sqrt(np.abs(np.diagonal(R))))
    # u and the cost are the port of the balancing: R becomes about one, and Q's diagonal the square of what x costs
    cost = np.diag(np.sqrt(np.abs(np.diagonal(Q))))
    As, Bs, _, t, rate = scaled(A, B * s, cost, discrete)
    by = t / np.sqrt(rate)
    equation = _Equation(As, Bs, Q * by * by[:, None], R * s * s[:, None], S * s * by[:, None], discrete)
    X = equation.refined(equation.solved())
    X = (X + X.T) / 2
    K, left = equation.gain(X), equation.residual(X)
    poles = np.linalg.eigvals(As - Bs @ K)
    if not left <= _RESIDUAL:
        raise np.linalg.LinAlgError(f"what was found leaves {left:.3g} of the equation's terms")
    if not is_stable(poles, discrete):
        raise np.linalg.LinAlgError(f"what was found does not stabilize, it has the poles {poles * rate}")
    return Riccati(X / t / t[:, None], K * s[:, None] * np.sqrt(rate) / t, poles * rate, X)


def lyapunov(A: np.ndarray, Q: np.ndarray, discrete: bool) -> np.ndarray:
    """Return X with `A X + X A' + Q = 0`, or in discrete time `A X A' - X + Q = 0`."""
    if not len(A):
        return np.zeros((0, 0))
    if discrete:
        return np.asarray(scipy.linalg.solve_discrete_lyapunov(A, Q))
    return np.asarray(scipy.linalg.solve_continuous_lyapunov(A, -Q))


def h2_norm(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, discrete: bool) -> float:
    """Return the H2 norm of a stable system, whose D is zero in continuous time."""
    keep = connected(A, B, C)
    A, B, C, _, rate = scaled(A[keep][:, keep], B[keep], C[:, keep], discrete)
    X = lyapunov(A, B @ B.T, discrete)
    # C X C' has the unit of a rate in continuous time: B and C were divided by its root each, X by nothing.
    return float(np.sqrt(max(np.trace(C @ X @ C.T) * rate + np.sum(D**2), 0.0)))
