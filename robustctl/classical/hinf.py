"""H-infinity synthesis by two Riccati equations.

Sources: [DGKF89] Doyle, Glover, Khargonekar, Francis, "State-space solutions to standard H2 and H-infinity control problems",
IEEE Trans. Automatic Control 34(8), 1989; [GD88] Glover, Doyle, Systems & Control Letters 11, 1988, with D11; [ZDG96]
Zhou, Doyle, Glover, "Robust and Optimal Control", 1996, chapter 17.
"""

from typing import NamedTuple

import control as ct
import numpy as np

from ..checks import is_positive
from ..errors import InvalidModelError
from ..state_space import StateSpace
from .bilinear import to_continuous, to_discrete
from .convert import realize
from .generalized import Generalized, check_ranks, check_zeros, closed_loop, split, with_feedthrough
from .h2 import continuous_controller as h2_controller
from .hinf_central import central, lowest
from .hinf_norm import hinf_norm
from .modes import is_stable
from .policies import implement
from .summary import summary
from .types import ControlLike, typed, untyped

_BISECTED = 1e-10
"""Relative, of the smallest gamma: what rounding leaves certain of it."""
_MOST_SLACK = 0.05
"""Relative, of a gamma above the smallest one, where rounding needs more than `rtol`."""
_ROUNDED = (
    "the closed loop must be stable and keep its bound, but rounding prevents both for every gamma near the optimum; make weights "
    "and plant less far apart in their rates"
)


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

    __repr__ = summary


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
    - `gamma`: the bound to meet, default `(1 + rtol)` times the smallest one, by bisection
    - `rtol`: by how much the bound is above the smallest one; doubled, to 5 % at most, where rounding needs more
    - `dt`: sample time at which a continuous-time controller is implemented, by Tustin's method (without it
      `controller` is None)

    **Raises:** `InvalidModelError` for an rtol or gamma that is not positive, a plant that is not stabilizable from u and detectable
    from y, D12 or D21 without full rank, invariant zeros on the boundary of stability, and a gamma that cannot be met.

    **Example:** ::

        import control as ct
        P = ct.ss(-1.0, [[1.0, 0.0, 1.0]], [[1.0], [0.0], [1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        design = rc.classical.hinf(P, 1, 1, dt=0.05)
    """
    for name, value in {"rtol": rtol, "gamma": 1.0 if gamma is None else gamma}.items():
        if not is_positive(value):
            raise InvalidModelError(f"{name} must be a positive, finite number, got {value!r}")
    P = realize(P)
    g = _continuous(split(P, nmeas, ncon))
    check_ranks(g, "at z = -1" if P.dt else "at infinite frequency")
    check_zeros(g)
    scaled, left, right = _scaled(g)
    if gamma is not None:
        found = _controlled(P, g, (scaled, left, right), gamma)
        # The response's peak is measured: 1e-6 for the rounding of the controller's own numbers
        if found is not None and found[2] <= gamma * (1 + 1e-6):
            return HInf(*found[:2], float(gamma), implement(found[0], dt))
        smallest = _smallest(scaled)
        raise InvalidModelError(
            f"gamma must be above the smallest possible, {smallest:.6g}, got {gamma}"
            if gamma <= smallest
            else _ROUNDED
        )
    smallest, slack = _smallest(scaled), rtol
    # Near the optimum I - Y X / gamma^2 is nearly singular, so rounding moves the norm that a controller has. Designed for half the slack,
    # it keeps the bound in spite of that, and the bound is the same in all units. Where half is too little, the slack doubles.
    while slack <= max(rtol, _MOST_SLACK):
        found = _controlled(P, g, (scaled, left, right), smallest * (1 + slack / 2))
        bound = smallest * (1 + slack)
        if found is not None and found[2] <= bound:
            return HInf(*found[:2], float(bound), implement(found[0], dt))
        slack *= 2
    raise InvalidModelError(_ROUNDED)


def _controlled(
    P: ct.StateSpace, g: Generalized, form: tuple[Generalized, np.ndarray, np.ndarray], gamma: float
) -> tuple[ct.StateSpace, ct.StateSpace, float] | None:
    """Return the central controller of a bound, its closed loop and the norm of that, or None if it does not stabilize.

    **Arguments:**

    - `P`: the generalized plant
    - `g`: its parts, in continuous time
    - `form`: what `_scaled` returns for them
    - `gamma`: the bound
    """
    scaled, left, right = form
    solved = central(scaled, gamma)
    if solved is None:
        return None
    A, B, C, D = solved
    K = typed(with_feedthrough(ct.StateSpace(A, B @ left, right @ C, right @ D @ left, 0), g.D22))
    K = ct.StateSpace(*to_discrete(K.A, K.B, K.C, K.D), P.dt) if P.dt else untyped(K)
    CL = closed_loop(P, K)
    return (K, CL, hinf_norm(CL)) if is_stable(CL.poles(), bool(P.dt)) else None


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


def _smallest(g: Generalized) -> float:
    """Bisect for the smallest gamma with a stabilizing controller, to rounding, so that it is the same in all units."""
    high = start = _achieved(g)
    for _ in range(20):  # rounding alone makes the norm that a controller has a bound that none is found for
        if central(g, high) is not None:
            break
        high *= 2
    else:
        raise InvalidModelError(
            f"some gamma must be met, but none up to {high:.3g} is; make weights and plant less far apart in their rates"
        )
    low = max(lowest(g), high / 2)
    while low > lowest(g) and central(g, low) is not None:
        low, high = max(lowest(g), low / 4), low
        if high < 1e-12 * start:  # nothing is left of the cost but rounding
            return high
    while high - low > _BISECTED * high:
        # geometric mean while the bracket spans more than a factor of 4
        middle = (low + high) / 2 if high < 4 * low else np.sqrt(low * high)
        low, high = (middle, high) if central(g, middle) is None else (low, middle)
    return float(high)


def _achieved(g: Generalized) -> float:
    """Return the norm that the H2-optimal controller has, where the bisection starts whatever the units of z and w.

    **Raises:** `InvalidModelError` where that controller cannot be computed.
    """
    try:
        K = h2_controller(g)
    except np.linalg.LinAlgError as error:
        raise InvalidModelError(
            f"there must be a stabilizing controller, but the solver reports: {error}; weight every control and disturb every "
            "measurement, at all frequencies"
        ) from error
    B, C = np.hstack([g.B1, g.B2]), np.vstack([g.C1, g.C2])
    D = np.block([[g.D11, g.D12], [g.D21, g.D22]])
    return hinf_norm(closed_loop(ct.StateSpace(g.A, B, C, D, 0), K)) or 1.0
