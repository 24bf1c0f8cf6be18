"""Reader of NumPy files; pickled objects are never opened."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from ...errors import DataError
from .limits import Arrays, Unusable, check_size, numeric
from .request import Columns, Wanted
from .shapes import Loader, load_columns

ONLY = "data"  # the name of the one array in an npy file


def load_npz(path: Path, wanted: Wanted) -> Columns:
    """Named arrays of an npz archive; ``a/b`` is field b of a structured array."""
    return _checked(_load_npz, path, wanted)


def load_npy(path: Path, wanted: Wanted) -> Columns:
    """The one array of an npy file, called ``data``: ``data[1]`` is its second column."""
    return _checked(_load_npy, path, wanted)


def _checked(load: Loader, path: Path, wanted: Wanted) -> Columns:
    try:
        return Columns(*load_columns(load, str(path), list(wanted.names)))
    except Unusable as error:
        raise DataError(str(error)) from error
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise DataError(f"the NumPy file is damaged: {type(error).__name__}: {error}") from error


def _load_npz(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    with zipfile.ZipFile(path) as archive:
        available = [item.filename.removesuffix(".npy") for item in archive.infolist()]
        members = dict(zip(available, archive.infolist(), strict=True))
        return available, _pick(names, members.keys(), lambda name: archive.open(members[name]), path)


def _load_npy(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    with open(path, "rb") as file:
        shape, _, dtype = _header(file)
    width = math.prod(shape[1:]) if len(shape) > 1 else 0
    available = [f"{ONLY}[{column}]" for column in range(min(width, 100))] or [ONLY]
    available = [f"{ONLY}/{field}" for field in dtype.names or ()] or available
    return available, _pick(names, {ONLY}, lambda _: open(path, "rb"), path)


def _pick(names: list[str], members, open_member: Callable[[str], IO[bytes]], path: str) -> Arrays:
    found = {}
    for name in names:
        member, field = (name, None) if name in members else name.rpartition("/")[::2]
        if member in members:
            with open_member(member) as file:
                values = _array(file, member, path)
            if field is None or field in (values.dtype.names or ()):
                found[name] = [_numbers(values, name, field)]
    return found


def _numbers(values: np.ndarray, name: str, field: str | None) -> np.ndarray:
    fields = values.dtype.names
    if field is None and fields:
        raise Unusable(f"{name!r} holds the columns {list(fields)}; name one, as '{name}/{fields[0]}'")
    return numeric(name, values if field is None else values[field])


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version, form = np.lib.format.read_magic(file), np.lib.format
    return form.read_array_header_1_0(file) if version == (1, 0) else form.read_array_header_2_0(file)


def _array(file: IO[bytes], name: str, path: str) -> np.ndarray:
    shape, fortran, dtype = _header(file)
    if dtype.hasobject:
        raise Unusable(
            f"variable {name!r} must be an array of numbers, not of Python objects; save its numbers as arrays"
        )
    check_size(name, shape, dtype.itemsize, path)
    size = math.prod(shape) * dtype.itemsize
    # One byte more than the header promises, to notice a member that is too long.
    raw = file.read(size + 1)
    if len(raw) != size:
        raise Unusable(f"variable {name!r} must be {size} bytes long and is not; the file is damaged")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
