"""The report's numbers as rows with one column per controller."""

import math
from typing import NamedTuple

from .analysis import Analysis, Findings
from .worst_case import RANDOMS

_WIDEST = 40
_MARGINS = (
    ("gain may rise by", "dB", "gain_up", 1),
    ("gain may fall by", "dB", "gain_down", -1),
    ("phase margin", "deg", "phase", 1),
    ("crossover", "rad/s", "crossover", 1),
    ("disk margin", "", "disk", 1),
    ("disk: gain either way", "dB", "disk_gain", 1),
    ("disk: phase either way", "deg", "disk_phase", 1),
)


class TableRow(NamedTuple):
    """A quantity in its unit with a value for each controller; NaN or None if undefined."""

    group: str
    name: str
    unit: str
    values: tuple[float | None, ...]


def rows(report: Findings) -> list[TableRow]:
    """Return all rows of the table."""
    return [*_task(report), *_steps(report), *_margins(report), *_robustness(report), *_gains(report)]


def _task(report: Findings) -> list[TableRow]:
    runs = [a.episodes for a in report.loops.values() if a.episodes is not None]
    if not runs:
        return []
    effort = [
        TableRow("task", f"effort: rms of {s.name}", s.unit, tuple(float(e.effort[k]) for e in runs))
        for k, s in enumerate(report.sampled.plant.controls)
    ]
    return [
        TableRow("task", "cost of a sample, mean", "", tuple(e.cost for e in runs)),
        TableRow("task", "cost of a sample, worst episode", "", tuple(e.worst for e in runs)),
        TableRow("task", "episodes that stayed in bounds", "%", tuple(100 * e.stayed for e in runs)),
        *effort,
        TableRow("task", "time with a control at its limit", "%", tuple(100 * e.saturated for e in runs)),
    ]


def _steps(report: Findings) -> list[TableRow]:
    loops = list(report.loops.values())
    plant, made = report.sampled.plant, []
    for k, step in enumerate(max((a.steps for a in loops), key=len)):
        group = " ".join(f"step of {step.size:g} {step.unit} in {step.name}".split())
        watched = plant.outputs[step.watched]
        own = [a.steps[k] if a.steps else None for a in loops]
        # The first steps are those of the set points. A disturbance's response returns to zero, so it has no overshoot.
        if k < len(plant.outputs):
            made.append(TableRow(group, "overshoot", "%", tuple(s and s.overshoot for s in own)))
        else:
            made.append(
                TableRow(group, f"largest {watched.name}", watched.unit, tuple(s and s.peak for s in own))
            )
        made.append(TableRow(group, f"final {watched.name}", watched.unit, tuple(s and s.final for s in own)))
        made.append(TableRow(group, "settling time", "s", tuple(s and s.settling for s in own)))
    return made


def _margins(report: Findings) -> list[TableRow]:
    plant, loops = report.sampled.plant, list(report.loops.values())
    made = _opened_at([s.name for s in plant.controls], [a.inputs for a in loops])
    if len(plant.controls) > 1:
        made.append(_together("controls", [a.disk_inputs for a in loops]))
    if len(plant.controls) > 1 or len(plant.outputs) > 1:  # else they are the same
        made += _opened_at([s.name for s in plant.outputs], [a.outputs for a in loops])
    if len(plant.outputs) > 1:
        made.append(_together("outputs", [a.disk_outputs for a in loops]))
    return made


def _opened_at(names: list[str], found: list) -> list[TableRow]:
    """Return the rows of each channel; `found` has the margins of each loop, () for a loop without."""
    return [
        TableRow(
            f"margins at {name}",
            label,
            unit,
            tuple(sign * m[k]._asdict()[field] if m else None for m in found),
        )
        for k, name in enumerate(names)
        for label, unit, field, sign in _MARGINS
    ]


def _together(what: str, disks: list[float | None]) -> TableRow:
    return TableRow(f"margins at all {what} at once", "disk margin, at least", "", tuple(disks))


def _robustness(report: Findings) -> list[TableRow]:
    loops: list[Analysis] = list(report.loops.values())
    what = "peak of" if len(report.sampled.plant.outputs) == 1 else "largest singular value of"
    return [
        TableRow(
            "robustness", f"{what} sensitivity S", "", tuple(a.peaks and a.peaks.sensitivity for a in loops)
        ),
        TableRow(
            "robustness",
            f"{what} complementary T",
            "",
            tuple(a.peaks and a.peaks.complementary for a in loops),
        ),
    ]


def _gains(report: Findings) -> list[TableRow]:
    if not report.sampled.plant.disturbances:
        return []
    loops, group, unit = list(report.loops.values()), "gain from disturbance to output", report.gain_unit
    found = [a.worst for a in loops]
    return [
        TableRow(group, "certified: none is larger", unit, tuple(a.certified.gain for a in loops)),
        TableRow(group, "H-infinity norm of the linearization", unit, tuple(a.hinf for a in loops)),
        TableRow(group, "worst disturbance found", unit, tuple(w and w.gain for w in found)),
        TableRow(
            group,
            f"largest of {RANDOMS} random ones, same energy",
            unit,
            tuple(w and float(w.random_gains.max()) for w in found),
        ),
    ]


def shown(value: float | None) -> str:
    """Return a number as text with four digits."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4g}".replace("inf", "∞")


def text_table(table: list[TableRow], names: list[str]) -> str:
    """Return rows as text, with a heading for each group."""
    width = max([12, *(len(name) + 2 for name in names)])
    lines, group = [" " * (_WIDEST + 14) + "".join(f"{name:>{width}}" for name in names)], ""
    for row in table:
        if row.group != group:
            group = row.group
            lines.append(group)
        lines.append(
            f"  {row.name:<{_WIDEST}}{row.unit:<12}" + "".join(f"{shown(v):>{width}}" for v in row.values)
        )
    return "\n".join(lines)
