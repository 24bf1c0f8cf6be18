"""A linear model of a record: the score that a network has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.record import Record
from .arx import Arx, best_arx
from .series import series, standard


@dataclass(frozen=True, eq=False)
class LinearBaseline:
    """Free run of the best ARX model of each output.

    **Arguments:**

    - `y_hat`: outputs (T, ny) of each experiment in their own units, NaN for an output without a model.
    - `models`: one per output, or None, between channels scaled to mean 0 and deviation 1 in the record of the fit.
    """

    y_hat: tuple[np.ndarray, ...]
    models: tuple[Arx | None, ...]


def linear_baseline(trained: Record, record: Record, head: int = 0) -> LinearBaseline:
    """Fit the best ARX model of each output to one record (`best_arx`), and simulate another record with it.

    The simulation starts in equilibrium at the first measured output, or with `head` from the state that fits the first
    `head` samples best, as a network's initial state is fitted to them. An output has no model where it is constant, has
    too few samples, or where all inputs are constant.
    """
    u, y = standard(trained, "u"), standard(trained, "y")
    y_hat = tuple(np.full(e.y.shape, np.nan) for e in record.experiments)
    models: list[Arx | None] = []
    for i in range(trained.ny):
        logged = [series(e, i, u, y) for e in trained.experiments if e.y_mask[:, i].any()]
        found = best_arx(logged) if logged and y.varies[i] and u.varies.any() else None
        models.append(None if found is None else found[0])
        if found is not None:
            for e, run in zip(record.experiments, y_hat, strict=True):
                run[:, i] = y.mean[i] + y.std[i] * found[0].simulate(series(e, i, u, y), head)
    return LinearBaseline(y_hat, tuple(models))
