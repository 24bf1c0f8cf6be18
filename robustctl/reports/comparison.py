"""Scores to compare a model's score with: its score on the training record, and that of a linear model."""

import dataclasses

import numpy as np

from ..data import Record
from ..errors import DataError
from ..identify import Simulation, simulate, subspace
from ..identify.scores import channel_scores
from ..train import FittedModel


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Fits in percent to compare a model's fit with.

    **Arguments:**

    - `trained`: fit of the model on the training record (ny,).
    - `linear`: fit of the linear model (ny,), on the samples that the model is scored on, from a state fitted to the samples
      before them, as the model's is; NaN where there is none.
    - `linear_trained`: fit of the linear model on the training record (ny,).
    - `states`: number of states of the linear model, None where there is none.
    - `seen`: True if the simulated record is the training record.
    """

    trained: np.ndarray
    linear: np.ndarray
    linear_trained: np.ndarray
    states: int | None
    seen: bool


def compare_fits(
    model: FittedModel, trained: Record, simulation: Simulation, linear: FittedModel | None
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
    on_trained = (simulation if seen else simulate(model, trained)).scores().fit_percent
    linear = _subspace(trained) if linear is None else linear
    if linear is None:
        nothing = np.full(trained.ny, np.nan)
        return Comparison(on_trained, nothing, nothing, None, seen)
    here = _fits(linear, simulation.record, simulation.skipped)
    there = here if seen else _fits(linear, trained, simulation.skipped)
    return Comparison(on_trained, here, there, linear.explicit().init_state().size, seen)


def _subspace(record: Record) -> FittedModel | None:
    try:
        return subspace(record).model
    except DataError:
        return None


def _fits(model: FittedModel, record: Record, skipped: int) -> np.ndarray:
    try:
        run = simulate(model, record)
        return channel_scores(record, run.y_hat, max(run.skipped, skipped)).fit_percent
    except DataError:
        return np.full(record.ny, np.nan)
