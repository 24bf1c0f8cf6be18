"""Model-predictive control whose plan is the global optimum: over a model whose outputs are convex in the inputs."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..checks import check_whole, is_positive, is_whole, of_type
from ..errors import InvalidModelError
from ..lft import float64
from ..loops.parts import Of
from ..nn import InputConvexSystem
from ..nn.activations import name_of
from ..registry import registered
from ..scaled import Scaled
from ..system import Parameterization, SignalLimits, System, explicit_of
from .convex_cost import ConvexCost, ScaledCost
from .model import as_array
from .modes import one_each
from .qp import all_or_nan
from .staged_qp import StagedQP, solve_staged
from .types import ArrayLike

_LOWER_SLOPE = {"relu": 0.0, "leaky_relu": 0.01, "identity": 1.0}
"""The other slope of activations that are the larger of `z` and this times z: two linear constraints."""

_SETTLED = 100_000
"""Samples after which a model that has not settled is taken as it is."""


@registered(name="classical.ConvexMPC")
class ConvexMPC(System):
    """The first control of the cheapest plan from the measured outputs; `convex_mpc` makes one.

    ::

        minimize over u   sum_{k=1..N} p'y[k] + sum_i q_i max(y_i[k] - y_from_i, 0)^2 + c'u[k-1] + (u[k-1] - u_to)' R (u[k-1] - u_to)
        with              u_low <= u[k] <= u_high,      y[k] <= y_high  (soft),      y[k] = model + bias

    It reads the measured outputs. The state is that of the model under the controls that were applied; the bias, what is measured
    less what the model predicts, is taken as constant.

    **Arguments:**

    - `model`: between scaled signals.
    - `u_low`: lowest controls (nu,).
    - `u_high`: highest controls (nu,).
    - `u_mean`: offsets of the controls (nu,).
    - `u_std`: scales of the controls (nu,).
    - `y_mean`: offsets of the outputs (ny,).
    - `y_std`: scales of the outputs (ny,).
    - `cost`: in the scaled signals.
    - `start`: state of the model (nx,) at the equilibrium of the preferred control.
    - `horizon`: N, samples.
    - `iterations`: largest number of the solver's iterations.
    - `dt`: sample time in seconds, None where unknown.
    """

    model: InputConvexSystem
    u_low: Float[Array, " nu"]
    u_high: Float[Array, " nu"]
    u_mean: Float[Array, " nu"]
    u_std: Float[Array, " nu"]
    y_mean: Float[Array, " ny"]
    y_std: Float[Array, " ny"]
    cost: ScaledCost
    start: Float[Array, " nx"]
    horizon: int = eqx.field(static=True)
    iterations: int = eqx.field(static=True)
    dt: float | None = eqx.field(static=True, default=None)
    nu, ny = Of("y_mean", "size"), Of("u_low", "size")

    def check_parts(self) -> None:
        """Refuse parts that do not fit each other.

        **Raises:** `InvalidModelError`.
        """
        self.model.check_parts()
        sizes = (self.model.nu, self.model.ny, self.model.b.size)
        if (self.u_low.size, self.y_mean.size, self.start.size) != sizes:
            raise InvalidModelError(
                f"the controller's controls, outputs and state must be {sizes} as its model's, got {self.u_low.size}, "
                f"{self.y_mean.size} and {self.start.size}"
            )

    def undisturbed(self, references: int = 0) -> Array:
        """Return the model's outputs at equilibrium; `references`, which it does not read, are zeros after them."""
        y = self.y_mean + self.y_std * (self.model.C @ self.start + self.model.by)
        return jnp.concatenate([y, jnp.zeros(references, y.dtype)])

    def output_limits(self) -> SignalLimits:
        """Return the limits of the controls."""
        return self.u_low, self.u_high

    def init_state(self) -> Float[Array, " nx"]:
        """Return the model's state at the equilibrium of the preferred control."""
        return self.start

    def step(self, x: Float[Array, " nx"], u: Array) -> tuple[Float[Array, " nx"], Float[Array, " nu"]]:
        """Return `(x_next, control)`; here the input is the measured output.

        A measurement that is not finite gives NaN, for ever after: `rc.loops.Guarded` falls back and starts the controller again.
        """
        measured = (all_or_nan(u[: self.y_mean.size]) - self.y_mean) / self.y_std
        bias = measured - self.model.C @ x - self.model.by
        half = jnp.full((self.horizon, self.u_low.size), 0.5, x.dtype)
        control = self.plan(x, bias, half)[0]
        x_next, _ = self.model.step(x, (control - self.u_mean) / self.u_std)
        return x_next, control

    def plan(
        self, x: Float[Array, " nx"], bias: Float[Array, " ny"], start: Float[Array, "N nu"]
    ) -> Float[Array, "N nu"]:
        """Return the cheapest controls over the horizon; the same from every start.

        **Arguments:**

        - `x`: state of the model.
        - `bias`: of the scaled outputs.
        - `start`: where the solver starts, a plan as fractions of the way from `u_low` to `u_high`.
        """
        program = self._program(x, bias)
        z = solve_staged(program, self._inside(x, bias, start), self.iterations)
        v = jnp.clip(z[:, : self.u_low.size], 0.0, 1.0)
        return self.u_low[None] + v * (self.u_high - self.u_low)[None]

    def predicted_cost(
        self, x: Float[Array, " nx"], bias: Float[Array, " ny"], us: Float[Array, "N nu"]
    ) -> Float[Array, ""]:
        """Return the cost of any controls over the horizon, of the model's own steps.

        **Arguments:**

        - `x`: state of the model.
        - `bias`: of the scaled outputs.
        - `us`: controls, in their units.
        """
        scaled = (us - self.u_mean[None]) / self.u_std[None]
        xs, _, end = self.model.scan(x, scaled)
        later = jnp.concatenate([xs[1:], end[None]])
        ys = later @ self.model.C.T + (self.model.by + bias)[None]
        return self.cost.of(ys, scaled)

    def _fractions(self) -> tuple[Array, Array]:
        """Return W and b of the model whose inputs are fractions of the way from the lowest control to the highest."""
        size, low = (self.u_high - self.u_low) / self.u_std, (self.u_low - self.u_mean) / self.u_std
        return self.model.W * size[None], self.model.b + self.model.W @ low

    def _program(self, x: Array, bias: Array) -> StagedQP:
        """Return the quadratic program: a state is at least both lines of its activation, and no more where that costs.

        Stage k has the controls, what outputs exceed, and the states after it. Costs grow with the states, so that the larger
        of both lines is reached: the constraints in place of the equations leave the optimum as it is.
        """
        model, cost = self.model, self.cost
        (W, b), nu, nx, dtype = self._fractions(), self.u_low.size, x.size, x.dtype
        of = cost.rows()
        limit = cost.limits() - of @ (model.by + bias)
        ne, lower = len(limit), _LOWER_SLOPE[_line(model)]
        controls, excess = jnp.eye(nu, nu + ne + nx, dtype=dtype), jnp.eye(ne, nu + ne + nx, nu, dtype=dtype)
        states = jnp.eye(nx, nu + ne + nx, nu + ne, dtype=dtype)
        G = [controls, -controls, W @ controls - states, lower * W @ controls - states]
        G += [of @ model.C @ states - excess, -excess]
        none = jnp.zeros((nu, nx), dtype), jnp.zeros((ne, nx), dtype)
        B = [none[0], none[0], model.U, lower * model.U, none[1], none[1]]
        g = [jnp.ones(nu, dtype), jnp.zeros(nu, dtype), -b, -lower * b, limit, jnp.zeros(ne, dtype)]
        G, B, first = jnp.concatenate(G), jnp.concatenate(B), jnp.concatenate(g)
        right = jnp.tile(first, (self.horizon, 1)).at[0].add(-B @ x)
        H, f = self._stage_cost(controls, excess, states)
        return StagedQP(H, jnp.tile(f, (self.horizon, 1)), G, B, right)

    def _stage_cost(self, controls: Array, excess: Array, states: Array) -> tuple[Array, Array]:
        cost, size = self.cost, (self.u_high - self.u_low) / self.u_std
        to = (self.u_low - self.u_mean) / self.u_std - cost.u_to
        of_u = size[:, None] * controls
        quadratic, linear = cost.excess()
        H = 2 * (of_u.T @ cost.R @ of_u + excess.T @ (quadratic[:, None] * excess))
        f = of_u.T @ (cost.c + 2 * cost.R @ to) + linear @ excess + cost.p @ self.model.C @ states
        return H, f

    def _inside(self, x: Array, bias: Array, start: Array) -> Array:
        """Return a point of the program without an active constraint: states above those of the model, and excesses above theirs."""
        (W, b), model = self._fractions(), self.model
        of, limit = self.cost.rows(), self.cost.limits()
        inside = jnp.clip(start, 0.02, 0.98)

        def body(h, v):
            above = model.activation(model.U @ h + W @ v + b) + 1.0
            excess = jnp.maximum(of @ (model.C @ above + model.by + bias) - limit, 0.0) + 1.0
            return above, jnp.concatenate([v, excess, above])

        return lax.scan(body, x, inside)[1]


class _Scales(NamedTuple):
    """An `InputConvexSystem` and the scales about it."""

    model: InputConvexSystem
    moments: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    dt: float | None


def convex_mpc(
    model: Parameterization | System,
    cost: ConvexCost,
    *,
    u_low: ArrayLike,
    u_high: ArrayLike,
    y_high: ArrayLike | None = None,
    horizon: int = 20,
    penalty: float = 1e3,
    iterations: int = 60,
) -> ConvexMPC:
    """Design model-predictive control over an input-convex model: every plan is the global optimum.

    ::

        minimize over u   sum_{k=1..N} p'y[k] + sum_i q_i max(y_i[k] - y_from_i, 0)^2 + c'u[k-1] + (u[k-1] - u_to)' R (u[k-1] - u_to)
        with              u_low <= u[k] <= u_high,      y[k] <= y_high  (soft),      y[k] = model + bias

    A cost that is convex and never falls as an output grows is convex in the plan, because the outputs are. An upper limit on an
    output is convex for the same reason, and soft, with an exact penalty, so that a plan always exists; a lower limit is not
    convex, and there is none: model the negative of an output that must not fall. With an activation of two lines the program is a
    quadratic one in stages, whose work grows with `horizon`. The controller reads the measured outputs; the
    difference to the model's is added to all predictions, so that a constant error of the model leaves no offset at a limit. Source
    of this bias: Cutler, Ramaker, "Dynamic matrix control", JACC 1980; of convex networks in control: Chen, Shi, Zhang, "Optimal
    control via neural networks: a convex approach", ICLR 2019.

    **Arguments:**

    - `model`: an `InputConvexRNN(direct=False)`, what `rc.fit` made of one, or its `explicit()`.
    - `cost`: of outputs and controls.
    - `u_low`: lowest controls, in their units, finite.
    - `u_high`: highest controls, likewise.
    - `y_high`: highest outputs, in their units; default none.
    - `horizon`: N, samples.
    - `penalty`: cost of exceeding a limit by one scale of the output, over the largest other weight.
    - `iterations`: largest number of the solver's iterations.

    **Raises:** `InvalidModelError` for a model that is no input-convex one, has a negative weight from a state, a direct path, a delay or
    the activation softplus; a horizon below 1; limits that are not finite or cross; a cost that never grows with an output.

    **Example:** ::

        model = rc.nn.InputConvexRNN(nu=1, nx=6, ny=1, gamma=2.0, direct=False, key=jax.random.key(0))
        cost = rc.classical.ConvexCost(y_weight=1.0, u_weight=0.1)
        controller = rc.classical.convex_mpc(model, cost, u_low=-1.0, u_high=1.0, horizon=10)
    """
    found = _scales(explicit_of(model))
    inner = found.model
    if not is_whole(horizon, 1):
        raise InvalidModelError(f"horizon must be at least 1 sample, got {horizon}")
    check_whole(1, iterations=iterations)
    if not is_positive(penalty):
        raise InvalidModelError(f"penalty must be positive and finite, got {penalty!r}")
    low, high = _limits(u_low, u_high, inner.nu)
    scaled = cost.scaled(found.moments, (low, high), y_high, penalty)
    inner = jax.tree.map(as_array, inner)
    rest = _at_rest(inner, scaled.u_to)
    low, high, u_mean, u_std, y_mean, y_std = (as_array(a) for a in (low, high, *found.moments))
    return ConvexMPC(
        inner, low, high, u_mean, u_std, y_mean, y_std, scaled, rest, horizon=horizon, iterations=iterations, dt=found.dt
    )  # fmt: skip


def _scales(system: System) -> _Scales:
    must = "model-predictive control with a global optimum needs an input-convex model"
    do = "train rc.nn.InputConvexRNN(direct=False), without delays"
    scaled = system if isinstance(system, Scaled) else None
    inner = of_type(scaled.system if scaled else system, InputConvexSystem, must, do, InvalidModelError)
    inner.check_convex()
    _line(inner)
    if np.any(np.asarray(inner.D) != 0):
        raise InvalidModelError(
            "the model must have no direct path, because a controller measures before it acts, got D that is not 0; "
            "train rc.nn.InputConvexRNN(direct=False)"
        )
    if scaled is None:
        u, y = np.ones(inner.nu), np.ones(inner.ny)
        return _Scales(inner, (0 * u, u, 0 * y, y), None)
    u_mean, u_std, y_mean, y_std = float64(scaled.u_mean, scaled.u_std, scaled.y_mean, scaled.y_std)
    if not np.all(y_std > 0):
        raise InvalidModelError(
            f"scales of outputs must be positive for them to stay convex, got {y_std.tolist()}"
        )
    return _Scales(inner, (u_mean, u_std, y_mean, y_std), scaled.dt)


def _line(model: InputConvexSystem) -> str:
    """Return the name of the activation, or raise `InvalidModelError` unless it is the larger of two lines."""
    name = name_of(model.activation)
    if name not in _LOWER_SLOPE:
        raise InvalidModelError(
            f"the model's activation must be one of {', '.join(_LOWER_SLOPE)}, of which a plan is a quadratic program, got {name}"
        )
    return name


def _limits(low: ArrayLike, high: ArrayLike, nu: int) -> tuple[np.ndarray, np.ndarray]:
    found = [one_each("the limits on u", v, nu) for v in (low, high)]
    if not (np.isfinite(found).all() and np.all(found[0] < found[1])):
        raise InvalidModelError(
            f"the limits on u must be finite, each lowest one below its highest, got {found[0].tolist()} and {found[1].tolist()}; "
            "between finite limits an optimum exists"
        )
    return found[0], found[1]


def _at_rest(model: InputConvexSystem, u: Array) -> Array:
    """Return the state to which the model contracts at a constant input."""
    near = 8 * float(jnp.finfo(model.b.dtype).eps)

    def moving(at):
        x, before, count = at
        return (count < _SETTLED) & jnp.any(jnp.abs(x - before) > near * (1 + jnp.abs(x)))

    def body(at):
        x, _, count = at
        return model.step(x, u)[0], x, count + 1

    first = model.init_state()
    return lax.while_loop(moving, body, (first, first + jnp.inf, 0))[0]
