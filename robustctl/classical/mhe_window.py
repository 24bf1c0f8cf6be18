"""Moving-horizon estimation: the state that explains the last samples best, within limits, by Gauss-Newton steps."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..errors import InvalidModelError
from ..registry import registered
from .ekf import Belief, NonlinearEstimator, lower_factor, measured_by
from .nonlinear_mpc import SQP
from .qp import solve_qp

_PENALTY = 1e4
"""Cost of a state one standard deviation outside its limits: above any multiplier of samples less than about a thousand of them off."""


Limited = tuple[tuple[int, ...], tuple[int, ...]]


class Window(NamedTuple):
    """The estimator's state: the window of past samples, and what is known of its start from those before it.

    **Arguments:**

    - `arrival`: mean and covariance of the state at the window's start, by the samples before it
    - `newest`: the plant's state at the newest sample, of which only the actuators' memory is used
    - `xs`: the states (N + 1, nx) along the window by the last estimate, the last one predicted
    - `us`: controls (N, nu)
    - `ys`: measured outputs (N, ny), NaN where missing
    - `seen`: which samples (N,) were there; false before the first one
    """

    arrival: Belief
    newest: PyTree
    xs: Array
    us: Array
    ys: Array
    seen: Array


class _Linear(NamedTuple):
    """Of one sample: states `a + S z` by the linearization, and the cost's quadratic and linear term in z."""

    a: Array
    S: Array
    H: Array
    f: Array


@registered(name="classical.MovingHorizonEstimator")
class MovingHorizonEstimator(NonlinearEstimator):
    """A moving-horizon estimator: the control and the measured output in, the estimated state out; `moving_horizon` makes one.

    ::

        minimize  |x[t-N] - m|^2_{P^-1}  +  sum_{k<t} |w[k]|^2_{W^-1}  +  sum_{k<=t} |y[k] - h(x[k])|^2_{V^-1}
        with      x[k+1] = f(x[k], u[k]) + w[k],   x_low <= x[k] <= x_high  (soft),   w_low <= w[k] <= w_high

    over the last N samples. It is a strictly proper system: control `u`, and `w` the measured output.

    **Arguments:**

    - `model`: the plant without noise
    - `W`: covariance (nx, nx) of the process noise
    - `V`: covariance (ny, ny) of the measurement noise
    - `P0`: prior covariance (nx, nx)
    - `x0`: prior mean (nx,)
    - `x_bounds`: lowest and highest states, (2, nx), infinite where there is no limit
    - `w_bounds`: of the process noise, likewise
    - `arrival`: covariance (nx, nx) of the window's start, None for that of the extended Kalman filter
    - `horizon`: N, samples
    - `limited`: which states have a lowest value, and which a highest
    - `w_limited`: which entries of the process noise, likewise
    - `solver`: settings
    """

    x_bounds: Float[Array, "2 nx"]
    w_bounds: Float[Array, "2 nx"]
    arrival: Float[Array, "nx nx"] | None
    horizon: int = eqx.field(static=True)
    limited: Limited = eqx.field(static=True)
    w_limited: Limited = eqx.field(static=True)
    solver: SQP = eqx.field(static=True)

    def undisturbed(self, references: int = 0) -> Array:
        """Return the measured output at the prior mean; `references`, which it does not read, are zeros after it."""
        return jnp.concatenate([self._measured(self._start(), self.x0), jnp.zeros(references, self.x0.dtype)])

    def check_parts(self) -> None:
        """Refuse covariances of other sizes than the model's.

        **Raises:** `InvalidModelError`.
        """
        wanted = eqx.filter_eval_shape(lambda: (vector(self._start()), self.undisturbed()))
        given = (self.x0.size, self.V.shape[0])
        if given != tuple(part.size for part in wanted):
            raise InvalidModelError(
                f"the covariances must be of the model's {wanted[0].size} states and {wanted[1].size} outputs, got {given}"
            )

    def init_state(self) -> Window:
        """Return a window without samples: all of it is at the prior mean."""
        N, dtype = self.horizon, self.x0.dtype
        outputs = jnp.full((N, self.V.shape[0]), jnp.nan, dtype)
        controls = jnp.zeros((N, self.nu or 0), dtype)
        belief = Belief(_replaced(self._start(), self.x0), self.P0)
        return Window(
            belief, belief.plant, jnp.tile(self.x0, (N + 1, 1)), controls, outputs, jnp.zeros(N, bool)
        )  # fmt: skip

    def output(self, x: Window, w: Array) -> Array:
        """Return the estimate of the state, within its limits."""
        return self._within(self._solved(x, w).xs[-1])

    def advance(self, x: Window, u: Array, w: Array) -> Window:
        """Return the window one sample later."""
        return self._shifted(self._solved(x, w), u, w)

    def step(self, x: Window, u: tuple[Array, Array]) -> tuple[Window, Array]:
        """Return `(x_next, estimate)`; the window is solved once for both."""
        control, w = u
        solved = self._solved(x, w)
        return self._shifted(solved, control, w), self._within(solved.xs[-1])

    def _start(self) -> PyTree:
        return self.model.init_state()

    def _within(self, x: Array) -> Array:
        return jnp.clip(x, self.x_bounds[0], self.x_bounds[1])

    def _measured(self, state: PyTree, x: Array) -> Array:
        return self.model.output(_replaced(state, x), self.model.undisturbed())

    def _advanced(self, state: PyTree, x: Array, u: Array) -> PyTree:
        return self.model.advance(_replaced(state, x), u, self.model.undisturbed())

    def _transition(self, state: PyTree, x: Array, u: Array) -> Array:
        return jax.jacobian(lambda x: vector(self._advanced(state, x, u)))(x)

    def _correction(self, state: PyTree, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Return what an output measures about a state: `y - h(x)`, `dh/dx` and its covariance, without missing channels."""
        known = jnp.isfinite(y)
        C = jnp.where(known[:, None], jax.jacobian(lambda x: self._measured(state, x))(x), 0)
        both = known[:, None] & known[None]
        # A missing channel is decoupled, and the diagonal keeps the rest regular.
        V = jnp.where(both, self.V, jnp.diag(jnp.diagonal(self.V)))
        return jnp.where(known, y - self._measured(state, x), 0), C, V

    def _solved(self, window: Window, y: Array) -> Window:
        """Return the window with states improved by Gauss-Newton steps, the new measurement included."""
        ys = jnp.concatenate([window.ys, y[None, : self.V.shape[0]]])

        def improve(_, xs):
            found = self._improved(window, xs, ys)
            return jnp.where(jnp.all(jnp.isfinite(found)), found, xs)

        return window._replace(xs=lax.fori_loop(0, self.solver.steps, improve, window.xs))

    def _improved(self, window: Window, xs: Array, ys: Array) -> Array:
        """Return the states (N + 1, nx) that are optimal for the model linearized along `xs`.

        ::

            z = [z_0, v_0, ..., v_{N-1}]  of unit covariance,    x[0] = m + sqrt(P) z_0,    w[k] = sqrt(W) v_k
            x[k+1] = f(xs[k]) + A[k] (x[k] - xs[k]) + w[k],      minimize  |z|^2 + sum |y[k] - h(xs[k]) - C[k] (x[k] - xs[k])|^2_{V^-1}
        """
        # Covariances of rank below n (a state without noise, a known start) have no inverse, but a factor.
        n, N, dtype = xs.shape[1], self.horizon, xs.dtype
        picks = jnp.eye((N + 1) * n, dtype=dtype).reshape(N + 1, n, -1)
        noise = jnp.einsum("ij,kja->kia", lower_factor(self.W), picks[1:])

        def quadratic(state, x, a, S, y, seen):
            error, C, V = self._correction(state, x, jnp.where(seen, y, jnp.nan))
            rows = C @ S
            weighted = jnp.linalg.solve(V, rows)
            return _Linear(a, S, rows.T @ weighted, -weighted.T @ (error - C @ (a - x)))

        def body(carry, at):
            state, a, S = carry
            x, u, y, seen, E = at
            part = quadratic(state, x, a, S, y, seen)
            A, after = self._transition(state, x, u), self._advanced(state, x, u)
            # Before the first sample nothing moves, so that the prior is that of the first one.
            moved = (after, vector(after) + A @ (a - x), A @ S + E)
            return jax.tree.map(lambda new, old: jnp.where(seen, new, old), moved, carry), part

        start = window.arrival.plant
        first = (start, vector(start), lower_factor(window.arrival.P) @ picks[0])
        end, parts = lax.scan(body, first, (xs[:-1], window.us, ys[:-1], window.seen, noise))
        last = quadratic(end[0], xs[-1], end[1], end[2], ys[-1], True)
        parts = jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), parts, last)
        H = jnp.eye(parts.H.shape[-1], dtype=dtype) + jnp.sum(parts.H, axis=0)
        return parts.a + parts.S @ self._program(H, jnp.sum(parts.f, axis=0), parts.a, parts.S, noise)

    def _program(self, H: Array, f: Array, a: Array, S: Array, noise: Array) -> Array:
        """Return the minimizer of `z' H z / 2 + f' z` within the limits."""
        G, h = _rows(noise, jnp.zeros(noise.shape[:2], f.dtype), self.w_bounds, self.w_limited)
        if not any(self.limited):
            return solve_qp(H, f, G, h, self.solver.iterations)
        # One slack a sample, in standard deviations, so that a measurement beyond a limit leaves the program solvable.
        deviation = jnp.sqrt(jnp.maximum(jnp.diagonal(self.P0), jnp.diagonal(self.W)))
        unit = jnp.where(deviation > 0, deviation, 1)
        rows, room = _rows(S / unit[None, :, None], a / unit[None], self.x_bounds / unit[None], self.limited)
        count = self.horizon + 1
        none = jnp.zeros((len(G), count), f.dtype)
        slack = jnp.tile(jnp.eye(count, dtype=f.dtype), (len(rows) // count, 1))
        positive = jnp.hstack([jnp.zeros((count, f.size), f.dtype), jnp.eye(count, dtype=f.dtype)])
        G = jnp.vstack([jnp.hstack([G, none]), jnp.hstack([rows, -slack]), -positive])
        h = jnp.concatenate([h, room, jnp.zeros(count, f.dtype)])
        H = jax.scipy.linalg.block_diag(H, _PENALTY * jnp.eye(count, dtype=f.dtype))
        f = jnp.append(f, jnp.full(count, _PENALTY, f.dtype))
        return solve_qp(H, f, G, h, self.solver.iterations)[: noise.shape[-1]]

    def _shifted(self, window: Window, u: Array, y: Array) -> Window:
        """Return the window without its first sample and with a new one."""
        arrival = jax.tree.map(
            lambda new, old: jnp.where(window.seen[0], new, old), self._arrival(window), window.arrival
        )
        newest = self._advanced(window.newest, window.xs[-1], u)
        xs = jnp.concatenate([window.xs[1:], vector(newest)[None]])
        us = jnp.concatenate([window.us[1:], u[None]])
        ys = jnp.concatenate([window.ys[1:], y[None, : self.V.shape[0]]])
        return Window(arrival, newest, xs, us, ys, jnp.append(window.seen[1:], True))

    def _arrival(self, window: Window) -> Belief:
        """Return mean and covariance of the second state by the samples up to the first.

        A step of an extended Kalman filter, whose derivatives are taken at the window's own estimates: they have seen later samples.
        """
        (state, P), x, u = window.arrival, window.xs[0], window.us[0]
        error, C, V = self._correction(state, x, window.ys[0])
        M, P = measured_by(P, C, V)
        before = vector(state) - x
        mean = before + M @ (error - C @ before)
        A, after = self._transition(state, x, u), self._advanced(state, x, u)
        P = A @ P @ A.T + self.W
        return Belief(_replaced(after, vector(after) + A @ mean), P if self.arrival is None else self.arrival)


def _rows(S: Array, a: Array, bounds: Array, limited: Limited) -> tuple[Array, Array]:
    """Return G (one limit after the other, of all samples) and h of `bounds[0] <= a + S z <= bounds[1]`, S (k, n, size of z)."""
    G, h = [jnp.zeros((0, S.shape[-1]), S.dtype)], [jnp.zeros(0, S.dtype)]
    for sign, bound, which in zip((-1, 1), bounds, limited, strict=True):
        for j in which:
            G.append(sign * S[:, j])
            h.append(sign * (bound[j] - a[:, j]))
    return jnp.concatenate(G), jnp.concatenate(h)


def _part(state: PyTree) -> str:
    """Return the field of a plant's state that is estimated; the others are the actuators' memory, which is known."""
    return "model" if hasattr(state, "model") else "x"


def vector(state: PyTree) -> Array:
    """Return the estimated part of a plant's state as one vector."""
    return ravel_pytree(getattr(state, _part(state)))[0]


def _replaced(state: PyTree, x: Array) -> PyTree:
    part = _part(state)
    return state._replace(**{part: ravel_pytree(getattr(state, part))[1](x)})
