"""The parts of a fit report as lines for a terminal of 100 columns."""

import textwrap
from collections.abc import Iterable

import numpy as np

from ..certificates import Certificate
from ..data import Record
from ..identify import ChannelScores, ResidualCorrelations, Simulation
from ..train import Fit
from .comparison import Comparison

WIDTH = 100
NAMED = 3  # experiments whose names fit on the line
SEEN = (
    "  WARNING       the model was trained on this record, which does not show how well it simulates others"
)
_NAME, _UNIT, _INPUT = 26, 10, 16


def joined(parts: Iterable[list[str]]) -> str:
    """Return the parts with an empty line between them, and lines that are too long wrapped."""
    wrapped = (["\n".join(_wrapped(line)) for line in part] for part in parts if part)
    return "\n\n".join("\n".join(part) for part in wrapped)


def head(model: str, simulation: Simulation, seen: bool) -> list[str]:
    """Return what was simulated, and how; `seen` is True for the training record."""
    record = simulation.record
    count = len(record.experiments)
    names = ", ".join(dict.fromkeys(cut(e.name, _NAME) for e in record.experiments[:NAMED]))
    more = f" and {count - NAMED} more" if count > NAMED else ""
    experiments = f"{count} experiment{'s' * (count > 1)} ({names}{more})"
    named = zip(record.inputs, record.input_units, strict=True)
    inputs = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in named)
    return [
        f"fit report of {model}",
        f"  record        {experiments}, {record.samples} samples, dt = {record.dt:g} s",
        *([SEEN] if seen else []),
        f"  inputs        {inputs}",
        "  simulation    free run",
        f"  initial state {simulation.initial}",
        f"  skipped       {simulation.skipped or 'no'} samples at the start of each experiment",
    ]


def table(record: Record, s: ChannelScores) -> list[str]:
    """Return the scores of each output, one per line, and why some are undefined."""
    titles = f"{'samples':>9}{'RMSE':>13}{'mean error':>13}{'NRMSE':>10}{'fit %':>9}"
    lines = [_cells("output", "unit") + titles]
    columns = s.samples, s.rmse, s.mean_error, s.nrmse, s.fit_percent
    for name, unit, *numbers in zip(record.outputs, record.output_units, *columns, strict=True):
        samples, rmse, mean, nrmse, fit = numbers
        text = f"{samples:>9}{rmse:>13.4g}{mean:>13.4g}{nrmse:>10.4g}{fit:>9.2f}"
        lines.append(_cells(name, unit) + text)
    lines += [f"  {name}: {note}" for name, note in zip(record.outputs, s.notes, strict=True) if note]
    if record.ny > 1:
        defined = int(np.sum(~np.isnan(s.nrmse)))
        lines.append(f"pooled NRMSE over {defined} of {record.ny} outputs: {s.pooled_nrmse():.4g}")
    return lines


def outside_lines(simulation: Simulation) -> list[str]:
    """Return where the record is outside of the range that the model was trained in, one channel per line."""
    if not simulation.outside:
        return []
    return [
        "outside of what the model was trained on",
        *(f"  {departure}" for departure in simulation.outside),
    ]


def comparison_lines(record: Record, fits: np.ndarray, comparison: Comparison | None) -> list[str]:
    """Return each output's fit in percent, here and on the training record: the model's, and that of a linear model."""
    if comparison is None:
        return []
    c = comparison
    lines = [f"{_cells('fit %')}{'here':>9}{'linear':>9}{'trained on':>14}{'linear':>9}"]
    columns = (record.outputs, record.output_units, fits, c.linear, c.trained, c.linear_trained)
    for name, unit, here, linear, trained, there in zip(*columns, strict=True):
        lines.append(f"{_cells(name, unit)}{here:>9.2f}{linear:>9.2f}{trained:>14.2f}{there:>9.2f}")
        if linear > here:
            lines.append(f"  {name}: the linear model is no worse here: give more minutes, or more data")
    if c.kind:
        lines.append(f"  linear: {c.kind}, its start fitted as the model's")
    return lines


def residual_lines(record: Record, c: ResidualCorrelations | None, note: str) -> list[str]:
    """Return the share of lags outside the band for each output, and for its worst input."""
    if c is None:
        return [f"residual correlations: not computed; {note}"]
    lines = [
        f"residual correlations to lag {c.lags[-1]}: share of the lags outside their 99 % band",
        f"{_cells('output')}{'with itself':>22}{'with an input, at most':>32}",
    ]
    for name, own, cross in zip(record.outputs, c.auto_outside(), c.cross_outside(), strict=True):
        worst = "undefined"
        if not np.isnan(cross).all():
            j = int(np.nanargmax(cross))
            worst = f"{cut(record.inputs[j], _INPUT)} {_percent(cross[j]):>9}"
        lines.append(f"{_cells(name)}{_percent(own):>22}{worst:>32}")
    lines.append(
        "  by chance about 1 %; colored noise raises the first, dynamics missing in the model raise both"
    )
    return lines


def training_lines(fit: Fit | None, numbers: dict | None) -> list[str]:
    """Return how the training ended, from the fit and the numbers of its summary."""
    if fit is None or numbers is None:
        return []
    lines = ["training", f"  {fit}", f"  loss at the best epoch {numbers['best_loss']:.4g}"]
    if not np.isnan(numbers["best_validation"]):
        lines[-1] += f", on the validation record {numbers['best_validation']:.4g}"
    lines[-1] += " (of scaled outputs)"
    return lines + ([f"  WARNING       {fit.caution}"] if fit.caution else [])


def certificate_lines(certificate: Certificate | None, note: str) -> list[str]:
    """Return the certificate's text, and a warning where it is for other weights."""
    if certificate is None:
        return []
    return [*str(certificate).splitlines(), *([f"  WARNING       {note}"] if note else [])]


def _cells(name: str, unit: str = "") -> str:
    return f"{cut(name, _NAME):<{_NAME}} {cut(unit, _UNIT):<{_UNIT}}"


def cut(text: str, width: int) -> str:
    """Remove the middle of a text that is too long."""
    # Names differ at their ends as often as at their beginnings.
    tail = width // 3
    return text if len(text) <= width else f"{text[: width - tail - 1]}…{text[-tail:]}"


def _percent(fraction: float) -> str:
    return "undefined" if np.isnan(fraction) else f"{100 * fraction:.1f} %"


def _wrapped(line: str) -> list[str]:
    return [line] if len(line) <= WIDTH else textwrap.wrap(line, WIDTH, subsequent_indent=" " * 16)
