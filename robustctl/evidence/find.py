"""What files a folder holds, by what is in them."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..export.record import FILE as EXPORTED
from ..runs.repetition import AGAIN
from ..runs.run_folder import CHECKPOINTS, SETTINGS
from ..store.json_text import parse_object

OWN = ("evidence.json", "evidence.html")


@dataclasses.dataclass
class Found:
    """Files and folders of evidence; JSON files with their objects.

    **Arguments:**

    - `runs`: run folders, repetitions apart.
    - `models`: model files, those of exports apart.
    - `exports`: folders of exports.
    - `reports`: fit reports.
    - `robustness`: robustness reports.
    - `certificates`: certificates.
    - `guards`: coverage of guards.
    - `unreadable`: JSON files that cannot be read, with the reason.
    """

    runs: list[Path] = dataclasses.field(default_factory=list)
    models: list[Path] = dataclasses.field(default_factory=list)
    exports: list[Path] = dataclasses.field(default_factory=list)
    reports: dict[Path, dict[str, Any]] = dataclasses.field(default_factory=dict)
    robustness: dict[Path, dict[str, Any]] = dataclasses.field(default_factory=dict)
    certificates: list[Path] = dataclasses.field(default_factory=list)
    guards: list[Path] = dataclasses.field(default_factory=list)
    unreadable: dict[Path, str] = dataclasses.field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing."""
        return not any(vars(self).values())


def find(folder: Path) -> Found:
    """Return what a folder and its subfolders hold."""
    found = Found()
    for place, names in _folders(folder):
        if SETTINGS in names:
            found.runs.append(place)
        if EXPORTED in names:
            found.exports.append(place)
            continue
        for name in names:
            path = place / name
            if path.suffix == ".safetensors":
                found.models.append(path)
            elif path.suffix == ".json" and name not in (*OWN, SETTINGS):
                _sort(found, path)
    return found


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders with the names of their files, without checkpoints, repetitions and hidden folders."""
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(
            n for n in inner if n[:1] != "." and n != CHECKPOINTS and not _repeats(Path(place, n))
        )
        yield Path(place), sorted(names)


def _repeats(folder: Path) -> bool:
    """Return whether a folder is the repetition of a run alongside it."""
    before = folder.with_name(folder.name.removesuffix(AGAIN))
    return before != folder and (before / SETTINGS).is_file()


def _sort(found: Found, path: Path) -> None:
    """Put a JSON file where it belongs; those of other programs are left out."""
    try:
        held = parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        found.unreadable[path] = str(error)
        return
    if "guard_coverage" in held:
        found.guards.append(path)
    elif {"holds", "weights_sha256", "fingerprint"} <= held.keys():
        found.certificates.append(path)
    elif {"simulation", "initial_state", "outputs"} <= held.keys():
        found.reports[path] = held
    elif {"plant", "table", "poles", "notes"} <= held.keys():
        found.robustness[path] = held
