"""The formats of log files: which suffix is which, and which function reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import DataError
from .archive import load_npz
from .child import load_hdf5, load_mat, load_parquet
from .request import Columns, Format, Wanted
from .text import load_text

SUFFIXES = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "csv",
    ".dat": "csv",
    ".lvm": "csv",
    ".parquet": "parquet",
    ".mat": "mat",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npz": "npz",
}
READERS: dict[str, Callable[[Path, Wanted], Columns]] = {
    "csv": load_text,
    "parquet": load_parquet,
    "mat": load_mat,
    "hdf5": load_hdf5,
    "npz": load_npz,
}
FORMATS = tuple(READERS)


def as_format(given: str | Format | None) -> Format:
    """`given` as a `Format`; DataError unless its kind is one that is read."""
    form = Format(given) if isinstance(given, str | None) else given
    if not isinstance(form, Format) or form.kind not in (None, *FORMATS):
        got = form.kind if isinstance(form, Format) else form
        raise DataError(f"format must be one of {FORMATS}, or an rc.data.Format, got {got!r}")
    return form


def load(path: Path, wanted: Wanted) -> Columns:
    """The wanted columns of a file.

    **Raises:** `DataError` when its format is unknown, it cannot be read as that format, or that needs a package that is not
    installed.
    """
    return READERS[wanted.format.kind or _kind(path)](path, wanted)


def _kind(file: Path) -> str:
    kind = SUFFIXES.get(file.suffix.lower())
    if kind is None:
        npy = "one array without names, save with np.savez"
        why = npy if file.suffix == ".npy" else f"give format=, one of {FORMATS}"
        raise DataError(f"the suffix must be one of {tuple(SUFFIXES)}, got {file.suffix!r}: {why}")
    return kind
