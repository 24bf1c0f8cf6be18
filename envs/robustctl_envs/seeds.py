"""Seeds of episodes, and the process that an environment may run in."""

import operator
import os
from typing import Any

import gymnasium as gym
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

_IMPORTED_BY = os.getpid()


def check_process() -> None:
    """Refuse to compute in a forked process, in which JAX waits for ever.

    **Raises:** `gymnasium.error.Error`.
    """
    # JAX has threads as soon as it computes, and a fork copies none of them; Gymnasium's AsyncVectorEnv makes one
    # environment before it forks.
    if os.getpid() != _IMPORTED_BY:
        raise gym.error.Error(
            "the environment must run in a process that imported robustctl_envs itself, because JAX does not work after a fork, "
            "got a forked one; start the processes by spawn: gymnasium.make_vec(..., vectorization_mode='async', "
            "vector_kwargs={'context': 'spawn'}), or by forkserver, or leave out vectorization_mode, which is faster"
        )


def whole_seed(seed: Any) -> int | None:
    """Return a seed as a Python integer, None for None.

    **Raises:** `gymnasium.error.Error` for anything but a whole number of at least 0.
    """
    if seed is None:
        return None
    try:
        whole = operator.index(seed)
    except TypeError:
        whole = -1
    if whole < 0:
        raise gym.error.Error(f"a seed must be a whole number of at least 0, got {seed!r}")
    return whole


def episode_key(seed: int) -> PRNGKeyArray:
    """Return the random key of the episode with this seed."""
    # JAX takes 64 bits, and without 64-bit mode 32 of them; NumPy's hash takes any number.
    small = seed if seed < 2**31 else int(np.random.SeedSequence(seed).generate_state(1)[0]) >> 1
    return jax.random.key(small)
