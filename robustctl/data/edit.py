"""Records made of other records: merged, split, cut into windows, with fewer channels."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..checks import checked_delays, is_whole
from ..errors import DataError, RobustctlWarning
from .record import MIN_SAMPLES, Experiment, Record
from .record_checks import as_names

# A logger prints dt with six digits or more, and after 1e5 samples the time base is off by a tenth of a sample.
DT_TOLERANCE = 1e-6


def merge(*records: Record) -> Record:
    """One record with the experiments of all, in the order given.

    **Raises:** `DataError` for no record, or for sample times (relative difference above 1e-6), names or
    units that differ.
    """
    if not records:
        raise DataError("merge needs at least one record, got none")
    first = records[0]
    for other in records[1:]:
        if not math.isclose(first.dt, other.dt, rel_tol=DT_TOLERANCE):
            raise DataError(
                f"mixed sample times: dt = {first.dt!r} s and dt = {other.dt!r} s; records to merge must share "
                "dt, so resample one of them"
            )
        for field, one, another in (
            ("inputs", first.inputs, other.inputs),
            ("outputs", first.outputs, other.outputs),
            ("input_units", first.input_units, other.input_units),
            ("output_units", first.output_units, other.output_units),
        ):
            if one != another:
                raise DataError(f"records to merge must share their {field}: {one} and {another} differ")
    return dataclasses.replace(
        first,
        experiments=tuple(e for record in records for e in record.experiments),
        guesses=tuple(dict.fromkeys(guess for record in records for guess in record.guesses)),
    )


def cut(experiment: Experiment, start: int, stop: int, dt: float, name: str | None = None) -> Experiment:
    """Samples `start` to `stop` (not included) of an experiment, at their times in it."""
    part = slice(start, stop)
    return Experiment(
        experiment.u[part],
        experiment.y[part],
        experiment.u_mask[part],
        experiment.y_mask[part],
        experiment.t0 + start * dt,
        experiment.name if name is None else name,
    )


def split(record: Record, fractions: Sequence[float] = (0.6, 0.2, 0.2)) -> tuple[Record, ...]:
    """Records for training, validation and test, cut in time order inside every experiment.

    **Arguments:**

    - `record`: the record to cut; nothing is shuffled, so later pieces are later in time.
    - `fractions`: share of each piece, each > 0, summing to 1.

    **Raises:** `DataError` for other fractions, or when a piece of an experiment has fewer than two samples.

    **Example:** ::

        u = np.sin(0.1 * np.arange(100.0))
        train, validation, test = rc.data.split(rc.data.from_arrays(u, u**2, 0.1))
    """
    # Edges are rounded, not piece lengths, so that no sample is lost or used twice.
    edges = np.concatenate([[0.0], np.cumsum(_fractions(fractions))])
    pieces: list[list[Experiment]] = [[] for _ in fractions]
    for experiment in record.experiments:
        cuts = np.rint(edges * experiment.samples).astype(int)
        for index, (start, stop) in enumerate(pairwise(cuts)):
            if stop - start < MIN_SAMPLES:
                raise DataError(
                    f"experiment {experiment.name!r} with {experiment.samples} samples is too short to split "
                    f"by {tuple(fractions)}: piece {index} has {stop - start}, at least {MIN_SAMPLES} needed"
                )
            pieces[index].append(cut(experiment, int(start), int(stop), record.dt))
    return tuple(dataclasses.replace(record, experiments=tuple(piece)) for piece in pieces)


def _fractions(fractions: Sequence[float]) -> np.ndarray:
    try:
        shares = np.asarray(fractions, np.float64)
    except (TypeError, ValueError):
        shares = np.array([np.nan])
    # 1e-6: thirds and the like, written with six digits, sum to 1 within this.
    if shares.ndim != 1 or not len(shares) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise DataError(f"fractions must be numbers > 0 that sum to 1, got {fractions!r}")
    return shares


def windows(record: Record, length: int, stride: int) -> Record:
    """Record whose experiments are windows of equal length, cut every `stride` samples.

    Samples after the last whole window are left out; so are experiments shorter than `length`, with a
    RobustctlWarning. A window is called ``name@start``, start in samples.

    **Arguments:**

    - `record`: the record to cut; the windows share its memory.
    - `length`: samples per window, >= 2.
    - `stride`: samples from one start to the next, >= 1; below `length` the windows overlap.

    **Raises:** `DataError` for other numbers, or when every experiment is shorter than `length`.
    """
    for name, value, least in (("length", length, MIN_SAMPLES), ("stride", stride, 1)):
        if not is_whole(value, least):
            raise DataError(f"{name} must be an integer number of samples >= {least}, got {value!r}")
    long = [experiment for experiment in record.experiments if experiment.samples >= length]
    if not long:
        most = max(experiment.samples for experiment in record.experiments)
        raise DataError(
            f"at least one experiment must be as long as the window of {length} samples, the longest "
            f"has {most}; give a shorter window"
        )
    short = len(record.experiments) - len(long)
    if short:
        warnings.warn(
            f"{short} of {len(record.experiments)} experiments are shorter than {length} samples and are left out",
            RobustctlWarning,
            stacklevel=2,
        )
    parts = tuple(
        cut(experiment, start, start + length, record.dt, f"{experiment.name}@{start}")
        for experiment in long
        for start in range(0, experiment.samples - length + 1, stride)
    )
    return dataclasses.replace(record, experiments=parts)


def select(
    record: Record, inputs: Sequence[str] | str | None = None, outputs: Sequence[str] | str | None = None
) -> Record:
    """Record with only the named channels, in the order named.

    **Arguments:**

    - `record`: the record to select from.
    - `inputs`: names of the inputs; all when None.
    - `outputs`: names of the outputs; all when None.

    **Raises:** `DataError` for a channel that the record does not have, or named twice.
    """
    u = _positions(record.inputs, inputs, "inputs")
    y = _positions(record.outputs, outputs, "outputs")
    experiments = tuple(
        Experiment(e.u[:, u], e.y[:, y], e.u_mask[:, u], e.y_mask[:, y], e.t0, e.name)
        for e in record.experiments
    )
    return Record(
        experiments,
        record.dt,
        tuple(record.inputs[index] for index in u),
        tuple(record.outputs[index] for index in y),
        tuple(record.input_units[index] for index in u),
        tuple(record.output_units[index] for index in y),
        record.guesses,
    )


def delay(record: Record, samples: int | Sequence[int]) -> Record:
    """Record in which each input acts some samples late: what a model of a plant with dead time reads.

    ::

        u_new[t, j] = u[t - samples[j], j],    y_new[t] = y[t],    t >= max(samples)

    The first `max(samples)` samples of each experiment, for which inputs from before the log would be needed, are left
    out; nothing is invented. A missing sample of an input is missing, and filled in, at its later time.

    **Arguments:**

    - `record`: the record to shift.
    - `samples`: whole numbers of at least 0: one for all inputs, or one for each.

    **Raises:** `RobustctlError` for other delays or another number of them; `DataError` for an experiment that is not at least
    two samples longer than the longest of them.

    **Example:** ::

        u = np.sin(0.1 * np.arange(100.0))
        record = rc.data.delay(rc.data.from_arrays(u, np.roll(u, 3), 0.1), 3)
        print(record.samples, np.abs(record.experiments[0].u - record.experiments[0].y).max())
    """
    delays = checked_delays(samples, record.nu)
    most = max(delays)
    for e in record.experiments:
        if e.samples - most < MIN_SAMPLES:
            raise DataError(
                f"a delay must leave at least {MIN_SAMPLES} samples of every experiment, got a delay of {most} samples and "
                f"{e.samples} samples in {e.name!r}; use a shorter delay or a longer record"
            )
    experiments = (
        tuple(_delayed(e, delays, record.dt) for e in record.experiments) if most else record.experiments
    )
    return dataclasses.replace(record, experiments=experiments)


def _delayed(experiment: Experiment, delays: tuple[int, ...], dt: float) -> Experiment:
    most = max(delays)
    rows = np.arange(most, experiment.samples)[:, None] - np.asarray(delays)
    columns = np.arange(len(delays))
    rest = cut(experiment, most, experiment.samples, dt)
    return dataclasses.replace(rest, u=experiment.u[rows, columns], u_mask=experiment.u_mask[rows, columns])


def _positions(have: tuple[str, ...], names: Sequence[str] | str | None, kind: str) -> list[int]:
    wanted = have if names is None else as_names(names, kind)
    unknown = [name for name in wanted if name not in have]
    if unknown or not wanted:
        raise DataError(f"{kind} to select must be among {have}, got {wanted}")
    return [have.index(name) for name in wanted]
