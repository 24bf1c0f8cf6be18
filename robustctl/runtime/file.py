"""A program's file, read by NumPy alone."""

import json
import math
import os
from typing import Any

import numpy as np

from ..errors import ModelFileError
from ..store.entries import entry
from ..store.seal import KEY, check_seal, shown
from .program import Program
from .step import Step
from .text import from_json

FILE = "program.safetensors"
"""Its name in a folder."""
_DTYPES = {"F32": np.float32, "F64": np.float64, "I32": np.int32, "I64": np.int64, "BOOL": np.bool_}


def load(path: str | os.PathLike[str]) -> Step:
    """Return the step of a system that `rc.export.runtime` wrote.

    Every byte is checked against the file's sha256, and every operation and array against each other. Nothing in a file is run
    or imported: it holds the names of operations, which are chosen from a fixed list.

    **Arguments:**

    - `path`: the file, or the folder that it is in.

    **Raises:** `ModelFileError` for a file that is damaged, altered, of another version or no program; `OSError` where it cannot be
    read.

    **Example:** ::

        import robustctl.runtime
        rc.export.runtime(rc.classical.PID(2.0, 1.0, dt=0.1), "pid.safetensors")
        step = robustctl.runtime.load("pid.safetensors")
        x, control = step(step.init_state(), np.array([0.2, 0.0]))
    """
    return Step(read(path))


def read(path: str | os.PathLike[str]) -> Program:
    """Return the program of a file; errors are those of `load`."""
    # Not by pathlib, which would take a tenth of the time that NumPy takes to import.
    path = os.path.join(path, FILE) if os.path.isdir(path) else os.fspath(path)
    with open(path, "rb") as file:
        data = file.read()
    try:
        check_seal(data)
        return from_json(*_unpacked(data))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error.__cause__


def _unpacked(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        table = json.loads(data[8:end])
        header = json.loads(table.pop("__metadata__")[KEY])
        # Without a copy for each array of all of them.
        body = memoryview(data)[end:]
        arrays = {name: _array(name, entry, body) for name, entry in table.items()}
    except ModelFileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ModelFileError(
            f"a program's file must hold a table of arrays and a header, reading them raised {error!r:.200}; export the system again"
        ) from error
    if (found := entry(header, "program", dict)) is None:
        raise ModelFileError(
            f"the file must hold a program, got {shown(header)}; rc.load reads a model, rc.export.runtime writes a program"
        )
    return found, arrays


def _array(name: str, entry: dict, data: memoryview) -> np.ndarray:
    dtype, shape, (start, end) = (
        np.dtype(_DTYPES[entry["dtype"]]),
        tuple(entry["shape"]),
        entry["data_offsets"],
    )
    fits = all(type(n) is int and n >= 0 for n in (*shape, start, end)) and end <= len(data)
    if not fits or end - start != math.prod(shape) * dtype.itemsize:
        raise ModelFileError(
            f"{name[:40]} must lie inside the file, got {shown(entry)}; export the system again"
        )
    # A copy, because a view of bytes cannot be written to.
    return np.frombuffer(data, dtype.newbyteorder("<"), math.prod(shape), start).astype(dtype).reshape(shape)
