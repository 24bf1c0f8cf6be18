"""The cart-pole: an inverted pendulum on a cart."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

from ..registry import registered
from .plant import Plant, Task, parameter
from .signal import Signal

_SOURCE = "Barto, Sutton, Anderson, IEEE Trans. SMC 13(5), 1983, appendix"


@registered(name="plants.CartPole", sizes=lambda plant: {})
class CartPole(Plant):
    """A pole hinged to a cart that is driven by a force; theta is the pole's angle from upright.

    ::

        theta'' (l (4/3 - m cos^2(theta) / M)) = g sin(theta) - cos(theta) (F + m l theta'^2 sin(theta)) / M
        x'' = (F + m l (theta'^2 sin(theta) - theta'' cos(theta))) / M,       M = m_cart + m,  F = u + d - c x'

    Measured: position and angle. Source: Barto, Sutton, Anderson, "Neuronlike adaptive elements that can
    solve difficult learning control problems", IEEE Trans. SMC 13(5), 1983; the force is continuous here.
    """

    states: ClassVar = (
        Signal("position", "m"),
        Signal("angle", "rad"),
        Signal("speed", "m/s"),
        Signal("turn rate", "rad/s"),
    )
    controls: ClassVar = (Signal("force", "N", -10.0, 10.0),)
    disturbances: ClassVar = (Signal("push", "N"),)
    outputs: ClassVar = (Signal("position", "m"), Signal("angle", "rad"))

    cart_mass: Array = parameter(1.0, "kg", _SOURCE)
    pole_mass: Array = parameter(0.1, "kg", _SOURCE)
    half_length: Array = parameter(0.5, "m", _SOURCE)
    friction: Array = parameter(0.0005, "N s/m", _SOURCE)
    gravity: Array = parameter(9.8, "m/s^2", _SOURCE)

    @override
    def rates(self, x: Float[Array, "4"], u: Float[Array, "1"], d: Float[Array, "1"]) -> Array:
        _, theta, v, w = x
        sin, cos = jnp.sin(theta), jnp.cos(theta)
        total, ml = self.cart_mass + self.pole_mass, self.pole_mass * self.half_length
        force = u[0] + d[0] - self.friction * v
        # a is the cart's acceleration without the reaction of the pole's angular acceleration, which is added last.
        a = (force + ml * w**2 * sin) / total
        turn = (self.gravity * sin - cos * a) / (self.half_length * (4 / 3 - self.pole_mass * cos**2 / total))
        return jnp.stack([v, w, a - ml * turn * cos / total, turn])


class BalancePole(Task):
    """Hold the pole upright and the cart near the middle against random pushes.

    ::

        cost = (position / 1 m)^2 + (angle / 0.1 rad)^2 + (force / 10 N)^2 / 10

    Initial position and angle are within 0.05 m and rad; the push is piecewise constant, uniform on +-1 N, drawn every
    25 samples. Fails beyond 2.4 m or 0.21 rad, as in the source.
    """

    @override
    def initial_state(self, key: PRNGKeyArray) -> Float[Array, "4"]:
        """Draw position and angle, with zero speeds."""
        drawn = jr.uniform(key, (2,), minval=-0.05, maxval=0.05)
        return jnp.concatenate([drawn, jnp.zeros_like(drawn)])

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} 1"]:
        """Draw a piecewise constant push in N."""
        return jnp.repeat(jr.uniform(key, (-(-samples // 25), 1), minval=-1.0, maxval=1.0), 25, axis=0)[
            :samples
        ]

    @override
    def cost(self, x: Float[Array, "4"], u: Float[Array, "1"], r: Float[Array, " nr"]) -> Float[Array, ""]:
        return x[0] ** 2 + (x[1] / 0.1) ** 2 + 0.1 * (u[0] / 10.0) ** 2

    @override
    def terminated(self, x: Float[Array, "4"]) -> Bool[Array, ""]:
        """Return whether the pole fell or the cart left its track."""
        return ~((jnp.abs(x[0]) < 2.4) & (jnp.abs(x[1]) < 0.21))
