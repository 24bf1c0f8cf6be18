"""An identified model as the plant of a loop."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..checks import is_whole, of_type
from ..errors import InvalidModelError
from ..lft import LFT, delay, joined, signals
from ..plants import Exogenous
from ..registry import registered
from ..system import Parameterization, SignalLimits, StrictlyProper, System, dtype_of, explicit_of
from .parts import Of, control_of


class ModelPlantState(NamedTuple):
    """State of a model that serves as a plant.

    **Arguments:**

    - `model`: the model's state.
    - `queue`: controls (delay, nu) that are still to come, the next one first.
    """

    model: PyTree
    queue: Array


@registered(name="loops.ModelPlant")
class ModelPlant(StrictlyProper):
    """An identified model as a plant, behind the delay that a computer has between reading and acting.

    ::

        y[t] = model(u[t - delay])

    Any system from controls to outputs: what `rc.fit` returns as `.model`, an R2DN or REN, a `StateSpace`. What acts
    on it besides the control is a `rc.plants.Exogenous` with references, and noise in the outputs' units; it has no disturbances, so
    that a proof's `d` is added to the control.

    **Arguments:**

    - `model`: from u (nu,) to y (ny,), a system or a parameterization of one.
    - `delay`: whole samples between choosing a control and applying it, at least 1.
    - `u0`: the control (nu,) applied before the first one; default zero.

    **Raises:** `InvalidModelError` for a model that is no system with known numbers of inputs and outputs, or is a plant already, and for a
    delay below 1.

    **Example:** ::

        lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1)
        loop = rc.loops.feedback(rc.loops.ModelPlant(lag), rc.classical.PID(2.0, 1.0, dt=0.1))
    """

    model: System
    u0: Float[Array, " nu"]
    delay: int = eqx.field(static=True)
    nu, ny, dt = Of("model"), Of("model"), Of("model")
    inputs, outputs = Of("model"), Of("model")
    input_units, output_units = Of("model"), Of("model")

    def __init__(self, model: Parameterization | System, delay: int = 1, u0=None):
        must, do = (
            "the model must be a System from controls to outputs with known numbers of both",
            "a Sampled plant needs no ModelPlant",
        )
        model = of_type(explicit_of(model), System, must, do, InvalidModelError)
        if model.input_size is None or model.ny is None:
            raise InvalidModelError(f"{must}, got {type(model).__name__}; give the class nu and ny; {do}")
        if not is_whole(delay, 1):
            raise InvalidModelError(
                f"delay must be a whole number of samples of at least 1, got {delay!r}: an output that depends on the control of "
                "the same sample would make the loop algebraic"
            )
        self.model, self.delay = model, delay
        self.u0 = control_of(u0, model.nu, dtype_of(model))

    @override
    def input_limits(self) -> SignalLimits | None:
        return self.model.input_limits()

    @override
    def lft(self) -> LFT | None:
        """Return the form from u to y of a model with a form, behind the shift register."""
        form = self.model.lft()
        if form is None:
            return None
        parts = [form, delay(self.u0.size, self.delay)]
        y, applied, u = signals(parts, self.u0.size)
        return joined(parts, [applied, u], [y])

    @override
    def undisturbed(self, references: int = 0) -> Exogenous:
        """Return one sample in which nothing but the control acts."""
        nothing = jnp.zeros(0)
        return Exogenous(nothing, jnp.zeros(references), nothing, jnp.zeros(()))

    @override
    def init_state(self) -> ModelPlantState:
        return ModelPlantState(self.model.init_state(), jnp.tile(self.u0, (self.delay, 1)))

    @override
    def output(self, x: ModelPlantState, w: Exogenous) -> Array:
        """Return `[y, r]`."""
        y = self.model.step(x.model, x.queue[0])[1]
        return jnp.concatenate([y + w.noise if w.noise.size else y, w.r])

    @override
    def advance(self, x: ModelPlantState, u: Array, w: Exogenous) -> ModelPlantState:
        after = self.model.step(x.model, x.queue[0])[0]
        return ModelPlantState(after, jnp.concatenate([x.queue[1:], u[None]]))
