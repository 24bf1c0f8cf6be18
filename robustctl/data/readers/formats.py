"""The formats of log files: which suffix is which, and which function reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...checks import made_of
from ...errors import DataError
from .archive import load_npy, load_npz
from .blocks import check_columns, split_experiments
from .child import load_hdf5, load_mat, load_parquet
from .frames import index_name, is_frame, load_frame
from .request import Columns, Format, Wanted
from .text import load_text
from .workbook import load_xlsx

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
_UNPACK, _PANDAS = "unpack it first", "read it with pandas, and give its DataFrame in place of the file"
CONVERTED = {
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".7z", ".tar", ".zst"), _UNPACK),
    **dict.fromkeys(
        (".json", ".jsonl", ".feather", ".arrow", ".pkl", ".pickle", ".ods", ".html", ".sas7bdat", ".dta"),
        _PANDAS,
    ),
    ".xls": "save it as xlsx or csv",
    **dict.fromkeys(
        (".mf4", ".mdf", ".tdms", ".bag", ".mcap", ".blf", ".asc", ".slx", ".sldd"),
        "export its signals to csv, mat or hdf5",
    ),
}
"""What to do with files that hold logs and are not read."""
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


@dataclass(frozen=True)
class Source:
    """A file or a DataFrame: what messages and its record call it, how it is loaded, and the name of its index of dates."""

    where: str
    name: str
    load: Callable[[Wanted], Columns]
    index: str | None = None


def as_format(given: str | Format | None) -> Format:
    """`given` as a `Format`; DataError unless its kind is one that is read."""
    form = made_of(given, Format)
    if form.kind not in (None, *FORMATS):
        raise DataError(f"format must be one of {FORMATS}, or an rc.data.Format, got {form.kind!r}")
    return form


def load(path: Path, wanted: Wanted) -> Columns:
    """The wanted columns of a file.

    **Raises:** `DataError` when its format is unknown, it cannot be read as that format, or that needs a package that is not
    installed.
    """
    return READERS[wanted.format.kind or _kind(path)](path, wanted)


def source_of(given: Any) -> Source:
    """What a file name or a DataFrame stands for.

    **Raises:** `DataError` for anything else, and for a file that is not there.
    """
    if is_frame(given):
        return Source("DataFrame", "experiment", partial(load_frame, given), index_name(given))
    file = _file(given)
    return Source(str(file), file.stem, partial(load, file))


def load_experiments(source: Source, wanted: Wanted) -> list[tuple[str, Columns]]:
    """Name and columns of each experiment in a file or a DataFrame.

    **Raises:** `DataError` for what `load` refuses, and for columns that are missing or there twice.
    """
    found = source.load(wanted)
    check_columns(wanted.names, found.available, found.arrays)
    parts = split_experiments(found, wanted.names)
    name = source.name
    return [(name if len(parts) == 1 else f"{name}[{index}]", part) for index, part in enumerate(parts)]


def _file(path) -> Path:
    try:
        file = Path(path)
    except TypeError:
        raise DataError(
            f"path must be a file name or a list of them, got {path!r:.60} of type {type(path).__name__}; arrays become a record by "
            "rc.data.from_arrays"
        ) from None
    try:
        found, folder = file.is_file(), file.is_dir()
    except (OSError, ValueError) as error:
        raise DataError(f"path {path!r} cannot be opened: {error}") from error
    if not found:
        raise DataError(f"{file}: there is no such file" + (", it is a folder" if folder else ""))
    return file


def _kind(file: Path) -> str:
    kind = SUFFIXES.get(file.suffix.lower())
    if kind is None:
        if file.suffix.lower() in CONVERTED:
            raise DataError(
                f"a {file.suffix.lower()} file cannot be read as it is: {CONVERTED[file.suffix.lower()]}"
            )
        raise DataError(
            f"the suffix must be one of {tuple(SUFFIXES)}, got {file.suffix!r}: give format=, one of {FORMATS}, "
            "or save it as one of these"
        )
    return kind
