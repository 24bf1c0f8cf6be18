"""Records from log files."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...checks import are_all, one_or_more
from ...errors import DataError, RobustctlWarning
from ..arrays import from_arrays
from ..edit import merge
from ..record import Record
from ..record_checks import as_names, check_names, refuse_infinite
from .blocks import block, check_lengths, stack
from .clock import date_and_time, refuse_repeated_days, text_stamps
from .formats import as_format, load_experiments, source_of
from .frames import Frame, index_name
from .request import Columns, Format, Wanted
from .stamps import Stamps, to_seconds
from .timing import MOSTLY, Runs, Timing, to_runs


def read(
    path: str | os.PathLike | Frame | Sequence[str | os.PathLike | Frame],
    *,
    inputs: str | Sequence[str],
    outputs: str | Sequence[str],
    dt: float | None = None,
    time: str | Sequence[str] | None = None,
    format: str | Format | None = None,
    units: Mapping[str, str] | None = None,
    hold: str | Sequence[str] = (),
    split_gaps: float | None = None,
    time_unit: str | None = None,
) -> Record:
    r"""Record from a log file, or from several files with one experiment each.

    csv, txt, tsv, dat, lvm: a header with the names, then rows of numbers, separated by commas, semicolons, tabs, bars or
    spaces. Lines above the header, comments (``#``, ``%``) and lines without numbers are left out; encoding, decimal comma,
    thousands separators and units in the names or below them are found. parquet, xlsx, DataFrames: columns. mat: variables,
    ``a/b`` for field b of struct a, ``a(2)`` for an element. h5, hdf5: datasets by path. npz, npy: arrays. An array is (T,),
    (T, 1), (1, T), or (T, k) for k channels called ``name[0]``, ``name[1]``, ... What was guessed is in `Record.guesses` and in
    the record's text.

    **Arguments:**

    - `path`: file or pandas DataFrame, or a list of them: experiments with the same channels. A MATLAB cell array is one
      experiment for each cell; a DataFrame's index of dates is the time where neither `dt` nor `time` is given.
    - `inputs`: names of columns, variables or datasets; a unit in a column's name may be left out.
    - `outputs`: names of columns, variables or datasets, likewise.
    - `dt`: sample time, seconds. With `time` as well, stamps off its grid are resampled to it (`resample`),
      with a RobustctlWarning when they drift from it or their steps change (`clock_drift`).
    - `time`: column of time stamps: numbers, dates, or times of day; two names are a column of dates and one of times of day.
      Without `dt`, it must be uniform within 1e-3 of a step; steps that the log skips become missing samples.
    - `format`: ``"csv"``, ``"parquet"``, ``"mat"``, ``"hdf5"``, ``"npz"``, ``"npy"`` or ``"xlsx"``; from the file's suffix when
      None. A `Format` also holds encoding, decimal sign, and the words that mark missing samples.
    - `units`: unit labels by channel name, in place of those of the file.
    - `hold`: inputs that are logged only when they change: each keeps a value until the next one, where other inputs are
      interpolated linearly.
    - `split_gaps`: seconds; rows further apart are the end of one experiment and the start of the next.
    - `time_unit`: of numeric time stamps, ``"s"``, ``"ms"``, ``"us"``, ``"ns"``, ``"min"``, ``"h"``, ``"days"``, or ``"ticks"`` of
      100 ns. When None, from the column's name (``t_ms``, ``time [us]``), or with a RobustctlWarning from the size of stamps since
      1970 (ms, us, ns), 1900 or the year 0 (days), 1601 or the year 1 (ticks of Windows and .NET); seconds otherwise.

    **Raises:** `DataError` for a file that is absent, damaged or of an unknown format; columns that are
    missing, given twice or not numeric; neither `dt` nor `time`; time stamps that repeat or decrease; anything
    that `Record` refuses.

    **Example:** ::

        open("log.csv", "w").write("t,torque,speed [rad/s]\n0.0,1,0\n0.1,1,0.5\n0.2,0,0.7\n")
        record = rc.data.read("log.csv", inputs="torque", outputs="speed", time="t")
    """
    paths = one_or_more(path)
    if not paths:
        raise DataError("path must name at least one file, got none")
    inputs, outputs = as_names(inputs, "inputs"), as_names(outputs, "outputs")
    check_names(inputs, outputs)
    if dt is None and not time and not all(map(index_name, paths)):
        raise DataError("a record needs a sample time: give dt= (seconds) or time= (column of time stamps)")
    times = () if time is None else as_names(time, "time")
    if len(times) > 2 or len(set(times)) < len(times) or set(times) & set(inputs + outputs):
        raise DataError(
            f"time must name a column, or one of dates and one of times of day, that is neither an input nor an output, got {time!r}"
        )
    timing, hold = Timing(dt, split_gaps, time_unit), as_names(hold, "hold")
    if timing.time_unit and not times:
        raise DataError(f"time_unit needs time=, the column of time stamps that are in {time_unit}")
    labels, form = _units(units), as_format(format)
    records = []
    for one in paths:
        source = source_of(one)
        index = source.index if dt is None and not times else None
        stamps, where = times if index is None else (index,), source.where
        wanted = Wanted((*inputs, *outputs, *stamps), stamps, form)
        try:
            for name, found in load_experiments(source, wanted):
                records.append(_read_one(where, name, found, wanted, (inputs, outputs), timing, hold, labels))
        except OSError as error:
            raise DataError(f"{where}: cannot be opened: {error.strerror or error}") from error
        except MemoryError as error:
            raise DataError(f"{where}: it does not fit in memory") from error
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    _all_used("units", labels, inputs + outputs, records[0].inputs + records[0].outputs)
    _all_used("hold", hold, inputs, records[0].inputs)
    return merge(*records)


def _units(units: Mapping[str, str] | None) -> dict[str, str]:
    match units:
        case None:
            return {}
        case Mapping() if are_all([*units, *units.values()], str):
            return dict(units)
        case _:
            raise DataError(f"units must map channel names to labels, got {units!r}")


def _all_used(what: str, names: Iterable[str], asked: tuple[str, ...], channels: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in asked + channels]
    if unknown:
        kind = "inputs" if what == "hold" else "channels"
        raise DataError(f"{what} must be given for {kind} of {channels}, got {unknown}")


def _read_one(
    where: str,
    name: str,
    found: Columns,
    wanted: Wanted,
    channels: tuple[tuple[str, ...], tuple[str, ...]],
    timing: Timing,
    hold: tuple[str, ...],
    units: Mapping[str, str],
) -> Record:
    stamps = _stamps(found, wanted, timing)
    blocks = {one: block(found.arrays[one][0], one) for one in wanted.names if one not in wanted.time}
    shown = ", ".join(wanted.time)
    check_lengths({**blocks, **({} if stamps is None else {shown: stamps.seconds})})
    u_names, u_sources, u = stack(blocks, channels[0], found.names)
    y_names, y_sources, y = stack(blocks, channels[1], found.names)
    values = _without(np.concatenate([u, y], axis=1), wanted.format.numbers)
    refuse_infinite(values, u_names + y_names)
    held = [k for k, pair in enumerate(zip(u_names, u_sources, strict=True)) if set(pair) & set(hold)]
    try:
        runs = to_runs(None if stamps is None else stamps.seconds, values, timing, held)
    except DataError as error:
        raise DataError(f"time {shown!r}: {error}" if shown else str(error)) from error
    _warn(where, shown, [*([stamps.doubt] if stamps and stamps.doubt else []), *runs.doubts])
    record = _record(runs, name, u_names, y_names)
    _warn_of_rare(where, record)
    guesses = [*found.guesses, *([stamps.guess] if stamps and stamps.guess else []), *runs.guesses]
    return dataclasses.replace(
        record,
        input_units=_labels(u_names, u_sources, units, found.units),
        output_units=_labels(y_names, y_sources, units, found.units),
        guesses=tuple(guesses),
    )


def _stamps(found: Columns, wanted: Wanted, timing: Timing) -> Stamps | None:
    if not wanted.time:
        return None
    columns = [_time_column(found, name) for name in wanted.time]
    name = wanted.time[0]
    try:
        times = columns[0] if len(columns) == 1 else date_and_time(*columns)
        refuse_repeated_days(times, name)
        return to_seconds(times, name, found.units.get(name, ""), timing.time_unit)
    except DataError as error:
        raise DataError(f"time {', '.join(wanted.time)!r}: {error}") from error


def _time_column(found: Columns, name: str) -> np.ndarray:
    values = found.arrays[name][0]
    if values.size != max(values.shape, default=0) or values.ndim > 2:
        raise DataError(f"time {name!r} must be one column, got shape {values.shape}")
    if not values.size:
        raise DataError(f"variable {name!r} holds no samples, shape {values.shape}")
    try:
        return text_stamps(values.ravel(), name) if values.dtype.kind == "U" else values.ravel()
    except DataError as error:
        raise DataError(f"time {name!r}: {error}") from error


def _without(values: np.ndarray, marks: tuple[float, ...]) -> np.ndarray:
    return np.where(np.isin(values, marks), np.nan, values) if marks else values


def _record(runs: Runs, name: str, inputs: list[str], outputs: list[str]) -> Record:
    us, ys = (
        [run[:, part] for run in runs.values] for part in (slice(len(inputs)), slice(len(inputs), None))
    )
    # One experiment keeps the name of the file, several are numbered.
    one = len(us) == 1
    made = from_arrays(
        us[0] if one else us, ys[0] if one else ys, runs.dt, inputs=inputs, outputs=outputs, name=name
    )
    starts = zip(made.experiments, runs.starts, strict=True)
    return dataclasses.replace(
        made, experiments=tuple(dataclasses.replace(e, t0=start) for e, start in starts)
    )


def _warn(where: str, time: str, doubts: list[str]) -> None:
    for doubt in doubts:
        warnings.warn(f"{where}: time {time!r}: {doubt}", RobustctlWarning, stacklevel=4)


def _warn_of_rare(where: str, record: Record) -> None:
    """Warn of inputs that are mostly interpolated, as those are that a log holds only where they change."""
    known = np.concatenate([e.u_mask for e in record.experiments])
    if known.all():
        return
    lost = 1 - known[np.concatenate([e.y_mask for e in record.experiments]).any(axis=1)].mean(axis=0)
    for name, share in zip(record.inputs, lost, strict=True):
        if share > MOSTLY:
            warnings.warn(
                f"{where}: input {name!r} has no value in {100 * share:.3g} % of the samples that hold an output, and is interpolated "
                f"there; if it is logged only when it changes, give hold={name!r} (--hold)",
                RobustctlWarning,
                stacklevel=4,
            )


def _labels(
    names: list[str], sources: list[str], given: Mapping[str, str], found: Mapping[str, str]
) -> list[str]:
    return [
        given.get(name, given.get(source, found.get(source, "")))
        for name, source in zip(names, sources, strict=True)
    ]
