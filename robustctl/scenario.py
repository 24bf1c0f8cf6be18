"""The training problem of a policy: random episodes, a loop, and a cost."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .system import System


class Episode(NamedTuple):
    """One random draw.

    **Arguments:**

    - `plant`: the plant, or its parameters.
    - `x0`: its initial state.
    - `ws`: its exogenous inputs, time first.
    """

    plant: PyTree
    x0: PyTree
    ws: PyTree


class Scenario(eqx.Module):
    """Episodes to train a policy on; `rc.fit_policy` draws them, rolls out the loop and sums up the cost.

    ::

        minimize over the policy   E  1/T sum_t cost(output[t], w[t]),   output = rollout(loop(policy, plant), ws)
    """

    @abc.abstractmethod
    def draw(self, key: PRNGKeyArray, samples: int) -> Episode:
        """Draw one episode of `samples` samples."""

    def draw_batch(self, key: PRNGKeyArray, batch: int, samples: int) -> Episode:
        """Draw `batch` episodes, episode first: (batch, samples, ...)."""
        return jax.vmap(lambda k: self.draw(k, samples))(jr.split(key, batch))

    @abc.abstractmethod
    def loop(self, policy: System, plant: PyTree) -> System:
        """Return the loop of the learned system and a drawn plant; its input is one `w`."""

    @abc.abstractmethod
    def initial(self, loop: System, x0: PyTree) -> PyTree:
        """Return the loop's state for a drawn initial state."""

    @abc.abstractmethod
    def cost(self, output: PyTree, w: PyTree) -> Float[Array, ""]:
        """Return the cost of one sample."""

    @abc.abstractmethod
    def disturbance(self, w: PyTree) -> Array:
        """Return the part of `w` to which an adversary may add."""

    @abc.abstractmethod
    def disturbed(self, w: PyTree, d: Array) -> PyTree:
        """Return `w` with an adversary's `d` added to its disturbance."""
