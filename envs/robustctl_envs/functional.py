"""The environment as pure, differentiable functions; the Gymnasium classes wrap it."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from robustctl.checks import check_whole
from robustctl.errors import InvalidModelError
from robustctl.plants import Exogenous, Imperfections, PlantState, Sampled, Signal, Task, draw, limits

from .table import ENVIRONMENTS


class EnvState(NamedTuple):
    """Plant state, exogenous inputs of the whole episode, and the number of the next sample."""

    plant: PlantState
    ws: Exogenous
    t: Array


class StepResult(NamedTuple):
    """The result of one step.

    **Arguments:**

    - `observation`: after the step.
    - `reward`: minus the task's cost, and minus `task.failure` if the episode is terminated.
    - `terminated`: True if the task has failed.
    - `truncated`: True at the end of the horizon.
    - `control`: in the plant's units.
    - `x`: the plant's state after the step.
    """

    observation: Array
    reward: Array
    terminated: Array
    truncated: Array
    control: Array
    x: Array


class FunctionalEnv(eqx.Module):
    """A task on a sampled plant as an environment: `reset(key)`, `step(state, action)`.

    Actions are in [-1, 1] and mapped to the limits of the plant's control signals. Observations are the measurements and then
    the references, clipped to the sensors' ranges. Use `jax.vmap` for a batch.

    **Arguments:**

    - `sampled`: the sampled plant.
    - `task`: the task on its plant.

    **Raises:** `InvalidModelError` for control signals without finite limits.
    """

    sampled: Sampled
    task: Task

    def __check_init__(self):
        """Refuse controls without limits, to which actions cannot be mapped."""
        low, high = limits(self.sampled.plant.controls)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            names = [s.name for s in self.sampled.plant.controls]
            raise InvalidModelError(
                f"every control must have finite limits to be an action, got {low} to {high} for {names}"
            )

    @property
    def references(self) -> int:
        """Number of reference signals."""
        return eqx.filter_eval_shape(self.task.reference, jax.random.key(0), 1).shape[1]

    @property
    def observed(self) -> tuple[Signal, ...]:
        """Signals of an observation, in order."""
        return (*self.sampled.plant.outputs, *(Signal(f"r[{k}]") for k in range(self.references)))

    def reset(self, key: PRNGKeyArray) -> tuple[EnvState, Array]:
        """Draw an episode; return its state and first observation."""
        x_key, w_key = jax.random.split(key)
        # One sample more than the horizon: the last observation has a reference and noise too.
        ws = draw(self.task, self.sampled, w_key, self.task.horizon + 1)
        return self.start(self.task.initial_state(x_key), ws)

    def start(self, x0: Array, ws: Exogenous) -> tuple[EnvState, Array]:
        """Return state and first observation of a given episode."""
        state = EnvState(self.sampled.state_at(x0), ws, jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(self, state: EnvState, action: Array) -> tuple[EnvState, StepResult]:
        """Apply an action for one sample."""
        u, w = self.control(action), _at(state.ws, state.t)
        after = EnvState(self.sampled.advance(state.plant, u, w), state.ws, state.t + 1)
        terminated = self.task.terminated(after.plant.x)
        reward = -self.task.cost(state.plant.x, u, w.r) - self.task.failure * terminated.astype(w.d.dtype)
        truncated = ~terminated & (after.t >= self.task.horizon)
        return after, StepResult(self._observe(after), reward, terminated, truncated, u, after.plant.x)

    def stopped(
        self, before: EnvState, action: Array, after: EnvState, out: StepResult
    ) -> tuple[EnvState, StepResult]:
        """Return the results of a step in which the task failed, with the state in which it failed.

        A whole sample later the plant may be where its equations do not hold: a ball inside the coil, for example.
        """
        x = self._failed(before, after.plant.applied)
        after = after._replace(plant=after.plant._replace(x=x))
        return after, out._replace(observation=self._observe(after), x=x)

    def _failed(self, before: EnvState, applied: Array) -> Array:
        """Return the first state of a sample in which the task has failed, by bisection of the sample's length."""
        w = _at(before.ws, before.t)
        dt = jnp.asarray(self.sampled.dt, before.plant.x.dtype)
        length = dt * (1 + self.sampled.imperfections.jitter * w.jitter)

        def held(length):
            return self.sampled.hold(before.plant.x, applied, w.d, length)

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            failed = self.task.terminated(held(middle))
            return jnp.where(failed, low, middle), jnp.where(failed, middle, high)

        # 16 halvings: a microsecond of a sample of 0.1 s, below any sensor's resolution
        _, end = jax.lax.fori_loop(0, 16, halve, (jnp.zeros_like(length), length))
        return held(end)

    def continued(self, state: EnvState, key: PRNGKeyArray) -> EnvState:
        """Return the state at the end of the horizon as the first one of another, with newly drawn exogenous inputs."""
        ws = draw(self.task, self.sampled, key, self.task.horizon + 1)
        # The sample that was observed last comes first: its reference and noise are known already.
        ws = jax.tree.map(lambda new, old: new.at[0].set(old[-1]), ws, state.ws)
        return EnvState(state.plant, ws, jnp.zeros_like(state.t))

    def control(self, action: Array) -> Array:
        """Return the control in its units for an action in [-1, 1], clipped."""
        low, high = (jnp.asarray(a, action.dtype) for a in limits(self.sampled.plant.controls))
        return low + (jnp.clip(action, -1, 1) + 1) / 2 * (high - low)

    def action(self, control: Array) -> Array:
        """Return the action for a control in its units."""
        low, high = (jnp.asarray(a, control.dtype) for a in limits(self.sampled.plant.controls))
        return 2 * (control - low) / (high - low) - 1

    def _observe(self, state: EnvState) -> Array:
        y = self.sampled.output(state.plant, _at(state.ws, state.t))
        low, high = (jnp.asarray(a, y.dtype) for a in limits(self.observed))
        # Gymnasium's spaces hold no NaN; a state that is not finite has terminated the episode.
        return jnp.clip(jnp.nan_to_num(y), low, high)


def _at(ws: Exogenous, t: Array) -> Exogenous:
    return jax.tree.map(lambda a: a[t], ws)


def functional(
    name: str, *, imperfections: Imperfections | None = None, dt: float | None = None, **task: Any
) -> FunctionalEnv:
    """Return a named environment as pure functions.

    **Arguments:**

    - `name`: a key of `ENVIRONMENTS`.
    - `imperfections`: of sensors and actuators (`robustctl.plants.Imperfections`).
    - `dt`: sample time in seconds, in place of the environment's.
    - `task`: fields of the plant's task, for example `horizon`.

    **Raises:** `InvalidModelError` for an unknown name; `RobustctlError` for a `horizon` that is not a whole number of at least 1.

    **Example:** ::

        env = robustctl_envs.functional("CartPole", horizon=100)
        state, observation = env.reset(jax.random.key(0))
    """
    if name not in ENVIRONMENTS:
        raise InvalidModelError(f"name must be one of {sorted(ENVIRONMENTS)}, got {name!r}")
    entry = ENVIRONMENTS[name]
    settings = {"horizon": entry.horizon} | task
    check_whole(1, horizon=settings["horizon"])
    plant = entry.plant()
    sampled = Sampled(plant, entry.dt if dt is None else dt, substeps=entry.substeps)
    if imperfections is not None:
        sampled = dataclasses.replace(sampled, imperfections=imperfections)
    return FunctionalEnv(sampled, entry.task(plant, **settings))
