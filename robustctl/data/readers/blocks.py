"""Arrays of one file to the channels of a record: shapes, lengths, names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import DataError
from ..record_checks import as_floats

SHOWN_NAMES = 30  # of a file's columns in a message; a log of a vehicle bus has thousands


def check_columns(names: Sequence[str], available: Sequence[str], arrays: Mapping[str, np.ndarray]) -> None:
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
    array = as_floats(array, f"variable {name!r}")
    # MATLAB stores a signal as a row as often as a column.
    if array.ndim == 2 and array.shape[0] == 1:
        array = array.T
    array = array[:, None] if array.ndim == 1 else array
    if not array.size:
        raise DataError(f"variable {name!r} holds no samples, shape {array.shape}")
    if array.ndim != 2:
        raise DataError(f"variable {name!r} must be (T,), (T, 1), (1, T) or (T, k), got shape {array.shape}")
    return array


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
