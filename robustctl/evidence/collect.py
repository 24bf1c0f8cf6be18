"""Everything that a folder holds of evidence, checked again."""

import dataclasses
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import RobustctlError
from ..export.record import sha256
from ..reports.folder import write_folder
from ..runs.provenance import environment
from ..store.entries import entry
from ..store.json_text import json_text, parse_object
from .find import OWN, Found, find
from .line import KINDS, Line, State, missing
from .model_lines import certificate_line, model_line
from .models import Loaded, loaded
from .other_lines import export_line, guard_line, robustness_line
from .page import assumptions, page, shown
from .run_lines import Again, ReadAgain, report_line, run_lines

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The result of `evidence`; `print` it, or `save` it into its folder.

    **Arguments:**

    - `folder`: that was looked at.
    - `lines`: of evidence.
    - `hashes`: sha256 of each file of the lines that is there.
    - `recorded`: sha256 of each file when it was first found, by its name from the folder.
    - `about`: versions, machine, commit and time.
    """

    folder: Path
    lines: tuple[Line, ...]
    hashes: dict[Path, str]
    recorded: dict[str, str]
    about: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether no line fails."""
        return all(line.state != State.FAILS for line in self.lines)

    def __str__(self) -> str:
        """Return a line of text for each line."""
        return "\n".join(
            f"{line.state.value:<12} {KINDS[line.kind].title}: {line.found}" for line in self.lines
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence for JSON."""
        lines = [
            {
                "kind": line.kind, "state": line.state.value, "found": line.found, "details": line.details, "command": line.command,
                "files": {shown(path, self.folder): self.hashes.get(path) for path in line.files},
            }
            for line in self.lines
        ]  # fmt: skip
        return {
            "evidence": FORMAT, "holds": self.holds, **self.about, "lines": lines, "assumptions": assumptions(self.lines),
            "recorded": self.recorded,
        }  # fmt: skip

    def save(self) -> list[Path]:
        """Write evidence.json and evidence.html into the folder; return the files written."""
        contents = [
            ("evidence.json", (json_text(self.to_dict(), indent=2) + "\n").encode()),
            ("evidence.html", page(self.folder, self.lines, self.hashes, self.about).encode()),
        ]
        return write_folder(self.folder, contents, OWN)


def evidence(folder: Path, read_again: ReadAgain, *, renew: bool = False) -> Evidence:
    """Collect the evidence in a folder, and check all of it that can be checked.

    **Arguments:**

    - `folder`: with run folders, model files, certificates, exports and so on, in it or below.
    - `read_again`: reads the data of a run again.
    - `renew`: forget the hashes that an earlier call recorded.

    **Raises:** `RobustctlError` for a folder without anything, and for an earlier evidence.json that cannot be read; `OSError` for one
    that is not there.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}; name one with a run, a model or an export in it"
        )
    found = find(folder)
    if found.empty:
        raise RobustctlError(
            f"{folder} must hold a run folder, a model file, a certificate, a report or an export, got none; robustctl fit, rc.save "
            "and robustctl export write them"
        )
    recorded = {} if renew else _recorded(folder)
    lines = sorted(_lines(found, folder, read_again), key=lambda line: list(KINDS).index(line.kind))
    hashes = {path: sha256(path) for line in lines for path in line.files if path.is_file()}
    now = {shown(path, folder): digest for path, digest in hashes.items()}
    lines = [_compared(line, folder, hashes, recorded) for line in lines]
    gone = [name for name in recorded if name not in now]
    if gone:
        lines.append(Line("record", State.FAILS, f"recorded earlier and gone now: {', '.join(gone)}"))
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Evidence(folder, tuple(lines), hashes, now | recorded, {"made": made, **environment()})


def _recorded(folder: Path) -> dict[str, str]:
    """Return the hashes that an earlier call recorded."""
    path = folder / OWN[0]
    if not path.exists():
        return {}
    try:
        found = entry(parse_object(path.read_bytes()), "recorded", dict)
    except ValueError as error:
        raise RobustctlError(
            f"{path} must be a record of evidence, but it is damaged: {error}; give --renew"
        ) from error
    if found is None:
        raise RobustctlError(f"{path} must have the hashes that were recorded, got none; give --renew")
    return {str(name): str(digest) for name, digest in found.items()}


def _compared(line: Line, folder: Path, hashes: dict[Path, str], recorded: dict[str, str]) -> Line:
    """Return a line, failing where one of its files is another than was recorded, or is gone."""
    faults = []
    for path in line.files:
        name, digest = shown(path, folder), hashes.get(path)
        before = recorded.get(name)
        if digest is None:
            faults.append(f"{name} is gone")
        elif before not in (None, digest):
            faults.append(
                f"{name} differs from what was recorded, sha256 {before[:16]}..., now {digest[:16]}..."
            )
    if not faults:
        return line
    if line.state == State.FAILS:
        return dataclasses.replace(line, details=(*line.details, *faults))
    return dataclasses.replace(
        line, state=State.FAILS, found="; ".join(faults), details=(line.found, *line.details)
    )


def _lines(found: Found, folder: Path, read_again: ReadAgain) -> list[Line]:
    lines, commands = [], {}
    for run in found.runs:
        made, again = run_lines(run, read_again)
        lines += made
        if again is not None:
            commands[run] = again
    models = _models(found, commands.values())
    lines += [model_line(m) for m in models]
    lines += [certificate_line(path, models) for path in found.certificates]
    lines += [
        report_line(path, held, commands.get(path.parent), models) for path, held in found.reports.items()
    ]
    lines += [robustness_line(path, held) for path, held in found.robustness.items()]
    lines += [guard_line(path, models) for path in found.guards]
    lines += [export_line(path) for path in found.exports]
    lines += [
        Line("record", State.FAILS, f"it cannot be read: {why}", files=(path,))
        for path, why in found.unreadable.items()
    ]
    absent = [kind for kind in KINDS if kind != "record" and all(line.kind != kind for line in lines)]
    return [*lines, *(missing(kind, folder) for kind in absent)]


def _models(found: Found, commands: Iterable[Again]) -> list[Loaded]:
    """Return the models of a folder, and those of its runs that are elsewhere."""
    there = {path.resolve(): path for path in found.models}
    for again in commands:
        if again.model.is_file():
            there.setdefault(again.model.resolve(), again.model)
    return [loaded(path) for path in there.values()]
