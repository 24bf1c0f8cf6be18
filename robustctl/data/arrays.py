"""Arrays in memory to a record: gaps found, marked and filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from .record import Experiment, Record
from .record_checks import as_floats, as_names, check_dt, refuse_infinite


def from_arrays(
    u: Any,
    y: Any,
    dt: float,
    *,
    inputs: Sequence[str] | str | None = None,
    outputs: Sequence[str] | str | None = None,
    input_units: Sequence[str] | str = (),
    output_units: Sequence[str] | str = (),
    t0: float = 0.0,
    name: str = "experiment",
) -> Record:
    """Record from arrays in memory; NaN marks a missing sample.

    **Arguments:**

    - `u`: inputs of one experiment, an array (T,) or (T, nu); a list of such arrays, of any lengths, for several.
    - `y`: outputs, (T,) or (T, ny), or a list as long as that of `u`.
    - `dt`: sample time, seconds.
    - `inputs`: channel names; ``u[0]``, ``u[1]``, ... when not given.
    - `outputs`: channel names; ``y[0]``, ``y[1]``, ... when not given.
    - `input_units`: one label per input, or nothing.
    - `output_units`: one label per output, or nothing.
    - `t0`: time of the first sample of every experiment, seconds.
    - `name`: label of the experiment; several are called ``name[0]``, ``name[1]``, ...

    **Raises:** `DataError` for complex, text or infinite samples, shapes that do not fit, a channel that was
    never measured, or anything that `Record` refuses.

    **Example:** ::

        u = np.sin(0.1 * np.arange(100.0))
        record = rc.data.from_arrays(u, u**2, 0.1, inputs="torque", outputs="speed", input_units="N m")
        print(record)
    """
    us, ys = _several(u), _several(y)
    if len(us) != len(ys):
        raise DataError(f"u and y must hold the same number of experiments, got {len(us)} and {len(ys)}")
    if not us:
        raise DataError("a record must hold at least one experiment, got none")
    labels = [name] if len(us) == 1 else [f"{name}[{index}]" for index in range(len(us))]
    us = [_columns(values, f"experiment {label!r}: u") for values, label in zip(us, labels, strict=True)]
    ys = [_columns(values, f"experiment {label!r}: y") for values, label in zip(ys, labels, strict=True)]
    inputs = _default_names("u", us[0]) if inputs is None else as_names(inputs, "inputs")
    outputs = _default_names("y", ys[0]) if outputs is None else as_names(outputs, "outputs")
    experiments = tuple(
        _experiment(u_, y_, inputs, outputs, t0, label) for u_, y_, label in zip(us, ys, labels, strict=True)
    )
    units = as_names(input_units, "input_units"), as_names(output_units, "output_units")
    # An input needs samples in every experiment, which simulates with it; an output in one experiment of all.
    record = Record(experiments, check_dt(dt), inputs, outputs, *units)
    measured = np.any([experiment.y_mask.any(axis=0) for experiment in experiments], axis=0)
    if not measured.all():
        raise DataError(f"output {outputs[int(np.argmin(measured))]!r} has no measured sample; leave it out")
    return record


def _several(values: Any) -> list:
    def holds_samples(item: Any) -> bool:
        return isinstance(item, list | tuple) or getattr(item, "ndim", 0) > 0

    match values:
        case list() | tuple() if any(map(holds_samples, values)):
            return list(values)
        case _:
            return [values]


def _columns(values: Any, what: str) -> np.ndarray:
    array = as_floats(values, what)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise DataError(f"{what} must have shape (T,) or (T, n), got {array.shape}")
    if 1 < array.shape[0] < array.shape[1]:
        raise DataError(
            f"{what} must have shape (T, n), time first, got {array.shape}: {array.shape[0]} samples of "
            f"{array.shape[1]} channels; transpose it, as x.T"
        )
    return array


def _default_names(letter: str, values: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{letter}[{index}]" for index in range(values.shape[1]))


def _experiment(u, y, inputs, outputs, t0: float, name: str) -> Experiment:
    where = f"experiment {name!r}: "
    for kind, values, names in (("input", u, inputs), ("output", y, outputs)):
        if values.shape[1] != len(names):
            raise DataError(
                f"{where}{kind}s have {values.shape[1]} channel(s) and {len(names)} name(s) {names}; "
                "arrays are (T, n), time first"
            )
        refuse_infinite(values, names, where)
    u_mask, y_mask = ~np.isnan(u), ~np.isnan(y)
    if u.size and not u_mask.any(axis=0).all():
        lost = inputs[int(np.argmin(u_mask.any(axis=0)))]
        raise DataError(f"{where}input {lost!r} has no measured sample; leave it out or fill it in")
    return Experiment(_interpolated(u, u_mask), _held(y, y_mask), u_mask, y_mask, t0, name)


def _interpolated(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if mask.all():
        return values
    # Interpolation looks ahead; inputs may, because they are given in full before a model runs.
    filled, sample = values.copy(), np.arange(len(values))
    for channel in np.flatnonzero(~mask.all(axis=0)):
        known = mask[:, channel]
        filled[:, channel] = np.interp(sample, sample[known], values[known, channel])
    return filled


def _held(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if mask.all():
        return values
    # Row of the last measured sample at each time, -1 before the first one; no later output is used.
    last = np.maximum.accumulate(np.where(mask, np.arange(len(values))[:, None], -1), axis=0)
    source = np.where(last < 0, mask.argmax(axis=0), last)
    return np.where(mask.any(axis=0), np.take_along_axis(values, source, axis=0), 0.0)
