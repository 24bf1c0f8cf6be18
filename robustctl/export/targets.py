"""Where an export goes, and what is needed for it."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from ..errors import InvalidModelError, RobustctlError
from ..runtime.program import Program


def check_folder(folder: Path) -> None:
    """Raise `InvalidModelError` unless a folder is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidModelError(f"the folder must be new or empty, got {folder}; give another or empty it")


def new_file(path: str | os.PathLike[str], name: str, suffix: str) -> Path:
    """Return the file that a path names: itself where it ends in the suffix, else a file of that name in the folder.

    **Raises:** `InvalidModelError` for a file that exists.
    """
    file = Path(path) if Path(path).suffix == suffix else Path(path) / f"{name}{suffix}"
    if file.exists():
        raise InvalidModelError(f"the file must be new, got {file}; give another name or remove it")
    return file


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write texts to a folder, made where there is none, by their files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def sampled_every(program: Program) -> float:
    """Return the sample time.

    **Raises:** `InvalidModelError` where it is unknown.
    """
    if program.dt is None:
        raise InvalidModelError(
            "the sample time must be known, since a step is taken once a sample; give dt=, in seconds"
        )
    return program.dt


def needed(package: str, what: str) -> ModuleType:
    """Return a package of the extra `export`.

    **Raises:** `RobustctlError` where it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RobustctlError(f'{what} must have {package}; pip install "robustctl[export]"') from error
