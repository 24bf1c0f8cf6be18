"""The continuous-time plant: a vector field with named signals, and the control task."""

import abc
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..errors import RobustctlError
from ..system import Certifiable


class Signal(NamedTuple):
    """A channel of a plant.

    **Arguments:**

    - `name`: of the channel.
    - `unit`: of its values.
    - `low`: the lowest value that it can have, the limit of a control.
    - `high`: the highest value.
    """

    name: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf


def parameter(default: float | Sequence[float], unit: str, source: str = ""):
    """Declare a physical parameter as a field of a plant, an array for gradients and randomization.

    ::

        class Pendulum(Plant):
            mass: Array = parameter(0.024, "kg", "measured on our rig")

    **Arguments:**

    - `default`: its value.
    - `unit`: its unit.
    - `source`: where the value comes from.
    """
    return eqx.field(default=default, converter=_as_array, metadata={"unit": unit, "source": source})


def _as_array(value) -> Array:
    return value if isinstance(value, jax.Array) else jnp.asarray(value, jnp.result_type(float))


class Plant(Certifiable):
    """A continuous-time system, with time in seconds and every signal in its own unit.

    ::

        dx/dt = rates(x, u, d),      y = output(x)

    with state `x` (nx,), control `u` (nu,), disturbance `d` (nd,) and measured output `y` (ny,), which must
    not depend on `u`, because a controller reads y before it chooses u.

    Your own plant defines the four tuples of `Signal` (the control's limits are those of its signals) and
    `rates`; everything else has a default. `Sampled` makes it a discrete-time `System`.

    A linear plant can define `lft()`, in continuous time: the matrices of dx/dt and y, inputs `[u, d]`.

    **Example:** ::

        class Lag(rc.plants.Plant):
            states = outputs = (rc.plants.Signal("speed", "m/s"),)
            controls = disturbances = (rc.plants.Signal("force", "N"),)

            def rates(self, x, u, d):
                return u + d - x

        sampled = rc.plants.Sampled(Lag(), dt=0.1)
    """

    if TYPE_CHECKING:  # class variables in most plants, fields in LinearPlant
        states: ClassVar[tuple[Signal, ...]]
        controls: ClassVar[tuple[Signal, ...]]
        disturbances: ClassVar[tuple[Signal, ...]]
        outputs: ClassVar[tuple[Signal, ...]]
    else:
        states: eqx.AbstractVar[tuple[Signal, ...]]
        controls: eqx.AbstractVar[tuple[Signal, ...]]
        disturbances: eqx.AbstractVar[tuple[Signal, ...]]
        outputs: eqx.AbstractVar[tuple[Signal, ...]]

    @abc.abstractmethod
    def rates(self, x: Float[Array, " nx"], u: Float[Array, " nu"], d: Float[Array, " nd"]) -> Array:
        """Return dx/dt."""

    def output(self, x: Float[Array, " nx"]) -> Float[Array, " ny"]:
        """Return the measured output; default: the states with the outputs' names."""
        names = [s.name for s in self.states]
        return x[jnp.asarray([names.index(s.name) for s in self.outputs])]

    def constrain(self, x: Float[Array, " nx"]) -> Float[Array, " nx"]:
        """Return the state clipped to its physical range (the level of a tank is never negative); default: unchanged."""
        return x

    def operating_point(self) -> tuple[Array, Array]:
        """Return an equilibrium (x, u), the operating point; default: the origin."""
        return jnp.zeros(len(self.states)), jnp.zeros(len(self.controls))


class Task(eqx.Module):
    """A control task: initial states, disturbances, references, a cost, and a condition of failure.

    Default: start at the plant's operating point, no disturbance, no reference, fail only when the state is not finite, and
    a cost quadratic in the deviation from the operating point.

    **Arguments:**

    - `plant`: the plant.
    - `horizon`: samples per episode.
    - `failure`: cost of a failure, charged once in an environment; without it, failing at once would be cheapest.
    """

    plant: Plant
    horizon: int = eqx.field(static=True, default=500, kw_only=True)
    failure: float = eqx.field(static=True, default=500.0, kw_only=True)

    def initial_state(self, key: PRNGKeyArray) -> Float[Array, " nx"]:
        """Draw an initial state."""
        return self.plant.operating_point()[0]

    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} nd"]:
        """Draw a disturbance, one row per sample."""
        return jnp.zeros((samples, len(self.plant.disturbances)))

    def reference(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} nr"]:
        """Draw a reference, one row per sample; the controller reads `[y, r]`."""
        return jnp.zeros((samples, 0))

    def cost(
        self, x: Float[Array, " nx"], u: Float[Array, " nu"], r: Float[Array, " nr"]
    ) -> Float[Array, ""]:
        """Return the cost of one sample."""
        x_e, u_e = self.plant.operating_point()
        return jnp.sum((x - x_e) ** 2) + jnp.sum((u - u_e) ** 2)

    def terminated(self, x: Float[Array, " nx"]) -> Bool[Array, ""]:
        """Return whether the task has failed in this state; default: it is not finite."""
        return ~jnp.all(jnp.isfinite(x))


def limits(signals: Sequence[Signal]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest values of the signals, two arrays (n,)."""
    return np.asarray([s.low for s in signals], float), np.asarray([s.high for s in signals], float)


def randomized(plant: Plant, key: PRNGKeyArray, **spread: float) -> Plant:
    """Return the plant with the named parameters multiplied by independent uniform draws on [1 - s, 1 + s].

    Use `jax.vmap` over keys for a batch.

    **Arguments:**

    - `plant`: the nominal plant.
    - `key`: of the draws.
    - `spread`: s for each parameter by name.

    **Raises:** `RobustctlError` for a name that is no parameter of the plant or a spread outside [0, 1).
    """
    known = {name for name, f in plant.__dataclass_fields__.items() if "unit" in f.metadata}
    for name, s in spread.items():
        if name not in known:
            raise RobustctlError(f"{name} must be a parameter of {type(plant).__name__}: {sorted(known)}")
        if not 0 <= s < 1:
            raise RobustctlError(f"the spread of {name} must be in [0, 1), got {s}")
    names = sorted(spread)  # the same draws whatever the order of the keywords
    old = [getattr(plant, name) for name in names]
    new = [
        value * jr.uniform(k, value.shape, value.dtype, 1 - spread[name], 1 + spread[name])
        for name, value, k in zip(names, old, jr.split(key, max(len(names), 1)), strict=False)
    ]
    return eqx.tree_at(lambda p: [getattr(p, name) for name in names], plant, new)
