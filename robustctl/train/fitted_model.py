"""An identified model: what was trained, with all that is needed to use it on a log."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp

from ..data import Scaling
from ..registry import registered
from ..scaled import Scaled
from ..system import Parameterization, dtype_of
from .initial_state import InitialState


@registered(name="Identified")
class FittedModel(Parameterization):
    """A trained parameterization with its scaling, sample time, channels and rule for the initial state.

    `explicit()` is a system from inputs to outputs in their own units, one sample each `dt` seconds.
    """

    parameterization: Parameterization
    initial: InitialState
    scaling: Scaling = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    input_units: tuple[str, ...] = eqx.field(static=True)
    output_units: tuple[str, ...] = eqx.field(static=True)

    def explicit(self) -> Scaled:
        """Map to the system in the signals' own units."""
        dtype = self.dtype
        s = self.scaling
        moments = (jnp.asarray(a, dtype) for a in (s.u_mean, s.u_std, s.y_mean, s.y_std))
        return Scaled(
            self.parameterization.explicit(), *moments, dt=self.dt, inputs=self.inputs, outputs=self.outputs,
            input_units=self.input_units, output_units=self.output_units,
        )  # fmt: skip

    def quiet(self, factor: float = 1e-2) -> "FittedModel":
        """Return the same about the inner model's scaled-down version."""
        return dataclasses.replace(self, parameterization=self.parameterization.quiet(factor))

    @property
    def dtype(self):
        """The dtype of the trained arrays."""
        return dtype_of(self.parameterization)
