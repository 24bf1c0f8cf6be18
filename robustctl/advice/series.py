"""One output of an experiment with the inputs that vary, in standard deviations: the data that linear models are fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..data.record import Experiment, Record
from ..data.trend import pooled
from . import channels

FITTED_SHARE = 2 / 3  # of every experiment; the rest selects and scores
# Samples that show a delay and a play as well as ten times as many do; a window of fewer than FEWEST is mostly a transient.
PILOT, FEWEST = 10_000, 1000


@dataclass(frozen=True, eq=False)
class OutputSeries:
    """One output of one experiment and the inputs that vary, each with mean 0 and deviation 1 in the record.

    **Arguments:**

    - `name`: of the experiment.
    - `u`: inputs (T, nu).
    - `y`: output (T,).
    - `u_ok`: (T,), True where all inputs were measured.
    - `y_ok`: (T,), True where the output was measured.
    """

    name: str
    u: np.ndarray
    y: np.ndarray
    u_ok: np.ndarray
    y_ok: np.ndarray

    @property
    def start(self) -> float:
        """First measured output."""
        return float(self.y[np.argmax(self.y_ok)])

    @property
    def held_out(self) -> np.ndarray:
        """True for the samples that are not used to fit, shape (T,)."""
        return np.arange(len(self.y)) >= FITTED_SHARE * len(self.y)

    def part(self, start: int, stop: int) -> OutputSeries:
        """Samples `start` to `stop` (not included)."""
        cut = slice(start, stop)
        return OutputSeries(self.name, self.u[cut], self.y[cut], self.u_ok[cut], self.y_ok[cut])

    def with_inputs(self, extra: np.ndarray) -> OutputSeries:
        """Series with further inputs (T, n)."""
        return replace(self, u=np.column_stack([self.u, extra]))


@dataclass(frozen=True, eq=False)
class Standard:
    """Means and standard deviations of the measured samples of a record's inputs or outputs, and which vary, (n,) each.

    A constant channel has the deviation 1.
    """

    mean: np.ndarray
    std: np.ndarray
    varies: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Scale samples (T, n) to mean 0 and deviation 1 in the record."""
        return (values - self.mean) / self.std


def standard(record: Record, field: str) -> Standard:
    """Return the means and deviations of ``"u"`` or ``"y"``."""
    values, mask = pooled(record, field)
    measured = [v[m] for v, m in zip(values.T, mask.T, strict=True)]
    varies = np.array([not channels.is_constant(v) for v in measured])
    std = np.where(varies, [v.std() for v in measured], 1.0)
    return Standard(np.array([v.mean() for v in measured]), std, varies)


def series(experiment: Experiment, output: int, u: Standard, y: Standard) -> OutputSeries:
    """Return one output of an experiment and the inputs that vary, scaled by `y` and `u`."""
    u_scaled, u_ok = u(experiment.u)[:, u.varies], np.all(experiment.u_mask[:, u.varies], axis=1)
    return OutputSeries(
        experiment.name, u_scaled, y(experiment.y)[:, output], u_ok, experiment.y_mask[:, output]
    )


def pilot(series: Sequence[OutputSeries], most: int = PILOT) -> list[OutputSeries]:
    """Return all experiments of at most `most` samples in all; of more, those whose output moves most, the last one cut."""
    if sum(len(s.y) for s in series) <= most:
        return list(series)
    chosen, left = [], most
    for s in sorted(series, key=lambda s: -float(np.var(s.y[s.y_ok]))):
        if left >= FEWEST:
            chosen.append(_liveliest(s, min(left, len(s.y))))
            left -= len(s.y)
    return chosen


def _liveliest(s: OutputSeries, length: int) -> OutputSeries:
    """Return the window, of some that overlap, in which the output's squared distances from its mean have the largest sum."""
    starts = np.unique(np.append(np.arange(0, len(s.y) - length, max(length // 4, 1)), len(s.y) - length))
    y, count, squares = (
        np.append(0.0, np.cumsum(x)) for x in (s.y * s.y_ok, s.y_ok.astype(float), s.y**2 * s.y_ok)
    )
    y, count, squares = (x[starts + length] - x[starts] for x in (y, count, squares))
    start = int(starts[np.argmax(squares - y**2 / np.maximum(count, 1))])
    return s.part(start, start + length)
