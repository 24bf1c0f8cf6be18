"""A continuous stirred tank reactor with an exothermic reaction."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from ..registry import registered
from .plant import Plant, Task, parameter
from .signal import Signal

_SOURCE = "Seborg, Edgar, Mellichamp, Process Dynamics and Control, 2nd ed., 2004, example 2.5 and table 2.3"


@registered(name="plants.StirredTankReactor", sizes=lambda plant: {})
class StirredTankReactor(Plant):
    """A continuous stirred tank reactor (CSTR): A reacts to B, gives heat, and a jacket cools.

    ::

        c' = q/V (cf + d1 - c) - r,                                  r = k0 exp(-E / T) c
        T' = q/V (Tf + d2 - T) + H/(rho Cp) r + UA/(V rho Cp) (u - T)

    Concentration of A in mol/L, temperatures in K. Measured: both. The control is the temperature of the coolant; the disturbances
    are deviations of the feed. At the published heat transfer the operating point is open-loop unstable, between an extinguished and an
    ignited equilibrium; cooled as strongly as `StirredTankReactor(heat_transfer=8e5)`, it has one equilibrium at every temperature of the
    coolant, which is stable; from 400 K with much of A the reaction still heats it by more than 100 K before it cools.
    Source: Seborg, Edgar, Mellichamp, "Process Dynamics and Control", 2nd ed., 2004, example 2.5 and table 2.3.
    """

    states: ClassVar = (Signal("concentration", "mol/L", 0.0, 1.5), Signal("temperature", "K", 250.0, 500.0))
    controls: ClassVar = (Signal("coolant", "K", 280.0, 370.0),)
    disturbances: ClassVar = (Signal("feed concentration", "mol/L"), Signal("feed temperature", "K"))
    outputs: ClassVar = (Signal("concentration", "mol/L", 0.0, 1.5), Signal("temperature", "K", 250.0, 500.0))

    flow: Array = parameter(100.0, "L/min", _SOURCE)
    volume: Array = parameter(100.0, "L", _SOURCE)
    feed_concentration: Array = parameter(1.0, "mol/L", _SOURCE)
    feed_temperature: Array = parameter(350.0, "K", _SOURCE)
    density: Array = parameter(1000.0, "g/L", _SOURCE)
    heat_capacity: Array = parameter(0.239, "J/(g K)", _SOURCE)
    reaction_heat: Array = parameter(5e4, "J/mol", _SOURCE)
    activation: Array = parameter(8750.0, "K", _SOURCE)
    frequency: Array = parameter(7.2e10, "1/min", _SOURCE)
    heat_transfer: Array = parameter(5e4, "J/(min K)", _SOURCE)
    setpoint: Array = parameter(350.0, "K", _SOURCE)

    @override
    def rates(self, x: Float[Array, "2"], u: Float[Array, "1"], d: Float[Array, "2"]) -> Array:
        c, T = x
        # The flow's rate constants are per minute, time is in seconds.
        exchange, reaction = self.flow / self.volume, self.rate_constant(T) * c
        heat = self.density * self.heat_capacity
        dc = exchange * (self.feed_concentration + d[0] - c) - reaction
        dT = exchange * (self.feed_temperature + d[1] - T) + self.reaction_heat / heat * reaction
        return jnp.stack([dc, dT + self.heat_transfer / (self.volume * heat) * (u[0] - T)]) / 60

    def rate_constant(self, T: Float[Array, ""]) -> Float[Array, ""]:
        """Return the reaction's rate constant at a temperature, 1/min, by Arrhenius."""
        return self.frequency * jnp.exp(-self.activation / T)

    @override
    def constrain(self, x: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return a concentration of at least 0 and a temperature of at least 200 K."""
        return jnp.maximum(x, jnp.asarray([0.0, 200.0], x.dtype))

    @override
    def operating_point(self) -> tuple[Array, Array]:
        """Return the equilibrium at the temperature `setpoint`, and the coolant's temperature for it."""
        T, exchange, heat = self.setpoint, self.flow / self.volume, self.density * self.heat_capacity
        k = self.rate_constant(T)
        c = exchange * self.feed_concentration / (exchange + k)
        gained = exchange * (self.feed_temperature - T) + self.reaction_heat / heat * k * c
        return jnp.stack([c, T]), (T - gained * self.volume * heat / self.heat_transfer)[None]


class HoldTemperature(Task):
    """Hold the reactor at its operating point against changes of the feed.

    ::

        cost = (T - T_e)^2 / (1 K)^2 / 10 + ((c - c_e) / 0.05 mol/L)^2 + ((u - u_e) / 10 K)^2

    The initial state is within 2 K and 0.02 mol/L of the operating point; the feed is piecewise constant, uniform on +-0.02 mol/L
    and +-1 K, drawn every 100 samples.
    """

    @override
    def initial_state(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Draw a state near the operating point."""
        x, _ = self.plant.operating_point()
        return x + jr.uniform(key, (2,), x.dtype, -1.0, 1.0) * jnp.asarray([0.02, 2.0], x.dtype)

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} 2"]:
        """Draw a piecewise constant feed."""
        drawn = jr.uniform(key, (-(-samples // 100), 2), minval=-1.0, maxval=1.0) * jnp.asarray([[0.02, 1.0]])
        return jnp.repeat(drawn, 100, axis=0)[:samples]

    @override
    def cost(self, x: Float[Array, "2"], u: Float[Array, "1"], r: Float[Array, " nr"]) -> Float[Array, ""]:
        x_e, u_e = self.plant.operating_point()
        d = (x - x_e) / jnp.asarray([0.05, 10.0**0.5], x.dtype)
        return jnp.sum(d**2) + jnp.sum(((u - u_e) / 10.0) ** 2)
