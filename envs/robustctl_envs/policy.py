"""A learned or classical controller as `action = policy(observation)`, which holds the controller's state."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from robustctl.errors import InvalidModelError
from robustctl.system import Parameterization, System, explicit_of

from .functional import FunctionalEnv


class Policy:
    """A controller as a policy for an environment: it maps observations to actions, one sample per call.

    The controller works in the plant's units; its controls are mapped to actions in [-1, 1]. Call `reset()` when an episode
    starts.

    **Arguments:**

    - `controller`: a system or parameterization with the observations as inputs and the controls as outputs.
    - `env`: a `PlantEnv` or `VectorPlantEnv` (wrapped or not); in the latter every environment has its own state.

    **Raises:** `InvalidModelError` for a controller whose inputs or outputs do not fit the environment.
    """

    def __init__(self, controller: System | Parameterization, env: Any):
        bare = env.unwrapped
        self.functional: FunctionalEnv = bare.functional
        self.batch: int | None = getattr(bare, "num_envs", None)
        self.system: System = explicit_of(controller).prepare()
        self._dtype = self.functional.sampled.plant.operating_point()[0].dtype
        self._check()
        self.reset()

    def reset(self, ended: np.ndarray | None = None) -> None:
        """Reset the controller's state; in a vector environment only where `ended` (num_envs,) is true, if given."""
        fresh = self.system.init_state()
        if self.batch is None:
            self._x = fresh
            return
        batched = jax.tree.map(lambda a: jnp.broadcast_to(a, (self.batch, *a.shape)), fresh)
        if ended is not None:
            mask = jnp.asarray(ended)
            batched = jax.tree.map(
                lambda new, old: jnp.where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old),
                batched,
                self._x,
            )
        self._x = batched

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return the action for an observation, and advance the controller's state."""
        y = jnp.asarray(observation, self._dtype)
        step = _step if self.batch is None else _step_batch
        self._x, action = step(self.system, self.functional, self._x, y)
        return np.asarray(action, np.float32)

    def _check(self) -> None:
        ny, nu = len(self.functional.observed), len(self.functional.sampled.plant.controls)
        y = jax.ShapeDtypeStruct((ny,), self._dtype)
        try:
            got = eqx.filter_eval_shape(lambda s, y: s.step(s.init_state(), y)[1], self.system, y).shape
            found = f"got outputs of shape {got}"
        except Exception as error:
            got, found = None, f"its step raised: {error}"
        if got != (nu,):
            raise InvalidModelError(
                f"the controller must have {ny} inputs (observations) and {nu} outputs (controls); {found}"
            )


@eqx.filter_jit
def _step(system: System, env: FunctionalEnv, x, y):
    x_next, u = system.step(x, y)
    return x_next, env.action(u)


@eqx.filter_jit
def _step_batch(system: System, env: FunctionalEnv, x, y):
    return jax.vmap(lambda x, y: _step(system, env, x, y))(x, y)
