"""Step responses and episodes of a loop, and the figures of merit derived from them."""

import dataclasses
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..affine import to_float64
from ..classical.flat import in_float64, sampled_plant
from ..loops import Feedback, PlantScenario
from ..plants import Exogenous, Sampled, Task, undisturbed
from ..trajectory import rollout
from .linear_loop import LinearLoop, plain, with_sensor_offsets

BOUND = 1e6
"""Size of a state or output beyond which a simulation counts as diverged, whatever its unit."""


class StepResponse(NamedTuple):
    """The response to a step in one signal, from the loop's equilibrium, without noise; time first.

    **Arguments:**

    - `name`: of the signal that steps
    - `unit`: of the step
    - `size`: of the step
    - `t`: time in s
    - `y`: outputs (T, ny) in deviations from the equilibrium, NaN after divergence
    - `u`: controls (T, nu), likewise
    - `watched`: index of the output that the following numbers describe
    - `peak`: its largest deviation
    - `final`: its last deviation
    - `overshoot`: in percent of the final value; NaN if that is below 2 % of the peak
    - `settling`: seconds until it remains within 2 % of the final value (of the peak, if the final value is below 2 % of
      it), infinite if not within the horizon
    """

    name: str
    unit: str
    size: float
    t: np.ndarray
    y: np.ndarray
    u: np.ndarray
    watched: int
    peak: float
    final: float
    overshoot: float
    settling: float


class Episodes(NamedTuple):
    """The cost of a task over drawn episodes, with all the plant's imperfections.

    **Arguments:**

    - `count`: number of episodes
    - `cost`: mean cost per sample, over the episodes that stayed in bounds
    - `worst`: largest cost per sample of an episode, likewise
    - `stayed`: share of the episodes that stayed in bounds
    - `effort`: (nu,), root mean square of the applied control about the operating point, in its unit
    - `saturated`: share of the samples with a control at a limit
    """

    count: int
    cost: float
    worst: float
    stayed: float
    effort: np.ndarray
    saturated: float


@in_float64
def steps(
    loop: Feedback, linear: LinearLoop, reference: np.ndarray, sizes: dict[str, np.ndarray], horizon: int
) -> list[StepResponse]:
    """Simulate a step of each set point and of each disturbance with the nonlinear loop.

    A step of a set point by `r` is an offset of `-r` on the sensor. This is the response of any controller that acts on
    the error, learned or not, with or without references.

    **Arguments:**

    - `loop`: the feedback loop
    - `linear`: its linearization
    - `reference`: the constant reference (nr,)
    - `sizes`: of the steps in "outputs" and "disturbances", see `sizes_of`
    - `horizon`: samples
    """
    noiseless_loop = with_sensor_offsets(plain(loop))
    sampled = sampled_plant(noiseless_loop)
    plant = sampled.plant
    responses = []
    nominal = undisturbed(sampled, horizon, len(reference))
    nominal = nominal._replace(r=jnp.broadcast_to(jnp.asarray(reference), (horizon, len(reference))))
    for k, signal in enumerate(plant.outputs):
        size = float(sizes["outputs"][k])
        ws = nominal._replace(noise=nominal.noise.at[:, k].set(-size))
        name = f"set point of {signal.name}"
        responses.append(_step(noiseless_loop, linear, ws, name, signal.unit, size, k))
    for k, signal in enumerate(plant.disturbances):
        size = float(sizes["disturbances"][k])
        ws = nominal._replace(d=nominal.d.at[:, k].set(size))
        responses.append(_step(noiseless_loop, linear, ws, signal.name, signal.unit, size, None))
    return responses


def _step(
    loop: Feedback, linear: LinearLoop, ws: Exogenous, name: str, unit: str, size: float, watched: int | None
) -> StepResponse:
    x, u = _run(loop, ws, linear.x)
    sampled = sampled_plant(loop)
    y = np.asarray(jax.vmap(sampled.plant.output)(x)) - linear.y
    u = np.asarray(u) - linear.u
    # After the first sample out of bounds the loop counts as diverged, even if numbers come back.
    inside = np.cumprod(np.isfinite(y).all(1) & (np.abs(y) < BOUND).all(1)).astype(bool)
    y, u = (np.where(inside[:, None], a, np.nan) for a in (y, u))
    t = sampled.dt * np.arange(len(y))
    if watched is None:
        watched = int(np.argmax(np.nan_to_num(np.abs(y)).max(0)))
    return StepResponse(name, unit, size, t, y, u, watched, *_numbers(t, y[:, watched]))


def _numbers(t: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Return peak, final value, overshoot in percent and settling time."""
    if not np.isfinite(y).all():
        return math.inf, math.nan, math.nan, math.inf
    final, peak = float(y[-1]), float(np.abs(y).max())
    past = float((y * np.sign(final)).max()) - abs(final)
    # 2 %: the usual band of a settling time. A response that returns into it, as after a disturbance under integral
    # action, has no final value to be compared with.
    lasting = abs(final) > 0.02 * peak
    overshoot = 100 * (past if past > 1e-9 * peak else 0.0) / abs(final) if lasting else math.nan
    outside = np.flatnonzero(np.abs(y - final) > 0.02 * (abs(final) if lasting else peak))
    if outside.size == 0:
        return peak, final, overshoot, 0.0
    # The last sample is in the band by definition, so a response that enters it in the last 5 % may well leave it again.
    settled = outside[-1] + 1 < 0.95 * len(y)
    return peak, final, overshoot, float(t[outside[-1] + 1]) if settled else math.inf


@eqx.filter_jit
def _run(loop: Feedback, ws: Exogenous, x0: PyTree) -> tuple[Array, Array]:
    ys: Any = rollout(loop, ws, x0).ys
    return ys.x.x, ys.u


@in_float64
def episodes(loop: Feedback, task: Task, count: int, horizon: int, key: PRNGKeyArray) -> Episodes:
    """Simulate drawn episodes of the task with all imperfections of the plant, and return cost, effort and saturation.

    **Arguments:**

    - `loop`: the feedback loop
    - `task`: draws initial states and disturbances and defines the cost
    - `count`: number of episodes
    - `horizon`: samples of each
    - `key`: of the draws
    """
    loop, task = to_float64(loop), to_float64(task)
    sampled = sampled_plant(loop)
    scenario = PlantScenario(task, sampled)
    batch = scenario.draw_batch(key, count, horizon)
    cost, applied, inside = (np.asarray(a) for a in _episodes(scenario, loop.policy.prepare(), batch))
    low, high = sampled.input_limits()
    u_e = np.asarray(sampled.plant.operating_point()[1])
    used = applied[inside]
    # a clipped control equals the limit up to rounding; 1e-6 of the range is above it
    near = 1e-6 * np.where(np.isfinite(high - low), high - low, 1.0)
    at_limit = ((used <= low + near) | (used >= high - near)).any(-1)
    if not inside.any():
        return Episodes(count, math.inf, math.inf, 0.0, np.full(u_e.shape, np.inf), math.nan)
    effort = np.sqrt(np.mean((used - u_e) ** 2, axis=(0, 1)))
    return Episodes(
        count,
        float(cost[inside].mean()),
        float(cost[inside].max()),
        float(inside.mean()),
        effort,
        float(at_limit.mean()),
    )


@eqx.filter_jit
def _episodes(scenario: PlantScenario, policy, batch) -> tuple[Array, Array, Array]:
    def one(episode):
        loop = scenario.loop(policy, episode.plant)
        run: Any = rollout(loop, episode.ws, scenario.initial(loop, episode.x0))
        cost = jax.vmap(scenario.cost)(run.ys, episode.ws)
        # The control applied at a sample is in the state after it.
        applied = jnp.concatenate([run.ys.x.applied[1:], run.x_final[0].applied[None]])
        left = jax.vmap(scenario.task.terminated)(run.ys.x.x)
        inside = jnp.all(jnp.isfinite(cost)) & jnp.all(jnp.abs(run.ys.x.x) < BOUND) & ~jnp.any(left)
        return jnp.mean(cost), applied, inside

    return lax.map(one, batch, batch_size=64)  # bounds the memory, whatever the number of episodes


@in_float64
def sizes_of(task: Task, loop: Feedback, horizon: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return sizes for steps in outputs and disturbances, and the reference at the equilibrium.

    The sizes are the root mean square of the task's disturbances and of the outputs' initial deviations, rounded to one
    digit; one unit if the task draws none.

    **Arguments:**

    - `task`: draws initial states, disturbances and references
    - `loop`: the feedback loop
    - `horizon`: samples of the disturbances
    """
    task, sampled = to_float64(task), sampled_plant(loop)
    keys = jr.split(jr.key(0), 64)  # enough for one digit of a root mean square
    x_e, _ = to_float64(sampled.plant).operating_point()
    y_e = sampled.plant.output(x_e)
    d = jax.vmap(lambda k: task.disturbance(k, horizon))(keys)
    y = jax.vmap(lambda k: sampled.plant.output(task.initial_state(k)))(keys) - y_e[None]
    r = task.reference(keys[0], 1)
    reference = np.asarray(y_e) if r.shape[1] == y_e.shape[0] else np.zeros(r.shape[1])
    sizes = {
        "disturbances": _one_digit(np.sqrt(np.mean(np.asarray(d) ** 2, axis=(0, 1)))),
        "outputs": _one_digit(np.sqrt(np.mean(np.asarray(y) ** 2, axis=0))),
    }
    return sizes, reference


def _one_digit(sizes: np.ndarray) -> np.ndarray:
    positive = np.where(sizes > 0, sizes, 1.0)
    step = 10.0 ** np.floor(np.log10(positive))
    return np.round(positive / step) * step


def imperfections_in_words(sampled: Sampled) -> str:
    """Return the plant's active imperfections as text."""
    named = dataclasses.asdict(sampled.imperfections)
    on = [name if value is True else f"{name} {value}" for name, value in named.items() if value]
    return ", ".join(on) or "none"
