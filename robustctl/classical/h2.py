"""H2 synthesis by two Riccati equations, in continuous and discrete time.

Sources: [DGKF89] Doyle, Glover, Khargonekar, Francis, IEEE Trans. Automatic Control 34(8), 1989; [ZDG96] Zhou, Doyle, Glover,
"Robust and Optimal Control", 1996, Theorems 14.7 and 21.9 (discrete).
"""

from typing import NamedTuple

import control as ct
import numpy as np

from ..errors import InvalidModelError
from ..state_space import StateSpace
from .convert import realize
from .generalized import Generalized, check_ranks, check_zeros, closed_loop, split, with_feedthrough
from .modes import is_stable
from .policies import implement
from .riccati import h2_norm, riccati
from .summary import summary
from .types import ControlLike, typed


class H2(NamedTuple):
    """An H2 design.

    **Arguments:**

    - `K`: the controller, u = K y
    - `CL`: the closed loop from w to z
    - `norm`: its H2 norm
    - `controller`: K as a discrete-time system, None for a continuous-time K without a dt
    """

    K: ct.StateSpace
    CL: ct.StateSpace
    norm: float
    controller: StateSpace | None

    __repr__ = summary


def h2(P: ControlLike, nmeas: int, ncon: int, *, dt: float | None = None) -> H2:
    """Design the H2-optimal controller of a generalized plant.

    ::

        minimize || z / w ||_2,    u = K y,    P from (w, u) to (z, y) with nmeas outputs and ncon inputs last

    For a discrete-time plant the controller uses the output of the same sample.

    **Arguments:**

    - `P`: the generalized plant, of python-control
    - `nmeas`: number of measured outputs y
    - `ncon`: number of controls u
    - `dt`: sample time at which a continuous-time controller is implemented, by Tustin's method (without it
      `controller` is None)

    **Raises:** `InvalidModelError` for a plant that is not stabilizable from u and detectable from y, D12 or D21 without
    full rank, invariant zeros on the boundary of stability, and D11 in continuous time (the norm is infinite).

    **Example:** ::

        import control as ct
        P = ct.ss(-1.0, [[1.0, 0.0, 1.0]], [[1.0], [0.0], [1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        design = rc.classical.h2(P, 1, 1, dt=0.05)
    """
    P = realize(P)
    g = split(P, nmeas, ncon)
    if not g.discrete and np.any(g.D11):
        raise InvalidModelError(
            f"D11 must be zero in continuous time, else the H2 norm is infinite; got {g.D11.tolist()}"
        )
    check_ranks(g)
    check_zeros(g)
    try:
        K = with_feedthrough(_discrete(g) if g.discrete else continuous_controller(g), g.D22)
    except np.linalg.LinAlgError as error:
        raise InvalidModelError(
            f"both Riccati equations must have a stabilizing solution, but the solver reports: {error}; weight every control and "
            "disturb every measurement, at all frequencies"
        ) from error
    CL = closed_loop(P, K)
    loop = typed(CL)
    if not is_stable(loop.poles(), g.discrete):
        raise InvalidModelError(
            f"the closed loop must be stable, but rounding leaves it the poles {loop.poles()}; move weights and plant closer together"
        )
    return H2(K, CL, h2_norm(loop.A, loop.B, loop.C, loop.D, g.discrete), implement(K, dt))


def continuous_controller(g: Generalized) -> ct.StateSpace:
    """Return the controller by [ZDG96, Theorem 14.7]: the optimal observer, then the optimal state feedback.

    ::

        dx_hat/dt = A x_hat + B2 u - L (y - C2 x_hat),    u = F x_hat
    """
    R, V = g.D12.T @ g.D12, g.D21 @ g.D21.T
    F = -riccati(g.A, g.B2, g.C1.T @ g.C1, R, g.C1.T @ g.D12, False).K
    L = -riccati(g.A.T, g.C2.T, g.B1 @ g.B1.T, V, g.B1 @ g.D21.T, False).K.T
    return ct.StateSpace(g.A + g.B2 @ F + L @ g.C2, -L, F, np.zeros((F.shape[0], L.shape[1])), 0)


def _discrete(g: Generalized) -> ct.StateSpace:
    """Return the controller by [ZDG96, Theorem 21.9]: state feedback of a predictor, corrected by the sample itself.

    ::

        x_hat+ = A x_hat + B2 u - L (y - C2 x_hat),    u = F x_hat + D (y - C2 x_hat)
    """
    regulator = riccati(g.A, g.B2, g.C1.T @ g.C1, g.D12.T @ g.D12, g.C1.T @ g.D12, True)
    filtered = riccati(g.A.T, g.C2.T, g.B1 @ g.B1.T, g.D21 @ g.D21.T, g.B1 @ g.D21.T, True)
    X, Y, F, L = regulator.X, filtered.X, -regulator.K, -filtered.K.T
    R, V = g.D12.T @ g.D12 + g.B2.T @ X @ g.B2, g.D21 @ g.D21.T + g.C2 @ Y @ g.C2.T
    F0 = -np.linalg.solve(R, g.B2.T @ X @ g.B1 + g.D12.T @ g.D11)  # the optimal control is u = F x + F0 w
    # D (y - C2 x_hat) is the estimate of F (x - x_hat) + F0 w from the innovation, whose covariance is V
    D = np.linalg.solve(V, (F @ Y @ g.C2.T + F0 @ g.D21.T).T).T
    A = g.A + g.B2 @ F + (L - g.B2 @ D) @ g.C2
    return ct.StateSpace(A, g.B2 @ D - L, F - D @ g.C2, D, g.dt)
