"""Records from log files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, RobustctlWarning
from ..arrays import from_arrays
from ..edit import merge
from ..record import Record
from ..record_checks import as_names, check_dt, check_names, refuse_infinite
from ..resample import clock_drift, to_grid
from .blocks import block, check_columns, check_lengths, stack
from .formats import as_format, load
from .request import Format, Wanted


def read(
    path: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    inputs: str | Sequence[str],
    outputs: str | Sequence[str],
    dt: float | None = None,
    time: str | None = None,
    format: str | Format | None = None,
    units: Mapping[str, str] | None = None,
) -> Record:
    r"""Record from a log file, or from several files with one experiment each.

    csv, txt, tsv: a header row, then numbers with a decimal point; separated by commas, semicolons, tabs or
    spaces; empty cells are missing samples; lines that start with ``#`` are skipped. parquet: columns. mat:
    variables, ``a/b`` for field b of struct a. h5, hdf5: datasets by path. npz: named arrays. An array is
    (T,), (T, 1), (1, T), or (T, k) for k channels called ``name[0]``, ``name[1]``, ...

    **Arguments:**

    - `path`: file, or files of experiments with the same channels.
    - `inputs`: names of columns, variables or datasets.
    - `outputs`: names of columns, variables or datasets.
    - `dt`: sample time, seconds. With `time` as well, stamps off its grid are resampled to it (`resample`),
      with a RobustctlWarning when they drift from it or their steps change (`clock_drift`).
    - `time`: column of time stamps, seconds. Alone, it must be uniform within 1e-3 of a step; steps that the
      log skips become missing samples.
    - `format`: ``"csv"``, ``"parquet"``, ``"mat"``, ``"hdf5"`` or ``"npz"``; from the file's suffix when
      None. A `Format` also holds how a text file is written.
    - `units`: unit labels by channel name.

    **Raises:** `DataError` for a file that is absent, damaged or of an unknown format; columns that are
    missing, given twice or not numeric; neither `dt` nor `time`; time stamps that repeat or decrease; anything
    that `Record` refuses.

    **Example:** ::

        open("log.csv", "w").write("t,torque,speed\n0.0,1,0\n0.1,1,0.5\n0.2,0,0.7\n")
        record = rc.data.read("log.csv", inputs="torque", outputs="speed", time="t")
    """
    paths = list(path) if isinstance(path, list | tuple) else [path]
    if not paths:
        raise DataError("path must name at least one file, got none")
    inputs, outputs = as_names(inputs, "inputs"), as_names(outputs, "outputs")
    check_names(inputs, outputs)
    if dt is None and time is None:
        raise DataError("a record needs a sample time: give dt= (seconds) or time= (column of time stamps)")
    if time is not None and (not isinstance(time, str) or time in inputs + outputs):
        raise DataError(f"time must name a column that is neither an input nor an output, got {time!r}")
    dt = None if dt is None else check_dt(dt)
    labels, form = _units(units), as_format(format)
    wanted = Wanted((*inputs, *outputs, *(() if time is None else (time,))), time, form)
    records = []
    for one in paths:
        file = _file(one)
        try:
            records.append(_read_one(file, wanted, inputs, outputs, dt, labels))
        except OSError as error:
            raise DataError(f"{file}: cannot be opened: {error.strerror or error}") from error
        except MemoryError as error:
            raise DataError(f"{file}: it does not fit in memory") from error
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
    _all_units_used(labels, records[0])
    return merge(*records)


def _file(path) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise DataError(f"path must be a file name or a list of them, got {path!r}")
    try:
        file = Path(path)
        found, folder = file.is_file(), file.is_dir()
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"path {path!r} cannot be opened: {error}") from error
    if not found:
        raise DataError(f"{file}: there is no such file" + (", it is a folder" if folder else ""))
    return file


def _units(units: Mapping[str, str] | None) -> dict[str, str]:
    if units is None:
        return {}
    texts = [text for pair in units.items() for text in pair] if isinstance(units, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"units must map channel names to labels, got {units!r}")
    return dict(units)


def _all_units_used(units: dict[str, str], record: Record) -> None:
    channels = record.inputs + record.outputs
    unknown = [name for name in units if name not in channels and not any(_base(c) == name for c in channels)]
    if unknown:
        raise DataError(f"units must be given for channels of {channels}, got {unknown}")


def _base(channel: str) -> str:
    return channel.rpartition("[")[0] or channel


def _read_one(
    file: Path,
    wanted: Wanted,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    dt: float | None,
    units: dict[str, str],
) -> Record:
    found, time = load(file, wanted), wanted.time
    check_columns(wanted.names, found.available, found.arrays)
    blocks = {name: block(found.arrays[name], name) for name in wanted.names}
    check_lengths(blocks)
    u_names, u_sources, u = stack(blocks, inputs, found.names)
    y_names, y_sources, y = stack(blocks, outputs, found.names)
    values, t0 = np.concatenate([u, y], axis=1), 0.0
    refuse_infinite(values, u_names + y_names)
    if time is not None:
        if blocks[time].shape[1] != 1:
            raise DataError(f"time {time!r} must be one column, got shape {blocks[time].shape}")
        try:
            drift = "" if dt is None else clock_drift(blocks[time][:, 0], dt)
            dt, t0, values = to_grid(blocks[time][:, 0], values, dt)
        except DataError as error:
            raise DataError(f"time {time!r}: {error}") from error
        if drift:
            _warn_of_drift(f"{file}: time {time!r}", drift)
    return from_arrays(
        values[:, : len(u_names)],
        values[:, len(u_names) :],
        check_dt(dt),
        inputs=u_names,
        outputs=y_names,
        input_units=_labels(u_names, u_sources, units, found.units),
        output_units=_labels(y_names, y_sources, units, found.units),
        t0=t0,
        name=file.stem,
    )


def _warn_of_drift(where: str, drift: str) -> None:
    warnings.warn(
        f"{where}: the stamps drift: {drift}; the log is resampled as if the stamps were correct. If the rows were sampled "
        "evenly and the clock is wrong, give dt= without time=",
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
