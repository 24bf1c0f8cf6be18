"""Two trajectories under one input, and whether they approach each other: how a simulation disproves contraction."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..system import System

_STILL = 1e-6
"""Relative decrease over half of a run below which a distance counts as not shrinking: ten roundings of float32."""

_ROUNDINGS = 1e4
"""Distances of at most so many roundings of the state are rounding: of `1 / (1 - rate)` roundings that a slow system sums up."""

_GROWN = 10.0
"""A state that grows by this from the second to the last quarter of a run diverges: three integrators reach 8."""


class Separation(NamedTuple):
    """What became of m trajectories that start apart and have one input.

    **Arguments:**

    - `far`: largest distance to the first trajectory in each quarter of the run (4, m).
    - `size`: largest absolute entry of the states in each quarter (4, m).
    - `moved`: largest change of a state's entry in the last sample (m,).
    - `diverging`: which grow without bound or end in numbers that are not finite (m,).
    - `apart`: which do not approach the first one (m,).
    """

    far: Float[Array, "4 m"]
    size: Float[Array, "4 m"]
    moved: Float[Array, " m"]
    diverging: Bool[Array, " m"]
    apart: Bool[Array, " m"]


def vector(x: PyTree) -> Array:
    """Return the floating-point entries of a state as one vector."""
    return ravel_pytree(eqx.filter(x, eqx.is_inexact_array))[0]


def separation(system: System, us: PyTree, x0s: PyTree, samples: int) -> Separation:
    """Run one input from several states and compare.

    **Arguments:**

    - `system`: what is simulated.
    - `us`: the input, time first, which repeats from its end; one sample is a constant input.
    - `x0s`: initial states, trajectory first.
    - `samples`: of the run.
    """
    period = len(jax.tree.leaves(us)[0])
    states = jax.vmap(vector)

    def body(carry, t):
        xs, far, size, _ = carry
        u = jax.tree.map(lambda a: a[t % period], us)
        z, quarter = states(xs), 4 * t // samples
        far = far.at[quarter].max(jnp.linalg.norm(z - z[:1], axis=1))
        size = size.at[quarter].max(jnp.max(jnp.abs(z), axis=1))
        x_next = jax.vmap(lambda x: system.step(x, u)[0])(xs)
        return (x_next, far, size, jnp.max(jnp.abs(states(x_next) - z), axis=1)), None

    z = states(x0s)
    quarters = jnp.zeros((4, len(z)), z.dtype)
    (_, far, size, moved), _ = lax.scan(body, (x0s, quarters, quarters, quarters[0]), jnp.arange(samples))
    grown = size[3] > _GROWN * jnp.maximum(size[0], size[1])
    rounding = _ROUNDINGS * jnp.finfo(z.dtype).eps * jnp.max(size[3])
    apart = (far[3] > (1 - _STILL) * far[1]) & (far[3] > rounding)
    return Separation(far, size, moved, grown | ~jnp.isfinite(size[3]), apart)
