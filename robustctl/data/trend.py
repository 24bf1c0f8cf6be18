"""Offsets and straight-line trends, subtracted from a record and added back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import DataError
from .record import Experiment, Record

Kind = Literal["mean", "linear"]


@dataclass(frozen=True, eq=False)
class Trend:
    """Straight lines ``offset + slope * t`` of every channel, with the record's time t in seconds.

    **Arguments:**

    - `kind`: ``"mean"`` (all slopes zero) or ``"linear"``.
    - `u_offset`: shape (1, nu) when one line applies to every experiment, else (experiments, nu).
    - `u_slope`: the same shape, units per second.
    - `y_offset`: shape (1, ny) or (experiments, ny).
    - `y_slope`: the same shape, units per second.
    """

    kind: Kind
    u_offset: np.ndarray
    u_slope: np.ndarray
    y_offset: np.ndarray
    y_slope: np.ndarray

    def lines(self, record: Record, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Trend of experiment `index` at its own sample times: (T, nu) and (T, ny).

        **Raises:** `DataError` when channels or the number of experiments differ from what the trend was
        fitted to.
        """
        fitted = len(self.u_offset)
        given = record.nu, record.ny
        if given != (self.u_offset.shape[1], self.y_offset.shape[1]):
            raise DataError(
                f"the record must have the trend's {self.u_offset.shape[1]} inputs and {self.y_offset.shape[1]} outputs, "
                f"got {given[0]} and {given[1]}"
            )
        if fitted not in (1, len(record.experiments)):
            raise DataError(
                f"the record must have one experiment for each of the trend's {fitted} lines, got "
                f"{len(record.experiments)}; fit kind='mean', whose line applies to any number"
            )
        row = index if fitted > 1 else 0
        t = record.time(index)[:, None]
        return self.u_offset[row] + self.u_slope[row] * t, self.y_offset[row] + self.y_slope[row] * t


def detrend(record: Record, kind: Kind = "mean", reference: Trend | None = None) -> tuple[Record, Trend]:
    """Subtract the mean or the least-squares line from every channel.

    ``"mean"`` pools the measured samples of all experiments into one offset per channel. ``"linear"`` fits
    offset and slope for each experiment separately, over its measured samples and in its own time, so that a
    line fitted to the first part of a `split` continues into the later parts.

    **Arguments:**

    - `record`: the record to detrend.
    - `kind`: ``"mean"`` or ``"linear"``.
    - `reference`: a trend found earlier, for example on the training part; it replaces `kind`.

    **Returns:** The record without the trend, and the trend.

    **Raises:** `DataError` for another kind, a channel with no measured sample (two for a line), or a
    reference that does not fit.
    """
    trend = _fit(record, kind) if reference is None else reference
    return _shift(record, trend, -1.0), trend


def retrend(record: Record, trend: Trend) -> Record:
    """Add back the trend that `detrend` subtracted.

    **Raises:** `DataError` when the trend does not fit the record.
    """
    return _shift(record, trend, 1.0)


def _shift(record: Record, trend: Trend, sign: float) -> Record:
    experiments = []
    for index, experiment in enumerate(record.experiments):
        u, y = trend.lines(record, index)
        moved = dataclasses.replace(experiment, u=experiment.u + sign * u, y=experiment.y + sign * y)
        experiments.append(moved)
    return dataclasses.replace(record, experiments=tuple(experiments))


def _fit(record: Record, kind: Kind) -> Trend:
    if kind not in ("mean", "linear"):
        raise DataError(f"kind must be 'mean' or 'linear', got {kind!r}")
    find = _means if kind == "mean" else _lines
    return Trend(kind, *find(record, "u", record.inputs), *find(record, "y", record.outputs))


def _means(record: Record, field: str, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    values, mask = pooled(record, field)
    _require(mask.sum(axis=0), 1, names, "the record")
    offset = np.mean(values, axis=0, where=mask)[None]
    return offset, np.zeros_like(offset)


def _lines(record: Record, field: str, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    lines = [
        _line(record.time(index), experiment, field, names)
        for index, experiment in enumerate(record.experiments)
    ]
    return np.array([line[0] for line in lines]), np.array([line[1] for line in lines])


def _line(t: np.ndarray, experiment: Experiment, field: str, names: tuple[str, ...]):
    values, mask = experiment.signal(field)
    _require(mask.sum(axis=0), 2, names, f"experiment {experiment.name!r}")
    # Centered times keep the fit well conditioned when t0 is a clock time.
    times = np.broadcast_to(t[:, None], values.shape)
    middle, level = np.mean(times, axis=0, where=mask), np.mean(values, axis=0, where=mask)
    centered = times - middle
    slope = np.sum(centered * (values - level), axis=0, where=mask) / np.sum(centered**2, axis=0, where=mask)
    return level - slope * middle, slope


def _require(counts: np.ndarray, least: int, names: tuple[str, ...], where: str) -> None:
    if (counts < least).any():
        name = names[int(np.argmin(counts))]
        raise DataError(
            f"{where}: channel {name!r} must have {least} measured sample(s) or more, got {counts.min()}"
        )


def pooled(record: Record, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and mask of ``"u"`` or ``"y"`` of all experiments, one after the other: (samples, n) each."""
    values, masks = zip(*(experiment.signal(field) for experiment in record.experiments), strict=True)
    return np.concatenate(values), np.concatenate(masks)
