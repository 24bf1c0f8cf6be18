"""The central H-infinity controller for a given bound.

Sources: those of `hinf`.
"""

import numpy as np
import scipy.linalg

from .balance import scaled
from .generalized import Generalized
from .riccati import Riccati, riccati


def lowest(g: Generalized) -> float:
    """Return the lower bound on gamma that D11 alone implies."""
    p, m = g.D11.shape[0] - g.B2.shape[1], g.D11.shape[1] - g.C2.shape[0]
    # At infinite frequency the loop is D11 + [0; I] D_K [0 I]: no D_K changes its first p rows or first m columns.
    parts = (g.D11[:p], g.D11[:, :m])
    return max(float(np.linalg.norm(M, 2)) if M.size else 0.0 for M in parts)


def central(g: Generalized, gamma: float) -> tuple[np.ndarray, ...] | None:
    """Return the central controller's matrices for a plant with D12 = [0; I] and D21 = [0 I], or None if gamma is too small."""
    if gamma <= lowest(g):
        return None
    # z / gamma and w, y in new units: the bound becomes one, D12 and D21 stay. In these units states and time are balanced.
    r = np.sqrt(gamma)
    m, p = g.B1.shape[1], g.C1.shape[0]
    B, C = np.hstack([g.B1 / r, g.B2 * r]), np.vstack([g.C1 / r, g.C2 * r])
    A, B, C, _, rate = scaled(g.A, B, C, discrete=False)
    own = g._replace(A=A, B1=B[:, :m], B2=B[:, m:], C1=C[:p], C2=C[p:], D11=g.D11 / gamma)
    try:
        solved = _at_one(own)
    except np.linalg.LinAlgError:
        # A matrix that is regular for every larger gamma is singular up to rounding
        return None
    if solved is None:
        return None
    A, B, C, D = solved
    by = np.sqrt(rate * gamma)
    return A * rate, B * by, C * by, D * gamma


def _blocks(g: Generalized) -> tuple[np.ndarray, ...]:
    """Return D1111, D1112, D1121, D1122: D11 split where the scaled D12 and D21 have their identities."""
    p, m = g.D11.shape[0] - g.B2.shape[1], g.D11.shape[1] - g.C2.shape[0]
    return g.D11[:p, :m], g.D11[:p, m:], g.D11[p:, :m], g.D11[p:, m:]


def _solution(A, B, Q, R, S) -> Riccati | None:
    """Return the stabilizing, positive semidefinite solution, or None."""
    try:
        if _on_the_axis(A, B, Q, R, S):
            return None
        found = riccati(A, B, Q, R, S, discrete=False)
    except np.linalg.LinAlgError:
        return None
    # 1e-8: an unobservable mode leaves an eigenvalue of X at zero, which rounding puts on either side. 1: the size of an X that is not
    # zero, for balanced matrices.
    X = found.scaled
    positive = np.linalg.eigvalsh(X).min(initial=0.0) >= -1e-8 * max(1.0, np.abs(X).max(initial=0.0))
    return found if positive else None


def _on_the_axis(A, B, Q, R, S) -> bool:
    """Whether the equation's Hamiltonian has eigenvalues on the imaginary axis, so that no solution stabilizes.

    Two of them meet there at the smallest bound with a solution. What a solver returns below it leaves so small a residual that this
    would find the bound to some 1e-5 only.
    """
    inner, weight = A - B @ np.linalg.solve(R, S.T), Q - S @ np.linalg.solve(R, S.T)
    values = np.linalg.eigvals(np.block([[inner, -B @ np.linalg.solve(R, B.T)], [-weight, -inner.T]]))
    # 1e-8: rounding moves two eigenvalues that meet by the root of eps
    return bool(np.any(np.abs(values.real) <= 1e-8 * np.abs(values)))


def _at_one(g: Generalized) -> tuple[np.ndarray, ...] | None:
    """Return the central controller for the bound 1, or None if it is too small.

    The names are those of [ZDG96, section 17.1]: X and Y solve the two Riccati equations, F and L are their gains.
    """
    m1, m2, p1, p2 = g.B1.shape[1], g.B2.shape[1], g.C1.shape[0], g.C2.shape[0]
    # R = D1.' D1. - diag(I, 0) and its dual are indefinite: w maximizes what u minimizes
    B, C = np.hstack([g.B1, g.B2]), np.vstack([g.C1, g.C2])
    row, column = np.hstack([g.D11, g.D12]), np.vstack([g.D11, g.D21])
    R = row.T @ row - scipy.linalg.block_diag(np.eye(m1), np.zeros((m2, m2)))
    Rt = column @ column.T - scipy.linalg.block_diag(np.eye(p1), np.zeros((p2, p2)))
    # gamma is met if and only if X >= 0 and Y >= 0 exist, stabilizing, with spectral radius of X Y below 1
    regulator = _solution(g.A, B, g.C1.T @ g.C1, R, g.C1.T @ row)
    filtered = _solution(g.A.T, C.T, g.B1 @ g.B1.T, Rt, g.B1 @ column.T) if regulator else None
    if regulator is None or filtered is None:
        return None
    X, Y, F, L = regulator.X, filtered.X, -regulator.K, -filtered.K.T
    if np.abs(np.linalg.eigvals(X @ Y)).max(initial=0.0) >= 1:
        return None
    F12, F2, L12, L2 = F[m1 - p2 : m1], F[m1:], L[:, p1 - m2 : p1], L[:, p1:]
    # D makes |D11 + [0; I] D [0 I]| < 1 (Parrott's theorem); D12, D21 are factors of the freedom left around it
    D1111, D1112, D1121, D1122 = _blocks(g)
    left = np.linalg.inv(np.eye(len(D1111)) - D1111 @ D1111.T)
    right = np.linalg.inv(np.eye(D1111.shape[1]) - D1111.T @ D1111)
    D = -D1121 @ D1111.T @ left @ D1112 - D1122
    D12 = np.linalg.cholesky(np.eye(m2) - D1121 @ right @ D1121.T)
    D21 = np.linalg.cholesky(np.eye(p2) - D1112.T @ left @ D1112).T
    # Z turns the gain of an estimate of x into one of an estimate of u = F2 x under the worst disturbance
    Z = np.linalg.inv(np.eye(len(g.A)) - Y @ X)
    B2, C2 = Z @ (g.B2 + L12) @ D12, -D21 @ (g.C2 + F12)
    B1 = -Z @ L2 + B2 @ np.linalg.solve(D12, D)
    C1 = F2 + D @ np.linalg.solve(D21, C2)
    return g.A + B @ F + B1 @ np.linalg.solve(D21, C2), B1, C1, D
