"""What stands beside a model's score: its score on the record it was trained on, and that of a linear model."""

import dataclasses

import numpy as np

from ..advice.arx import Arx
from ..advice.baseline import linear_baseline
from ..data import Record
from ..identify import Simulation, simulate
from ..identify.scores import channel_scores
from ..train import FittedModel


@dataclasses.dataclass(frozen=True)
class Alongside:
    """Fits in percent, arrays (ny,): `trained` of the model on the record it was trained on, `linear` of ARX models.

    The ARX models, `models`, were fitted to the record trained on, and are scored on the samples that the model is
    scored on; None and NaN where there is none. `seen`: whether the record trained on is the one simulated.
    """

    trained: np.ndarray
    linear: np.ndarray
    models: tuple[Arx | None, ...]
    seen: bool


def beside(model: FittedModel, trained: Record, simulation: Simulation) -> Alongside:
    """Score a model on the record it was trained on, and a linear model where the model was simulated.

    **Raises:** as `simulate`, of the record trained on.
    """
    seen = trained is simulation.record
    on_trained = (simulation if seen else simulate(model, trained)).scores().fit_percent
    linear = linear_baseline(trained, simulation.record)
    scores = channel_scores(simulation.record, linear.y_hat, simulation.skipped).fit_percent
    found = [m is not None for m in linear.models]
    return Alongside(on_trained, np.where(found, scores, np.nan), linear.models, seen)
