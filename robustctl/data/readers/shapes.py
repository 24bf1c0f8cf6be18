"""Shapes of the arrays in a file: time first, and one column of a matrix by its name."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from .limits import Arrays, Unusable

COLUMN = re.compile(r"(?P<matrix>.+)\[(?P<column>\d{1,9})\]", re.DOTALL)
Loader = Callable[[str, list[str]], tuple[list[str], Arrays]]


def load_columns(load: Loader, path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """What `load` finds, every array as (T, k), with ``a[1]`` for the second column of matrix a."""
    available, found = load(path, names)
    found = {name: [as_columns(one, name) for one in arrays] for name, arrays in found.items()}
    columns = {name: match for name in names if name not in found and (match := COLUMN.fullmatch(name))}
    if columns:
        matrices = sorted({match["matrix"] for match in columns.values()})
        more = load(path, matrices)[1]
        for name, match in columns.items():
            matrix, column = match["matrix"], int(match["column"])
            if matrix in more:
                found[name] = [_column(as_columns(one, matrix), matrix, column) for one in more[matrix]]
    return available, found


def labels(units: Callable[[str, list[str]], dict[str, str]], path: str, names: list[str]) -> dict[str, str]:
    """What `units` finds; a column of a matrix has the matrix's unit."""
    matrices = {name: match["matrix"] if (match := COLUMN.fullmatch(name)) else name for name in names}
    found = units(path, list(dict.fromkeys([*names, *matrices.values()])))
    return {
        name: found.get(name, found.get(matrix, ""))
        for name, matrix in matrices.items()
        if {name, matrix} & found.keys()
    }


def _column(values: np.ndarray, name: str, column: int) -> np.ndarray:
    if column >= values.shape[1]:
        raise Unusable(
            f"{name!r} has {values.shape[1]} column(s), there is no '{name}[{column}]'; the first is '{name}[0]'"
        )
    return values[:, column : column + 1]


def as_columns(array: np.ndarray, name: str) -> np.ndarray:
    """`array` as (T, k), time first; axes of length 1 carry nothing, and MATLAB stores a signal as a row or a column."""
    shape = array.shape
    if array.ndim > 2:
        array = array.reshape([length for length in shape if length != 1])
    if not array.size or not array.ndim:
        what = (
            f"holds no samples, shape {shape}"
            if not array.size
            else "must be (T,), (T, 1), (1, T) or (T, k), got shape ()"
        )
        raise Unusable(f"variable {name!r} {what}")
    if array.ndim > 2:
        raise Unusable(f"variable {name!r} must be (T,), (T, 1), (1, T) or (T, k), got shape {shape}")
    if array.ndim == 1:
        return array[:, None]
    if array.shape[0] == 1:
        return array.T
    if array.shape[0] < array.shape[1]:
        raise Unusable(
            f"variable {name!r} must hold time first, (T, k), got shape {shape}, {array.shape[0]} samples of "
            f"{array.shape[1]} channels; transpose it: x = squeeze(x).' in MATLAB, x = x.squeeze().T in NumPy"
        )
    return array
