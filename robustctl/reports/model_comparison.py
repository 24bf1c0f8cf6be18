"""Several models on one record: a table of their scores and a plot of their free runs."""

import dataclasses
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import plot
from ..data import Record
from ..errors import DataError
from ..identify import ChannelScores, Simulation, simulate
from ..pytrees import fields_of
from ..store.json_text import finite, json_text
from ..train import RecordModel
from ..train.record_model import check_fitted
from .folder import png, write_folder
from .text import cut, joined

FORMAT = 1  # of comparison.json
FILES = ("comparison.txt", "comparison.json", "comparison.html", "comparison.png")
_NAME = 26
_SHARED = ("inputs", "outputs", "input_units", "output_units")


@dataclasses.dataclass(frozen=True)
class ModelComparison:
    """The result of `compare_models`; `print` it, or `save` it to a folder.

    **Arguments:**

    - `simulations`: the free run of each model, by its name.
    - `scores`: of each model, on the same samples.
    - `skipped`: first samples of each experiment that are not scored, the most that a model needs for its initial state.
    """

    simulations: Mapping[str, Simulation]
    scores: Mapping[str, ChannelScores]
    skipped: int

    @property
    def record(self) -> Record:
        """The record on which the models are compared."""
        return next(iter(self.simulations.values())).record

    def rows(self) -> list[tuple[str, str, float, float]]:
        """Return output, model, NRMSE and fit in percent, a row for each output and model, and of all outputs pooled."""
        outputs = self.record.outputs
        found = [
            (output, name, float(s.nrmse[i]), float(s.fit_percent[i]))
            for i, output in enumerate(outputs)
            for name, s in self.scores.items()
        ]
        pooled = [(name, s.pooled_nrmse()) for name, s in self.scores.items() if len(outputs) > 1]
        return found + [("all outputs", name, nrmse, 100 * (1 - nrmse)) for name, nrmse in pooled]

    def __str__(self) -> str:
        """Return the table as text of at most 100 columns."""
        titles = f"  {'output':<{_NAME}} {'model':<{_NAME}}{'NRMSE':>12}{'fit %':>10}"
        lines = [
            f"  {cut(output, _NAME):<{_NAME}} {cut(name, _NAME):<{_NAME}}{nrmse:>12.4g}{fit:>10.2f}"
            for output, name, nrmse, fit in self.rows()
        ]
        return joined([self._head(), [titles, *lines]])

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON; one that is undefined or not finite becomes None."""
        names = "output", "model", "nrmse", "fit_percent"
        return finite(
            {
                "format": FORMAT,
                "simulation": "free run",
                "skipped_samples": self.skipped,
                "dt": self.record.dt,
                "samples": self.record.samples,
                "experiments": len(self.record.experiments),
                "scores": [dict(zip(names, row, strict=True)) for row in self.rows()],
            }
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write comparison.txt, .json, .html and .png; return the files written, each whole or not at all.

        **Raises:** `RobustctlError` where `folder` is a file.
        """
        contents = [
            ("comparison.txt", f"{self}\n".encode()),
            ("comparison.json", (json_text(self.to_dict(), indent=2) + "\n").encode()),
            ("comparison.png", png(plot.compare_models(self.simulations))),
            ("comparison.html", self._page().encode()),
        ]
        return write_folder(folder, contents, FILES)

    def _head(self) -> list[str]:
        record, count = self.record, len(self.record.experiments)
        return [
            f"free runs of {len(self.simulations)} model{'s' * (len(self.simulations) > 1)}",
            f"  record        {count} experiment{'s' * (count > 1)}, {record.samples} samples, dt = {record.dt:g} s",
            f"  skipped       {self.skipped or 'no'} samples at the start of each experiment",
        ]

    def _page(self) -> str:
        cells = [(output, name, f"{nrmse:.4g}", f"{fit:.2f}") for output, name, nrmse, fit in self.rows()]
        rows = "\n".join(
            "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in cells
        )
        about = "<br>".join(html.escape(line.strip()) for line in self._head())
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Models compared</title></head>\n'
            f"<body><h1>Models compared</h1>\n<p>{about}</p>\n<table><thead><tr><th>output</th><th>model</th><th>NRMSE</th>"
            f'<th>fit %</th></tr></thead>\n<tbody>{rows}</tbody></table>\n<p><img src="comparison.png" alt="free runs"></p>\n'
            "</body></html>\n"
        )


def compare_models(models: Mapping[str, RecordModel], record: Record) -> ModelComparison:
    """Simulate several models on one record in free run, and score them on the same samples.

    **Arguments:**

    - `models`: by the names to show.
    - `record`: to simulate; preferably one on which no model was trained.

    **Raises:** `DataError` for no model, models whose channels, units or sample times differ, and a record that does not fit
    them; `RobustctlError` for a model that is not a `RecordModel`.

    **Example:** ::

        from robustctl.reports import compare_models

        u = rc.data.multisine(200)
        record = rc.data.from_arrays(u, np.roll(u, 1), 0.1)
        models = {f"order {n}": rc.identify.subspace(record, order=n).model for n in (1, 2)}
        print(compare_models(models, record))
    """
    check_alike(models)
    simulations = {name: simulate(model, record) for name, model in models.items()}
    skipped = max(s.skipped for s in simulations.values())
    simulations = {name: dataclasses.replace(s, skipped=skipped) for name, s in simulations.items()}
    return ModelComparison(simulations, {name: s.scores() for name, s in simulations.items()}, skipped)


def check_alike(models: Mapping[str, RecordModel]) -> None:
    """Raise a `DataError` for models that one record cannot compare, and a `RobustctlError` for one that is no `RecordModel`."""
    if not models:
        raise DataError("models must hold at least one model, got none")
    first, *others = models
    for name, model in models.items():
        check_fitted(model, f"the model {name!r}")
    for name in others:
        one, other = models[first], models[name]
        if not np.isclose(one.dt, other.dt, rtol=1e-6):
            raise DataError(
                f"models to compare must share their sample time: {first!r} has dt = {one.dt:g} s, {name!r} has dt = {other.dt:g} s; "
                "compare them on a record of each sample time"
            )
        for what in _SHARED:
            ours, theirs = fields_of(one)[what], fields_of(other)[what]
            if ours != theirs:
                raise DataError(
                    f"models to compare must share their {what}: {first!r} has {ours}, {name!r} has {theirs}; compare models of "
                    "the same channels"
                )
