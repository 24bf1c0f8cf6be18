"""The continuous-time plant: a vector field with named signals, and the control task."""

import abc
from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..errors import RobustctlError
from ..pytrees import fields_of
from ..system import Certifiable
from .plant_checks import check_plant
from .signal import Signal


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
    return value if eqx.is_array(value) else jnp.asarray(value, jnp.result_type(float))


class Plant(Certifiable):
    """A continuous-time system, with time in seconds and every signal in its own unit.

    ::

        dx/dt = rates(x, u, d),      y = output(x)

    with state `x` (nx,), control `u` (nu,), disturbance `d` (nd,) and measured output `y` (ny,), which must
    not depend on `u`, because a controller reads y before it chooses u.

    Your own plant defines the four tuples of `Signal` (the control's limits are those of its signals) and
    `rates`; everything else has a default. `Sampled` makes it a discrete-time `System`.

    A linear plant can define `lft()`, in continuous time: the matrices of dx/dt and y, inputs `[u, d]`.

    **Raises:** `InvalidModelError` for a tuple that is missing or holds anything but Signals, an output that is no state where `output`
    is the default, a physical number that `parameter` does not declare, and equations that JAX cannot trace or that return
    anything but one array of their size, with what to write.

    **Example:** ::

        class Lag(rc.plants.Plant):
            states = outputs = (rc.plants.Signal("speed", "m/s"),)
            controls = disturbances = (rc.plants.Signal("force", "N"),)

            def rates(self, x, u, d):
                return u + d - x

        sampled = rc.plants.Sampled(Lag(), dt=0.1)
    """

    states: ClassVar[tuple[Signal, ...]]
    controls: ClassVar[tuple[Signal, ...]]
    disturbances: ClassVar[tuple[Signal, ...]]
    outputs: ClassVar[tuple[Signal, ...]]

    def __check_init__(self):
        """Refuse mistakes in signals, fields and equations."""
        check_plant(self, own_output=type(self).output is not Plant.output)

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

    def rate_matrices(self) -> tuple[Array, Array] | None:
        """Return A and B of `dx/dt = A x + B [u, d]`, where samples can be computed exactly from them; default: None."""
        return None

    @property
    def physical(self) -> "Plant":
        """The plant in continuous time: itself."""
        return self

    def check_steps(self) -> None:
        """Check the steps in time that it is integrated with; there are none in continuous time."""

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


def randomized(plant: Plant, key: PRNGKeyArray, **spread: float) -> Plant:
    """Return the plant with the named parameters multiplied by independent uniform draws on [1 - s, 1 + s].

    Use `jax.vmap` over keys for a batch.

    **Arguments:**

    - `plant`: the nominal plant.
    - `key`: of the draws.
    - `spread`: s for each parameter by name.

    **Raises:** `RobustctlError` for a name that is no parameter of the plant or a spread outside [0, 1).
    """
    check_spread(plant, spread)
    names = sorted(spread)  # the same draws whatever the order of the keywords
    old = [fields_of(plant)[name] for name in names]
    new = [
        value * jr.uniform(k, value.shape, value.dtype, 1 - spread[name], 1 + spread[name])
        for name, value, k in zip(names, old, jr.split(key, max(len(names), 1)), strict=False)
    ]
    return eqx.tree_at(lambda p: [fields_of(p)[name] for name in names], plant, new)


def check_spread(plant: Plant, spread: dict[str, float]) -> None:
    """Refuse relative spreads of what is no parameter, or outside [0, 1).

    **Arguments:**

    - `plant`: the nominal plant.
    - `spread`: relative half width for each parameter by name.

    **Raises:** `RobustctlError`.
    """
    known = sorted(name for name, f in plant.__dataclass_fields__.items() if "unit" in f.metadata)
    for name, s in spread.items():
        if name not in known:
            raise RobustctlError(
                f"{name} must be a parameter of {type(plant).__name__}: {known}; {name}: Array = rc.plants.parameter(value, unit) "
                "declares one"
            )
        if not 0 <= s < 1:
            raise RobustctlError(f"the spread of {name} must be in [0, 1), got {s}")
