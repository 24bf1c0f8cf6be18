"""A steel ball suspended below an electromagnet."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

from ..registry import registered
from .plant import Plant, Task, parameter
from .signal import Signal

_SOURCE = "Khalil, Nonlinear Systems, 3rd ed., exercises 1.18 and 12.8"


@registered(name="plants.MagneticSuspension", sizes=lambda plant: {})
class MagneticSuspension(Plant):
    """A ball of mass m at a gap x below a coil with current i and voltage u, unstable in open loop.

    ::

        x'' = g - (k/m) x' - L0 a i^2 / (2 m (a + x)^2) + d/m
        L(x) i' = u - R i + L0 a x' i / (a + x)^2,      L(x) = L1 + a L0 / (a + x)

    Measured: the gap. The disturbance d is a force on the ball. Source: Khalil, "Nonlinear Systems", 3rd
    ed., exercise 1.18, with the numbers of exercise 12.8; voltage limits, sample time and task are ours.
    """

    states: ClassVar = (Signal("gap", "m", 0.0, 0.1), Signal("speed", "m/s"), Signal("current", "A"))
    controls: ClassVar = (Signal("voltage", "V", 0.0, 50.0),)
    disturbances: ClassVar = (Signal("force", "N"),)
    outputs: ClassVar = (Signal("gap", "m", 0.0, 0.1),)

    mass: Array = parameter(0.1, "kg", _SOURCE)
    friction: Array = parameter(0.001, "N s/m", _SOURCE)
    gravity: Array = parameter(9.81, "m/s^2", _SOURCE)
    a: Array = parameter(0.05, "m", _SOURCE)
    L0: Array = parameter(0.01, "H", _SOURCE)
    L1: Array = parameter(0.02, "H", _SOURCE)
    resistance: Array = parameter(1.0, "ohm", _SOURCE)
    setpoint: Array = parameter(0.05, "m", "ours: the middle of the gap's range")

    @override
    def rates(self, x: Float[Array, "3"], u: Float[Array, "1"], d: Float[Array, "1"]) -> Array:
        gap, speed, current = x
        # -dL/dx: half of it times i^2 is the magnetic force, times x' i it is the induced voltage.
        pull = self.L0 * self.a / (self.a + gap) ** 2
        inductance = self.L1 + self.a * self.L0 / (self.a + gap)
        force = self.mass * self.gravity - self.friction * speed - pull * current**2 / 2 + d[0]
        volts = u[0] - self.resistance * current + pull * speed * current
        return jnp.stack([speed, force / self.mass, volts / inductance])

    @override
    def operating_point(self) -> tuple[Array, Array]:
        """Return the equilibrium at `setpoint`: `i_e = (a + x_e) sqrt(2 m g / (L0 a))`, `u_e = R i_e`."""
        current = (self.a + self.setpoint) * jnp.sqrt(2 * self.mass * self.gravity / (self.L0 * self.a))
        x = jnp.stack([self.setpoint, jnp.zeros_like(current), current])
        return x, (self.resistance * current)[None]


class HoldBall(Task):
    """Hold the ball at the set point against a random force with small changes of the voltage.

    ::

        cost = (gap error / 5 mm)^2 + (speed / 0.5 m/s)^2 / 10 + (voltage error / 10 V)^2 / 10

    The initial gap is within 2 mm of the set point; the force is piecewise constant, uniform on +-0.05 N, drawn every 50
    samples. Fails when the ball touches the coil or its gap exceeds 0.1 m.
    """

    @override
    def initial_state(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Draw a gap near the set point, with zero speed and the current of the operating point."""
        x, _ = self.plant.operating_point()
        return x + jnp.stack([jr.uniform(key, (), x.dtype, -0.002, 0.002), *jnp.zeros(2, x.dtype)])

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} 1"]:
        """Draw a piecewise constant force in N."""
        return jnp.repeat(jr.uniform(key, (-(-samples // 50), 1), minval=-0.05, maxval=0.05), 50, axis=0)[
            :samples
        ]

    @override
    def cost(self, x: Float[Array, "3"], u: Float[Array, "1"], r: Float[Array, " nr"]) -> Float[Array, ""]:
        x_e, u_e = self.plant.operating_point()
        e = x - x_e
        return (e[0] / 0.005) ** 2 + 0.1 * (e[1] / 0.5) ** 2 + 0.1 * ((u[0] - u_e[0]) / 10.0) ** 2

    @override
    def terminated(self, x: Float[Array, "3"]) -> Bool[Array, ""]:
        """Return whether the ball touched the coil or fell."""
        return ~((x[0] > 0.0) & (x[0] < 0.1))
