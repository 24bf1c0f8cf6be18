"""What the child process of the readers holds every file to; imports nothing else of this package."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

# Deflate compresses at most 1032 times, and logs far less; a small file may claim 1 GiB, which any machine has.
BASE_BYTES = 2**30
BYTES_PER_FILE_BYTE = 100
MOST_NAMES = 1000  # listed in a message; a simulation file can hold a million datasets
# One array, or one for each of several experiments.
Arrays = dict[str, list[np.ndarray]]


class Unusable(Exception):
    """A file whose content cannot be taken as numeric arrays."""


def limit(path: str) -> int:
    """Bytes that one variable of this file may claim; a damaged header can claim any number."""
    return BASE_BYTES + BYTES_PER_FILE_BYTE * os.path.getsize(path)


def limit_process(path: str) -> None:
    """Make an unreasonable allocation fail here rather than exhaust the machine's memory; leave no core dump."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Address space, not memory: room for the libraries, and for the copies that they make of a variable.
    soft = 4 * BASE_BYTES + 4 * limit(path)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        except (ValueError, OSError):
            return


def check_size(name: str, shape: Iterable[int], itemsize: int, path: str) -> None:
    """Raise Unusable when a variable claims more bytes than its file can plausibly hold."""
    size = itemsize
    for length in shape:
        size *= int(length)
    if not 0 <= size <= limit(path):
        raise Unusable(
            f"variable {name!r} claims {size} bytes in a file of {os.path.getsize(path)}; the file is damaged"
        )


def as_text(item: str | bytes) -> str:
    """A text, or bytes of one."""
    match item:
        case bytes():
            return item.decode("utf-8", "replace")
        case _:
            return str(item)


def numeric(name: str, values: Any) -> np.ndarray:
    """Array of numbers; time stamps may be dates, durations or text."""
    array = np.asarray(values)
    if array.dtype.kind == "S":
        array = np.strings.decode(array, "utf-8", "replace")
    if array.dtype.kind == "O" and array.size and all(isinstance(item, str | bytes) for item in array.flat):
        array = np.array(list(map(as_text, array.flat)), str).reshape(array.shape)
    if array.dtype.kind not in "fiubcmMU":
        raise Unusable(f"variable {name!r} must be an array of numbers, not {array.dtype}")
    return array
