"""Tables that the child process reads: Parquet files and Excel sheets."""

from __future__ import annotations

import csv
import datetime
import functools
import io
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


def plain(column: Any) -> np.ndarray:
    """NumPy array of a pandas column: missing integers and truth values become NaN, dates UTC without a zone."""
    from pandas.api.types import is_extension_array_dtype

    kind = column.dtype.kind
    if kind == "M" and column.dt.tz is not None:
        return column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    nullable = kind in "iubf" and is_extension_array_dtype(column.dtype)
    return column.to_numpy(np.float64, na_value=np.nan) if nullable else column.to_numpy()


def load_xlsx(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Names of the sheets of an Excel workbook, and the first one as the bytes of a csv text with a line for each row."""
    from openpyxl import load_workbook

    # Text is quoted, so that a cell's text cannot be taken for a separator, a comment or a new line.
    text = io.StringIO()
    writer, size = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"), 0
    with open(path, "rb") as file:  # of a path, openpyxl looks at the suffix
        sheets = load_workbook(file, read_only=True, data_only=True, keep_links=False).worksheets
        sheet, titles = sheets[0], [sheet.title for sheet in sheets]
        sheet.reset_dimensions()  # those are the file's own claim
        for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
            size += writer.writerow([cell_text(cell) for cell in row])
            check_size(f"row {number}", (size,), 1, path)
    return titles, {"text": [np.frombuffer(text.getvalue().encode(), np.uint8)]}


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
