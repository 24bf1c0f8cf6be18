"""Scores of a model on the parts of a record, for `scores.json`."""

import dataclasses
from typing import Any

from ..data import Record
from ..data.edit import cut
from ..train import RecordModel
from .pieces import held_from
from .scores import ChannelScores, channel_scores
from .simulate import Simulation, simulated


def record_scores(model: RecordModel, record: Record, held: float, test: Record | None) -> dict[str, Any]:
    """Return the scores on the training part, the validation part and the test record, None for a part that there is not."""
    run = simulated(model, record)
    cuts = [held_from(e.samples, held) for e in record.experiments]
    parts = {
        "training": _part(run, [(0, c) for c in cuts], run.skipped),
        "validation": _part(run, [(c, e.samples) for c, e in zip(cuts, record.experiments, strict=True)], 0),
        "test": None if test is None else _named(test, simulated(model, test).scores()),
    }
    return parts


def _part(run: Simulation, edges: list[tuple[int, int]], skipped: int) -> dict[str, Any] | None:
    record = run.record
    long = [
        (e, y, a, b)
        for (a, b), e, y in zip(edges, record.experiments, run.y_hat, strict=True)
        if b - a > max(skipped, 1) and a >= run.skipped - skipped
    ]
    if not long:
        return None
    experiments = tuple(cut(e, a, b, record.dt, e.name) for e, _, a, b in long)
    part = dataclasses.replace(record, experiments=experiments)
    return _named(part, channel_scores(part, tuple(y[a:b] for _, y, a, b in long), skipped))


def _named(record: Record, scores: ChannelScores) -> dict[str, Any]:
    values = zip(record.outputs, scores.nrmse.tolist(), scores.fit_percent.tolist(), strict=True)
    outputs = {name: {"nrmse": nrmse, "fit_percent": fit} for name, nrmse, fit in values}
    pooled = scores.pooled_nrmse()
    return {"pooled_nrmse": pooled, "pooled_fit_percent": 100 * (1 - pooled), "outputs": outputs}
