"""Scores to compare a model's score with: its score on the training record, and that of a linear model."""

import dataclasses

import jax
import numpy as np

from ..advice.baseline import linear_baseline
from ..data import Record
from ..errors import DataError
from ..identify import Simulation, subspace
from ..identify.scores import channel_scores
from ..identify.simulate import simulated
from ..train import RecordModel


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Fits in percent to compare a model's fit with.

    **Arguments:**

    - `trained`: fit of the model on the training record (ny,).
    - `linear`: fit of the linear model (ny,), on the samples that the model is scored on, from a state fitted to the samples
      before them, as the model's is; NaN where there is none.
    - `linear_trained`: fit of the linear model on the training record (ny,).
    - `kind`: the linear model in words, "" where there is none.
    - `seen`: True if the simulated record is the training record.
    """

    trained: np.ndarray
    linear: np.ndarray
    linear_trained: np.ndarray
    kind: str
    seen: bool


def compare_fits(
    model: RecordModel, trained: Record, simulation: Simulation, linear: RecordModel | None
) -> Comparison:
    """Score a model on its training record, and a linear model on both records.

    **Arguments:**

    - `model`: the model.
    - `trained`: its training record.
    - `simulation`: of the model on the record of the report.
    - `linear`: the linear model, None for the subspace model of the training record.

    **Raises:** the errors of `simulate` for the training record.
    """
    seen = trained is simulation.record
    on_trained = (simulation if seen else simulated(model, trained)).scores().fit_percent
    linear = _subspace(trained) if linear is None else linear
    if linear is None:
        return Comparison(on_trained, *_arx(trained, simulation), seen)
    here = _fits(linear, simulation.record, simulation.skipped)
    there = here if seen else _fits(linear, trained, simulation.skipped)
    states = sum(x.size for x in jax.tree.leaves(linear.parameterization.explicit().init_state()))
    kind = f"the subspace model, {states} state{'s' * (states > 1)}"
    return Comparison(on_trained, here, there, kind, seen)


def _arx(trained: Record, simulation: Simulation) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the fits on both records of ARX models, which a record too short for a subspace method may still determine."""
    skipped, records = simulation.skipped, (simulation.record, trained)
    runs = [linear_baseline(trained, record, skipped) for record in records]
    models = runs[0].models
    known = [m is not None for m in models]
    here, there = (
        np.where(known, channel_scores(record, run.y_hat, skipped).fit_percent, np.nan)
        for record, run in zip(records, runs, strict=True)
    )
    orders = ", ".join("none" if m is None else str(m.order) for m in models)
    return here, there, f"ARX models of orders {orders}" if any(known) else ""


def _subspace(record: Record) -> RecordModel | None:
    try:
        return subspace(record).model
    except DataError:
        return None


def _fits(model: RecordModel, record: Record, skipped: int) -> np.ndarray:
    try:
        run = simulated(model, record)
        return channel_scores(record, run.y_hat, max(run.skipped, skipped)).fit_percent
    except DataError:
        return np.full(record.ny, np.nan)
