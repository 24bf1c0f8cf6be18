"""Nonlinear model-predictive control by sequential quadratic programming on the plant's own Jacobians."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax
from jaxtyping import Array, Float

from ..checks import weight
from ..errors import InvalidModelError
from ..loops import noiseless
from ..loops.parts import Of
from ..plants import PlantState, Sampled
from ..registry import registered
from ..system import SignalLimits, System
from .actuator_limits import bounds, control_limits
from .flat import plant_state
from .lqr import gains
from .model import as_array, linear_model, require_sampled
from .mpc import MPC
from .qp import all_or_nan, require_qpax, solve_qp
from .types import ArrayLike


@registered(name="classical.SQP")
class SQP(NamedTuple):
    """Settings of the solver of `nonlinear_mpc` and `moving_horizon`.

    **Arguments:**

    - `steps`: Gauss-Newton steps per sample
    - `iterations`: largest number of iterations of each quadratic program
    """

    steps: int = 2
    iterations: int = 30


_DEFAULT = SQP()


class Plan(NamedTuple):
    """The controller's state: planned states (N, n) and controls (N, nu), and the actuators' memory."""

    xs: Array
    us: Array
    memory: PlantState


@registered(name="classical.NonlinearMPC")
class NonlinearMPC(System):
    """The first control of a plan that sequential quadratic programming improves at every sample; `nonlinear_mpc` makes one.

    ::

        minimize  sum_{k<N} (x-x_e)' Q (x-x_e) + (u-u_e)' R (u-u_e)  +  (x[N]-x_e)' S (x[N]-x_e)
        with      x[k+1] = f(x[k], u[k]),   low <= u[k] <= high,   x_low <= x[k] <= x_high  (soft)

    It reads the physical state. The model's state x (n,) has the controls in the delay and the last control after it.

    **Arguments:**

    - `model`: the plant without noise
    - `K`: gain of the LQR at the operating point
    - `S`: its Riccati solution
    - `Q`: weight (n, n) of the state
    - `R`: weight (nu, nu) of the control
    - `xe`: the operating point's state (n,)
    - `ue`: its control (nu,)
    - `u_bounds`: lowest and highest deviation of the controls, (2, nu)
    - `x_bounds`: of the limited states, (2, number of them)
    - `penalty`: cost of exceeding the limits of the states
    - `limited`: which states have limits
    - `horizon`: N, samples
    - `solver`: settings
    """

    model: Sampled
    K: Float[Array, "nu n"]
    Q: Float[Array, "n n"]
    R: Float[Array, "nu nu"]
    S: Float[Array, "n n"]
    xe: Float[Array, " n"]
    ue: Float[Array, " nu"]
    u_bounds: Float[Array, "2 nu"]
    x_bounds: Float[Array, "2 limited"]
    penalty: Float[Array, ""]
    limited: tuple[int, ...] = eqx.field(static=True)
    horizon: int = eqx.field(static=True)
    solver: SQP = eqx.field(static=True)
    dt = Of("model")

    def undisturbed(self, references: int = 0) -> Array:
        """Return the operating point's state; `references`, which it does not read, are zeros after it."""
        x = self.xe[: len(self.model.plant.states)]
        return jnp.concatenate([x, jnp.zeros(references, x.dtype)])

    def output_limits(self) -> SignalLimits:
        """Return the limits of the control, infinite where there are none."""
        return self.ue + self.u_bounds[0], self.ue + self.u_bounds[1]

    def init_state(self) -> Plan:
        """Return the plan that remains at the operating point."""
        tiled = jnp.tile(self.xe, (self.horizon, 1)), jnp.tile(self.ue, (self.horizon, 1))
        return Plan(*tiled, self.model.init_state())

    def step(self, x: Plan, u: Array) -> tuple[Plan, Array]:
        """Return `(plan, control)`; here the input is the plant's physical state.

        A state that is not finite gives NaN, for ever after: `rc.loops.Guarded` falls back and starts the controller again.
        """
        pack, unpack, _ = plant_state(self.model)
        # The physical state is measured; the delay's queue and the last control are remembered from the last sample.
        now = x.memory._replace(x=all_or_nan(u[: x.memory.x.shape[0]]))
        start = pack(now)

        def improve(_, plan):
            return self._improve(start, *plan)

        xs, us = lax.fori_loop(0, self.solver.steps, improve, (x.xs, x.us))
        xs, us = self._follow(start, xs, us)
        # The next plan is this one shifted by a sample, with the LQR's control at its end
        last = self._clip(self.ue - self.K @ (xs[-1] - self.xe))
        memory = unpack(self._f(start, us[0]))
        return Plan(xs[1:], jnp.concatenate([us[1:], last[None]]), memory), us[0]

    def _f(self, x: Array, u: Array) -> Array:
        pack, unpack, _ = plant_state(self.model)
        nominal = self.model.undisturbed()
        return pack(self.model.advance(unpack(x), u, nominal))

    def _clip(self, u: Array) -> Array:
        return jnp.clip(u, self.ue + self.u_bounds[0], self.ue + self.u_bounds[1])

    def _follow(self, start: Array, xs: Array, us: Array) -> tuple[Array, Array]:
        """Return states (N + 1, n) and controls (N, nu) from `start`, with the LQR's feedback about the plan."""

        # Without the feedback an unstable plant's states grow along the horizon and with them the condition of H.
        def body(x, planned):
            u = self._clip(planned[1] - self.K @ (x - planned[0]))
            return self._f(x, u), (x, u)

        end, (states, controls) = lax.scan(body, start, (xs, us))
        return jnp.concatenate([states, end[None]]), controls

    def _excess(self, xs: Array) -> Array:
        """Return by how much the states exceed their limits (N, twice the number of limited states)."""
        d = self._limited(xs - self.xe[None])
        return jnp.maximum(
            jnp.concatenate([d - self.x_bounds[1][None], self.x_bounds[0][None] - d], axis=-1), 0.0
        )

    def _limited(self, per_state: Array) -> Array:
        """Return the entries (axis 1) of the states that have limits."""
        return per_state[:, np.asarray(self.limited, int)]

    def _cost(self, xs: Array, us: Array) -> Array:
        d, v = xs - self.xe[None], us - self.ue[None]
        # one slack a sample, as in the quadratic program, so it counts the largest excess
        worst = jnp.max(self._excess(xs[1:]), axis=1, initial=0.0)
        running = jnp.sum(d[:-1] @ self.Q * d[:-1]) + jnp.sum(v @ self.R * v)
        return running + d[-1] @ self.S @ d[-1] + self.penalty * jnp.sum(worst + worst**2)

    def _improve(self, start: Array, xs: Array, us: Array) -> tuple[Array, Array]:
        states, controls = self._follow(start, xs, us)
        A, B = jax.vmap(jax.jacobian(self._f, (0, 1)))(states[:-1], controls)
        of_x, of_u = self._sensitivities(A, B)
        step = self._program(states, controls, of_x, of_u)
        dx, du = of_x @ step, of_u @ step

        def candidate(size):
            xs, us = self._follow(start, states[:-1] + size * dx[:-1], controls + size * du)
            return self._cost(xs, us), xs[:-1], us

        # The line search tries all sizes at once. 0 is among them, so that the cost never increases.
        sizes = jnp.asarray([0.0, 1.0, 0.5, 0.2, 0.05], us.dtype)
        costs, all_xs, all_us = jax.vmap(candidate)(sizes)
        best = jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf))
        return all_xs[best], all_us[best]

    def _sensitivities(self, A: Array, B: Array) -> tuple[Array, Array]:
        """Return the derivatives of states (N + 1, n, N nu) and controls (N, nu, N nu) by the free moves v.

        ::

            dx[k+1] = A[k] dx[k] + B[k] du[k],     du[k] = v[k] - K dx[k],     dx[0] = 0
        """
        N, nu = self.horizon, self.ue.shape[0]
        picks = jnp.eye(N * nu, dtype=A.dtype).reshape(N, nu, N * nu)

        def body(of_x, at):
            of_u = at[2] - self.K @ of_x
            return at[0] @ of_x + at[1] @ of_u, (of_x, of_u)

        end, (of_x, of_u) = lax.scan(body, jnp.zeros((A.shape[1], N * nu), A.dtype), (A, B, picks))
        return jnp.concatenate([of_x, end[None]]), of_u

    def _program(self, xs: Array, us: Array, of_x: Array, of_u: Array) -> Array:
        """Return the free moves that solve the quadratic program at this trajectory."""
        N = self.horizon
        # Gauss-Newton: H = sum of sensitivity' weight sensitivity, f = sum of sensitivity' weight residual. Half the
        # cost is minimized, so the penalty is halved in f, and in H by the factor 1/2 of solve_qp.
        weights = jnp.concatenate([jnp.tile(self.Q, (N, 1, 1)), self.S[None]])
        H = jnp.einsum("kia,kij,kjb->ab", of_x, weights, of_x) + jnp.einsum(
            "kia,ij,kjb->ab", of_u, self.R, of_u
        )
        f = jnp.einsum("kia,kij,kj->a", of_x, weights, xs - self.xe[None])
        f = f + jnp.einsum("kia,ij,kj->a", of_u, self.R, us - self.ue[None])
        G, h = self._limits(of_u, us - self.ue[None], self.u_bounds)
        if not self.limited:
            return solve_qp(H, f, G, h, self.solver.iterations)
        Gx, hx = self._limits(self._limited(of_x[1:]), self._limited(xs[1:] - self.xe[None]), self.x_bounds)
        slack = jnp.repeat(jnp.eye(N, dtype=H.dtype), len(self.limited), axis=0)
        zero = jnp.zeros((G.shape[0], N), H.dtype)
        rows = [jnp.hstack([G, zero]), jnp.hstack([Gx, -jnp.concatenate([slack, slack])])]
        rows.append(jnp.hstack([jnp.zeros((N, H.shape[0]), H.dtype), -jnp.eye(N, dtype=H.dtype)]))
        H = jax.scipy.linalg.block_diag(H, self.penalty * jnp.eye(N, dtype=H.dtype))
        f, h = jnp.append(f, jnp.full(N, self.penalty / 2)), jnp.concatenate([h, hx, jnp.zeros(N, H.dtype)])
        return solve_qp(H, f, jnp.vstack(rows), h, self.solver.iterations)[: f.size - N]

    def _limits(self, sensitivity: Array, at: Array, limit: Array) -> tuple[Array, Array]:
        """Return G and h of `limit[0] <= at + sensitivity v <= limit[1]`."""
        flat = sensitivity.reshape(-1, sensitivity.shape[-1])
        h = jnp.concatenate([(limit[1][None] - at).ravel(), (at - limit[0][None]).ravel()])
        return jnp.concatenate([flat, -flat]), h


def nonlinear_mpc(
    sampled: Sampled,
    Q: ArrayLike,
    R: ArrayLike,
    *,
    horizon: int = 20,
    u_low: ArrayLike | None = None,
    u_high: ArrayLike | None = None,
    x_low: ArrayLike | None = None,
    x_high: ArrayLike | None = None,
    penalty: float = 1e4,
    solver: SQP = _DEFAULT,
) -> MPC:
    """Design nonlinear model-predictive control of a sampled plant.

    ::

        minimize  sum_{k<N} (x-x_e)' Q (x-x_e) + (u-u_e)' R (u-u_e)  +  (x[N]-x_e)' S (x[N]-x_e)

    subject to the sampled plant itself, with its delay and rate limit, and with S of the LQR at the operating point. Each
    sample shifts the last plan and improves it by a fixed number of Gauss-Newton steps, each a quadratic program with
    exact Jacobians and a line search over the true cost, so a step never increases the cost. Source: Rawlings,
    Mayne, Diehl, "Model Predictive Control", 2017, sections 8.7 and 8.9; Diehl, Bock, Schloder, SIAM J. Control and
    Optimization 43(5), 2005.

    **Arguments:**

    - `sampled`: the plant
    - `Q`: weight (nx, nx) of the physical state, or its diagonal
    - `R`: weight (nu, nu) of the control, or its diagonal
    - `horizon`: N, samples
    - `u_low`: lowest controls, as for `mpc`
    - `u_high`: highest controls, as for `mpc`
    - `x_low`: lowest physical states, as for `mpc`
    - `x_high`: highest physical states, as for `mpc`
    - `penalty`: cost of exceeding the limits of the states
    - `solver`: numbers of steps and iterations

    **Raises:** `InvalidModelError` for a plant that is not a `Sampled` and numbers below 1; same errors as `mpc`.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        design = rc.classical.nonlinear_mpc(sampled, [1.0, 1.0], 1.0, horizon=15, solver=rc.classical.SQP(steps=3))
    """
    require_qpax()
    require_sampled(sampled)
    if min(horizon, *solver) < 1:
        raise InvalidModelError(
            f"horizon, steps and iterations must be at least 1, got {horizon} and {solver}"
        )
    sampled = noiseless(sampled)
    model = linear_model(sampled)
    A, B = model.system.A, model.system.B
    (n, nu), nx = B.shape, len(sampled.plant.states)
    # The entries after the physical state (delay, rate limit) have no cost.
    Q = np.asarray(scipy.linalg.block_diag(weight(Q, nx, "Q", definite=False), np.zeros((n - nx, n - nx))))
    K, S, E = gains(A, B, Q, R, None, True)
    u_bounds = bounds(u_low, u_high, model.u, control_limits(sampled, nu), "u")
    free = np.full(nx, np.inf)
    x_bounds = np.stack(bounds(x_low, x_high, model.x[:nx], (-free, free), "x"))
    limited = tuple(int(k) for k in np.flatnonzero(np.isfinite(x_bounds).any(axis=0)))
    arrays = (
        K,
        Q,
        weight(R, nu, "R", definite=True),
        S,
        model.x,
        model.u,
        np.stack(u_bounds),
        x_bounds[:, list(limited)],
    )
    parts = [as_array(M) for M in (*arrays, penalty)]
    return MPC(K, S, E, NonlinearMPC(sampled, *parts, limited=limited, horizon=horizon, solver=solver))
