"""Models of records: what simulations, predictions and reports need of one, whatever its class."""

from typing import Any

import equinox as eqx
import numpy as np
from typing_extensions import override

from ..checks import of_type
from ..data import Record, Scaling, delay
from ..errors import DataError
from ..system import Parameterization, Unknown, dtype_of
from .initial_state import InitialState


class RecordModel(Parameterization):
    """A parameterization between scaled signals, with the channels, scaling and initial state by which it is run on a record.

    `fit` returns a `FittedModel`. A class of your own has the same fields, of which `delay`, `trained` and `innovation_gain` may be left
    out; simulations, predictions and reports treat both alike. Its `explicit()` is a system between the signals' own units.
    """

    parameterization: eqx.AbstractVar[Parameterization]
    initial: eqx.AbstractVar[InitialState]
    scaling: eqx.AbstractVar[Scaling]
    dt: eqx.AbstractVar[float]
    inputs: eqx.AbstractVar[tuple[str, ...]]
    outputs: eqx.AbstractVar[tuple[str, ...]]
    input_units: eqx.AbstractVar[tuple[str, ...]]
    output_units: eqx.AbstractVar[tuple[str, ...]]
    delay = ()
    trained = innovation_gain = Unknown()

    @override
    def trained_ranges(self) -> dict[str, list[list[float]]] | None:
        if self.trained is None:
            return None
        return {"u": list(map(list, self.trained.u)), "y": list(map(list, self.trained.y))}

    def prepared(self, record: Record) -> Record:
        """Return a record as the parameterization reads it: scaled, its inputs delayed, and so shorter by the longest delay.

        **Raises:** `DataError` for an experiment that is not longer than the delay.
        """
        scaled = self.scaling.apply(record)
        return delay(scaled, self.delay) if any(self.delay) else scaled

    @property
    def late(self) -> int:
        """Number of samples at the start of a record at which inputs from before it act: the longest delay."""
        return max(self.delay, default=0)

    @property
    def dtype(self):
        """The dtype of the trained arrays."""
        return dtype_of(self.parameterization)


def check_fitted(model: Any, what: str = "the model") -> None:
    """Raise `RobustctlError` unless a model is a fitted one."""
    of_type(model, RecordModel, f"{what} must be a RecordModel, as what fit returns as .model")


def check_record(record: Any) -> None:
    """Raise `RobustctlError` unless a record is one."""
    of_type(record, Record, "a record must be a rc.data.Record (read, from_arrays and split make some)")


def check_channels(model: RecordModel, record: Record) -> None:
    """Raise `DataError` unless the record has the model's sample time, channels and units."""
    check_fitted(model)
    check_record(record)
    # 1e-6: sample times computed from rounded time stamps differ by this; over 10,000 samples it is a hundredth of one.
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


def _channels(of: RecordModel | Record) -> dict[str, tuple[str, ...]]:
    return {
        "inputs": of.inputs, "outputs": of.outputs,
        "input_units": of.input_units, "output_units": of.output_units,
    }  # fmt: skip
