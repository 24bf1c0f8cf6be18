"""Tables that the child process reads: Parquet files and Excel sheets."""

from __future__ import annotations

import csv
import datetime
import functools
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .limits import Arrays, Unusable, check_size, numeric


def load_parquet(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Columns of a Parquet file."""
    from fastparquet import ParquetFile

    file = ParquetFile(path)
    available = [str(name) for name in file.columns]
    if any(column.file_path for group in file.row_groups for column in group.columns):
        raise Unusable("its columns are stored in other files; write it as one file")
    columns = [name for name in names if name in available]
    if not columns:
        return available, {}
    rows = sum(int(group.num_rows) for group in file.row_groups)
    for name in columns:
        check_size(name, (rows,), 8, path)  # before reading: the row count is the file's own claim
    frame = file.to_pandas(columns=columns, index=False)
    return available, {name: [numeric(name, plain(frame[name]))] for name in columns}


def units(path: str, names: list[str]) -> dict[str, str]:
    """Units of a Parquet file's columns, where pandas wrote ``frame.attrs["units"]`` into it."""
    from fastparquet import ParquetFile

    attrs = json.loads(ParquetFile(path).key_value_metadata.get("PANDAS_ATTRS", "{}"))
    return labels_of(attrs, names)


def labels_of(attrs: Any, names: Iterable[str]) -> dict[str, str]:
    """Units of columns in the attributes of a DataFrame, which may hold anything."""
    match attrs:
        case {"units": {**labels}}:
            return {name: str(labels[name]) for name in names if name in labels}
        case _:
            return {}


def plain(column: Any) -> np.ndarray:
    """NumPy array of a pandas column: missing integers and truth values become NaN, dates UTC without a zone."""
    from pandas.api.types import is_extension_array_dtype

    kind = column.dtype.kind
    if kind == "M" and column.dt.tz is not None:
        return column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    nullable = kind in "iubf" and is_extension_array_dtype(column.dtype)
    return column.to_numpy(np.float64, na_value=np.nan) if nullable else column.to_numpy()


def by_sheet(names: Iterable[str], titles: Sequence[str]) -> dict[str, dict[str, str]]:
    """For each sheet that is needed, the column of each name: ``sheet/u`` is in that sheet, ``u`` in the first one."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        title, _, column = name.partition("/")  # a title has no slash
        title, column = (title, column) if title in titles and column else (titles[0], name)
        found.setdefault(title, {})[name] = column
    return found


def load_xlsx(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Titles of the sheets of an Excel workbook, and those that hold `names`, each as the bytes of a csv text."""
    from openpyxl import load_workbook

    with open(path, "rb") as file:  # of a path, openpyxl looks at the suffix
        sheets = load_workbook(file, read_only=True, data_only=True, keep_links=False).worksheets
        titles = [sheet.title for sheet in sheets]
        if not titles:
            raise Unusable("the workbook holds charts and no sheet of cells")
        needed = by_sheet(names, titles)
        return titles, {sheet.title: [sheet_text(sheet, path)] for sheet in sheets if sheet.title in needed}


def sheet_text(sheet: Any, path: str) -> np.ndarray:
    """A sheet as the bytes of a csv text with a line for each row."""
    # Text is quoted, so that a cell's text cannot be taken for a separator, a comment or a new line.
    text = io.StringIO()
    writer, size = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"), 0
    sheet.reset_dimensions()  # those are the file's own claim
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        size += writer.writerow([cell_text(cell) for cell in row])
        check_size(f"row {number}", (size,), 1, path)
    # an array without entries would be refused as a signal without samples
    return np.frombuffer(text.getvalue().encode() or b"\n", np.uint8)


@functools.singledispatch
def cell_text(cell: Any) -> Any:
    """Value of one cell as a csv file has it: of text, whose lines become one, and of anything that openpyxl shows as text."""
    return " ".join(str(cell).split())


cell_text.register(datetime.date, lambda day: day.isoformat())
cell_text.register(datetime.time, lambda time: time.isoformat())
cell_text.register(datetime.timedelta, lambda duration: duration.total_seconds())
cell_text.register(bool, int)
for _unchanged in int, float, type(None):
    cell_text.register(_unchanged, lambda cell: cell)
