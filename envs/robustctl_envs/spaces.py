"""Spaces of an environment, and checks of actions."""

from typing import Any

import gymnasium as gym
import numpy as np

from robustctl.plants import limits

from .functional import FunctionalEnv


def action_space(env: FunctionalEnv) -> gym.spaces.Box:
    """Return the box [-1, 1] with one entry per control."""
    return gym.spaces.Box(-1.0, 1.0, (len(env.sampled.plant.controls),), np.float32)


def observation_space(env: FunctionalEnv) -> gym.spaces.Box:
    """Return the box of the sensors' ranges."""
    low, high = limits(env.observed)
    return gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def checked_state(x0: Any, *shapes: tuple[int, ...]) -> np.ndarray:
    """Return a given initial state as an array of finite numbers, of one of the shapes.

    **Raises:** `ValueError`.
    """
    array = np.asarray(x0, float)
    if array.shape not in shapes or not np.isfinite(array).all():
        wanted = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"options['x0'] must be finite numbers of shape {wanted}, got {x0!r}")
    return array


def checked_action(action: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the action as float32.

    **Raises:** `gymnasium.error.InvalidAction` for an action that is not an array of finite numbers of this shape.
    """
    try:
        array = np.asarray(action, np.float32)
    except (TypeError, ValueError) as error:
        raise gym.error.InvalidAction(
            f"the action must be numbers of shape {shape}, got {action!r}"
        ) from error
    if array.shape != shape:
        raise gym.error.InvalidAction(f"the action must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise gym.error.InvalidAction(
            f"the action must be finite, got {array}; actions out of bounds are clipped, but NaN shows an error in the policy"
        )
    return array
