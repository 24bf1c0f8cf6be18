"""Steps and episodes of a loop, and the numbers that engineers read off them."""

import dataclasses
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, PRNGKeyArray

from ..classical.flat import in_float64, to_float64
from ..loops import Feedback, PlantScenario
from ..plants import Exogenous, Sampled, Task, limits, undisturbed
from ..trajectory import rollout
from .linear_loop import LinearLoop, plain, with_sensor_offsets

BOUND = 1e6


class Step(NamedTuple):
    """The response to a step in one signal, from the loop's equilibrium, without noise; time first.

    `t` in s; `y` (T, ny) and `u` (T, nu) deviations from the equilibrium, NaN after the loop left its bounds;
    `size` of the step in its `unit`. `watched`: the output that the numbers are about; `peak`: its largest
    deviation, `final`: its last, `overshoot`: past the final value in percent of it, `settling`: seconds until it
    stays within 2 % of the final value (infinite: not within the horizon). Where the final value is below 2 % of the
    peak there is no overshoot, and the peak takes its place.
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
    """What the task cost over drawn episodes, with all the plant's imperfections.

    `cost`, `worst`: mean and largest cost of a sample, of the episodes that stayed; `stayed`: their share;
    `effort` (nu,): root mean square of the applied control about the operating point, in its unit;
    `saturated`: share of the samples with a control at a limit.
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
) -> list[Step]:
    """Return the responses to a step of each set point and of each disturbance, through the nonlinear loop.

    A set point moves as the sensors see it: a step of `r` is one of `-r` on the reading. That is the response of
    any controller that acts on the error, learned or not, with or without references of its own.
    """
    quiet = with_sensor_offsets(plain(loop))
    sampled: Any = quiet.plant
    plant = sampled.plant
    made = []
    still = undisturbed(sampled, horizon, len(reference))
    still = still._replace(r=jnp.broadcast_to(jnp.asarray(reference), (horizon, len(reference))))
    for k, signal in enumerate(plant.outputs):
        size = float(sizes["outputs"][k])
        ws = still._replace(noise=still.noise.at[:, k].set(-size))
        made.append(_step(quiet, linear, ws, f"set point of {signal.name}", signal.unit, size, k))
    for k, signal in enumerate(plant.disturbances):
        size = float(sizes["disturbances"][k])
        ws = still._replace(d=still.d.at[:, k].set(size))
        made.append(_step(quiet, linear, ws, signal.name, signal.unit, size, None))
    return made


def _step(
    loop: Feedback, linear: LinearLoop, ws: Exogenous, name: str, unit: str, size: float, watched: int | None
) -> Step:
    x, u = _run(loop, ws, linear.x)
    sampled: Any = loop.plant
    y = np.asarray(jax.vmap(sampled.plant.output)(x)) - linear.y
    u = np.asarray(u) - linear.u
    inside = np.cumprod(np.isfinite(y).all(1) & (np.abs(y) < BOUND).all(1)).astype(bool)
    y, u = (np.where(inside[:, None], a, np.nan) for a in (y, u))
    t = sampled.dt * np.arange(len(y))
    if watched is None:
        watched = int(np.argmax(np.nan_to_num(np.abs(y)).max(0)))
    return Step(name, unit, size, t, y, u, watched, *_numbers(t, y[:, watched]))


def _numbers(t: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Peak, final value, overshoot in percent and settling time."""
    if not np.isfinite(y).all():
        return math.inf, math.nan, math.nan, math.inf
    final, peak = float(y[-1]), float(np.abs(y).max())
    past = float((y * np.sign(final)).max()) - abs(final)
    lasting = abs(final) > 0.02 * peak
    overshoot = 100 * (past if past > 1e-9 * peak else 0.0) / abs(final) if lasting else math.nan
    outside = np.flatnonzero(np.abs(y - final) > 0.02 * (abs(final) if lasting else peak))
    if outside.size == 0:
        return peak, final, overshoot, 0.0
    settled = outside[-1] + 1 < 0.95 * len(
        y
    )  # the final value is the last one, so it says little about the end
    return peak, final, overshoot, float(t[outside[-1] + 1]) if settled else math.inf


@eqx.filter_jit
def _run(loop: Feedback, ws: Exogenous, x0) -> tuple[Array, Array]:
    ys: Any = rollout(loop, ws, x0).ys
    return ys.x.x, ys.u


@in_float64
def episodes(loop: Feedback, task: Task, count: int, horizon: int, key: PRNGKeyArray) -> Episodes:
    """Return cost, effort and saturation over `count` drawn episodes of the task, with all imperfections of the plant."""
    loop, task = to_float64(loop), to_float64(task)
    assert isinstance(loop.plant, Sampled)
    scenario = PlantScenario(task, loop.plant)
    batch = scenario.draw_batch(key, count, horizon)
    cost, applied, inside = (np.asarray(a) for a in _episodes(scenario, loop.policy.prepare(), batch))
    low, high = limits(loop.plant.plant.controls)
    u_e = np.asarray(loop.plant.plant.operating_point()[1])
    kept = applied[inside]
    near = 1e-6 * np.where(np.isfinite(high - low), high - low, 1.0)
    at_limit = ((kept <= low + near) | (kept >= high - near)).any(-1)
    if not inside.any():
        return Episodes(count, math.inf, math.inf, 0.0, np.full(u_e.shape, np.inf), math.nan)
    effort = np.sqrt(np.mean((kept - u_e) ** 2, axis=(0, 1)))
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
        applied = jnp.concatenate([run.ys.x.applied[1:], run.x_final[0].applied[None]])
        left = jax.vmap(scenario.task.terminated)(run.ys.x.x)
        inside = jnp.all(jnp.isfinite(cost)) & jnp.all(jnp.abs(run.ys.x.x) < BOUND) & ~jnp.any(left)
        return jnp.mean(cost), applied, inside

    return lax.map(one, batch, batch_size=64)


@in_float64
def sizes_of(task: Task, loop: Feedback, horizon: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return sizes for steps in outputs and disturbances, and the reference that a loop rests at.

    The task's own: the root mean square of the disturbances that it draws and of the outputs' distance at its
    starts, to one digit; one of a unit where it draws none.
    """
    task, sampled = to_float64(task), loop.plant
    assert isinstance(sampled, Sampled)
    keys = jr.split(jr.key(0), 64)
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
    """Return the plant's imperfections that are on, for people."""
    named = dataclasses.asdict(sampled.imperfections)
    on = [name if value is True else f"{name} {value}" for name, value in named.items() if value]
    return ", ".join(on) or "none"
