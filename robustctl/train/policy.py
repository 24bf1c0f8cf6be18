"""The second verb for policies: train a system in closed loop by gradients through the rollout."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..checks import check_whole, check_whole_or_none, renamed
from ..errors import RobustctlError, RobustctlWarning
from ..runs.devices import for_each, spread
from ..runs.fingerprint import array_hash, model_hash
from ..runs.monitor import SHOWN, Monitor
from ..runs.run_folder import Run
from ..scenario import Episode, Scenario
from ..system import Parameterization
from ..trajectory import rollout
from .batches import in_segments
from .long_run import long_run
from .problem import Descend, Objective, Outcome, Problem, State, Steps
from .training import MOVED, RENAMED, train


class Adversary(eqx.Module):
    """A disturbance chosen against the policy by sign gradient ascent on the cost.

    ::

        d <- clip(d + 2 radius / steps  sign(grad cost(d)), -radius, radius),     d = 0 at first

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, eq. (3)'s
    inner problem.

    **Arguments:**

    - `radius`: largest absolute value of each entry.
    - `steps`: of the ascent.
    """

    radius: float = eqx.field(static=True)
    steps: int = eqx.field(static=True, default=3)


@dataclasses.dataclass(frozen=True)
class PolicyFit(Outcome):
    """What policy training returns: an `Outcome`.

    Its `loss` is the mean cost of the training episodes, `validation` that of the fixed test episodes after the epoch.
    """

    @property
    def policy(self) -> Parameterization:
        """The trained parameterization, best on the test episodes."""
        return self.model


@renamed()
@dataclasses.dataclass(frozen=True)
class PolicyGradient(Problem[PolicyFit]):
    """Minimize the mean cost of a scenario's episodes over the free arrays of a policy.

    ::

        min over free arrays   mean over episodes and samples of  cost,    loop rolled out through the plant

    Every epoch draws `batch` new episodes of `horizon` samples and takes one gradient step a `segment`; the
    states of plant and policy are carried from segment to segment, the gradient is not. The policy keeps its
    guarantee at every step, because every value of its free arrays has it. Source: [BWM23].

    **Arguments:**

    - `scenario`: see `rc.loops.PlantScenario`.
    - `horizon`: samples of an episode.
    - `segment`: samples between gradient steps, a divisor of `horizon`; None: `horizon`.
    - `batch`: episodes of an epoch.
    - `test`: fixed episodes from `scenario.draw_batch`, whose cost selects the epoch that is returned; None:
      `batch` of them are drawn.
    - `adversary`: adds the worst disturbance that it finds to each segment.
    - `checkpoint`: as in `rc.rollout`.

    The result is a `PolicyFit`.

    **Raises:** `RobustctlError` for settings out of range, and for a policy that does not fit the loop.
    """

    scenario: Scenario
    horizon: int
    segment: int | None = None
    batch: int = 64
    test: Episode | None = None
    adversary: Adversary | None = None
    checkpoint: int | None = None

    def __post_init__(self):
        """Refuse settings out of range."""
        check_whole(1, horizon=self.horizon, batch=self.batch)
        check_whole_or_none(1, segment=self.segment)
        if self.horizon % self._segment:
            raise RobustctlError(
                f"segment must divide the horizon of {self.horizon} samples, got {self.segment}"
            )

    @property
    def _segment(self) -> int:
        return self.segment or self.horizon

    def prepare(self, model: Parameterization, key: PRNGKeyArray) -> tuple[PyTree, "EpisodeObjective"]:
        """Return the arrays to train and the objective."""
        trained, fixed = eqx.partition(model, eqx.is_inexact_array)
        draw_key, test_key = jr.split(key)
        drawn = (
            draw_episodes(self.scenario, test_key, self.batch, self.horizon)
            if self.test is None
            else self.test
        )
        objective = EpisodeObjective(
            fixed=fixed, scenario=self.scenario, test=drawn, key=draw_key, adversary=self.adversary, horizon=self.horizon,
            segment=self._segment, batch=self.batch, checkpoint=self.checkpoint,
        )  # fmt: skip
        _check_fits(objective, trained)
        return trained, objective

    def fingerprint(self, whole: Parameterization) -> dict[str, str]:
        """Return hashes of the policy, the scenario and the test episodes that were given."""
        return {
            "model": model_hash(whole),
            "scenario": array_hash(self.scenario),
            "test": array_hash(self.test),
        }

    def settings(self) -> dict[str, Any]:
        """Return what an epoch draws and how it is cut."""
        return {
            "horizon": self.horizon,
            "segment": self._segment,
            "batch": self.batch,
            "adversary": self.adversary,
        }

    def sizes(self, objective: "EpisodeObjective") -> dict[str, int]:
        """Return the numbers of drawn and of test episodes."""
        tests = len(jax.tree.leaves(objective.test)[0])
        return {"batch": self.batch, "the number of test episodes": tests}

    def result(self, outcome: Outcome) -> PolicyFit:
        """Return the trained policy."""
        return PolicyFit(**vars(outcome))


class EpisodeObjective(Objective):
    """The cost of drawn episodes: scenario, test episodes and settings."""

    fixed: PyTree
    scenario: Scenario
    test: Episode
    key: PRNGKeyArray
    adversary: Adversary | None
    horizon: int = eqx.field(static=True)
    segment: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    checkpoint: int | None = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def epoch(self, state: State, descend: Descend) -> tuple[State, Steps]:
        """Draw a batch of episodes and take a gradient step for each segment, plant and policy states carried between."""
        key = jr.fold_in(self.key, state.epoch)
        episodes = spread(self.scenario.draw_batch(key, self.batch, self.horizon), self.mesh)
        segments = jax.tree.map(lambda a: in_segments(a, self.segment), episodes.ws)

        def cost(trained, x, ws):
            if self.adversary is not None:
                ws = self._against(self.adversary, lax.stop_gradient(trained), episodes.plant, x, ws)
            return self._cost(trained, episodes.plant, x, ws)

        return descend(state, cost, spread(self._initial(state.trained, episodes), self.mesh), segments)

    def validate(self, trained: PyTree) -> Array:
        """Return the mean cost of the fixed test episodes."""
        return self._cost(trained, self.test.plant, self._initial(trained, self.test), self.test.ws)[0]

    def on(self, mesh: Mesh | None) -> "EpisodeObjective":
        """Return the objective on a mesh: each device has its part of the test episodes, and the rest whole."""
        return eqx.tree_at(lambda o: o.test, super().on(mesh), spread(self.test, mesh))

    def _initial(self, trained: PyTree, episodes: Episode) -> PyTree:
        system = self.whole(trained).explicit()
        return jax.vmap(lambda e: self.scenario.initial(self.scenario.loop(system, e.plant), e.x0))(episodes)

    def _cost(self, trained: PyTree, plants: PyTree, x: PyTree, ws: PyTree) -> tuple[Array, PyTree]:
        """Return the mean cost of a batch of segments (B, T, ...), and the states after it."""
        system = self.whole(trained).explicit().prepare()

        def one(shared, plant, x, w):
            system, scenario = shared
            run = rollout(scenario.loop(system, plant), w, x, checkpoint=self.checkpoint)
            return jnp.mean(jax.vmap(scenario.cost)(run.ys, w)), run.x_final

        costs, x_final = for_each(one, self.mesh, (system, self.scenario), plants, x, ws)
        return jnp.mean(costs), x_final

    def _against(self, adversary: Adversary, trained, plants, x, ws) -> PyTree:
        """Add to the segment the disturbance that sign gradient ascent finds worst."""
        d = jnp.zeros_like(self.scenario.disturbance(ws))

        def worse(d):
            return self._cost(trained, plants, x, self.scenario.disturbed(ws, d))[0]

        for _ in range(adversary.steps):
            step = 2 * adversary.radius / adversary.steps
            d = jnp.clip(d + step * jnp.sign(jax.grad(worse)(d)), -adversary.radius, adversary.radius)
        return self.scenario.disturbed(ws, lax.stop_gradient(d))


POLICY = MOVED | {
    name: f"it to rc.train.PolicyGradient(scenario, {name}=..., ...), and that to rc.train.train or rc.train.train_seeds"
    for name in ("test", "adversary", "checkpoint")
}


@renamed(**RENAMED, **POLICY)
def fit_policy(
    parameterization: Parameterization,
    scenario: Scenario,
    *,
    horizon: int,
    segment: int | None = None,
    batch: int = 64,
    epochs: int = 100,
    optimizer: optax.GradientTransformation | None = None,
    run: Run | str | Path | None = None,
    monitor: Monitor | None = SHOWN,
    key: PRNGKeyArray,
) -> PolicyFit:
    """Minimize the mean cost of a scenario's episodes over the free arrays of a policy.

    ::

        fitted = rc.fit_policy(policy, scenario, horizon=200, segment=50, epochs=100, key=jr.key(0))

    The short form of::

        rc.train.train(rc.train.PolicyGradient(scenario, horizon=200, ...), policy, ...)

    which has all settings and describes each in detail. A `RobustctlWarning` reports a trained policy that fails `long_run`.

    **Arguments:**

    - `parameterization`: the untrained policy.
    - `scenario`: draws episodes, closes the loop and has the cost.
    - `horizon`: samples of an episode.
    - `segment`: samples between gradient steps; None: `horizon`.
    - `batch`: episodes of an epoch.
    - `epochs`: number of batches of new episodes.
    - `optimizer`: any Optax transformation; None: `clipped_adam()`.
    - `run`: run folder, or a `Run`.
    - `monitor`: what is shown; None: nothing.
    - `key`: for all random draws.

    **Raises:** as `PolicyGradient` and `train`.
    """
    problem = PolicyGradient(scenario, horizon=horizon, segment=segment, batch=batch)
    fitted = train(
        problem, parameterization, epochs=epochs, optimizer=optimizer, run=run, monitor=monitor, key=key
    )
    if fault := long_run(fitted.policy, scenario, horizon=horizon, key=key):
        warnings.warn(f"the trained policy does not settle: {fault}", RobustctlWarning, stacklevel=3)
    return fitted


@eqx.filter_jit
def draw_episodes(scenario: Scenario, key: PRNGKeyArray, batch: int, samples: int) -> Episode:
    """Return a batch of episodes, drawn by a compiled call."""
    return scenario.draw_batch(key, batch, samples)


def _check_fits(objective: EpisodeObjective, trained: PyTree) -> None:
    try:
        eqx.filter_eval_shape(objective.validate, trained)
    except Exception as error:
        raise RobustctlError(
            f"the policy must fit the scenario's loop: it reads the plant's outputs (and references) and gives its controls, "
            f"but a trial raised: {error}"
        ) from error
