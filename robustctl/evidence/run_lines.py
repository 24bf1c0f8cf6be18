"""Lines about a run folder: its data, whether the training was repeated, and its fit report."""

import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import robustctl

from ..data import Record
from ..errors import DataError, RobustctlError, RobustctlWarning
from ..identify import simulate
from ..runs.repetition import again, compared
from ..runs.run_folder import LOG, SETTINGS
from ..store.entries import entry
from ..store.json_text import parse_object
from .line import Line, State
from .models import Loaded

TOLERANCE = 1e-3
"""Relative difference of scores: a simulation in float32 has other last digits on another machine."""


class Again(NamedTuple):
    """What the command of a run reads, read again and found unchanged.

    **Arguments:**

    - `record`: the training record.
    - `tested`: the record that the report is about.
    - `model`: the model file that it writes.
    - `reads`: the log files.
    - `scored_by`: the command that prints the scores of its report.
    """

    record: Record
    tested: Record
    model: Path
    reads: tuple[Path, ...]
    scored_by: str


ReadAgain = Callable[[Path], Again]
"""From a run folder to what its command reads; raises a `RobustctlError` or an `OSError`."""


def run_lines(run: Path, read_again: ReadAgain) -> tuple[list[Line], Again | None]:
    """Return the lines of a run folder's data and of its repetition, and what its command reads, None where it cannot be read again."""
    settings = run / SETTINGS
    try:
        made = parse_object(settings.read_bytes())
    except (OSError, ValueError) as error:
        text = f"{SETTINGS} must describe the run, but it cannot be read: {error}"
        return [Line("data", State.FAILS, text, files=(settings,))], None
    repeat = f"robustctl rerun {shlex.quote(str(run))}"
    if later := newer(made):
        text = f"the run is from robustctl {later}, newer than this {robustctl.__version__}: upgrade robustctl to check it"
        return [Line("data", State.UNCHECKED, text, files=(settings,), command=repeat)], None
    data = _hash(made)
    if not entry(made, "command", list):
        repeated = _repetition(run, f"the script, with the run folder {again(run)}")
        return [_of_script(run, made, repeated), repeated], None
    files, command = (settings,), f"robustctl {shlex.join(map(str, made['command']))}"
    try:
        found = read_again(run)
    except (RobustctlError, OSError) as error:
        changed = isinstance(error, DataError)
        text = str(error) if changed else f"the data cannot be read again: {error}"
        lines = [Line("data", State.FAILS, text, (*_of_hash(data), f"trained by: {command}"), files, repeat)]
        return [*lines, _repetition(run, repeat)], None
    details = (*_of_hash(data), f"trained by: {command}", ranges(found.record))
    text = f"the data are those of the training: {_size(found.record)}"
    line = Line("data", State.HOLDS, text, details, (*files, *found.reads), repeat)
    return [line, _repetition(run, repeat)], found


def _of_script(run: Path, made: dict[str, Any], repeated: Line) -> Line:
    """Return the line of what a script read or simulated: only the script can do so again."""
    files, other = (run / SETTINGS, run / LOG), again(run) / SETTINGS
    before = entry(made, "identity", dict) or {}
    read = "data" in before
    what = (
        "the data are read by a Python script"
        if read
        else "a Python script trained in simulation, without data"
    )
    details = (
        _of_hash(_hash(made)) if read else _of_hash(_hash(made, "scenario"), "plant, task and controllers")
    )

    def line(state: State, text: str, *others: Path) -> Line:
        return Line("data", state, text, details, (*files, *others), repeated.command)

    if repeated.state == State.MISSING:
        return line(
            State.UNCHECKED,
            f"{what}: run it again with the run folder {other.parent.name}, next to this one, to check it",
        )
    try:
        identity = entry(parse_object(other.read_bytes()), "identity", dict)
    except (OSError, ValueError) as error:
        return line(State.FAILS, f"the repetition's {SETTINGS} cannot be read: {error}")
    if not details:
        return line(
            State.UNCHECKED,
            f"{what}, and {SETTINGS} has no hash to compare with that of the repetition",
            other,
        )
    if differing := [name for name in before if before[name] != (identity or {}).get(name)]:
        return line(
            State.FAILS, f"the repetition must have the same {', '.join(differing)}, and has not", other
        )
    if repeated.state == State.FAILS:
        return line(State.UNCHECKED, f"{what}, and the repetition is none", other)
    of = "them" if read else "plant, task and controllers"
    return line(State.HOLDS, f"{what}; its repetition has the same hash of {of}", other)


def newer(made: dict[str, Any]) -> str:
    """Return the version of a newer robustctl that wrote a run, else an empty text."""
    version = entry(entry(made, "versions", dict), "robustctl", str) or ""
    return version if _parts(version) > _parts(robustctl.__version__) else ""


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:3] if part.isdigit()]


def _hash(made: dict[str, Any], what: str = "data") -> str:
    return entry(entry(made, "identity", dict), what, str) or ""


def _of_hash(data: str, what: str = "the samples") -> tuple[str, ...]:
    return (f"sha256 of {what}: {data}",) if data else ()


def _size(record: Record) -> str:
    count = len(record.experiments)
    return f"{record.samples} samples in {count} experiment{'s' * (count > 1)}, dt = {record.dt:g} s"


def ranges(record: Record) -> str:
    """Return the range of each signal of a record, a line each."""
    parts = [("u", record.inputs, record.input_units), ("y", record.outputs, record.output_units)]
    lines = []
    for which, names, units in parts:
        for j, (name, unit) in enumerate(zip(names, units, strict=True)):
            values = np.concatenate([_known(e, which)[j] for e in record.experiments])
            shown = f"{values.min():.6g} to {values.max():.6g}" if values.size else "no samples"
            lines.append(f"{'input' if which == 'u' else 'output':<7} {name}: {shown} {unit}".rstrip())
    return "\n".join(lines)


def _known(experiment: Any, which: str) -> list[np.ndarray]:
    """Return the samples that are there, by channel."""
    if which == "u":
        values, mask = experiment.u, experiment.u_mask
    else:
        values, mask = experiment.y, experiment.y_mask
    return [values[mask[:, j], j] for j in range(values.shape[1])]


def _repetition(run: Path, command: str) -> Line:
    """Return whether a run was repeated, with the same numbers."""
    other = again(run)
    if not (other / LOG).is_file():
        return Line("run", State.MISSING, "the training was not repeated", command=command)
    same, text = compared(run, other)
    files = (run / LOG, other / LOG, other / SETTINGS)
    return Line(
        "run", State.HOLDS if same else State.FAILS, text, (), tuple(f for f in files if f.is_file()), command
    )


def report_line(path: Path, report: dict[str, Any], found: Again | None, models: list[Loaded]) -> Line:
    """Return the line of a fit report; its scores are computed again where the run's command and model are there."""
    texts = [_score(o) for o in report["outputs"] if isinstance(o, dict)]
    seen = ("it is of the training record",) if report.get("trained_on_this") else ()
    details, files = ("\n".join(texts), *seen), (path,)
    if found is None:
        return Line(
            "report",
            State.UNCHECKED,
            "no command of robustctl fit is known that repeats its scores",
            details,
            files,
        )
    command, where = found.scored_by, found.model.resolve()
    loaded = next((m for m in models if m.path.resolve() == where), None)
    if loaded is None or loaded.model is None:
        why = f"{found.model} is gone" if loaded is None else loaded.fault
        return Line(
            "report", State.FAILS, f"its scores cannot be computed again: {why}", details, files, command
        )
    try:
        wrong = _other_scores(report, loaded, found.tested)
    except (RobustctlError, TypeError, KeyError) as error:
        wrong = [f"they cannot be computed again: {error}"]
    if wrong:
        return Line(
            "report",
            State.FAILS,
            f"other scores than those recorded: {'; '.join(wrong)}",
            details,
            files,
            command,
        )
    return Line(
        "report", State.HOLDS, "the scores, computed again, are those recorded", details, files, command
    )


def _score(output: dict[str, Any]) -> str:
    fit, rmse = output.get("fit_percent"), output.get("rmse")
    numbers = [
        f"{name} {value:.6g}{unit}"
        for name, value, unit in (("fit", fit, " %"), ("RMSE", rmse, ""))
        if isinstance(value, float)
    ]
    return f"{output.get('name')}: {', '.join(numbers) or 'no scores'} in free run"


def _other_scores(report: dict[str, Any], loaded: Loaded, record: Record) -> list[str]:
    """Return the scores that a simulation gives otherwise."""
    with loaded.precision(), warnings.catch_warnings():
        # The report has the samples outside of the trained range.
        warnings.simplefilter("ignore", RobustctlWarning)
        scores = simulate(loaded.model, record).scores()
    wrong = []
    for i, output in enumerate(report["outputs"]):
        for name, value in (("rmse", scores.rmse[i]), ("fit_percent", scores.fit_percent[i])):
            stored = output[name]
            if not np.isclose(
                float("nan") if stored is None else stored, value, rtol=TOLERANCE, equal_nan=True
            ):
                wrong.append(f"{name} of {output['name']} {value:.6g}, recorded {stored}")
    return wrong
