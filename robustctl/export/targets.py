"""Checks of what is exported to where."""

import importlib
from pathlib import Path
from types import ModuleType

from ..errors import ModelError, RobustctlError
from ..runtime.program import Program


def check_new(file: Path) -> None:
    """Raise `ModelError` for a file that exists."""
    if file.exists():
        raise ModelError(f"the file must be new, got {file}; give another name or remove it")


def sampled_every(program: Program) -> float:
    """Return the sample time.

    **Raises:** `ModelError` where it is unknown.
    """
    if program.dt is None:
        raise ModelError(
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
