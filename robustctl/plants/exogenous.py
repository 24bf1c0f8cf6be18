"""What acts on a sampled plant other than its control: disturbance, reference, noise."""

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from .plant import Task

if TYPE_CHECKING:
    from .sampled import Sampled


class Exogenous(NamedTuple):
    """Exogenous inputs of a sampled plant, at one sample or time first.

    **Arguments:**

    - `d`: disturbance (nd,).
    - `r`: reference (nr,).
    - `noise`: standard normal (ny,), or (0,) without sensor noise.
    - `jitter`: in [-1, 1].
    """

    d: Array
    r: Array
    noise: Array
    jitter: Array


def draw(task: Task, sampled: "Sampled", key: PRNGKeyArray, samples: int) -> Exogenous:
    """Draw the exogenous inputs of one episode, time first.

    **Arguments:**

    - `task`: draws disturbance and reference.
    - `sampled`: the sampled plant; its imperfections determine noise and jitter.
    - `key`: of the draws.
    - `samples`: length of the episode.
    """
    d_key, r_key, noise_key, jitter_key = jr.split(key, 4)
    d, r = task.disturbance(d_key, samples), task.reference(r_key, samples)
    ny = len(sampled.plant.outputs) if sampled.imperfections.noise is not None else 0
    noise = jr.normal(noise_key, (samples, ny), d.dtype)
    jitter = (
        jr.uniform(jitter_key, (samples,), d.dtype, -1, 1)
        if sampled.imperfections.jitter
        else jnp.zeros(samples, d.dtype)
    )
    return Exogenous(d, r, noise, jitter)


def undisturbed(sampled: "Sampled", samples: int, references: int = 0) -> Exogenous:
    """Return the exogenous inputs of an episode without disturbance and noise, with zero reference.

    **Arguments:**

    - `sampled`: the sampled plant.
    - `samples`: length of the episode.
    - `references`: number of references.
    """
    dtype = jnp.result_type(float)
    ny = len(sampled.plant.outputs) if sampled.imperfections.noise is not None else 0
    return Exogenous(
        jnp.zeros((samples, len(sampled.plant.disturbances)), dtype),
        jnp.zeros((samples, references), dtype),
        jnp.zeros((samples, ny), dtype),
        jnp.zeros(samples, dtype),
    )
