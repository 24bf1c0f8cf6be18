"""The record of an exported folder: `export.json`, the sha256 of its files, and what a check of them found."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from ..certificates import Certificate
from ..errors import RobustctlError
from ..store.entries import entry
from ..store.json_text import parse_object

FILE = "export.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Checked:
    """What the check of an exported folder found.

    **Arguments:**

    - `faults`: what differs, in words; none where all is as it was exported.
    - `skipped`: what could not be checked here, and why.
    - `certificate`: of the constants, None where there is none to check.
    """

    faults: tuple[str, ...]
    skipped: tuple[str, ...]
    certificate: Certificate | None

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return not self.faults

    def __str__(self) -> str:
        """Return a text for people, a line for each finding."""
        lines = [f"DIFFERS: {fault}" for fault in self.faults] + [f"skipped: {what}" for what in self.skipped]
        if self.certificate is not None:
            rate, gamma = self.certificate.rate, self.certificate.gamma
            found = [
                f"{what} {value:.6g}"
                for what, value in (("rate", rate), ("gain", gamma))
                if value is not None
            ]
            nothing = f"nothing: {self.certificate.reason or 'neither gain nor rate'}"
            lines.append(f"proven of the constants in the C file: {', '.join(found) or nothing}")
        return "\n".join([*lines, "as exported" if self.holds else "not as exported"])


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(folder: Path) -> dict[str, Any]:
    """Return the record of a folder.

    **Raises:** `RobustctlError` for one without a record that can be read.
    """
    try:
        about = parse_object((folder / FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise RobustctlError(
            f"the folder must hold the {FILE} of an export, got {folder}: {error}"
        ) from error
    kinds = {"format": int, "name": str, "dtype": str, "dt": float, "files": dict, "certificate": str}
    missing = [key for key, kind in kinds.items() if entry(about, key, kind) is None]
    if missing or about["format"] != FORMAT:
        what = f"without {', '.join(missing)}" if missing else f"of format {about['format']}"
        raise RobustctlError(f"{FILE} must be of format {FORMAT}, got one {what}; export again")
    return about


def changed(folder: Path, files: dict[str, str]) -> list[str]:
    """Return the files that are missing or not the exported ones."""
    found = []
    for name, digest in files.items():
        path = folder / Path(name).name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif sha256(path) != digest:
            found.append(f"{name} was changed after the export")
    return found
