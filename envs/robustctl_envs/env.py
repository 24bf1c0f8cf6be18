"""A plant as a Gymnasium environment."""

from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from robustctl.plants import Imperfections

from .functional import EnvState, FunctionalEnv, StepResult, functional
from .rendering import Renderer
from .seeds import check_process, episode_key, whole_seed
from .spaces import action_space, checked_action, checked_state, observation_space
from .table import ENVIRONMENTS


@eqx.filter_jit
def _reset(env: FunctionalEnv, key) -> tuple[EnvState, Any]:
    return env.reset(key)


@eqx.filter_jit
def _step(env: FunctionalEnv, state: EnvState, action) -> tuple[EnvState, StepResult]:
    after, out = env.step(state, action)
    return jax.lax.cond(out.terminated, lambda: env.stopped(state, action, after, out), lambda: (after, out))


@eqx.filter_jit
def _start(env: FunctionalEnv, x0, ws) -> tuple[EnvState, Any]:
    return env.start(x0, ws)


@eqx.filter_jit
def _continued(env: FunctionalEnv, state: EnvState, key) -> EnvState:
    return env.continued(state, key)


class PlantEnv(gym.Env):
    """A task on a sampled plant: actions in [-1, 1], observations in the sensors' units.

    The reward is minus the task's cost, and minus `task.failure` if the episode is terminated. `reset(seed=)` determines
    the episode exactly; `options={"x0": state}` sets the initial state. An action out of bounds is
    clipped; `info` holds `time_s`, `cost`, `control` (in its units), `state` and `clipped`. The state and observation of a
    terminated episode are those in which the task failed, within the last sample.

    `gymnasium.make` ends an episode after the environment's number of samples, or after `max_episode_steps` of them. The
    environment itself has no end unless `horizon` is given: it draws further disturbances and references when they are used up.

    **Arguments:**

    - `name`: a key of `ENVIRONMENTS`.
    - `render_mode`: "human", "rgb_array" or None.
    - `imperfections`: of sensors and actuators (`robustctl.plants.Imperfections`).
    - `dt`: sample time in seconds, in place of the environment's.
    - `task`: fields of the plant's task, for example `horizon`, an earlier end.

    **Raises:** `ValueError` for an unknown `render_mode`, an `x0` that is not finite or of another shape, and a `horizon`
    above the samples after which `gymnasium.make` ends an episode; `gymnasium.error.InvalidAction` for an action that is not
    finite or of another shape; `gymnasium.error.ResetNeeded` for a step before `reset` or after the end of an episode;
    `gymnasium.error.Error` for a seed that is not a whole number of at least 0, and in a forked process.

    **Example:** ::

        env = gymnasium.make("robustctl/CartPole-v0", horizon=100)
        observation, info = env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        *,
        render_mode: str | None = None,
        imperfections: Imperfections | None = None,
        dt: float | None = None,
        **task,
    ):
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode must be one of {self.metadata['render_modes']} or None, got {render_mode!r}"
            )
        self.functional = functional(name, imperfections=imperfections, dt=dt, **task)
        self._ends = "horizon" in task
        check_horizon(self.functional.task.horizon, ENVIRONMENTS[name].horizon)
        self.metadata = self.metadata | {"render_fps": max(1, round(1 / self.functional.sampled.dt))}
        self.action_space, self.observation_space = (
            action_space(self.functional),
            observation_space(self.functional),
        )
        self.render_mode = render_mode
        self._renderer = Renderer(self.functional, render_mode) if render_mode else None
        self._state: EnvState | None = None
        self._samples = 0
        self._control = np.zeros(len(self.functional.sampled.plant.controls))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode; return observation and info."""
        check_process()
        seed = whole_seed(seed)
        super().reset(seed=seed)
        self._key = episode_key(int(self.np_random.integers(2**31)) if seed is None else seed)
        self._state, y = _reset(self.functional, self._key)
        if options and "x0" in options:
            x0 = checked_state(options["x0"], self._state.plant.x.shape)
            self._state, y = _start(self.functional, jnp.asarray(x0, y.dtype), self._state.ws)
        self._control = np.array(self.functional.sampled.plant.operating_point()[1])
        self._samples = 0
        self._show()
        return np.array(y, np.float32), {"time_s": 0.0, "state": np.array(self._state.plant.x)}

    def step(self, action) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Apply an action for one sample."""
        check_process()
        if self._state is None:
            raise gym.error.ResetNeeded(
                "reset must come before the first step and after the end of an episode"
            )
        array = checked_action(action, self._control.shape)
        dtype = self._state.plant.x.dtype
        self._state, out = _step(self.functional, self._state, jnp.asarray(array, dtype))
        self._control, self._samples = np.array(out.control), self._samples + 1
        info = {
            "time_s": self._samples * self.functional.sampled.dt,
            "cost": -float(out.reward),
            "control": self._control.copy(),
            "state": np.array(out.x),
            "clipped": bool(np.any(np.abs(array) > 1)),
        }
        self._show()
        ends = bool(out.terminated), bool(out.truncated) and self._ends
        if any(ends):
            self._state = None
        elif out.truncated:
            self._key = jax.random.fold_in(self._key, 1)
            self._state = _continued(self.functional, self._state, self._key)
        return np.array(out.observation, np.float32), float(out.reward), *ends, info

    def render(self):
        """Return the picture as an array (height, width, 3), or show it."""
        if self._renderer is None:
            gym.logger.warn("render() needs a render_mode: gym.make(id, render_mode='rgb_array')")
            return None
        return self._renderer.picture()

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._renderer is not None:
            self._renderer.close()

    def _show(self) -> None:
        if self._renderer is not None and self._state is not None:
            self._renderer.update(np.asarray(self._state.plant.x), self._control, self._samples)


def check_horizon(horizon: int, most: int) -> None:
    """Refuse a `horizon` that Gymnasium's limit on an episode would cut without a word.

    **Raises:** `ValueError`.
    """
    if horizon > most:
        raise ValueError(
            f"horizon must be at most max_episode_steps, {most}, got {horizon}; give max_episode_steps={horizon} in place of horizon"
        )
