"""The second verb for policies: train a system in closed loop by gradients through the rollout."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..errors import RobustctlError
from ..runs.devices import check_same, for_each, mesh_of, replicate, spread
from ..runs.fingerprint import array_hash, identity, model_hash
from ..runs.run_folder import Run, keeper_of
from ..runs.watchers import Watcher
from ..scenario import Episode, Scenario
from ..system import Parameterization
from ..trajectory import rollout
from .batches import in_segments
from .engine import Job, Row, State, judge, row, update
from .engine import run as train
from .fit import check_watchers, everyone, warn_of
from .health import Trouble, diagnosis
from .optimizer import clipped_adam


class Adversary(eqx.Module):
    """A disturbance chosen against the policy: `steps` of sign gradient ascent on the cost, each entry at most `radius`.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, eq. (3)'s
    inner problem.
    """

    radius: float = eqx.field(static=True)
    steps: int = eqx.field(static=True, default=3)


@dataclasses.dataclass(frozen=True)
class PolicyFit:
    """What `fit_policy` returns.

    `policy`: the trained parameterization, best on the test episodes; `history`: arrays `loss` (mean cost of the
    training episodes), `validation` (cost of the fixed test episodes after the epoch) and the others of `Fit`, one
    entry an epoch; `best_epoch`, `stopped`, `trouble`, `seconds`: as in `Fit`.
    """

    policy: Parameterization
    history: dict[str, np.ndarray]
    best_epoch: int
    stopped: str
    trouble: Trouble | None
    seconds: float


class PolicyGradient(Job):
    """Analytic policy gradients over drawn episodes: scenario, optimizer and settings."""

    fixed: PyTree
    scenario: Scenario
    test: Episode
    key: PRNGKeyArray
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    adversary: Adversary | None
    horizon: int = eqx.field(static=True)
    segment: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    patience: int = eqx.field(static=True)
    checkpoint: int | None = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def epoch(self, state: State) -> tuple[State, Row]:
        """Draw a batch of episodes and take a gradient step a segment, plant and policy states carried along."""
        key = jr.fold_in(self.key, state.epoch)
        episodes = spread(self.scenario.draw_batch(key, self.batch, self.horizon), self.mesh)
        segments = jax.tree.map(lambda a: in_segments(a, self.segment), episodes.ws)
        x = spread(_initial(self, state.trained, episodes), self.mesh)

        def body(carry, ws):
            state, x = carry
            if self.adversary is not None:
                ws = _against(self, self.adversary, state.trained, episodes.plant, x, ws)
            (loss, x), slope = jax.value_and_grad(_cost, has_aux=True)(
                state.trained, self, episodes.plant, x, ws
            )
            return (update(self, state, loss, slope), lax.stop_gradient(x)), (loss, optax.tree.norm(slope))

        (after, _), (losses, norms) = lax.scan(body, (state, x), segments)
        validation = test_cost(self, after.trained)
        return judge(self, after, validation), row(state, after, losses, norms, validation)


def fit_policy(
    parameterization: Parameterization,
    scenario: Scenario,
    *,
    horizon: int,
    segment: int | None = None,
    batch: int = 64,
    test: Episode | None = None,
    epochs: int = 100,
    patience: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    adversary: Adversary | None = None,
    checkpoint: int | None = None,
    devices: int = 1,
    run: Run | str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    inspect: Callable[[int, Parameterization], float | None] | None = None,
    inspect_every: int = 10,
    key: PRNGKeyArray,
) -> PolicyFit:
    """Minimize the mean cost of a scenario's episodes over the free arrays of a policy.

    ::

        min over free arrays   mean over episodes and samples of  cost,    loop rolled out through the plant

    Every epoch draws `batch` new episodes of `horizon` samples and takes one gradient step a `segment`; the
    states of plant and policy are carried from segment to segment, the gradient is not. The policy keeps its
    guarantee at every step, because every value of its free arrays has it. Source: [BWM23].

    **Arguments:** `scenario`: see `rc.loops.PlantScenario`; `segment`: samples between gradient steps, a
    divisor of `horizon` (None: `horizon`); `test`: fixed episodes that each epoch is judged by, from
    `scenario.draw_batch` (None: `batch` of them), the best policy is kept; `optimizer`: default
    `clipped_adam()`; `adversary`: adds the worst disturbance it finds to each segment; `checkpoint`: as in
    `rollout`; `devices`: how many of `jax.devices()` to spread the episodes over, a divisor of `batch` and of the
    number of test episodes, to the same numbers but for rounding; `run`, `resume`, `watchers`, `inspect`: as in `fit`.

    **Raises:** `RobustctlError` for settings out of range, for a policy that does not fit the loop, and as `fit`
    for a run's folder.
    """
    begin = time.monotonic()
    check_watchers(watchers)
    job, trained = prepared(
        parameterization, scenario, horizon=horizon, segment=segment, batch=batch, test=test, epochs=epochs, patience=patience,
        optimizer=optimizer, adversary=adversary, checkpoint=checkpoint, key=key,
    )  # fmt: skip
    settings = {
        "horizon": horizon,
        "segment": job.segment,
        "batch": batch,
        "patience": patience,
        "adversary": adversary,
    }
    same = identity(
        key,
        settings,
        model=model_hash(parameterization),
        scenario=array_hash(scenario),
        test=array_hash(test),
    )
    tests = len(jax.tree.leaves(job.test)[0])
    mesh = mesh_of(devices, {"batch": batch, "the number of test episodes": tests})
    check_same(mesh, array_hash(trained), *same.values())
    keeper = keeper_of(run, same, resume, mesh)
    look = None if inspect is None else lambda epoch, free: inspect(epoch, eqx.combine(free, job.fixed))
    told = everyone(watchers, progress, epochs, keeper, mesh)
    state, history, stopped = train(placed(job, mesh), trained, epochs, told, look, inspect_every, keeper)
    fitted = finished(job, state, history, stopped, time.monotonic() - begin)
    warn_of(fitted.trouble)
    return fitted


def prepared(
    parameterization: Parameterization,
    scenario: Scenario,
    *,
    horizon: int,
    segment: int | None = None,
    batch: int = 64,
    test: Episode | None = None,
    epochs: int,
    patience: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    adversary: Adversary | None = None,
    checkpoint: int | None = None,
    key: PRNGKeyArray,
) -> tuple[PolicyGradient, PyTree]:
    """Return what training leaves alone and what it trains; settings and faults as of `fit_policy`."""
    segment = segment or horizon
    _check(horizon, segment, batch, epochs)
    trained, fixed = eqx.partition(parameterization, eqx.is_inexact_array)
    draw_key, test_key = jr.split(key)
    job = PolicyGradient(
        fixed=fixed, scenario=scenario, test=_draw(scenario, test_key, batch, horizon) if test is None else test, key=draw_key,
        optimizer=optimizer or clipped_adam(), adversary=adversary, horizon=horizon, segment=segment, batch=batch,
        patience=patience or 0, checkpoint=checkpoint,
    )  # fmt: skip
    _check_fits(job, trained)
    return job, trained


def finished(job: PolicyGradient, state: State, history: dict, stopped: str, seconds: float) -> PolicyFit:
    """Return the result of a training that ended in `state`."""
    trouble = diagnosis(state.health, state.trained)
    return PolicyFit(
        eqx.combine(state.best, job.fixed), history, int(state.best_epoch), stopped, trouble, seconds
    )


@eqx.filter_jit
def _draw(scenario: Scenario, key: PRNGKeyArray, batch: int, samples: int) -> Episode:
    return scenario.draw_batch(key, batch, samples)


def placed(job: PolicyGradient, mesh: Mesh | None) -> PolicyGradient:
    """Return the job on a mesh: each device has its part of the test episodes, and all the rest whole."""
    whole = replicate(dataclasses.replace(job, mesh=mesh), mesh)
    return eqx.tree_at(lambda j: j.test, whole, spread(job.test, mesh))


@eqx.filter_jit
def test_cost(job: PolicyGradient, trained: PyTree) -> Array:
    """Return the mean cost of the fixed test episodes."""
    return _cost(trained, job, job.test.plant, _initial(job, trained, job.test), job.test.ws)[0]


def _initial(job: PolicyGradient, trained: PyTree, episodes) -> PyTree:
    system = eqx.combine(trained, job.fixed).explicit()
    return jax.vmap(lambda e: job.scenario.initial(job.scenario.loop(system, e.plant), e.x0))(episodes)


def _cost(
    trained: PyTree, job: PolicyGradient, plants: PyTree, x: PyTree, ws: PyTree
) -> tuple[Array, PyTree]:
    """Mean cost over a batch of segments (B, T, ...), and the states after it."""
    system = eqx.combine(trained, job.fixed).explicit().prepare()

    def one(shared, plant, x, w):
        system, scenario = shared
        run = rollout(scenario.loop(system, plant), w, x, checkpoint=job.checkpoint)
        return jnp.mean(jax.vmap(scenario.cost)(run.ys, w)), run.x_final

    costs, x_final = for_each(one, job.mesh, (system, job.scenario), plants, x, ws)
    return jnp.mean(costs), x_final


def _against(job: PolicyGradient, adversary: Adversary, trained, plants, x, ws) -> PyTree:
    """Add to the segment the disturbance that sign gradient ascent finds worst."""
    d = jnp.zeros_like(job.scenario.disturbance(ws))

    def worse(d):
        return _cost(trained, job, plants, x, job.scenario.disturbed(ws, d))[0]

    for _ in range(adversary.steps):
        step = 2 * adversary.radius / adversary.steps
        d = jnp.clip(d + step * jnp.sign(jax.grad(worse)(d)), -adversary.radius, adversary.radius)
    return job.scenario.disturbed(ws, lax.stop_gradient(d))


def _check(horizon: int, segment: int, batch: int, epochs: int) -> None:
    named = dict(horizon=horizon, segment=segment, batch=batch, epochs=epochs)
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RobustctlError(f"{name} must be a whole number of at least 1, got {value!r}")
    if horizon % segment:
        raise RobustctlError(f"segment must divide the horizon of {horizon} samples, got {segment}")


def _check_fits(job: PolicyGradient, trained: PyTree) -> None:
    try:
        jax.eval_shape(lambda free: test_cost(job, free), trained)
    except Exception as error:
        raise RobustctlError(
            f"the policy must fit the scenario's loop: it reads the plant's outputs (and references) and gives its controls, "
            f"but a trial raised: {error}"
        ) from error
