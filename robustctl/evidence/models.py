"""Model files, loaded with all checks that loading makes."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import RobustctlError
from ..export.trace import tracing
from ..io import inspect, load
from ..io.structure import import_all
from ..registry import CLASSES


class Loaded(NamedTuple):
    """A model file.

    **Arguments:**

    - `path`: of the file.
    - `model`: the model; None where it could not be loaded.
    - `fault`: why it could not be loaded, else empty.
    - `unknown`: classes in it that are not registered here.
    - `header`: what the file states, {} where it cannot be read.
    """

    path: Path
    model: Any
    fault: str
    unknown: tuple[str, ...]
    header: dict[str, Any]

    @property
    def certificate(self) -> dict[str, Any]:
        """The stored certificate, {} where there is none."""
        return self.header.get("certificate") or {}

    def precision(self) -> AbstractContextManager[None]:
        """Compute with the precision of the file's arrays."""
        return _precision(self.header)


def _precision(header: dict[str, Any]) -> AbstractContextManager[None]:
    wide = any(array["dtype"] == "float64" for array in header.get("arrays", {}).values())
    return tracing(np.dtype(np.float64 if wide else np.float32))


def loaded(path: Path) -> Loaded:
    """Load a model file."""
    try:
        header = inspect(path)
    except (RobustctlError, OSError) as error:
        return Loaded(path, None, str(error), (), {})
    if unknown := unregistered(header):
        need = f"it holds {', '.join(unknown)}, which must be registered to be loaded: give its --module, or call the command in its script"
        return Loaded(path, None, need, unknown, header)
    try:
        with _precision(header):
            return Loaded(path, load(path), "", (), header)
    except (RobustctlError, OSError) as error:
        return Loaded(path, None, str(error), (), header)


def unregistered(header: dict[str, Any]) -> tuple[str, ...]:
    """Return the classes of a model file that are not registered here."""
    import_all()
    return tuple(sorted(_classes(header.get("structure")) - CLASSES.keys()))


def _classes(node: Any) -> set[str]:
    """Return the names of all classes in a file's structure."""
    found: set[str] = set()

    def keep(held: dict[str, Any]) -> dict[str, Any]:
        name = held.get("class")
        if isinstance(name, str):
            found.add(name)
        return held

    json.loads(json.dumps(node), object_hook=keep)
    return found
