"""The formats of log files: which suffix is which, and which function reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import DataError
from .archive import load_npy, load_npz
from .blocks import check_columns, split_experiments
from .child import load_hdf5, load_mat, load_parquet, load_xlsx
from .frames import Frame, load_frame
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
    ".npy": "npy",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}
READERS: dict[str, Callable[[Path, Wanted], Columns]] = {
    "csv": load_text,
    "parquet": load_parquet,
    "mat": load_mat,
    "hdf5": load_hdf5,
    "npz": load_npz,
    "npy": load_npy,
    "xlsx": load_xlsx,
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


def load_experiments(source: Path | Frame, wanted: Wanted) -> list[tuple[str, Columns]]:
    """Name and columns of each experiment in a file or a DataFrame.

    **Raises:** `DataError` for what `load` refuses, and for columns that are missing or there twice.
    """
    found = load(source, wanted) if isinstance(source, Path) else load_frame(source, wanted)
    check_columns(wanted.names, found.available, found.arrays)
    parts = split_experiments(found, wanted.names)
    name = source.stem if isinstance(source, Path) else "experiment"
    return [(name if len(parts) == 1 else f"{name}[{index}]", part) for index, part in enumerate(parts)]


def _kind(file: Path) -> str:
    kind = SUFFIXES.get(file.suffix.lower())
    if kind is None:
        raise DataError(
            f"the suffix must be one of {tuple(SUFFIXES)}, got {file.suffix!r}: give format=, one of {FORMATS}, "
            "or save it as one of these"
        )
    return kind
