"""Many environments of one plant in one compiled call."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Array

from robustctl.checks import is_whole
from robustctl.plants import Imperfections

from .env import check_horizon
from .functional import EnvState, FunctionalEnv, StepResult, functional
from .seeds import check_process, episode_key, whole_seed
from .spaces import action_space, checked_action, checked_state, observation_space


class VectorState(NamedTuple):
    """States of all environments, their random keys, and True for those whose episode has ended."""

    env: EnvState
    keys: Array
    done: Array


def reset_batch(env: FunctionalEnv, keys: Array) -> tuple[VectorState, Array]:
    """Start an episode in every environment; `keys` (num_envs,)."""
    state, y = jax.vmap(env.reset)(keys)
    return VectorState(state, keys, jnp.zeros(keys.shape[0], bool)), y


def step_batch(env: FunctionalEnv, batch: VectorState, actions: Array) -> tuple[VectorState, StepResult]:
    """Step every environment; one whose episode ended in the previous step starts a new one and ignores its action."""
    state, out = jax.vmap(env.step)(batch.env, actions)
    failed = out.terminated & ~batch.done

    def stopped(_):
        stopped = jax.vmap(env.stopped)(batch.env, actions, state, out)
        return _chosen(failed, stopped, (state, out))

    # Only where a task has failed: the bisection takes sixteen steps.
    state, out = jax.lax.cond(jnp.any(failed), stopped, lambda _: (state, out), None)

    # Only where an episode has ended: a reset of all environments costs as much as many steps.
    def renewed(_):
        keys = jax.vmap(lambda key: jax.random.split(key)[0])(batch.keys)
        fresh, y = jax.vmap(env.reset)(keys)
        begun = out._replace(
            observation=y, reward=jnp.zeros_like(out.reward), x=fresh.plant.x,
            terminated=jnp.zeros_like(out.terminated), truncated=jnp.zeros_like(out.truncated),
        )  # fmt: skip
        return (
            _chosen(batch.done, fresh, state),
            _chosen(batch.done, begun, out),
            jnp.where(batch.done, keys, batch.keys),
        )

    state, out, keys = jax.lax.cond(jnp.any(batch.done), renewed, lambda _: (state, out, batch.keys), None)
    return VectorState(state, keys, out.terminated | out.truncated), out


def _chosen(condition: Array, new: Any, old: Any) -> Any:
    def pick(a, b):
        return jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


_step = eqx.filter_jit(step_batch)


@eqx.filter_jit
def _reset(
    env: FunctionalEnv, keys: Array, x0: Array | None, others: tuple[Array, VectorState, Array] | None
):
    """Start episodes, in given states if there are any; `others`: which to start, and state and observation of the rest."""
    batch, y = reset_batch(env, keys)
    if x0 is not None:
        state, y = jax.vmap(env.start)(x0, batch.env.ws)
        batch = batch._replace(env=state)
    return (batch, y) if others is None else _chosen(others[0], (batch, y), others[1:])


class VectorPlantEnv(gym.vector.VectorEnv):
    """Many episodes of one plant in parallel, in one jitted, vmapped call.

    Environment i after `reset(seed=s)` has the episode of `PlantEnv` after `reset(seed=s + i)`; a list of seeds has one for each,
    None for a random one. An environment whose episode ended starts a new one in the next step (`AutoresetMode.NEXT_STEP`),
    which ignores its action and returns the first observation, reward 0 and no end.

    `reset(options=)` takes `x0`, one initial state for all or one for each, (num_envs, nx), and `reset_mask` (num_envs,) of booleans:
    only these start a new episode. `info` is that of `PlantEnv`, environment first.

    **Arguments:**

    - `num_envs`: number of environments.
    - `name`: a key of `ENVIRONMENTS`.
    - `imperfections`: of sensors and actuators (`robustctl.plants.Imperfections`).
    - `dt`: sample time in seconds, in place of the environment's.
    - `max_episode_steps`: samples after which an episode is truncated; default the environment's.
    - `task`: fields of the plant's task, for example `horizon`, an earlier end.

    **Raises:** `ValueError` for `num_envs` below 1, a `render_mode`, a `horizon` above `max_episode_steps`, another number of seeds,
    a mask of another shape or without any True; `TypeError` for a mask that is no boolean array; same errors as `PlantEnv`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        name: str,
        *,
        imperfections: Imperfections | None = None,
        dt: float | None = None,
        max_episode_steps: int | None = None,
        **task,
    ):
        if not is_whole(num_envs, 1):
            raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs!r}")
        if task.pop("render_mode", None) is not None:
            raise ValueError(
                "render_mode must be None for a vector environment; render one environment of gym.make"
            )
        if max_episode_steps is not None:
            task = {"horizon": max_episode_steps} | task
            check_horizon(task["horizon"], max_episode_steps)
        self.num_envs = num_envs
        self.functional = functional(name, imperfections=imperfections, dt=dt, **task)
        self.single_action_space = action_space(self.functional)
        self.single_observation_space = observation_space(self.functional)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._shape = (num_envs, len(self.functional.sampled.plant.controls))
        self._batch: VectorState | None = None

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Start an episode in every environment."""
        check_process()
        keys = jnp.stack([episode_key(s) for s in self._seeds(seed)])
        x0, others = self._given(options or {})
        batch, self._y = _reset(self.functional, keys, x0, others)
        self._batch = batch
        info = {"time_s": self._time(), "state": np.array(batch.env.plant.x)}
        return np.array(self._y, np.float32), info

    def step(self, actions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Step every environment."""
        check_process()
        if self._batch is None:
            raise gym.error.ResetNeeded("reset must come before the first step")
        array = checked_action(actions, self._shape)
        dtype = self._batch.env.plant.x.dtype
        self._batch, out = _step(self.functional, self._batch, jnp.asarray(array, dtype))
        self._y = out.observation
        info = {
            "time_s": self._time(),
            "cost": -np.array(out.reward),
            "control": np.array(out.control),
            "state": np.array(out.x),
            "clipped": np.any(np.abs(array) > 1, axis=1),
        }
        # Copies that may be written to: Gymnasium's own wrappers compute in place.
        ends = np.array(out.terminated), np.array(out.truncated)
        return np.array(out.observation, np.float32), np.array(out.reward, float), *ends, info

    def _seeds(self, seed: Any) -> list[int]:
        """Return one seed for each environment."""
        listed = np.ndim(seed) > 0
        first = None if listed else whole_seed(seed)
        super().reset(seed=first)
        seeds = [whole_seed(s) for s in seed] if listed else [first] * self.num_envs
        if len(seeds) != self.num_envs:
            raise ValueError(f"there must be {self.num_envs} seeds, one per environment, got {len(seeds)}")
        drawn = self.np_random.integers(2**31, size=self.num_envs).tolist()
        if first is not None:
            return [first + i for i in range(self.num_envs)]
        return [random if s is None else s for s, random in zip(seeds, drawn, strict=True)]

    def _given(self, options: dict) -> tuple[Array | None, tuple[Array, VectorState, Array] | None]:
        """Return the options' initial states, and what the environments that are not reset continue with."""
        x0, others = options.get("x0"), None
        if x0 is not None:
            nx = len(self.functional.sampled.plant.states)
            states = checked_state(x0, (nx,), (self.num_envs, nx))
            x0 = jnp.asarray(np.broadcast_to(states, (self.num_envs, nx)), jnp.result_type(float))
        if "reset_mask" in options:
            mask = _checked_mask(options["reset_mask"], self.num_envs)
            if self._batch is None:
                raise gym.error.ResetNeeded("a reset without reset_mask must come before one with it")
            others = jnp.asarray(mask), self._batch, self._y
        return x0, others

    def _time(self) -> np.ndarray:
        assert self._batch is not None
        return np.array(self._batch.env.t) * self.functional.sampled.dt


def _checked_mask(mask: Any, num_envs: int) -> np.ndarray:
    """Return a mask of the environments to reset, with the errors of Gymnasium's own vector environments."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"options['reset_mask'] must be an array of booleans, got {mask!r}")
    if mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f"options['reset_mask'] must have shape {(num_envs,)} and be True at least once, got {mask!r}"
        )
    return mask
