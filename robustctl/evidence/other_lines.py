"""Lines about exports, guards and robustness reports."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from .. import export
from ..errors import RobustctlError
from ..export.record import FILE, read
from ..io import inspect
from ..loops import Feedback, GuardCoverage, Guarded
from ..store.entries import entry
from .line import Line, State
from .models import Loaded, unregistered

SAMPLES = 1000
"""Of the comparison of a compiled step, as after `robustctl export`."""


def export_line(folder: Path) -> Line:
    """Return what the check of an exported folder finds."""
    files, command = (folder / FILE,), f"robustctl export {shlex.quote(str(folder))} --check"
    try:
        if unknown := _unknown(folder):
            text = f"it holds {', '.join(unknown)}, which must be registered: give its --module, or call the command in its script"
            return Line("export", State.UNCHECKED, text, files=files)
        found = export.check(folder, samples=SAMPLES)
    except RobustctlError as error:
        return Line("export", State.FAILS, str(error), files=files, command=command)
    details = tuple(f"skipped: {what}" for what in found.skipped)
    if found.certificate is not None and found.certificate.holds:
        details += (f"proven of the constants in the C file:\n{found.certificate}",)
    if not found.holds:
        return Line("export", State.FAILS, "; ".join(found.faults), details, files, command)
    assumptions = () if found.certificate is None else found.certificate.assumptions
    return Line("export", State.HOLDS, "the code is as it was exported", details, files, command, assumptions)


def _unknown(folder: Path) -> tuple[str, ...]:
    """Return the classes of an export's system that are not registered here; the check reports a file that cannot be read."""
    path = folder / f"{Path(read(folder)['name']).name}.safetensors"
    try:
        return unregistered(inspect(path))
    except (RobustctlError, OSError):
        return ()


def guard_line(path: Path, models: list[Loaded]) -> Line:
    """Return the line of a guard's coverage; its first episodes are run again where a loop file with a guard is there."""
    try:
        counted = GuardCoverage.read(path)
    except RobustctlError as error:
        return Line("guard", State.FAILS, str(error), files=(path,))
    assumed = (f"disturbances stay within {list(counted.size)}, as in the episodes of the guard's coverage",)
    details, bad = (str(counted),), counted.broken or counted.not_finite
    if bad:
        text = f"limits were broken in {counted.broken or 0} episodes, {counted.not_finite} controls were not finite"
        return Line("guard", State.FAILS, text, details, (path,), assumptions=assumed)
    loops = [m for m in models if isinstance(m.model, Feedback) and isinstance(m.model.policy, Guarded)]
    if not loops:
        text = "no loop with this guard is here to run its episodes again; save it with rc.save"
        return Line("guard", State.UNCHECKED, text, details, (path,), assumptions=assumed)
    found = {m.path: _differs(counted, m) for m in loops}
    fitting = next((p for p, fault in found.items() if not fault), None)
    if fitting is None:
        return Line(
            "guard",
            State.FAILS,
            next(iter(found.values())),
            details,
            (path, *found),
            _counting(counted, loops[0].path),
            assumed,
        )
    text = f"the first episodes, run again with the loop in {fitting.name}, have the recorded counts"
    return Line("guard", State.HOLDS, text, details, (path, fitting), _counting(counted, fitting), assumed)


def _differs(counted: GuardCoverage, loaded: Loaded) -> str:
    try:
        with loaded.precision():
            return counted.differs(loaded.model)
    except RobustctlError as error:
        return str(error)


def _counting(counted: GuardCoverage, loop: Path) -> str:
    """Return the command that counts all episodes again."""
    given = [
        f"rc.load('{loop}')",
        str(list(counted.size)),
        f"episodes={counted.episodes}",
        f"samples={counted.samples}",
    ]
    if counted.limits is not None:
        C, limit = (np.asarray(a).tolist() for a in (counted.limits.C, counted.limits.limit))
        given.append(f"limits=rc.loops.StateLimits({C}, {limit})")
    return f'python -c "import robustctl as rc; print(rc.loops.guard_coverage({", ".join(given)}, seed={counted.seed}))"'


def robustness_line(path: Path, report: dict[str, Any]) -> Line:
    """Return the line of a robustness report, which a script made."""
    page = path.with_name("report.html")
    loops = entry(report, "poles", dict) or {}
    notes = [f"{name}: {text}" for name, text in (entry(report, "notes", dict) or {}).items()]
    text = f"measured and searched of {', '.join(loops)}, about {report.get('plant')}; the script that made it repeats it"
    files = (path, page) if page.is_file() else (path,)
    return Line("robustness", State.UNCHECKED, text, tuple(notes), files)
