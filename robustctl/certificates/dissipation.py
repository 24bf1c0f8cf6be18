"""The dissipation inequality of a linear system in feedback with a static nonlinearity, in float64.

::

    x+ = A x + B1 w + B2 u,   v = C1 x + D11 w + D12 u,   y = C2 x + D21 w + D22 u

    [dv; dw]' Pi [dv; dw] >= 0                                  what is known of the nonlinearity
    M = S'PS - rate^2 X0'P X0 + [V; W]' Pi [V; W] - supply  < 0,   P > 0

with `S = [A B1 B2]`, `V = [C1 D11 D12]`, `W = [0 I 0]`, `X0 = [I 0 0]`. Without a supply rate the input is
the same for both trajectories and the columns of u drop out. Source: [RWM23], Theorem 1.
"""

from functools import singledispatch
from typing import NamedTuple

import numpy as np

from ..nn import ExplicitR2DN, ExplicitREN, LinearSystem, lipschitz_bound
from ..nn.lipschitz import BOUND_ROUNDING
from ..scaled import Scaled

ROUNDING = float(np.finfo(np.float64).eps)


class Feedback(NamedTuple):
    """Explicit matrices in float64, the multiplier `Pi` and the claim: rate and supply rate (Q, S, R) or None."""

    A: np.ndarray
    B1: np.ndarray
    B2: np.ndarray
    C1: np.ndarray
    C2: np.ndarray
    D11: np.ndarray
    D12: np.ndarray
    D21: np.ndarray
    D22: np.ndarray
    P: np.ndarray
    Pi: np.ndarray
    rate: float
    supply: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    phi_bound: float | None


@singledispatch
def as_feedback(system) -> Feedback | None:
    """Return the system's matrices and claim, or None for a system of a class that makes no claim."""
    return None


@as_feedback.register
def _(system: ExplicitR2DN) -> Feedback:
    bound = lipschitz_bound(system.phi)
    gain = np.inf if bound is None else bound * (1 + BOUND_ROUNDING)
    nv = system.bv.size
    # |dw| <= gain |dv|, scaled by a gain above one so that Pi stays of the size of the identity.
    Pi = np.diag(np.concatenate([np.full(nv, min(gain, 1.0) ** 2), np.full(nv, -1.0 / max(gain, 1.0) ** 2)]))
    return _feedback(system, np.zeros((nv, nv)), Pi, bound)


@as_feedback.register
def _(system: ExplicitREN) -> Feedback:
    # Slope in [0, 1]: 2 dw' Lambda (dv - dw) >= 0.
    Lambda = np.diag(_float64(system.Lambda))
    Pi = np.block([[np.zeros_like(Lambda), Lambda], [Lambda, -2 * Lambda]])
    return _feedback(system, _float64(system.D11), Pi, 1.0 if np.all(np.diag(Lambda) > 0) else np.inf)


@as_feedback.register
def _(system: LinearSystem) -> Feedback:
    A, B, C, D, P = (_float64(a) for a in (system.A, system.B, system.C, system.D, system.P))
    nx, nu, ny = A.shape[0], B.shape[1], C.shape[0]
    none = np.zeros((0, 0))
    return Feedback(
        A, np.zeros((nx, 0)), B, np.zeros((0, nx)), C, none, np.zeros((0, nu)), np.zeros((ny, 0)), D,
        P, none, float(system.rate), None, None,
    )  # fmt: skip


@as_feedback.register
def _(system: Scaled) -> Feedback | None:
    """The same inequality in the signals' own units: the scaling goes into the ports and the supply rate."""
    f = as_feedback(system.system)
    if f is None:
        return None
    u, y = np.diag(1 / _float64(system.u_std)), np.diag(_float64(system.y_std))
    y_inverse = np.diag(1 / np.diag(y))
    supply = None
    if f.supply is not None:
        Q, S, R = f.supply
        Q, R = y_inverse @ Q @ y_inverse, u @ R @ u
        supply = (Q + Q.T) / 2, u @ S @ y_inverse, (R + R.T) / 2  # products round the two halves apart
    return f._replace(
        B2=f.B2 @ u, D12=f.D12 @ u, C2=y @ f.C2, D21=y @ f.D21, D22=y @ f.D22 @ u, supply=supply
    )


def _feedback(system, D11, Pi, phi_bound) -> Feedback:
    names = ("A", "B1", "B2", "C1", "C2")
    A, B1, B2, C1, C2 = (_float64(getattr(system, name)) for name in names)
    D12, D21, D22, P = (_float64(getattr(system, name)) for name in ("D12", "D21", "D22", "P"))
    supply = system.supply
    QSR = None if supply is None else (_float64(supply.Q), _float64(supply.S), _float64(supply.R))
    return Feedback(A, B1, B2, C1, C2, D11, D12, D21, D22, P, Pi, float(system.rate), QSR, phi_bound)


def _float64(a) -> np.ndarray:
    return np.asarray(a, np.float64)


def quadratic_terms(f: Feedback) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return `S` and the pairs `(N, Q)` whose sum of `N'QN` is the part of M without P."""
    nx, nv, nu = f.A.shape[0], f.B1.shape[1], 0 if f.supply is None else f.B2.shape[1]
    S = np.hstack([f.A, f.B1, f.B2[:, :nu]])
    W = np.hstack([np.zeros((nv, nx)), np.eye(nv), np.zeros((nv, nu))])
    N = np.vstack([np.hstack([f.C1, f.D11, f.D12[:, :nu]]), W])
    terms = [(N, f.Pi)]
    if f.supply is not None:
        Q, S_uy, R = f.supply
        U = np.hstack([np.zeros((nu, nx + nv)), np.eye(nu)])
        YU = np.vstack([np.hstack([f.C2, f.D21, f.D22]), U])
        terms.append((YU, -np.block([[Q, S_uy.T], [S_uy, R]])))
    return S, terms


def margin(f: Feedback, P: np.ndarray) -> float:
    """Return an upper bound on the largest eigenvalue of M over its largest entry; negative proves M < 0.

    M is first scaled by powers of two, which is exact and keeps its sign, and the rounding of its
    computation is bounded from the same products of absolute values and added: a negative answer is a
    proof, not an impression. Infinite where P is not positive definite or something is not finite.
    """
    S, terms = quadratic_terms(f)
    arrays = [P, S, *(a for term in terms for a in term)]
    if not all(np.isfinite(a).all() for a in arrays) or not positive_definite(P):
        return float("inf")
    nx = P.shape[0]
    with np.errstate(over="ignore", invalid="ignore"):
        M, size = sum_of_products([(S, P), *terms])
        M[:nx, :nx] -= f.rate**2 * P
        size[:nx, :nx] += f.rate**2 * np.abs(P)
        M, size = _balanced(M, size)
    if not np.isfinite(size).all():
        return float("inf")
    n = len(M)
    rounding = 4 * (n + 10) * ROUNDING * (np.linalg.norm(size) + np.linalg.norm(M))
    largest = float(np.linalg.eigvalsh((M + M.T) / 2)[-1]) + rounding
    return float(largest / np.abs(M).max())


def sum_of_products(terms):
    """Return the sum of `N'QN` over pairs `(N, Q)`, and that of `|N|'|Q||N|`: the size of what was added up."""
    M = np.sum([N.T @ Q @ N for N, Q in terms], axis=0)
    size = np.sum([np.abs(N).T @ np.abs(Q) @ np.abs(N) for N, Q in terms], axis=0)
    return M, size


def _balanced(M, size):
    diagonal = np.diag(size)
    safe = np.where(diagonal > 0, diagonal, 1.0)
    d = np.exp2(-np.round(np.log2(safe) / 2))
    return d[:, None] * M * d, d[:, None] * size * d


def positive_definite(P: np.ndarray) -> bool:
    """Return whether a symmetric matrix is proven to be positive definite, rounding included."""
    if not (np.array_equal(P, P.T) and np.all(np.diag(P) > 0)):
        return False
    balanced, size = _balanced(P, np.abs(P))
    rounding = 4 * (len(P) + 10) * ROUNDING * np.linalg.norm(size)
    return bool(np.linalg.eigvalsh(balanced)[0] > rounding)
