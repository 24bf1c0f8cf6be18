"""One line of evidence: what was found, the files that it is about, and the command that repeats it."""

import dataclasses
from enum import Enum
from pathlib import Path
from typing import NamedTuple


class State(Enum):
    """What a check of a line gave."""

    HOLDS = "holds"
    FAILS = "fails"
    UNCHECKED = "not checked"
    MISSING = "not there"


class Kind(NamedTuple):
    """A kind of evidence.

    **Arguments:**

    - `title`: for people.
    - `made_by`: the command that makes it.
    """

    title: str
    made_by: str


KINDS = {
    "data": Kind("Data", "robustctl fit LOG --inputs ... --outputs ... --run FOLDER/run --out FOLDER/model.safetensors"),
    "run": Kind("Training, repeated", "robustctl rerun FOLDER/run"),
    "report": Kind("Fit report", "robustctl fit LOG --test LOG ... --run FOLDER/run --out FOLDER/model.safetensors"),
    "certificate": Kind("Certificate", 'rc.save("FOLDER/model.safetensors", model, certificate=rc.certify(model))'),
    "loop": Kind("Certificate of the loop", 'rc.save("FOLDER/loop.safetensors", loop, certificate=rc.certify(loop, error=eps))'),
    "robustness": Kind("Robustness report", "robustctl report LOOPS.py --out FOLDER/report"),
    "guard": Kind("Coverage of the guard", 'rc.loops.guard_coverage(loop, size).save("FOLDER/guard.json")'),
    "export": Kind("Export", "robustctl export FOLDER/model.safetensors --to c --out FOLDER/export"),
    "record": Kind("Earlier record", ""),
}  # fmt: skip
"""Kinds of evidence by name, in the order of the page."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of evidence.

    **Arguments:**

    - `kind`: a name of `KINDS`.
    - `state`: what the check gave.
    - `found`: what was found, in a sentence.
    - `details`: further texts; one of several lines is shown as it is.
    - `files`: the files that it is about, from which their hashes are taken.
    - `command`: what repeats the check, empty where nothing does.
    - `assumptions`: what the line assumes, in words.
    """

    kind: str
    state: State
    found: str
    details: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    command: str = ""
    assumptions: tuple[str, ...] = ()


def missing(kind: str, folder: Path) -> Line:
    """Return the line of a kind of which a folder holds nothing."""
    command = KINDS[kind].made_by.replace("FOLDER", str(folder))
    return Line(kind, State.MISSING, "there is none in this folder", command=command)
