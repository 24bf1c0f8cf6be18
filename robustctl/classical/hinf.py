"""H-infinity synthesis by two Riccati equations.

Sources: [DGKF89] Doyle, Glover, Khargonekar, Francis, "State-space solutions to standard H2 and H-infinity control problems",
IEEE Trans. Automatic Control 34(8), 1989; [GD88] Glover, Doyle, Systems & Control Letters 11, 1988, with D11; [ZDG96]
Zhou, Doyle, Glover, "Robust and Optimal Control", 1996, chapter 17.
"""

from typing import Any, NamedTuple

import control as ct
import numpy as np
import scipy.linalg

from ..errors import ModelError
from ..state_space import StateSpace
from .bilinear import to_continuous, to_discrete
from .convert import realize
from .generalized import Generalized, check_ranks, check_zeros, closed_loop, split, with_feedthrough
from .modes import is_stable
from .policies import implement


class HInf(NamedTuple):
    """Controller `K` (u = K y), closed loop `CL` from w to z, its bound `gamma`, and K as a discrete system."""

    K: ct.StateSpace
    CL: ct.StateSpace
    gamma: float
    controller: StateSpace | None


def hinf(
    P: Any,
    nmeas: int,
    ncon: int,
    *,
    gamma: float | None = None,
    rtol: float = 1e-3,
    dt: float | None = None,
) -> HInf:
    """Design the central H-infinity controller of a generalized plant.

    ::

        || z / w ||_inf < gamma,    u = K y,    P from (w, u) to (z, y) with nmeas outputs and ncon inputs last

    By [ZDG96, Theorem 17.1] after scaling D12 and D21; D22 by a loop shift; a discrete plant through the bilinear
    map z = (1 + s) / (1 - s), which keeps the norm.

    **Arguments:** `gamma`: the bound to meet; by default the smallest one to a relative `rtol`, by bisection; `dt`:
    sample time at which a continuous-time controller is implemented, by Tustin (without it `controller` is None).

    **Raises:** `ModelError` for a plant that is not stabilizable from u and detectable from y, D12 or D21 without
    full rank, invariant zeros on the boundary of stability, and a gamma that cannot be met.
    """
    P = realize(P)
    g = _continuous(split(P, nmeas, ncon))
    check_ranks(g, "at z = -1" if P.dt else "at infinite frequency")
    check_zeros(g)
    scaled, left, right = _scaled(g)
    smallest = _smallest(scaled, rtol) if gamma is None else gamma
    for backed_off in range(
        50 if gamma is None else 1
    ):  # rounding can spoil what is too close to the optimum
        bound = smallest * (1 + rtol) ** backed_off
        solved = _central(scaled, bound)
        if solved is None:
            continue
        A, B, C, D = solved
        K = with_feedthrough(ct.StateSpace(A, B @ left, right @ C, right @ D @ left, 0), g.D22)
        K = ct.StateSpace(*to_discrete(K.A, K.B, K.C, K.D), P.dt) if P.dt else K
        CL = closed_loop(P, K)
        if is_stable(CL.poles(), bool(P.dt)):
            return HInf(K, CL, float(bound), implement(K, dt))
    raise ModelError(
        f"gamma must be above the smallest possible, {_smallest(scaled, rtol):.6g}, got {gamma}"
        if gamma is not None
        else "the closed loop must be stable to rounding, but is not for any gamma near the optimum; scale weights and states"
    )


def _continuous(g: Generalized) -> Generalized:
    """Map a discrete plant to continuous time."""
    if not g.discrete:
        return g
    m, p = g.B1.shape[1], g.C1.shape[0]
    D = np.block([[g.D11, g.D12], [g.D21, g.D22]])
    A, B, C, D = to_continuous(g.A, np.hstack([g.B1, g.B2]), np.vstack([g.C1, g.C2]), D)
    return Generalized(
        A, B[:, :m], B[:, m:], C[:p], C[p:], D[:p, :m], D[:p, m:], D[p:, :m], D[p:, m:], dt=0.0
    )


def _scaled(g: Generalized) -> tuple[Generalized, np.ndarray, np.ndarray]:
    """Bring D12 to [0; I] and D21 to [0 I]; return also what scales y and u: K = right K_scaled left."""
    nu, ny = g.B2.shape[1], g.C2.shape[0]
    Q, R = np.linalg.qr(g.D12, mode="complete")
    Uz, right = np.hstack([Q[:, nu:], Q[:, :nu]]), np.linalg.inv(R[:nu])
    Q, R = np.linalg.qr(g.D21.T, mode="complete")
    Uw, left = np.hstack([Q[:, ny:], Q[:, :ny]]), np.linalg.inv(R[:ny].T)
    D12 = np.vstack([np.zeros((len(Uz) - nu, nu)), np.eye(nu)])
    D21 = np.hstack([np.zeros((ny, len(Uw) - ny)), np.eye(ny)])
    scaled = Generalized(
        g.A,
        g.B1 @ Uw,
        g.B2 @ right,
        Uz.T @ g.C1,
        left @ g.C2,
        Uz.T @ g.D11 @ Uw,
        D12,
        D21,
        np.zeros((ny, nu)),
        0.0,
    )
    return scaled, left, right


def _blocks(g: Generalized) -> tuple[np.ndarray, ...]:
    p, m = g.D11.shape[0] - g.B2.shape[1], g.D11.shape[1] - g.C2.shape[0]
    return g.D11[:p, :m], g.D11[:p, m:], g.D11[p:, :m], g.D11[p:, m:]


def _lowest(g: Generalized) -> float:
    """Return the gamma that no controller can pass because of D11."""
    p, m = g.D11.shape[0] - g.B2.shape[1], g.D11.shape[1] - g.C2.shape[0]
    parts = (g.D11[:p], g.D11[:, :m])
    return max(float(np.linalg.norm(M, 2)) if M.size else 0.0 for M in parts)


def _smallest(g: Generalized, rtol: float) -> float:
    """Bisect for the smallest gamma with a stabilizing controller."""
    low = max(_lowest(g), 1e-6)
    high = 2 * low + 1e-2
    while _central(g, high) is None:
        low, high = high, 2 * high
        if high > 1e10:
            raise ModelError(
                "there must be some gamma, but none up to 1e10 is met; scale the weights and the states"
            )
    while high - low > rtol * high:
        middle = (low + high) / 2 if high < 4 * low else np.sqrt(low * high)
        low, high = (middle, high) if _central(g, middle) is None else (low, middle)
    return float(high)


def _riccati(A, B, Q, R, S) -> np.ndarray | None:
    """Return the stabilizing, positive semidefinite solution, or None."""
    try:
        X = scipy.linalg.solve_continuous_are(A, B, Q, R, s=S)
    except (np.linalg.LinAlgError, ValueError):
        return None
    X = (X + X.T) / 2
    F = -np.linalg.solve(R, B.T @ X + S.T)
    stable = np.linalg.eigvals(A + B @ F).real.max(initial=-1.0) < 0
    positive = np.linalg.eigvalsh(X).min(initial=0.0) >= -1e-8 * max(1.0, np.abs(X).max(initial=0.0))
    return X if stable and positive else None


def _central(g: Generalized, gamma: float) -> tuple[np.ndarray, ...] | None:
    """Return the central controller's matrices for a scaled plant, or None where gamma is too small.

    The names are those of [ZDG96, section 17.1].
    """
    if gamma <= _lowest(g):
        return None
    m1, m2, p1, p2 = g.B1.shape[1], g.B2.shape[1], g.C1.shape[0], g.C2.shape[0]
    B, C = np.hstack([g.B1, g.B2]), np.vstack([g.C1, g.C2])
    row, column = np.hstack([g.D11, g.D12]), np.vstack([g.D11, g.D21])
    R = row.T @ row - scipy.linalg.block_diag(gamma**2 * np.eye(m1), np.zeros((m2, m2)))
    Rt = column @ column.T - scipy.linalg.block_diag(gamma**2 * np.eye(p1), np.zeros((p2, p2)))
    X = _riccati(g.A, B, g.C1.T @ g.C1, R, g.C1.T @ row)
    Y = _riccati(g.A.T, C.T, g.B1 @ g.B1.T, Rt, g.B1 @ column.T) if X is not None else None
    if X is None or Y is None or np.abs(np.linalg.eigvals(X @ Y)).max(initial=0.0) >= gamma**2:
        return None
    F = -np.linalg.solve(R, row.T @ g.C1 + B.T @ X)
    L = -np.linalg.solve(Rt, (g.B1 @ column.T + Y @ C.T).T).T
    F12, F2, L12, L2 = F[m1 - p2 : m1], F[m1:], L[:, p1 - m2 : p1], L[:, p1:]
    D1111, D1112, D1121, D1122 = _blocks(g)
    left = np.linalg.inv(gamma**2 * np.eye(len(D1111)) - D1111 @ D1111.T)
    right = np.linalg.inv(gamma**2 * np.eye(D1111.shape[1]) - D1111.T @ D1111)
    D = -D1121 @ D1111.T @ left @ D1112 - D1122
    D12 = np.linalg.cholesky(np.eye(m2) - D1121 @ right @ D1121.T)
    D21 = np.linalg.cholesky(np.eye(p2) - D1112.T @ left @ D1112).T
    Z = np.linalg.inv(np.eye(len(g.A)) - Y @ X / gamma**2)
    B2, C2 = Z @ (g.B2 + L12) @ D12, -D21 @ (g.C2 + F12)
    B1 = -Z @ L2 + B2 @ np.linalg.solve(D12, D)
    C1 = F2 + D @ np.linalg.solve(D21, C2)
    return g.A + B @ F + B1 @ np.linalg.solve(D21, C2), B1, C1, D
