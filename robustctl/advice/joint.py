"""One linear model of all outputs: it has states enough for plants of many modes, at which ARX models of single outputs end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..linear.choose import fit, lowest, parts
from ..linear.delays import delayed
from ..linear.series import Series, output_nrmse, pooled

ORDERS = (1, 2, 3, 4, 6, 8, 12, 18, 28)
"""From 4 on each adds about a half: the free run of a model changes little between neighbors."""

SCORED = 10_000
"""Most samples of an experiment that select and score: an NRMSE is known to about one per cent then."""


class Joint(NamedTuple):
    """The best linear model of all outputs.

    - `order`: number of its states, without those of the delays.
    - `nrmse`: of each output, (ny,); NaN where the output is constant.
    """

    order: int
    nrmse: np.ndarray


def joint_model(experiments: Sequence[Series], delays: Sequence[int]) -> Joint | None:
    """Return the order and the errors of a linear model by a subspace method, None where the samples are too few.

    Each order is fitted to the first two thirds of every experiment; the last thirds select one and score it.

    **Arguments:**

    - `experiments`: in scaled signals that vary
    - `delays`: of each input, samples
    """
    try:
        training, rest = parts([delayed(e, delays) for e in experiments])
        models, _, _ = fit(training, [(n, False) for n in ORDERS])
    except DataError:
        return None
    rest = [e.part(0, SCORED) for e in rest]
    scores = {kind: output_nrmse(model, rest) for kind, model in models.items()}
    best = lowest({kind: pooled(each) for kind, each in scores.items()})
    return Joint(best[0], scores[best])
