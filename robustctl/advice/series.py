"""One output of an experiment beside the inputs that move, in standard deviations: what linear models are fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data.record import Experiment, Record
from ..data.trend import pooled
from . import channels

FITTED_SHARE = 2 / 3  # of every experiment; the rest chooses and scores


@dataclass(frozen=True, eq=False)
class Series:
    """One output and the inputs that move, of one experiment, each with mean 0 and deviation 1 in the record.

    `u` (T, nu), `y` (T,), and True where measured: `u_ok` (T,), all inputs at once, and `y_ok` (T,).
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
        """True for the samples that no model is fitted to, shape (T,)."""
        return np.arange(len(self.y)) >= FITTED_SHARE * len(self.y)

    def with_inputs(self, extra: np.ndarray) -> Series:
        """Series with further inputs (T, n)."""
        return replace(self, u=np.column_stack([self.u, extra]))


@dataclass(frozen=True, eq=False)
class Standard:
    """Means and standard deviations of the measured samples of a record's inputs or outputs, and which move, (n,) each.

    A channel that stands still has the deviation 1.
    """

    mean: np.ndarray
    std: np.ndarray
    moves: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Scale samples (T, n) to mean 0 and deviation 1 in the record."""
        return (values - self.mean) / self.std


def standard(record: Record, field: str) -> Standard:
    """Return the standard of ``"u"`` or ``"y"``."""
    values, mask = pooled(record, field)
    measured = [v[m] for v, m in zip(values.T, mask.T, strict=True)]
    moves = np.array([not channels.is_still(v) for v in measured])
    std = np.where(moves, [v.std() for v in measured], 1.0)
    return Standard(np.array([v.mean() for v in measured]), std, moves)


def series(experiment: Experiment, output: int, u: Standard, y: Standard) -> Series:
    """Return one output of an experiment and the inputs that move by `u`."""
    moving = u(experiment.u)[:, u.moves], np.all(experiment.u_mask[:, u.moves], axis=1)
    return Series(
        experiment.name, moving[0], y(experiment.y)[:, output], moving[1], experiment.y_mask[:, output]
    )
