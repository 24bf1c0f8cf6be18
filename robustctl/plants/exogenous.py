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
    - `late`: whether the measurements come too late; None where none do.
    """

    d: Array
    r: Array
    noise: Array
    jitter: Array
    late: Array | None = None


def draw(task: Task, sampled: "Sampled", key: PRNGKeyArray, samples: int) -> Exogenous:
    """Draw the exogenous inputs of one episode, time first.

    **Arguments:**

    - `task`: draws disturbance and reference.
    - `sampled`: the sampled plant; its imperfections determine noise, jitter and late samples.
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
    share = sampled.imperfections.late
    # Folded in, so that the other draws are those of a plant without late samples.
    late = None if share is None else jr.bernoulli(jr.fold_in(jitter_key, 1), share, (samples,))
    return Exogenous(d, r, noise, jitter, late)


def undisturbed(sampled: "Sampled", samples: int, references: int = 0) -> Exogenous:
    """Return the exogenous inputs of an episode without disturbance, noise and late samples, with zero reference.

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
        None if sampled.imperfections.late is None else jnp.zeros(samples, bool),
    )
