"""Arrays of one file to the channels of a record: shapes, lengths, names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import DataError
from ..record_checks import as_floats
from .limits import Unusable
from .request import Columns
from .shapes import as_columns

SHOWN_NAMES = 30  # of a file's columns in a message; a log of a vehicle bus has thousands


def check_columns(names: Sequence[str], available: Sequence[str], arrays: Mapping[str, Any]) -> None:
    """Raise a DataError that lists what there is, unless each name has one array."""
    for name in names:
        count = available.count(name)
        if count > 1:
            raise DataError(f"the file has {count} columns called {name!r}; rename all but one")
        if name not in arrays:
            folded = {other.lower(): other for other in available}
            close = difflib.get_close_matches(name.lower(), folded, 1)
            hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
            more = f" and {len(available) - SHOWN_NAMES} more" if len(available) > SHOWN_NAMES else ""
            raise DataError(f"there is no column {name!r}; there are {available[:SHOWN_NAMES]}{more}.{hint}")


def block(array: np.ndarray, name: str) -> np.ndarray:
    """Array of numbers (T, k) of one variable."""
    if array.dtype.kind == "U":
        raise DataError(f"variable {name!r} must be an array of numbers, not text")
    try:
        return as_columns(as_floats(array, f"variable {name!r}"), name)
    except Unusable as error:
        raise DataError(str(error)) from error


def split_experiments(found: Columns, names: Sequence[str]) -> list[Columns]:
    """Columns of each experiment in a file, with one array a name.

    **Raises:** `DataError` unless all names have as many arrays.
    """
    counts = {name: len(found.arrays[name]) for name in names if len(found.arrays[name]) > 1}
    if not counts:
        return [found]
    if len(counts) < len(names) or len(set(counts.values())) > 1:
        single = [name for name in names if name not in counts]
        rest = f" and one array for {single}" if single else ""
        raise DataError(
            f"each variable must hold a cell for each experiment, got cells {counts}{rest}; "
            f"name one cell, as '{next(iter(counts))}{{1}}', or save all as cells"
        )
    count = counts[names[0]]
    guesses = [*found.guesses, f"{count} experiments, one for each cell"]
    return [
        replace(found, arrays={name: [found.arrays[name][index]] for name in names}, guesses=guesses)
        for index in range(count)
    ]


def check_lengths(blocks: dict[str, np.ndarray]) -> None:
    """Raise a DataError unless all have one length."""
    lengths = {name: len(block) for name, block in blocks.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"variables must have one length, time first; got samples {lengths}")


def stack(
    blocks: Mapping[str, np.ndarray], names: Sequence[str], called: Mapping[str, str]
) -> tuple[list[str], list[str], np.ndarray]:
    """Names of the channels, the variable that each is from, and their samples (T, n); `called` renames a variable."""
    channels, sources = [], []
    for name in names:
        width, label = blocks[name].shape[1], called.get(name, name)
        channels += [label] if width == 1 else [f"{label}[{index}]" for index in range(width)]
        sources += [name] * width
    return channels, sources, np.concatenate([blocks[name] for name in names], axis=1)
