"""A quadrotor in a vertical plane."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

from ..registry import registered
from .plant import Plant, Task, parameter
from .signal import Signal

_SOURCE = "Tedrake, Underactuated Robotics, chapter 3"


@registered(name="plants.PlanarQuadrotor", sizes=lambda plant: {})
class PlanarQuadrotor(Plant):
    """A rigid body with two thrusts at a distance r from its center; theta is its roll.

    ::

        m x'' = -(u1 + u2) sin(theta) + d1,    m z'' = (u1 + u2) cos(theta) - m g + d2,    I theta'' = r (u1 - u2)

    Measured: position and roll. The disturbance d is a wind force. Source: Tedrake, "Underactuated Robotics",
    chapter 3, planar quadrotor, with its numbers; thrust limits and task are ours.
    """

    states: ClassVar = (
        Signal("x", "m"),
        Signal("z", "m"),
        Signal("roll", "rad"),
        Signal("x speed", "m/s"),
        Signal("z speed", "m/s"),
        Signal("roll rate", "rad/s"),
    )
    controls: ClassVar = (Signal("right thrust", "N", 0.0, 5.0), Signal("left thrust", "N", 0.0, 5.0))
    disturbances: ClassVar = (Signal("x wind", "N"), Signal("z wind", "N"))
    outputs: ClassVar = (Signal("x", "m"), Signal("z", "m"), Signal("roll", "rad"))

    mass: Array = parameter(0.486, "kg", _SOURCE)
    inertia: Array = parameter(0.00383, "kg m^2", _SOURCE)
    arm: Array = parameter(0.25, "m", _SOURCE)
    gravity: Array = parameter(9.81, "m/s^2")

    @override
    def rates(self, x: Float[Array, "6"], u: Float[Array, "2"], d: Float[Array, "2"]) -> Array:
        lift, roll = u[0] + u[1], x[2]
        ax = (d[0] - lift * jnp.sin(roll)) / self.mass
        az = (d[1] + lift * jnp.cos(roll)) / self.mass - self.gravity
        return jnp.stack([x[3], x[4], x[5], ax, az, self.arm * (u[0] - u[1]) / self.inertia])

    @override
    def operating_point(self) -> tuple[Array, Array]:
        """Return the equilibrium at the origin, with half the weight per rotor."""
        half = self.mass * self.gravity / 2
        return jnp.zeros(6, half.dtype), jnp.stack([half, half])


class Hover(Task):
    """Fly to the origin and hover there in gusts.

    ::

        cost = (x / 0.5 m)^2 + (z / 0.5 m)^2 + (roll / 0.3 rad)^2 + |u - u_e|^2 / (2 N)^2 / 10

    The initial position is within 0.5 m of the origin in each direction; the wind is piecewise constant, uniform on +-0.3 N in
    each direction, drawn every 25 samples. Fails beyond 3 m in either direction or 1.2 rad of roll.
    """

    @override
    def initial_state(self, key: PRNGKeyArray) -> Float[Array, "6"]:
        """Draw a position, with zero roll and speeds."""
        position = jr.uniform(key, (2,), minval=-0.5, maxval=0.5)
        return jnp.concatenate([position, jnp.zeros(4, position.dtype)])

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} 2"]:
        """Draw a piecewise constant wind in N."""
        return jnp.repeat(jr.uniform(key, (-(-samples // 25), 2), minval=-0.3, maxval=0.3), 25, axis=0)[
            :samples
        ]

    @override
    def cost(self, x: Float[Array, "6"], u: Float[Array, "2"], r: Float[Array, " nr"]) -> Float[Array, ""]:
        effort = jnp.sum((u - self.plant.operating_point()[1]) ** 2) / 4.0
        return jnp.sum((x[:2] / 0.5) ** 2) + (x[2] / 0.3) ** 2 + 0.1 * effort

    @override
    def terminated(self, x: Float[Array, "6"]) -> Bool[Array, ""]:
        """Return whether the quadrotor flew away or turned over."""
        return ~(jnp.all(jnp.abs(x[:2]) < 3.0) & (jnp.abs(x[2]) < 1.2))
