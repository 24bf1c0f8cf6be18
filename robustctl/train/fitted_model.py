"""A fitted model: what was trained, with all that is needed to use it on a log."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import override

from ..checks import of_type
from ..data import Record, Scaling
from ..data.record_checks import check_dt, check_names
from ..errors import DataError
from ..registry import registered
from ..scaled import Scaled
from ..system import Parameterization, dtype_of
from .initial_state import InitialState


@registered(name="Identified")
class FittedModel(Parameterization):
    """A trained parameterization with its scaling, sample time, channels and rule for the initial state.

    `explicit()` is a system from inputs to outputs in their own units, one sample each `dt` seconds.

    **Arguments:**

    - `parameterization`: the trained model, between scaled signals.
    - `initial`: the rule for the initial state.
    - `scaling`: of inputs and outputs.
    - `dt`: sample time, seconds.
    - `inputs`: names.
    - `outputs`: names.
    - `input_units`: one per input, "" where it has none.
    - `output_units`: one per output, likewise.
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

    @override
    def check_parts(self) -> None:
        check_dt(self.dt)
        check_names(self.inputs, self.outputs)
        system = eqx.filter_eval_shape(self.explicit)
        sizes = (len(self.inputs), len(self.outputs))
        if (system.nu, system.ny) != sizes:
            raise ValueError(f"there must be a scale for each of {sizes} channels")
        x = eqx.filter_eval_shape(lambda s: s.init_state(), system)
        window = [jax.ShapeDtypeStruct((self.initial.window, n), self.dtype) for n in sizes]
        start = eqx.filter_eval_shape(
            lambda initial, u, y, zero: initial(u, y, jnp.zeros((), jnp.int32), zero),
            self.initial,
            *window,
            x,
        )
        if not eqx.tree_equal(start, x):
            raise ValueError(f"the initial state must be {x}, got {start}")


def check_fitted(model: Any, what: str = "the model") -> None:
    """Raise `RobustctlError` unless a model is a fitted one."""
    of_type(model, FittedModel, f"{what} must be what fit returns as .model")


def check_record(record: Any) -> None:
    """Raise `RobustctlError` unless a record is one."""
    of_type(record, Record, "a record must be a rc.data.Record (read, from_arrays and split make some)")


def check_channels(model: FittedModel, record: Record) -> None:
    """Raise `DataError` unless the record has the model's sample time, channels and units."""
    check_fitted(model)
    check_record(record)
    if not np.isclose(record.dt, model.dt, rtol=1e-6):
        raise DataError(
            f"the record must have the model's sample time {model.dt:g} s, got {record.dt:g} s; resample it"
        )
    given = _channels(record)
    for what, ours in _channels(model).items():
        theirs = given[what]
        if ours != theirs:
            raise DataError(
                f"the record must have the model's {what} {ours}, got {theirs}; rc.data.select picks "
                f"channels, dataclasses.replace(record, {what}=...) renames them"
            )


def _channels(of: FittedModel | Record) -> dict[str, tuple[str, ...]]:
    return {
        "inputs": of.inputs, "outputs": of.outputs,
        "input_units": of.input_units, "output_units": of.output_units,
    }  # fmt: skip
