"""What stands beside a model's score: its score on the record it was trained on, and that of a linear model."""

import dataclasses

import numpy as np

from ..data import Record
from ..data.arx import Arx
from ..data.baseline import linear_baseline
from ..train import Identified, Simulation, simulate
from ..train.scores import channel_scores


@dataclasses.dataclass(frozen=True)
class Beside:
    """Fits in percent, arrays (ny,): `trained` of the model on the record it was trained on, `linear` of ARX models.

    The ARX models, `models`, were fitted to the record trained on, and are scored on the samples that the model is
    scored on; None and NaN where there is none. `seen`: whether the record trained on is the one simulated.
    """

    trained: np.ndarray
    linear: np.ndarray
    models: tuple[Arx | None, ...]
    seen: bool


def beside(model: Identified, trained: Record, simulation: Simulation) -> Beside:
    """Score a model on the record it was trained on, and a linear model where the model was simulated.

    **Raises:** as `simulate`, of the record trained on.
    """
    seen = trained is simulation.record
    on_trained = (simulation if seen else simulate(model, trained)).scores().fit_percent
    linear = linear_baseline(trained, simulation.record)
    scores = channel_scores(simulation.record, linear.y_hat, simulation.skipped).fit_percent
    found = [m is not None for m in linear.models]
    return Beside(on_trained, np.where(found, scores, np.nan), linear.models, seen)
