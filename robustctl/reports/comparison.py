"""Scores to compare a model's score with: its score on the training record, and that of a linear model."""

import dataclasses

import numpy as np

from ..advice.arx import Arx
from ..advice.baseline import linear_baseline
from ..data import Record
from ..identify import Simulation, simulate
from ..identify.scores import channel_scores
from ..train import FittedModel


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Fits in percent to compare a model's fit with.

    **Arguments:**

    - `trained`: fit of the model on the training record (ny,).
    - `linear`: fit of the ARX models (ny,), on the samples that the model is scored on, from a state fitted to the
      samples before them, as the model's is; NaN where there is none.
    - `models`: the ARX models, fitted to the training record; None where there is none.
    - `seen`: True if the simulated record is the training record.
    """

    trained: np.ndarray
    linear: np.ndarray
    models: tuple[Arx | None, ...]
    seen: bool


def compare_fits(model: FittedModel, trained: Record, simulation: Simulation) -> Comparison:
    """Score a model on its training record, and a linear model on the simulated record.

    **Arguments:**

    - `model`: the model.
    - `trained`: its training record.
    - `simulation`: of the model on the record of the report.

    **Raises:** the errors of `simulate` for the training record.
    """
    seen = trained is simulation.record
    on_trained = (simulation if seen else simulate(model, trained)).scores().fit_percent
    linear = linear_baseline(trained, simulation.record, simulation.skipped)
    scores = channel_scores(simulation.record, linear.y_hat, simulation.skipped).fit_percent
    found = [m is not None for m in linear.models]
    return Comparison(on_trained, np.where(found, scores, np.nan), linear.models, seen)
