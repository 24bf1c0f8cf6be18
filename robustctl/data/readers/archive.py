"""Reader of NumPy archives."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from ...errors import DataError
from .request import Columns, Wanted
from .worker import Unusable, check_size


def load_npz(path: Path, wanted: Wanted) -> Columns:
    """Named arrays of an npz archive; pickled objects are never opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
            available = [item.filename.removesuffix(".npy") for item in archive.infolist()]
            found = {}
            for name in wanted.names:
                if name in members:
                    with archive.open(members[name]) as file:
                        found[name] = _npy(file, name, path)
            return Columns(available, found)
    except (DataError, Unusable) as error:
        raise DataError(str(error)) from error
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise DataError(f"the npz archive is damaged: {type(error).__name__}: {error}") from error


def _npy(file, name: str, path: Path) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    form = np.lib.format
    shape, fortran, dtype = (
        form.read_array_header_1_0(file) if version == (1, 0) else form.read_array_header_2_0(file)
    )
    if dtype.hasobject or dtype.kind not in "fiubc":
        raise DataError(f"variable {name!r} must be an array of numbers, not {dtype}")
    check_size(name, shape, dtype.itemsize, str(path))
    wanted = math.prod(shape) * dtype.itemsize
    # One byte more than the header promises, to notice a member that is too long.
    raw = file.read(wanted + 1)
    if len(raw) != wanted:
        raise DataError(f"variable {name!r} must be {wanted} bytes long and is not; the file is damaged")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
