"""H-infinity design by mixed sensitivity: weights on S, K S and T."""

import warnings
from typing import NamedTuple

import control as ct
import numpy as np
import scipy.linalg

from ..errors import InvalidModelError, RobustctlWarning
from ..linalg import response
from ..system import System
from .convert import is_of_control
from .generalized import realized
from .hinf import HInf, hinf
from .model import as_array, linear_model
from .policies import ErrorFeedback, implement
from .summary import summary
from .types import ArrayLike, ControlLike, PlantLike, Realization, typed

_MUCH = 10.0
"""Gamma above which the weights are taken for a mistake: each asks for a transfer function that stays below one over it."""

WeightLike = ControlLike | ArrayLike
"""A weight: a system of python-control, a number for all channels, or one number a channel."""


class MixedSensitivity(NamedTuple):
    """A mixed-sensitivity design.

    **Arguments:**

    - `K`: the controller, u = K (r - y)
    - `CL`: the weighted closed loop
    - `gamma`: the bound on its H-infinity norm
    - `controller`: K as a policy that reads `y` or `[y, r]` about the operating point, None in continuous time
      without a dt
    """

    K: ct.StateSpace
    CL: ct.StateSpace
    gamma: float
    controller: System | None

    __repr__ = summary


def mixed_sensitivity(
    plant: PlantLike,
    W1: WeightLike | None = None,
    W2: WeightLike | None = None,
    W3: WeightLike | None = None,
    *,
    gamma: float | None = None,
    rtol: float = 1e-3,
    dt: float | None = None,
) -> MixedSensitivity:
    """Design an H-infinity controller with weighted sensitivities.

    ::

        || [W1 S; W2 K S; W3 T] ||_inf < gamma,    S = (I + G K)^-1,   T = G K S,   u = K (r - y)

    A plant with poles on the boundary of stability (an integrator) is refused; shift them a little. W2 needs a direct
    path, so that every control has a cost at high frequency, unless W1 or W3 with the plant gives one. Source:
    Skogestad and Postlethwaite, "Multivariable Feedback Control", 2005, section 9.3.5.

    **Arguments:**

    - `plant`: as for `linear_model`
    - `W1`: weight of the error r - y: a python-control system with the plant's dt, or numbers, for all channels at once
      or one per channel
    - `W2`: weight of the control, in the same form
    - `W3`: weight of the output, in the same form
    - `gamma`: the bound to meet, as for `hinf`
    - `rtol`: of the bisection, as for `hinf`
    - `dt`: sample time of the controller, as for `hinf`

    **Raises:** `InvalidModelError` for weights of another dt or size; same errors as `hinf`.

    **Warns:** `RobustctlWarning` for a smallest gamma above 10, with which no weight is met.

    **Example:** ::

        import control as ct
        design = rc.classical.mixed_sensitivity(ct.ss(-1.0, 1.0, 1.0, 0.0), ct.tf([1.0], [10.0, 0.1]), 0.1, dt=0.05)
    """
    model = linear_model(plant)
    P = augment(model.system, W1, W2, W3)
    ny, nu = model.system.noutputs, model.system.ninputs
    result = hinf(P, ny, nu, gamma=gamma, rtol=rtol)
    if gamma is None and result.gamma > _MUCH:
        _warn_of_weights(result, [("W1 S", W1, ny), ("W2 K S", W2, nu), ("W3 T", W3, ny)])
    K = implement(result.K, dt)
    controller = None if K is None else ErrorFeedback(K, as_array(model.y), as_array(model.u))
    return MixedSensitivity(result.K, result.CL, result.gamma, controller)


def _warn_of_weights(design: HInf, terms: list[tuple[str, WeightLike | None, int]]) -> None:
    """Warn of weights that ask for too much, with the term and the frequency that decide."""
    CL = typed(design.CL)
    poles = CL.poles()
    rates = (
        np.abs(poles) if CL.dt == 0 else np.abs(np.log(poles[np.abs(poles) > 1e-12])) / CL.dt
    )  # a pole at zero, a delay, has no rate
    omega = np.unique(np.outer(rates[rates > 0], np.geomspace(0.1, 10, 41)))
    points = 1j * omega if CL.dt == 0 else np.exp(1j * omega[omega < np.pi / CL.dt] * CL.dt)
    gains = np.abs(response(CL.A, CL.B, CL.C, CL.D, points))
    k, row, _ = np.unravel_index(np.argmax(gains), gains.shape)
    names = [name for name, W, n in terms if W is not None for _ in range(_rows(W, n))]
    warnings.warn(
        f"gamma must be about 1 for the weights to be met, but the smallest is {design.gamma:.4g}, decided by {names[row]} at "
        f"{omega[k]:.3g} rad/s; lower that weight there",
        RobustctlWarning,
        stacklevel=3,
    )


def _rows(W: WeightLike, n: int) -> int:
    """Return the number of a weight's outputs, n for a weight of one channel that is used for all."""
    rows = _as_system(W, 1, 0).noutputs
    return n if rows == 1 else rows


def augment(
    plant: ControlLike,
    W1: WeightLike | None = None,
    W2: WeightLike | None = None,
    W3: WeightLike | None = None,
) -> ct.StateSpace:
    """Return the generalized plant of a mixed-sensitivity design, without Slycot.

    ::

        z = [W1 e; W2 u; W3 G u],    y = e = w - G u

    **Arguments:**

    - `plant`: G, a system of python-control
    - `W1`: weight of the error, as for `mixed_sensitivity`
    - `W2`: weight of the control
    - `W3`: weight of the output

    **Raises:** `InvalidModelError` for no weight at all, and weights of another dt or size.
    """
    G = realized(plant)
    nu, ny, nx = G.ninputs, G.noutputs, G.nstates
    if W1 is None and W2 is None and W3 is None:
        raise InvalidModelError(
            "there must be a weight: W1 on the error, W2 on the control or W3 on the output"
        )
    weights = [
        _weight(W, n, G.dt, name)
        for W, n, name in ((W1, ny, "W1"), (W2, nu, "W2"), (W3, ny, "W3"))
        if W is not None
    ]
    given = [W is not None for W in (W1, W2, W3)]
    # The input of each weight as a function of (x, w, u): W1 gets w - y, W2 gets u, W3 gets y
    reads = [
        (-G.C, np.eye(ny), -G.D),
        (np.zeros((nu, nx)), np.zeros((nu, ny)), np.eye(nu)),
        (G.C, np.zeros((ny, ny)), G.D),
    ]
    reads = [r for r, there in zip(reads, given, strict=True) if there]
    # The states are the plant's, then the weights'; a weight driven by the plant's state fills the block below G.A
    A = np.asarray(scipy.linalg.block_diag(G.A, *(W.A for W in weights)))
    A[nx:, :nx] = np.vstack([W.B @ r[0] for W, r in zip(weights, reads, strict=True)])
    B = np.vstack(
        [np.hstack([np.zeros((nx, ny)), G.B])]
        + [np.hstack([W.B @ r[1], W.B @ r[2]]) for W, r in zip(weights, reads, strict=True)]
    )
    C1 = np.hstack(
        [
            np.vstack([W.D @ r[0] for W, r in zip(weights, reads, strict=True)]),
            np.asarray(scipy.linalg.block_diag(*(W.C for W in weights))),
        ]
    )
    D1 = np.vstack([np.hstack([W.D @ r[1], W.D @ r[2]]) for W, r in zip(weights, reads, strict=True)])
    C2 = np.hstack([-G.C, np.zeros((ny, A.shape[0] - nx))])
    D2 = np.hstack([np.eye(ny), -G.D])
    return ct.StateSpace(A, B, np.vstack([C1, C2]), np.vstack([D1, D2]), G.dt)


def _weight(given: WeightLike, n: int, dt: float, name: str) -> Realization:
    """Return a weight with n inputs."""
    W = _as_system(given, n, dt)
    if W.nstates == 0:  # a static gain has any dt
        W = typed(ct.StateSpace(W.A, W.B, W.C, W.D, dt))
    if W.dt != dt:
        kind = (
            "control.c2d(W, dt, 'tustin') converts a continuous-time weight"
            if dt
            else "give it in continuous time"
        )
        raise InvalidModelError(f"{name} must have the plant's dt, {dt}, got {W.dt}; {kind}")
    if W.ninputs == W.noutputs == 1 and n > 1:
        blocks = (np.asarray(scipy.linalg.block_diag(*([M] * n))) for M in (W.A, W.B, W.C, W.D))
        sizes = ((n * W.nstates,) * 2, (n * W.nstates, n), (n, n * W.nstates), (n, n))
        # block_diag makes an empty matrix (0, 0) or (1, 0) each, so the sizes are set again
        W = typed(ct.StateSpace(*(M.reshape(size) for M, size in zip(blocks, sizes, strict=True)), dt))
    if W.ninputs != n:
        raise InvalidModelError(
            f"{name} must have {n} inputs or be a weight for one channel, got {W.ninputs}"
        )
    return W


def _as_system(W: WeightLike, n: int, dt: float) -> Realization:
    if is_of_control(W):
        return realized(W)
    D = np.asarray(W, float)
    D = D * np.eye(n) if D.ndim == 0 else np.diag(D) if D.ndim == 1 else D
    static = np.zeros((0, 0)), np.zeros((0, D.shape[1])), np.zeros((D.shape[0], 0)), D
    return typed(ct.StateSpace(*static, dt))
