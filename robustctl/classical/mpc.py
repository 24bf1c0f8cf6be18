"""Linear model-predictive control with constraints."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from ..checks import is_whole, weight
from ..errors import InvalidModelError
from ..loops import StateLimits, maximal_invariant_set
from ..loops.state_sets import columns
from ..registry import registered
from ..system import SignalLimits, System
from .actuator_limits import bounds, control_limits
from .lqr import gains
from .model import as_array, linear_model
from .qp import all_or_nan, require_qpax, solve_qp
from .types import ArrayLike, PlantLike


class MPC(NamedTuple):
    """A model-predictive design.

    **Arguments:**

    - `K`: gain of the LQR, which the controller equals while no constraint is active
    - `S`: its Riccati solution
    - `E`: its closed-loop poles
    - `controller`: from the state x to the control
    """

    K: np.ndarray
    S: np.ndarray
    E: np.ndarray
    controller: System


@registered(name="classical.LinearMPC")
class LinearMPC(System):
    """The first control of a constrained optimal plan from the current state; `mpc` makes one.

    ::

        minimize over v, s   sum v[k]' T v[k] + rho (s[k] + s[k]^2),    x[k+1] = A x[k] + B u[k],   u[k] = -K x[k] + v[k]
        with                 low <= u[k] <= high,   x_low - s[k] <= x[k] <= x_high + s[k],   s[k] >= 0

    in deviations from the operating point. With K and T of the LQR this is its cost plus a constant, so v = 0 is the
    optimum wherever no constraint is active. It reads the state.

    **Arguments:**

    - `K`: gain of the LQR
    - `H`: quadratic cost of (v, s)
    - `f`: linear cost of (v, s)
    - `G`: of the constraints G (v, s) <= h - E x
    - `h`: their right side
    - `E`: their dependence on the state
    - `low`: lowest control, in deviations
    - `high`: highest control, in deviations
    - `x0`: the operating point's state
    - `u0`: its control
    - `iterations`: iterations of the solver
    - `dt`: sample time in seconds, None where unknown
    """

    K: Float[Array, "nu nx"]
    H: Float[Array, "m m"]
    f: Float[Array, " m"]
    G: Float[Array, "k m"]
    h: Float[Array, " k"]
    E: Float[Array, "k nx"]
    low: Float[Array, " nu"]
    high: Float[Array, " nu"]
    x0: Float[Array, " nx"]
    u0: Float[Array, " nu"]
    iterations: int = eqx.field(static=True)
    dt: float | None = eqx.field(static=True, default=None)

    def undisturbed(self, references: int = 0) -> Array:
        """Return the operating point's state; `references`, which it does not read, are zeros after it."""
        return jnp.concatenate([self.x0, jnp.zeros(references, self.x0.dtype)])

    def output_limits(self) -> SignalLimits:
        """Return the limits of the control, infinite where there are none."""
        return self.u0 + self.low, self.u0 + self.high

    def init_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    def step(self, x: tuple[()], u: Array) -> tuple[tuple[()], Array]:
        """Return `(x, control)`; here the input is the plant's state. The control is NaN for a state that is not finite."""
        deviation = all_or_nan(u[: self.x0.shape[0]]) - self.x0
        plan = solve_qp(self.H, self.f, self.G, self.h - self.E @ deviation, self.iterations)
        # A plan of zeros, which `solve_qp` returns on failure, is the LQR; clipped, it still respects the actuators.
        control = -self.K @ deviation + plan[: self.u0.shape[0]]
        return x, self.u0 + jnp.clip(control, self.low, self.high)


def mpc(
    plant: PlantLike,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    horizon: int = 20,
    u_low: ArrayLike | None = None,
    u_high: ArrayLike | None = None,
    x_low: ArrayLike | None = None,
    x_high: ArrayLike | None = None,
    penalty: float = 1e4,
    iterations: int = 40,
) -> MPC:
    """Design linear model-predictive control with limits on controls and states.

    ::

        minimize  sum_{k<N} x' Q x + u' R u  +  x[N]' S x[N],   u_low <= u <= u_high,   x_low <= x <= x_high

    with the Riccati solution S as terminal cost, so that the control is the LQR's while no limit is active. Limits on
    the states are soft, with an exact penalty, so that a plan always exists. Each step solves a quadratic program with
    qpax (`pip install 'robustctl[mpc]'`), which works under jit, vmap and gradients. Source: Rawlings, Mayne, Diehl,
    "Model Predictive Control", 2017, sections 1.3, 2.5 and 6.2; the control in the form -K x + v: Rossiter,
    Kouvaritakis, Rice, Automatica 34(1), 1998.

    **Arguments:**

    - `plant`: in discrete time, as for `linear_model`
    - `Q`: weight of the state, as for `lqr`
    - `R`: weight of the control, as for `lqr`
    - `horizon`: N, samples
    - `u_low`: lowest controls, in their units, default those of the plant's control signals
    - `u_high`: highest controls, likewise
    - `x_low`: lowest states, in their units, default none
    - `x_high`: highest states, likewise
    - `penalty`: cost of exceeding the limits of the states
    - `iterations`: largest number of the solver's iterations

    **Raises:** `InvalidModelError` for a plant in continuous time, weights or limits that do not fit, an operating point
    outside the limits, a horizon below 1; `RobustctlError` without qpax.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        design = rc.classical.mpc(sampled, [1.0, 1.0], 1.0, horizon=15, x_high=[12.0, 12.0])
    """
    return designed(plant, (Q, R), horizon, (u_low, u_high), (x_low, x_high), penalty, iterations)


def designed(
    plant: PlantLike,
    weights: tuple[ArrayLike, ArrayLike],
    horizon: int,
    u_given: tuple[ArrayLike | None, ArrayLike | None],
    x_given: tuple[ArrayLike | None, ArrayLike | None],
    penalty: float,
    iterations: int,
    disturbance: ArrayLike | None = None,
) -> MPC:
    """Return the design of `mpc`, or of `tube_mpc` for a disturbance.

    **Arguments:**

    - `plant`: in discrete time
    - `weights`: of state and control
    - `horizon`: samples
    - `u_given`: lowest and highest controls, None for the default
    - `x_given`: lowest and highest states, likewise
    - `penalty`: cost of exceeding the limits of the states
    - `iterations`: largest number of the solver's iterations
    - `disturbance`: E (nx, nd) of `x+ = A x + B u + E d, |d_j| <= 1`; None for no terminal set and no margins

    **Raises:** as `mpc` and `tube_mpc`.
    """
    require_qpax()
    model = linear_model(plant)
    if not model.discrete:
        raise InvalidModelError(
            "the plant must be discrete; Sampled(plant, dt) or control.c2d(system, dt) makes it so"
        )
    if not is_whole(horizon, 1):
        raise InvalidModelError(f"horizon must be at least 1 sample, got {horizon}")
    A, B = model.system.A, model.system.B
    nx, nu = B.shape
    K, S, E = gains(A, B, *weights, None, True)
    signals = control_limits(plant, nu)
    low, high = bounds(*u_given, model.u, signals, "u")
    x_bounds = bounds(*x_given, model.x, (np.full(nx, -np.inf), np.full(nx, np.inf)), "x")
    # Completing the square with the Riccati equation: the cost from x is x' S x + sum of v' T v, T = R + B' S B
    T = weight(weights[1], nu, "R", definite=True) + B.T @ S @ B
    tube = None if disturbance is None else _Tube.of(A - B @ K, K, disturbance, (low, high), x_bounds)
    G, h, Ex = _constraints(A - B @ K, B, K, horizon, (low, high), x_bounds, tube)
    # One slack a sample, if there are limits on states; the penalty is exact if larger than the multipliers, which
    # scale with the cost
    slack = horizon if np.isfinite(np.concatenate(x_bounds)).any() else 0
    scale = max(1.0, np.abs(T).max())
    H = np.asarray(scipy.linalg.block_diag(np.kron(np.eye(horizon), T), penalty * scale * np.eye(slack)))
    f = np.concatenate([np.zeros(horizon * nu), np.full(slack, penalty * scale)])
    arrays = (K, H, f, G, h, Ex, low, high, model.x, model.u)
    return MPC(
        K, S, E, LinearMPC(*(as_array(M) for M in arrays), iterations=iterations, dt=float(model.system.dt))
    )


class _Tube(NamedTuple):
    """What disturbances take from the limits of a plan.

    **Arguments:**

    - `AK`: matrix of the loop with the LQR.
    - `E`: columns of the disturbance.
    - `terminal`: the set that the LQR keeps, in deviations.
    """

    AK: np.ndarray
    E: np.ndarray
    terminal: StateLimits

    @classmethod
    def of(
        cls, AK: np.ndarray, K: np.ndarray, disturbance: ArrayLike, u_bounds: tuple, x_bounds: tuple
    ) -> "_Tube":
        """Return the tube of a design, or raise `InvalidModelError` where the LQR keeps no set under the disturbance."""
        eye = np.eye(len(AK))
        limits = StateLimits(
            np.vstack([eye, -eye, -K, K]),
            np.concatenate([x_bounds[1], -x_bounds[0], u_bounds[1], -u_bounds[0]]),
        )
        E = columns(disturbance, len(AK))
        return cls(AK, E, maximal_invariant_set(AK, limits, E))

    def taken(self, rows: np.ndarray, samples: int) -> np.ndarray:
        """Return the most that disturbances of so many samples can add to `rows x`."""
        total, X = np.zeros(len(rows)), self.E
        for _ in range(samples):
            total, X = total + np.abs(rows @ X).sum(1), self.AK @ X
        return total


def _constraints(
    AK: np.ndarray,
    B: np.ndarray,
    K: np.ndarray,
    horizon: int,
    u_bounds: tuple,
    x_bounds: tuple,
    tube: _Tube | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return G, h, E of `G (v, s) <= h - E x`, without rows that have no finite limit."""
    nx, nu = B.shape
    slack = horizon if np.isfinite(np.concatenate(x_bounds)).any() else 0
    # x[k] = from_x x + from_v v, by the recursion x[k+1] = (A - B K) x[k] + B v[k]
    from_x, from_v = np.eye(nx), np.zeros((nx, horizon * nu))
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []  # (of v, of s, of x, limit)

    def taken(C: np.ndarray, samples: int) -> np.ndarray:
        return np.zeros(len(C)) if tube is None else tube.taken(C, samples)

    def own(k: int, count: int) -> np.ndarray:
        return np.tile(np.eye(1, slack, k), (count, 1)) if slack else np.zeros((count, 0))

    for k in range(horizon):
        pick = np.eye(nu, horizon * nu, k * nu)
        none, less = np.zeros((nu, slack)), taken(K, k)
        u_v, u_x = pick - K @ from_v, -K @ from_x
        rows += [(u_v, none, u_x, u_bounds[1] - less), (-u_v, none, -u_x, -u_bounds[0] - less)]
        from_x, from_v = AK @ from_x, AK @ from_v + B @ pick
        less = taken(np.eye(nx), k + 1)
        rows += [
            (from_v, -own(k, nx), from_x, x_bounds[1] - less),
            (-from_v, -own(k, nx), -from_x, -x_bounds[0] - less),
        ]
    if tube is not None:
        C, limit = (np.asarray(a, np.float64) for a in (tube.terminal.C, tube.terminal.limit))
        rows.append((C @ from_v, -own(horizon - 1, len(C)), C @ from_x, limit - tube.taken(C, horizon)))
    G, E = (np.vstack([np.hstack(r[:2]) for r in rows]), np.vstack([r[2] for r in rows]))
    h = np.concatenate([r[3] for r in rows])
    finite = np.isfinite(h)
    positive = np.hstack([np.zeros((slack, horizon * nu)), -np.eye(slack)])
    G, h, E = (
        np.vstack([G[finite], positive]),
        np.append(h[finite], np.zeros(slack)),
        np.vstack([E[finite], np.zeros((slack, nx))]),
    )
    return G, h, E
