"""Tanks that drain into each other."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from ..registry import registered
from .plant import Plant, Task, parameter
from .signal import Signal

_JOHANSSON = "Johansson, IEEE TCST 8(3), 2000, tables 1 and 2, minimum-phase setting"
_EMPTY = 1e-6  # cm: below it the outflow is linear in the level, so that its slope is finite


def _outflow(h: Array) -> Array:
    """Square root of a level in cm, zero when empty."""
    h = jnp.maximum(h, 0.0)
    # The inner maximum keeps the gradient of the branch not taken finite: NaN times zero would be NaN.
    return jnp.where(h > _EMPTY, jnp.sqrt(jnp.maximum(h, _EMPTY)), h / _EMPTY**0.5)


@registered(name="plants.TwoTanks", sizes=lambda plant: {})
class TwoTanks(Plant):
    """An upper tank, filled by a pump, that drains into a lower tank.

    ::

        A h1' = k u - a sqrt(2 g h1) + d,     A h2' = a sqrt(2 g h1) - a sqrt(2 g h2)

    Levels in cm. Measured: the lower level. The disturbance is an inflow into the upper tank. Source: the left
    half of the quadruple tank of Johansson, IEEE TCST 8(3), 2000, its valve closed.
    """

    states: ClassVar = (Signal("upper", "cm", 0.0, 20.0), Signal("lower", "cm", 0.0, 20.0))
    controls: ClassVar = (Signal("pump", "V", 0.0, 10.0),)
    disturbances: ClassVar = (Signal("inflow", "cm^3/s"),)
    outputs: ClassVar = (Signal("lower", "cm", 0.0, 20.0),)

    area: Array = parameter(28.0, "cm^2", _JOHANSSON)
    outlet: Array = parameter(0.071, "cm^2", _JOHANSSON)
    pump_gain: Array = parameter(3.33, "cm^3/(V s)", _JOHANSSON)
    gravity: Array = parameter(981.0, "cm/s^2", _JOHANSSON)
    setpoint: Array = parameter(10.0, "cm", "ours")

    @override
    def rates(self, x: Float[Array, "2"], u: Float[Array, "1"], d: Float[Array, "1"]) -> Array:
        out = self.outlet * jnp.sqrt(2 * self.gravity) * _outflow(x)
        return jnp.stack([self.pump_gain * u[0] + d[0] - out[0], out[0] - out[1]]) / self.area

    @override
    def constrain(self, x: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return levels between empty and full."""
        return jnp.clip(x, 0.0, 20.0)

    @override
    def operating_point(self) -> tuple[Array, Array]:
        """Return both levels at `setpoint` and the pump's voltage for that equilibrium."""
        u = self.outlet * jnp.sqrt(2 * self.gravity * self.setpoint) / self.pump_gain
        return jnp.stack([self.setpoint, self.setpoint]), u[None]


@registered(name="plants.QuadrupleTank", sizes=lambda plant: {})
class QuadrupleTank(Plant):
    """Two pumps, four tanks; each pump fills one lower tank and the upper tank of the other side.

    ::

        A1 h1' = -a1 v1 + a3 v3 + g1 k1 u1,       A3 h3' = -a3 v3 + (1 - g2) k2 u2 + d1
        A2 h2' = -a2 v2 + a4 v4 + g2 k2 u2,       A4 h4' = -a4 v4 + (1 - g1) k1 u1 + d2,     v = sqrt(2 g h)

    Measured: the lower levels h1 and h2. With the valves at g1 + g2 > 1 (default) the plant is of minimum phase,
    with g1 + g2 < 1 it has a zero in the right half plane: `QuadrupleTank(valve_1=0.43, valve_2=0.34,
    pump_gain_1=3.14, pump_gain_2=3.29)`. Source: Johansson, "The quadruple-tank process", IEEE TCST 8(3), 2000.
    """

    states: ClassVar = tuple(Signal(f"h{k}", "cm", 0.0, 20.0) for k in (1, 2, 3, 4))
    controls: ClassVar = (Signal("pump 1", "V", 0.0, 10.0), Signal("pump 2", "V", 0.0, 10.0))
    disturbances: ClassVar = (Signal("inflow 3", "cm^3/s"), Signal("inflow 4", "cm^3/s"))
    outputs: ClassVar = (Signal("h1", "cm", 0.0, 20.0), Signal("h2", "cm", 0.0, 20.0))

    areas: Array = parameter((28.0, 32.0, 28.0, 32.0), "cm^2", _JOHANSSON)
    outlets: Array = parameter((0.071, 0.057, 0.071, 0.057), "cm^2", _JOHANSSON)
    pump_gain_1: Array = parameter(3.33, "cm^3/(V s)", _JOHANSSON)
    pump_gain_2: Array = parameter(3.35, "cm^3/(V s)", _JOHANSSON)
    valve_1: Array = parameter(0.70, "1", _JOHANSSON)
    valve_2: Array = parameter(0.60, "1", _JOHANSSON)
    gravity: Array = parameter(981.0, "cm/s^2", _JOHANSSON)
    pumps: Array = parameter((3.0, 3.0), "V", _JOHANSSON + ": voltages of the operating point")

    @override
    def rates(self, x: Float[Array, "4"], u: Float[Array, "2"], d: Float[Array, "2"]) -> Array:
        q = self.outlets * jnp.sqrt(2 * self.gravity) * _outflow(x)
        f1, f2 = self.pump_gain_1 * u[0], self.pump_gain_2 * u[1]
        net = [
            q[2] - q[0] + self.valve_1 * f1,
            q[3] - q[1] + self.valve_2 * f2,
            (1 - self.valve_2) * f2 + d[0] - q[2],
            (1 - self.valve_1) * f1 + d[1] - q[3],
        ]
        return jnp.stack(net) / self.areas

    @override
    def constrain(self, x: Float[Array, "4"]) -> Float[Array, "4"]:
        """Return levels between empty and full."""
        return jnp.clip(x, 0.0, 20.0)

    @override
    def operating_point(self) -> tuple[Array, Array]:
        """Return the equilibrium levels for the voltages `pumps`."""
        # The outflow of each tank equals its inflow, and q = a sqrt(2 g h) gives h = (q / a)^2 / (2 g).
        f1, f2 = self.pump_gain_1 * self.pumps[0], self.pump_gain_2 * self.pumps[1]
        q3, q4 = (1 - self.valve_2) * f2, (1 - self.valve_1) * f1
        q = jnp.stack([q3 + self.valve_1 * f1, q4 + self.valve_2 * f2, q3, q4])
        return (q / self.outlets) ** 2 / (2 * self.gravity), self.pumps


class HoldLevels(Task):
    """Hold the levels at the operating point against random inflows; for both tank plants.

    ::

        cost = sum of (measured level error / 1 cm)^2 + |u - u_e|^2 / (1 V)^2 / 10

    The initial levels are within 2 cm of the operating point; the inflows are piecewise constant, uniform on +-2 cm^3/s,
    drawn every 50 samples.
    """

    @override
    def initial_state(self, key: PRNGKeyArray) -> Float[Array, " nx"]:
        """Draw levels near the operating point, between empty and full."""
        x, _ = self.plant.operating_point()
        return self.plant.constrain(x + jr.uniform(key, x.shape, x.dtype, -2.0, 2.0))

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} nd"]:
        """Draw piecewise constant inflows in cm^3/s."""
        shape = (-(-samples // 50), len(self.plant.disturbances))
        return jnp.repeat(jr.uniform(key, shape, minval=-2.0, maxval=2.0), 50, axis=0)[:samples]

    @override
    def cost(
        self, x: Float[Array, " nx"], u: Float[Array, " nu"], r: Float[Array, " nr"]
    ) -> Float[Array, ""]:
        x_e, u_e = self.plant.operating_point()
        error = self.plant.output(x) - self.plant.output(x_e)
        return jnp.sum(error**2) + 0.1 * jnp.sum((u - u_e) ** 2)
