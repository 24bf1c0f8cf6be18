"""Sheets of Excel workbooks, which the reader of text takes row by row."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import DataError
from .blocks import check_columns
from .child import load_in_child
from .request import Columns, Wanted
from .tables import by_sheet
from .text import load_text


def load_xlsx(path: Path, wanted: Wanted) -> Columns:
    """Columns of an Excel workbook: ``sheet/u``, or ``u`` of the first sheet."""
    read = load_in_child(path, "xlsx", wanted)
    titles, parts, guesses = list(read.available), [], []
    for title, columns in by_sheet(wanted.names, titles).items():
        try:
            parts.append(_sheet(read.arrays[title][0], columns, wanted))
        except DataError as error:
            others = f"; name a column of another sheet as 'sheet/column', there are {titles}"
            raise DataError(f"sheet {title!r}: {error}" + others * (len(titles) > 1)) from error
        if len(titles) > 1 and any(name == column for name, column in columns.items()):
            guesses.append(f"sheet {title!r}, the first of {len(titles)}")
    return Columns(
        wanted.names,
        {name: array for part in parts for name, array in part.arrays.items()},
        {name: called for part in parts for name, called in part.names.items()},
        {name: unit for part in parts for name, unit in part.units.items()},
        [*guesses, *(guess for part in parts for guess in part.guesses)],
    )


def _sheet(text: np.ndarray, columns: Mapping[str, str], wanted: Wanted) -> Columns:
    """Columns of one sheet by the name asked for, where `columns` has their names in it."""
    form = replace(wanted.format, encoding="utf-8")
    inside = Wanted(
        tuple(dict.fromkeys(columns.values())),
        tuple(columns[name] for name in wanted.time if name in columns),
        form,
    )
    with tempfile.TemporaryDirectory(prefix="robustctl-") as folder:
        file = Path(folder) / "sheet.csv"
        file.write_bytes(text.tobytes())
        read = load_text(file, inside)
    check_columns(inside.names, read.available, read.arrays)
    called = {
        name: name.removesuffix(column) + read.names.get(column, column) for name, column in columns.items()
    }
    return replace(
        read,
        arrays={name: read.arrays[column] for name, column in columns.items()},
        names=called,
        units={name: read.units[column] for name, column in columns.items()},
    )
