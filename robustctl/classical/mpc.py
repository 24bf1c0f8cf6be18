"""Linear model-predictive control with constraints."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array

from ..errors import ModelError
from ..plants import Plant, Sampled, limits
from ..system import System
from .lqr import gains
from .model import as_array, linear_model
from .modes import weight
from .qp import require_qpax, solve_qp


class MPC(NamedTuple):
    """Gain `K`, cost `S` and poles `E` of the law where no constraint is active, and the controller from x to u."""

    K: np.ndarray
    S: np.ndarray
    E: np.ndarray
    controller: System


class LinearMPC(System):
    """The first control of a constrained optimal plan from the present state; see `mpc`.

    ::

        minimize over v, s   sum v[k]' T v[k] + rho (s[k] + s[k]^2),    x[k+1] = A x[k] + B u[k],   u[k] = -K x[k] + v[k]
        with                 low <= u[k] <= high,   x_low - s[k] <= x[k] <= x_high + s[k],   s[k] >= 0

    in deviations from the operating point. With K and T of the LQR this is its cost plus a constant, so v = 0 is the
    optimum wherever no constraint acts. It reads the state.
    """

    K: Array
    H: Array  # cost of (v, s)
    f: Array
    G: Array  # G (v, s) <= h - E x
    h: Array
    E: Array
    low: Array
    high: Array
    x0: Array
    u0: Array
    iterations: int = eqx.field(static=True)

    def init_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    def step(self, x: tuple[()], u: Array) -> tuple[tuple[()], Array]:
        """Return `(x, control)`; here the input is the plant's state."""
        deviation = u[: self.x0.shape[0]] - self.x0
        plan = solve_qp(self.H, self.f, self.G, self.h - self.E @ deviation, self.iterations)
        control = -self.K @ deviation + plan[: self.u0.shape[0]]
        return x, self.u0 + jnp.clip(control, self.low, self.high)


def mpc(
    plant: Any,
    Q: Any,
    R: Any,
    *,
    horizon: int = 20,
    u_low: Any = None,
    u_high: Any = None,
    x_low: Any = None,
    x_high: Any = None,
    penalty: float = 1e4,
    iterations: int = 40,
) -> MPC:
    """Design linear model-predictive control with limits on controls and states.

    ::

        minimize  sum_{k<N} x' Q x + u' R u  +  x[N]' S x[N],   u_low <= u <= u_high,   x_low <= x <= x_high

    with the Riccati solution S as terminal cost, so that the law is the LQR's where no limit acts. Limits on the
    states are soft, with an exact penalty, so that a plan always exists. Each step solves a quadratic program by
    qpax (`pip install 'robustctl[mpc]'`); jit, vmap and gradients go through it. Source: Rawlings, Mayne, Diehl, "Model
    Predictive Control", 2017, sections 1.3, 2.5 and 6.2; the control in the form -K x + v: Rossiter, Kouvaritakis, Rice,
    Automatica 34(1), 1998.

    **Arguments:** `plant`: discrete, see `linear_model`; limits in the plant's own units, default those of a plant's
    control signals and none on the states; `penalty` of leaving the states' limits; `iterations`: most steps of the solver.

    **Raises:** `ModelError` for a plant in continuous time, weights or limits that do not fit, an operating point
    outside the limits, a horizon below 1; `RobustctlError` without qpax.
    """
    require_qpax()
    model = linear_model(plant)
    if not model.discrete:
        raise ModelError(
            "the plant must be discrete; Sampled(plant, dt) or control.c2d(system, dt) makes it so"
        )
    if isinstance(horizon, bool) or horizon < 1:
        raise ModelError(f"horizon must be at least 1 sample, got {horizon}")
    A, B = model.system.A, model.system.B
    nx, nu = B.shape
    K, S, E = gains(A, B, Q, R, None, True)
    signals = control_limits(plant, nu)
    low, high = bounds(u_low, u_high, model.u, signals, "u")
    x_bounds = bounds(x_low, x_high, model.x, (np.full(nx, -np.inf), np.full(nx, np.inf)), "x")
    T = weight(R, nu, "R", definite=True) + B.T @ S @ B
    G, h, Ex = _constraints(A - B @ K, B, K, horizon, (low, high), x_bounds)
    slack = horizon if np.isfinite(np.concatenate(x_bounds)).any() else 0
    scale = max(1.0, np.abs(T).max())
    H = scipy.linalg.block_diag(np.kron(np.eye(horizon), T), penalty * scale * np.eye(slack))
    f = np.concatenate([np.zeros(horizon * nu), np.full(slack, penalty * scale)])
    arrays = (K, H, f, G, h, Ex, low, high, model.x, model.u)
    return MPC(K, S, E, LinearMPC(*(as_array(M) for M in arrays), iterations=iterations))


def control_limits(plant: Any, nu: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of a plant's control signals, or none where it has no signals."""
    inner = plant.plant if isinstance(plant, Sampled) else plant
    return limits(inner.controls) if isinstance(inner, Plant) else (np.full(nu, -np.inf), np.full(nu, np.inf))


def bounds(low: Any, high: Any, at: np.ndarray, default: tuple, letter: str) -> tuple[np.ndarray, np.ndarray]:
    """Return limits in deviations from the operating point, having checked them."""
    try:
        given = [
            np.array(np.broadcast_to(d if v is None else v, at.shape), float)
            for v, d in ((low, default[0]), (high, default[1]))
        ]
    except ValueError as error:
        raise ModelError(f"the limits on {letter} must be a number or {at.size} numbers; {error}") from error
    if not (given[0] < at).all() or not (at < given[1]).all():
        raise ModelError(
            f"the limits on {letter} must enclose its operating point {at}, got {given[0]} and {given[1]}; widen them or "
            "choose another operating point"
        )
    return given[0] - at, given[1] - at


def _constraints(AK, B, K, horizon: int, u_bounds, x_bounds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return G, h, E of `G (v, s) <= h - E x`, rows without a finite limit left out."""
    nx, nu = B.shape
    slack = horizon if np.isfinite(np.concatenate(x_bounds)).any() else 0
    from_x, from_v = np.eye(nx), np.zeros((nx, horizon * nu))
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []  # (of v, of s, of x, limit)
    for k in range(horizon):
        pick = np.eye(nu, horizon * nu, k * nu)
        none, own = (
            np.zeros((nu, slack)),
            np.tile(np.eye(1, slack, k), (nx, 1)) if slack else np.zeros((nx, 0)),
        )
        u_v, u_x = pick - K @ from_v, -K @ from_x
        rows += [(u_v, none, u_x, u_bounds[1]), (-u_v, none, -u_x, -u_bounds[0])]
        from_x, from_v = AK @ from_x, AK @ from_v + B @ pick
        rows += [(from_v, -own, from_x, x_bounds[1]), (-from_v, -own, -from_x, -x_bounds[0])]
    G, E = (np.vstack([np.hstack(r[:2]) for r in rows]), np.vstack([r[2] for r in rows]))
    h = np.concatenate([r[3] for r in rows])
    kept = np.isfinite(h)
    positive = np.hstack([np.zeros((slack, horizon * nu)), -np.eye(slack)])
    G, h, E = (
        np.vstack([G[kept], positive]),
        np.append(h[kept], np.zeros(slack)),
        np.vstack([E[kept], np.zeros((slack, nx))]),
    )
    return G, h, E
