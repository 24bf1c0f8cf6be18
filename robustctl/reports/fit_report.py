"""How well a model simulates a record, correlations of its residuals, and its certificate."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from .. import plot
from ..certificates import Certificate, weights_sha256
from ..data import Record
from ..errors import DataError
from ..identify import ChannelScores, ResidualCorrelations, Simulation, residual_correlations, simulate
from ..store.json_text import finite, json_text
from ..train import Fit, RecordModel
from ..train.record_model import check_fitted
from .comparison import Comparison, compare_fits
from .folder import png, write_folder
from .text import (
    certificate_lines,
    comparison_lines,
    head,
    joined,
    outside_lines,
    residual_lines,
    table,
    training_lines,
)

FORMAT = 2  # of report.json
FILES = ("report.txt", "report.json", "certificate.json", "compare.png", "residuals.png", "training.png")


@dataclasses.dataclass(frozen=True)
class FitReport:
    """The result of `fit_report`; `print` it, or `save` it to a folder.

    **Arguments:**

    - `simulation`: the free run that is scored.
    - `scores`: of each output.
    - `correlations`: of its residuals, None where they could not be computed.
    - `correlations_note`: why they could not, or an empty string.
    - `model`: its description.
    - `fit`: as given to `fit_report`.
    - `certificate`: as given to `fit_report`.
    - `certificate_note`: a warning where the certificate is for other weights, or an empty string.
    - `comparison`: scores to compare with, None unless `fit_report` was given the training record.
    """

    simulation: Simulation
    scores: ChannelScores
    correlations: ResidualCorrelations | None
    correlations_note: str
    model: str
    fit: Fit | None
    certificate: Certificate | None
    certificate_note: str
    comparison: Comparison | None = None

    def __str__(self) -> str:
        """Return the report as text of at most 100 columns."""
        record = self.simulation.record
        return joined(
            [
                head(self.model, self.simulation, seen=self.comparison is not None and self.comparison.seen),
                table(record, self.scores),
                outside_lines(self.simulation),
                comparison_lines(record, self.scores.fit_percent, self.comparison),
                residual_lines(record, self.correlations, self.correlations_note),
                training_lines(self.fit, _training(self.fit)),
                certificate_lines(self.certificate, self.certificate_note),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON; one that is undefined or not finite becomes None."""
        record, c = self.simulation.record, self.correlations
        return finite(
            {
                "format": FORMAT,
                "model": self.model,
                "simulation": "free run",
                "initial_state": self.simulation.initial,
                "skipped_samples": self.simulation.skipped,
                "dt": record.dt,
                "inputs": record.inputs,
                "experiments": len(record.experiments),
                "trained_on_this": self.comparison.seen if self.comparison else None,
                "samples": record.samples,
                "pooled_nrmse": self.scores.pooled_nrmse(),
                "outputs": [_output(self, i) for i in range(record.ny)],
                "outside": [dataclasses.asdict(departure) for departure in self.simulation.outside],
                "residuals": {
                    "max_lag": None if c is None else int(c.lags[-1]),
                    "note": self.correlations_note,
                },
                "training": _training(self.fit),
                "certificate": _certificate(self.certificate, self.certificate_note),
            }
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write report.txt, report.json, certificate.json and the figures; return the files written.

        Each file is written whole or not at all. Files of an earlier report that this one does not have
        are removed; other files are not touched.

        **Raises:** `RobustctlError` where `folder` is a file.
        """
        return write_folder(folder, _contents(self), FILES)


def fit_report(
    model: RecordModel,
    record: Record,
    *,
    fit: Fit | None = None,
    certificate: Certificate | None = None,
    trained_on: Record | None = None,
    linear: RecordModel | None = None,
    max_lag: int = 25,
) -> FitReport:
    """Simulate a model on a record in free run, score it, and collect its training summary and certificate.

    **Arguments:**

    - `model`: the model to report on.
    - `record`: to simulate; preferably one that was not used in training.
    - `fit`: the result of `rc.fit`, for the training summary.
    - `certificate`: of the model's parameterization or system.
    - `trained_on`: the training record, to report the model's score on it, and those of a linear model.
    - `linear`: that linear model; None: `rc.identify.subspace` of the training record.
    - `max_lag`: largest lag of the residuals' correlations, samples.

    **Raises:** `DataError` for a record that does not fit the model or has no sample to score;
    `RobustctlError` for a model that is not a `RecordModel`. A record too short for correlations is no error.

    **Example:** ::

        u = rc.data.multisine(200)
        record = rc.data.from_arrays(u, np.roll(u, 1), 0.1)
        model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=4, ny=1, hidden=(4,), key=jax.random.key(0))
        fitted = rc.fit(model, record, epochs=2, key=jax.random.key(1))
        print(rc.fit_report(fitted.model, record, fit=fitted, certificate=rc.certify(fitted.model)))
    """
    check_fitted(model)
    simulation = simulate(model, record)
    scores = simulation.scores()
    try:
        correlations, note = residual_correlations(simulation, max_lag), ""
    except DataError as error:
        correlations, note = None, str(error)
    # Equal to the last bit: a certificate of nearly the same weights proves nothing of these.
    about = "" if certificate is None else _weights_note(model, certificate)
    compared = None if trained_on is None else compare_fits(model, trained_on, simulation, linear)
    return FitReport(
        simulation, scores, correlations, note, _described(model), fit, certificate, about, compared
    )


def _described(model: RecordModel) -> str:
    arrays = jax.tree.leaves(eqx.filter(model.parameterization, eqx.is_inexact_array))
    count = sum(a.size for a in arrays)
    return f"{model.parameterization.label}, {count} trained numbers, {model.dtype}"


def _weights_note(model: RecordModel, certificate: Certificate) -> str:
    systems = model.parameterization.explicit(), model.explicit()
    if certificate.weights_sha256 in [weights_sha256(system) for system in systems]:
        return ""
    return "it is for weights that differ from this model's (another model, dtype or machine); certify this model"


def _output(r: FitReport, i: int) -> dict[str, Any]:
    record, s, c = r.simulation.record, r.scores, r.correlations
    outside = None
    if c is not None:
        cross = zip(record.inputs, c.cross_outside()[i].tolist(), strict=True)
        outside = {"with_itself": float(c.auto_outside()[i]), "with_input": dict(cross)}
    compared = {"fit_percent_trained": None, "fit_percent_linear": None, "fit_percent_linear_trained": None}
    if r.comparison is not None:
        compared = {
            "fit_percent_trained": r.comparison.trained[i],
            "fit_percent_linear": r.comparison.linear[i],
            "fit_percent_linear_trained": r.comparison.linear_trained[i],
        }
    return compared | {
        "name": record.outputs[i],
        "unit": record.output_units[i],
        "samples": int(s.samples[i]),
        "rmse": float(s.rmse[i]),
        "mean_error": float(s.mean_error[i]),
        "nrmse": float(s.nrmse[i]),
        "fit_percent": float(s.fit_percent[i]),
        "note": s.notes[i],
        "residual_lags_outside": outside,
    }


def _training(fit: Fit | None) -> dict[str, Any] | None:
    if fit is None:
        return None
    epochs, best = len(fit.history["loss"]), fit.best_epoch

    def at_best(name: str) -> float:
        return float(fit.history[name][best]) if 0 <= best < epochs else math.nan

    return {
        "epochs": epochs,
        "best_epoch": best,
        "stopped": fit.stopped,
        "trouble": None if fit.trouble is None else str(fit.trouble),
        "caution": fit.caution,
        "seconds": fit.seconds,
        "best_loss": at_best("loss"),
        "best_validation": at_best("validation"),
    }


def _certificate(certificate: Certificate | None, note: str) -> dict[str, Any] | None:
    """Return the fields without the matrices, which are in certificate.json."""
    if certificate is None:
        return None
    fields = json.loads(certificate.to_json())
    matrices = ("P", "supply", "gain_proof", "rate_proof", "supply_proof")
    return {name: fields[name] for name in fields if name not in matrices} | {"note": note}


def _contents(r: FitReport) -> Iterator[tuple[str, bytes]]:
    yield "report.txt", f"{r}\n".encode()
    yield "report.json", (json_text(r.to_dict(), indent=2) + "\n").encode()
    if r.certificate is not None:
        yield "certificate.json", (r.certificate.to_json() + "\n").encode()
    yield "compare.png", png(plot.compare(r.simulation))
    if r.correlations is not None:
        yield "residuals.png", png(plot.residuals(r.simulation, int(r.correlations.lags[-1])))
    if r.fit is not None and len(r.fit.history["loss"]):
        yield "training.png", png(plot.training(r.fit))
