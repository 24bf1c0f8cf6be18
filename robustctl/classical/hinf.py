"""H-infinity synthesis by two Riccati equations.

Sources: [DGKF89] Doyle, Glover, Khargonekar, Francis, "State-space solutions to standard H2 and H-infinity control problems",
IEEE Trans. Automatic Control 34(8), 1989; [GD88] Glover, Doyle, Systems & Control Letters 11, 1988, with D11; [ZDG96]
Zhou, Doyle, Glover, "Robust and Optimal Control", 1996, chapter 17.
"""

from typing import NamedTuple

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
from .types import ControlLike, typed, untyped


class HInf(NamedTuple):
    """An H-infinity design.

    **Arguments:**

    - `K`: the controller, u = K y
    - `CL`: the closed loop from w to z
    - `gamma`: the bound on its H-infinity norm
    - `controller`: K as a discrete-time system, None for a continuous-time K without a dt
    """

    K: ct.StateSpace
    CL: ct.StateSpace
    gamma: float
    controller: StateSpace | None


def hinf(
    P: ControlLike,
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

    By [ZDG96, Theorem 17.1] after scaling D12 and D21; D22 by a loop shift; a discrete-time plant through the bilinear
    map z = (1 + s) / (1 - s), which preserves the norm.

    **Arguments:**

    - `P`: the generalized plant, of python-control
    - `nmeas`: number of measured outputs y
    - `ncon`: number of controls u
    - `gamma`: the bound to meet, default the smallest one, by bisection
    - `rtol`: relative tolerance of the bisection
    - `dt`: sample time at which a continuous-time controller is implemented, by Tustin's method (without it
      `controller` is None)

    **Raises:** `ModelError` for a plant that is not stabilizable from u and detectable from y, D12 or D21 without
    full rank, invariant zeros on the boundary of stability, and a gamma that cannot be met.

    **Example:** ::

        import control as ct
        P = ct.ss(-1.0, [[1.0, 0.0, 1.0]], [[1.0], [0.0], [1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        design = rc.classical.hinf(P, 1, 1, dt=0.05)
    """
    P = realize(P)
    g = _continuous(split(P, nmeas, ncon))
    check_ranks(g, "at z = -1" if P.dt else "at infinite frequency")
    check_zeros(g)
    scaled, left, right = _scaled(g)
    smallest = _smallest(scaled, rtol) if gamma is None else gamma
    # At the optimum I - Y X / gamma^2 is singular, so rounding can make the controller of a gamma just above it
    # unstable. Each of 50 attempts allows rtol more: 5 % in all with the default, and the bound that was met is returned.
    for backed_off in range(50 if gamma is None else 1):
        bound = smallest * (1 + rtol) ** backed_off
        solved = _central(scaled, bound)
        if solved is None:
            continue
        A, B, C, D = solved
        K = typed(with_feedthrough(ct.StateSpace(A, B @ left, right @ C, right @ D @ left, 0), g.D22))
        K = ct.StateSpace(*to_discrete(K.A, K.B, K.C, K.D), P.dt) if P.dt else untyped(K)
        CL = closed_loop(P, K)
        if is_stable(CL.poles(), bool(P.dt)):
            return HInf(K, CL, float(bound), implement(K, dt))
    raise ModelError(
        f"gamma must be above the smallest possible, {_smallest(scaled, rtol):.6g}, got {gamma}"
        if gamma is not None
        else "the closed loop must be stable, but rounding prevents it for every gamma near the optimum; scale weights and states"
    )


def _continuous(g: Generalized) -> Generalized:
    """Map a discrete-time plant to continuous time."""
    if not g.discrete:
        return g
    m, p = g.B1.shape[1], g.C1.shape[0]
    D = np.block([[g.D11, g.D12], [g.D21, g.D22]])
    A, B, C, D = to_continuous(g.A, np.hstack([g.B1, g.B2]), np.vstack([g.C1, g.C2]), D)
    return Generalized(
        A, B[:, :m], B[:, m:], C[:p], C[p:], D[:p, :m], D[:p, m:], D[p:, :m], D[p:, m:], dt=0.0
    )


def _scaled(g: Generalized) -> tuple[Generalized, np.ndarray, np.ndarray]:
    """Scale D12 to [0; I] and D21 to [0 I]; return the plant and the scalings in `K = right K_scaled left`."""
    nu, ny = g.B2.shape[1], g.C2.shape[0]
    # D12 = Q [R; 0] = Uz [0; I] R with Uz the columns of Q in the other order. Uz' on z is orthogonal, so it preserves
    # the norm, and u_scaled = R u makes D12 equal to [0; I]; D21 likewise by its transpose.
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
    """Return D1111, D1112, D1121, D1122: D11 split where the scaled D12 and D21 have their identities."""
    p, m = g.D11.shape[0] - g.B2.shape[1], g.D11.shape[1] - g.C2.shape[0]
    return g.D11[:p, :m], g.D11[:p, m:], g.D11[p:, :m], g.D11[p:, m:]


def _lowest(g: Generalized) -> float:
    """Return the lower bound on gamma that D11 alone implies."""
    p, m = g.D11.shape[0] - g.B2.shape[1], g.D11.shape[1] - g.C2.shape[0]
    # At infinite frequency the loop is D11 + [0; I] D_K [0 I]: no D_K changes its first p rows or first m columns.
    parts = (g.D11[:p], g.D11[:, :m])
    return max(float(np.linalg.norm(M, 2)) if M.size else 0.0 for M in parts)


def _smallest(g: Generalized, rtol: float) -> float:
    """Bisect for the smallest gamma with a stabilizing controller."""
    # 1e-6 and 1e-2 only start the doubling, for D11 = 0 too; 1e10 is far above any gamma of a design that is scaled.
    low = max(_lowest(g), 1e-6)
    high = 2 * low + 1e-2
    while _central(g, high) is None:
        low, high = high, 2 * high
        if high > 1e10:
            raise ModelError(
                "some gamma must be met, but none up to 1e10 is; scale the weights and the states"
            )
    while high - low > rtol * high:
        # geometric mean while the bracket spans more than a factor of 4, for an optimum far below the first `high`
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
    # 1e-8: an unobservable mode leaves an eigenvalue of X at zero, which rounding puts on either side
    positive = np.linalg.eigvalsh(X).min(initial=0.0) >= -1e-8 * max(1.0, np.abs(X).max(initial=0.0))
    return X if stable and positive else None


def _central(g: Generalized, gamma: float) -> tuple[np.ndarray, ...] | None:
    """Return the central controller's matrices for a scaled plant, or None if gamma is too small.

    The names are those of [ZDG96, section 17.1]: X and Y solve the two Riccati equations, F and L are their gains.
    """
    if gamma <= _lowest(g):
        return None
    m1, m2, p1, p2 = g.B1.shape[1], g.B2.shape[1], g.C1.shape[0], g.C2.shape[0]
    # R = D1.' D1. - diag(gamma^2 I, 0) and its dual are indefinite: w maximizes what u minimizes
    B, C = np.hstack([g.B1, g.B2]), np.vstack([g.C1, g.C2])
    row, column = np.hstack([g.D11, g.D12]), np.vstack([g.D11, g.D21])
    R = row.T @ row - scipy.linalg.block_diag(gamma**2 * np.eye(m1), np.zeros((m2, m2)))
    Rt = column @ column.T - scipy.linalg.block_diag(gamma**2 * np.eye(p1), np.zeros((p2, p2)))
    # gamma is met if and only if X >= 0 and Y >= 0 exist, stabilizing, with spectral radius of X Y below gamma^2
    X = _riccati(g.A, B, g.C1.T @ g.C1, R, g.C1.T @ row)
    Y = _riccati(g.A.T, C.T, g.B1 @ g.B1.T, Rt, g.B1 @ column.T) if X is not None else None
    if X is None or Y is None or np.abs(np.linalg.eigvals(X @ Y)).max(initial=0.0) >= gamma**2:
        return None
    F = -np.linalg.solve(R, row.T @ g.C1 + B.T @ X)
    L = -np.linalg.solve(Rt, (g.B1 @ column.T + Y @ C.T).T).T
    F12, F2, L12, L2 = F[m1 - p2 : m1], F[m1:], L[:, p1 - m2 : p1], L[:, p1:]
    # D makes |D11 + [0; I] D [0 I]| < gamma (Parrott's theorem); D12, D21 are factors of the freedom left around it
    D1111, D1112, D1121, D1122 = _blocks(g)
    left = np.linalg.inv(gamma**2 * np.eye(len(D1111)) - D1111 @ D1111.T)
    right = np.linalg.inv(gamma**2 * np.eye(D1111.shape[1]) - D1111.T @ D1111)
    D = -D1121 @ D1111.T @ left @ D1112 - D1122
    D12 = np.linalg.cholesky(np.eye(m2) - D1121 @ right @ D1121.T)
    D21 = np.linalg.cholesky(np.eye(p2) - D1112.T @ left @ D1112).T
    # Z turns the gain of an estimate of x into one of an estimate of u = F2 x under the worst disturbance
    Z = np.linalg.inv(np.eye(len(g.A)) - Y @ X / gamma**2)
    B2, C2 = Z @ (g.B2 + L12) @ D12, -D21 @ (g.C2 + F12)
    B1 = -Z @ L2 + B2 @ np.linalg.solve(D12, D)
    C1 = F2 + D @ np.linalg.solve(D21, C2)
    return g.A + B @ F + B1 @ np.linalg.solve(D21, C2), B1, C1, D
