"""Benchmark problem 3: learn to reject disturbances of a linear plant through its Youla parameterization.

Protocol and published figures: [BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of contracting
and Lipschitz recurrent deep networks", arXiv 2504.01250, Sec. V-C; figures in `PUBLISHED`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import nn
from ..loops import YoulaMap, YoulaOutput
from ..scenario import Episode, Scenario
from ..state_space import StateSpace
from ..system import Parameterization, System

PUBLISHED = {
    "r2dn": {"mean": 1.270, "lowest": 1.261, "highest": 1.279},
    "ren": {"mean": 1.268, "lowest": 1.264, "highest": 1.272},
}
"""Test cost after 80 epochs over ten seeds, read from the figures of [BWM25]."""


@dataclasses.dataclass(frozen=True)
class YoulaProtocol:
    """The published settings.

    **Arguments:**

    - `model`: "r2dn" or "ren".
    - `epochs`: of the training.
    - `batch`: episodes per gradient step.
    - `horizon`: samples per episode.
    - `segment`: samples per gradient step.
    - `learning_rate`: at first.
    - `decay_epochs`: epochs after which the rate is divided by ten.
    - `clip`: largest absolute value of an element of the gradient.
    """

    model: str = "r2dn"
    epochs: int = 80
    batch: int = 64
    horizon: int = 800
    segment: int = 200
    learning_rate: float = 5e-3
    decay_epochs: int = 60
    clip: float = 10.0

    def optimizer(self) -> optax.GradientTransformation:
        """Return Adam with its rate divided by ten every `decay_epochs`, and elements of the gradient clipped."""
        steps = self.decay_epochs * (self.horizon // self.segment)
        rate = optax.exponential_decay(self.learning_rate, steps, 0.1, staircase=True, end_value=1e-6)
        return optax.chain(optax.clip(self.clip), optax.adam(rate))


class YoulaScenario(Scenario):
    """Disturbance rejection by a learned Q.

    ::

        z = T0 d + T1 u,  u = sat(Q(T2 d)),  |u| <= 5,    T0 = T1 = -T2 = 0.3 / (z^2 - 1.6 cos(0.2 pi) z + 0.64)
        cost = |z| + 1e-4 u^2

    The disturbance is constant over 50 samples, uniform on [-10, 10]; episodes start at zero state.
    """

    hold: int = eqx.field(static=True, default=50)
    amplitude: float = eqx.field(static=True, default=10.0)
    limit: float = eqx.field(static=True, default=5.0)

    def draw(self, key: PRNGKeyArray, samples: int) -> Episode:
        """Draw a disturbance."""
        pieces = jr.uniform(key, (-(-samples // self.hold), 1), minval=-self.amplitude, maxval=self.amplitude)
        return Episode((), (), jnp.repeat(pieces, self.hold, axis=0)[:samples])

    def published_test(self) -> Episode:
        """Return the 64 test episodes of 800 samples of the published figures, from their generator with seed 0."""
        keys = jr.split(jr.split(jr.key(0))[1])
        pieces = jr.uniform(keys[0], (16, 64, 1), minval=-self.amplitude, maxval=self.amplitude)
        return Episode((), (), jnp.repeat(jnp.moveaxis(pieces, 1, 0), 50, axis=1))

    def loop(self, policy: System, plant: PyTree) -> YoulaMap:
        """Return the loop with the learned system as Q."""
        return YoulaMap(resonance(1.0), resonance(1.0), resonance(-1.0), policy, self.limit)

    def initial(self, loop: System, x0: PyTree) -> PyTree:
        """Return the loop's zero state."""
        return loop.init_state()

    def cost(self, output: YoulaOutput, w: Array) -> Float[Array, ""]:
        """Return `|z| + 1e-4 u^2`."""
        return jnp.sum(jnp.abs(output.z)) + 1e-4 * jnp.sum(output.u**2)

    def disturbance(self, w: Array) -> Array:
        """Return the disturbance, the only input."""
        return w

    def disturbed(self, w: Array, d: Array) -> Array:
        """Return the disturbance with `d` added."""
        return w + d


def resonance(sign: float) -> StateSpace:
    """Return `sign 0.3 / (z^2 - 1.6 cos(0.2 pi) z + 0.64)`, poles of modulus 0.8, with a sample time of one."""
    dtype = np.dtype(jnp.result_type(float))
    A = np.array([[1.6 * np.cos(0.2 * np.pi), -0.64], [1.0, 0.0]], dtype)
    return StateSpace(
        A, np.array([[1.0], [0.0]], dtype), np.array([[0.0, 0.3 * sign]], dtype), np.zeros((1, 1), dtype), 1.0
    )


def model(protocol: YoulaProtocol, key: PRNGKeyArray) -> Parameterization:
    """Return the published configuration, about 179,000 parameters."""
    tanh, init = jax.nn.tanh, nn.long_memory
    if protocol.model == "ren":
        return nn.ContractingREN(nu=1, nx=10, nv=400, ny=1, activation=tanh, init=init, key=key)
    return nn.ContractingR2DN(
        nu=1, nx=10, nv=100, ny=1, hidden=(140,) * 4, activation=tanh, init=init, key=key
    )
