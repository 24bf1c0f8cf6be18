"""The inverses of the maps from free arrays: from the matrices of an R2DN or REN to free arrays that give them, in NumPy."""

from typing import Any, NamedTuple

import numpy as np

from ..linalg import headroom, slack
from .bounded_real import completed_square
from .either_array import defect_factor, divided, solves
from .ren_map import port_gram

Rates = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Q, S and R of a supply rate, in float64."""


class Matrices(NamedTuple):
    """The linear part of a `LureSystem` in float64 with the offset of its state, in coordinates in which its metric is the identity.

    `D11` and `Lambda`: of a REN's implicit layer, None for zero and ones.
    """

    A: np.ndarray
    B1: np.ndarray
    B2: np.ndarray
    C1: np.ndarray
    C2: np.ndarray
    D12: np.ndarray
    D21: np.ndarray
    D22: np.ndarray
    bx: np.ndarray
    D11: np.ndarray | None = None
    Lambda: np.ndarray | None = None


def invert_polar_gram(H: np.ndarray, least: float) -> np.ndarray:
    """Return the `X` with `polar_gram(X, |X|_F) = H`, where `least` is the slack of its dtype; NaN where there is none."""
    try:
        return np.linalg.cholesky(without_slack(H, least)).T
    except np.linalg.LinAlgError:
        return np.full_like(H, np.nan)


def without_slack(H: np.ndarray, least: float) -> np.ndarray:
    """Return the K with `K + least / n trace(K) I = H`."""
    n = len(H)
    return H - least / (1 + least) / n * np.trace(H) * np.eye(n)


def invert_bounded_real(E, F, P_imp, B_imp, C, D, rate: float, least: float) -> np.ndarray:
    """Return the `X` (n2, n2) that `bounded_real` maps to the given implicit matrices, with `p = |X|_F` and `Y = 0`.

    NaN where the matrices do not satisfy the inequality by more than the slack.
    """
    BB, BT, TT = completed_square(B_imp, C, D)
    H21 = F - BT
    H11 = E + E.T - P_imp / rate**2 - C.T @ C - TT
    return invert_polar_gram(np.block([[H11, H21.T], [H21, P_imp - BB]]), least)


def invert_contraction(N: np.ndarray, dtype: Any) -> np.ndarray:
    """Return a `G` with `contraction(G, N.shape) = N`, for `|N| < 1 - headroom`.

    ::

        N = U diag(s) V',   Y = -U diag(s / (1 + sqrt(1 - s^2))) V',   G = [0; Y]:     -2 Y (I + Y'Y)^-1 = N
    """
    tall = N.shape[0] >= N.shape[1]
    N = (N if tall else N.T) / (1 - headroom(dtype))
    U, s, V = np.linalg.svd(N, full_matrices=False)
    n = N.shape[1]
    return np.concatenate([np.zeros((n, n)), -(U * (s / (1 + np.sqrt(1 - s**2)))) @ V])


def contracting_r2dn(m: Matrices, rate: float, dtype: Any) -> dict[str, np.ndarray]:
    """Return the free arrays of a `ContractingR2DNCore`."""
    eye = rate**2 * np.eye(len(m.A))
    # In the metric P the choice E = rate^2 P, P_imp = rate^4 P leaves H the most room; here P = I.
    D = np.zeros((len(m.C1), m.B1.shape[1]))
    X = invert_bounded_real(eye, rate**2 * m.A, rate**2 * eye, rate**2 * m.B1, m.C1, D, rate, slack(dtype))
    free = {"B1_imp": rate**2 * m.B1, "C1": m.C1, "B2": m.B2, "C2": m.C2}
    return core_arrays(X, m.bx) | free | {"D12": m.D12, "D21": m.D21, "D22": m.D22}


def unit_gain_r2dn(m: Matrices, rate: float, dtype: Any) -> dict[str, np.ndarray]:
    """Return the free arrays of a `UnitGainR2DNCore`, for ports of gain below one."""
    h = 1 - headroom(dtype)
    eye, D11 = rate**2 * np.eye(len(m.A)), np.zeros((len(m.C1), m.B1.shape[1]))
    # The map multiplies inputs by 1 - headroom at its end, and before that the whole feedthrough.
    B = np.hstack([m.B1, m.B2]) / h
    C, D = np.vstack([m.C1, m.C2]), np.block([[D11, m.D12], [m.D21, m.D22]]) / h
    X = invert_bounded_real(eye, rate**2 * m.A, rate**2 * eye, rate**2 * B, C, D, rate, slack(dtype))
    D12, D21, D22 = (M / h**2 for M in (m.D12, m.D21, m.D22))
    W = divided(defect_factor(D12), *solves(defect_factor(D21.T), D22))[0]
    G = {name: invert_contraction(N, dtype) for name, N in (("G12", D12), ("G21", D21), ("G22", W))}
    return core_arrays(X, m.bx) | {"B_imp": rate**2 * B, "C": C} | G


def contracting_ren(m: Matrices, rate: float, dtype: Any) -> dict[str, np.ndarray]:
    """Return the free arrays of a `ContractingRENCore`."""
    m, P, layer = _evened(m, rate)
    H = ren_gram(m.A, m.B1, m.C1, P, rate, *layer)
    D12_imp = layer[1][:, None] * m.D12
    free = {"B2_imp": rate**2 * P @ m.B2, "C2": m.C2, "D12_imp": D12_imp, "D21": m.D21, "D22": m.D22}
    return core_arrays(invert_polar_gram(H, slack(dtype)), m.bx) | free


def unit_gain_ren(m: Matrices, rate: float, dtype: Any) -> dict[str, np.ndarray]:
    """Return the free arrays of a `UnitGainRENCore`, for ports of gain below one."""
    h, least, (m, P, layer) = 1 - headroom(dtype), slack(dtype), _evened(m, rate)
    D22 = m.D22 / h
    W, ports = ren_ports(rate**2 * P @ m.B2 / h, m.C2, layer[1][:, None] * m.D12 / h, m.D21, D22)
    H = without_slack(ren_gram(m.A, m.B1, m.C1, P, rate, *layer), least)
    X = invert_polar_gram(H - port_gram(*ports, W=W), least)
    names = ("B2_free", "C2_free", "D12_free", "D21_free")
    return (
        core_arrays(X, m.bx) | dict(zip(names, ports, strict=True)) | {"G22": invert_contraction(D22, dtype)}
    )


def core_arrays(X: np.ndarray, bx: np.ndarray) -> dict[str, np.ndarray]:
    """Return the free arrays that every core has, of an `X` that gives it with `Y = 0`."""
    return {"X": X, "p": np.asarray(np.linalg.norm(X)), "Y": np.zeros((bx.size, bx.size)), "bx": bx}


def _evened(m: Matrices, rate: float) -> tuple[Matrices, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the same in coordinates in which the blocks of `ren_gram` are alike in size, the metric in them, and D11 and Lambda."""
    nv = len(m.C1)
    layer = np.zeros((nv, nv)) if m.D11 is None else m.D11, np.ones(nv) if m.Lambda is None else m.Lambda
    c = rate / np.mean(layer[1]) ** 0.5
    even = m._replace(B1=c * m.B1, B2=c * m.B2, C1=m.C1 / c, C2=m.C2 / c, bx=c * m.bx)
    return even, np.eye(len(m.A)) / c**2, layer


def ren_gram(
    A, B1, C1, P, rate: float, D11: np.ndarray | None = None, Lambda: np.ndarray | None = None
) -> np.ndarray:
    """Return the `H` of `explicit_matrices` with the metric P; D11 = 0 and Lambda = I where they are not given.

    There the guarantee of an R2DN carries over, as `2 w'(v - w) <= |v|^2 - |w|^2`. The choice E = rate^2 P, P_imp = rate^4 P leaves H
    the most room.
    """
    L = np.eye(len(C1)) if Lambda is None else np.diag(Lambda)
    E = rate**2 * P
    F, B1_imp, C1_imp = E @ A, E @ B1, L @ C1
    D11_imp = np.zeros_like(L) if D11 is None else L @ D11
    neurons = 2 * L - D11_imp - D11_imp.T
    return np.block([[E, -C1_imp.T, F.T], [-C1_imp, neurons, B1_imp.T], [F, B1_imp, rate**2 * E]])


def ren_ports(B2_imp, C2, D12, D21, D22) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return `W` and the free arrays of the ports of a `UnitGainRENCore`."""
    L, M = defect_factor(D22.T), defect_factor(D22)
    W = L.T @ divided(M, D22)[0]
    B2_free, D12_free = divided(M, B2_imp, D12)
    C2_free, D21_free = solves(L, C2, D21)
    return W, (B2_free, C2_free, D12_free, D21_free)


def within_ports(supply: Rates, B, C, D) -> tuple[np.ndarray, ...]:
    """Return the B2, C2 and D22 of gain at most one that `through_ports` maps to the given ones."""
    LQ, LR, QS = _port_roots(supply)
    return divided(LR.T, B)[0], LQ @ C, divided(LR.T, LQ @ (D + QS))[0]


def outside_ports(supply: Rates, B, C, D) -> tuple[np.ndarray, ...]:
    """Return what `through_ports` makes of a B2, C2 and D22 of gain at most one."""
    LQ, LR, QS = _port_roots(supply)
    return B @ LR, np.linalg.solve(LQ, C), np.linalg.solve(LQ, D @ LR) - QS


def _port_roots(supply: Rates) -> tuple[np.ndarray, ...]:
    Q, S, R = supply
    QS = np.linalg.solve(Q, S.T)
    return np.linalg.cholesky(-Q).T, np.linalg.cholesky(R - S @ QS).T, QS
