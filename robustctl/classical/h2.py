"""H2 synthesis by two Riccati equations, in continuous and discrete time.

Sources: [DGKF89] Doyle, Glover, Khargonekar, Francis, IEEE Trans. Automatic Control 34(8), 1989; [ZDG96] Zhou, Doyle, Glover,
"Robust and Optimal Control", 1996, Theorems 14.7 and 21.9 (discrete).
"""

from typing import Any, NamedTuple

import control as ct
import numpy as np
import scipy.linalg

from ..errors import ModelError
from ..state_space import StateSpace
from .convert import realize
from .generalized import Generalized, check_ranks, check_zeros, closed_loop, split, with_feedthrough
from .policies import implement


class H2(NamedTuple):
    """Controller `K` (u = K y), closed loop `CL` from w to z, its H2 norm, and K as a discrete system."""

    K: ct.StateSpace
    CL: ct.StateSpace
    norm: float
    controller: StateSpace | None


def h2(P: Any, nmeas: int, ncon: int, *, dt: float | None = None) -> H2:
    """Design the H2-optimal controller of a generalized plant.

    ::

        minimize || z / w ||_2,    u = K y,    P from (w, u) to (z, y) with nmeas outputs and ncon inputs last

    For a discrete plant the controller reads the output of the same sample.

    **Arguments:** `dt`: sample time at which a continuous-time controller is implemented, by Tustin (without it
    `controller` is None).

    **Raises:** `ModelError` for a plant that is not stabilizable from u and detectable from y, D12 or D21 without
    full rank, invariant zeros on the boundary of stability, and D11 in continuous time (the norm is infinite).
    """
    P = realize(P)
    g = split(P, nmeas, ncon)
    if not g.discrete and np.any(g.D11):
        raise ModelError(
            f"D11 must be zero in continuous time, else the H2 norm is infinite; got {g.D11.tolist()}"
        )
    check_ranks(g)
    check_zeros(g)
    try:
        K = with_feedthrough(_discrete(g) if g.discrete else _continuous(g), g.D22)
    except np.linalg.LinAlgError as error:
        raise ModelError(
            f"both Riccati equations must have a solution; scale weights and states. It said: {error}"
        ) from error
    CL = closed_loop(P, K)
    return H2(K, CL, float(ct.system_norm(CL, 2, print_warning=False)), implement(K, dt))


def _continuous(g: Generalized) -> ct.StateSpace:
    R, V = g.D12.T @ g.D12, g.D21 @ g.D21.T
    X = scipy.linalg.solve_continuous_are(g.A, g.B2, g.C1.T @ g.C1, R, s=g.C1.T @ g.D12)
    Y = scipy.linalg.solve_continuous_are(g.A.T, g.C2.T, g.B1 @ g.B1.T, V, s=g.B1 @ g.D21.T)
    F = -np.linalg.solve(R, g.B2.T @ X + g.D12.T @ g.C1)
    L = -np.linalg.solve(V, (Y @ g.C2.T + g.B1 @ g.D21.T).T).T
    return ct.StateSpace(g.A + g.B2 @ F + L @ g.C2, -L, F, np.zeros((F.shape[0], L.shape[1])), 0)


def _discrete(g: Generalized) -> ct.StateSpace:
    X = scipy.linalg.solve_discrete_are(g.A, g.B2, g.C1.T @ g.C1, g.D12.T @ g.D12, s=g.C1.T @ g.D12)
    Y = scipy.linalg.solve_discrete_are(g.A.T, g.C2.T, g.B1 @ g.B1.T, g.D21 @ g.D21.T, s=g.B1 @ g.D21.T)
    R, V = g.D12.T @ g.D12 + g.B2.T @ X @ g.B2, g.D21 @ g.D21.T + g.C2 @ Y @ g.C2.T
    F = -np.linalg.solve(R, g.B2.T @ X @ g.A + g.D12.T @ g.C1)
    F0 = -np.linalg.solve(R, g.B2.T @ X @ g.B1 + g.D12.T @ g.D11)
    L = -np.linalg.solve(V, (g.A @ Y @ g.C2.T + g.B1 @ g.D21.T).T).T
    D = np.linalg.solve(V, (F @ Y @ g.C2.T + F0 @ g.D21.T).T).T
    A = g.A + g.B2 @ F + (L - g.B2 @ D) @ g.C2
    return ct.StateSpace(A, g.B2 @ D - L, F - D @ g.C2, D, g.dt)
