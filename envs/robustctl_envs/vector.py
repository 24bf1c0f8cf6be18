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

from robustctl.plants import Imperfections

from .functional import EnvState, FunctionalEnv, StepResult, functional
from .spaces import action_space, checked_action, observation_space


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


_reset = eqx.filter_jit(reset_batch)
_step = eqx.filter_jit(step_batch)


class VectorPlantEnv(gym.vector.VectorEnv):
    """Many episodes of one plant in parallel, in one jitted, vmapped call.

    Environment i after `reset(seed=s)` has the episode of `PlantEnv` after `reset(seed=s + i)`. An environment whose episode
    ended starts a new one in the next step (`AutoresetMode.NEXT_STEP`), which ignores its action and returns the first
    observation, reward 0 and no end.

    **Arguments:**

    - `num_envs`: number of environments.
    - `name`: a key of `ENVIRONMENTS`.
    - `imperfections`: of sensors and actuators (`robustctl.plants.Imperfections`).
    - `dt`: sample time in seconds, in place of the environment's.
    - `task`: fields of the plant's task, for example `horizon`.

    **Raises:** `ValueError` for `num_envs` below 1 and for a `render_mode`; `gymnasium.error.InvalidAction` and
    `gymnasium.error.ResetNeeded` in the cases of `PlantEnv`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        name: str,
        *,
        imperfections: Imperfections | None = None,
        dt: float | None = None,
        **task,
    ):
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs!r}")
        if task.pop("render_mode", None) is not None:
            raise ValueError(
                "render_mode must be None for a vector environment; render one environment of gym.make"
            )
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
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is None:
            seeds = self.np_random.integers(2**31, size=self.num_envs).tolist()
        else:
            seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"there must be {self.num_envs} seeds, one per environment, got {len(seeds)}")
        keys = jnp.stack([jax.random.key(s) for s in seeds])
        self._batch, y = _reset(self.functional, keys)
        return np.asarray(y, np.float32), {}

    def step(self, actions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Step every environment."""
        if self._batch is None:
            raise gym.error.ResetNeeded("reset must come before the first step")
        array = checked_action(actions, self._shape)
        dtype = self._batch.env.plant.x.dtype
        self._batch, out = _step(self.functional, self._batch, jnp.asarray(array, dtype))
        info = {"cost": -np.asarray(out.reward), "control": np.asarray(out.control)}
        observation = np.asarray(out.observation, np.float32)
        return (
            observation,
            np.asarray(out.reward),
            np.asarray(out.terminated),
            np.asarray(out.truncated),
            info,
        )
