"""Reader of delimited text."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import DataError
from .request import Columns, Wanted

MISSING_CELLS = {"", "nan", "na", "n/a", "null", "none", "-nan"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d*", re.ASCII)


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"text must be UTF-8, byte {error.start} is not; save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def load_text(path: Path, wanted: Wanted) -> Columns:
    """Columns of delimited text with a header row; ``#`` lines and blank lines are skipped."""
    numbered = [
        (number, line)
        for number, line in enumerate(_text(path).split("\n"), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not numbered:
        raise DataError("the file holds no header and no rows")
    numbers = [number for number, _ in numbered]
    rows = _csv_rows([line for _, line in numbered], _separator(numbered[0][1]), numbers)
    header = [cell.strip() for cell in rows[0]]
    while header and not header[-1]:
        header.pop()
    if all(NUMBER.fullmatch(cell) for cell in header if cell):
        raise DataError(
            f"line {numbers[0]} must be a header with the column names, it holds only numbers; "
            "add one (a line that starts with # does not count)"
        )
    found = [name for name in wanted.names if header.count(name) == 1]
    columns = _csv_columns(rows[1:], header, [header.index(name) for name in found], numbers[1:])
    arrays = {
        name: _csv_numbers(column, name, numbers[1:]) for name, column in zip(found, columns, strict=True)
    }
    return Columns([name for name in header if name], arrays)


def _separator(header: str) -> str:
    # Quoted names may contain any separator.
    bare = re.sub(r'"[^"]*"', "", header)
    counts = {separator: bare.count(separator) for separator in "\t;,"}
    best = max(counts, key=lambda separator: counts[separator])
    return best if counts[best] else " " if re.search(r"\S\s+\S", bare) else ","


def _csv_rows(lines: list[str], separator: str, numbers: list[int]) -> list[list[str]]:
    if separator == " ":
        lines = [line.strip() for line in lines]
    reader, rows = csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ", strict=True), []
    try:
        for row in reader:
            rows.append(row)
            # A quote left open takes the rest of the file into one cell; the row that opened it is the one to name.
            if reader.line_num != len(rows):
                raise DataError(f"line {numbers[len(rows) - 1]} must close the quote it opens")
    except csv.Error as error:
        raise DataError(f"line {numbers[min(len(rows), len(numbers) - 1)]}: {error}") from error
    return rows


def _csv_columns(
    rows: list[list[str]], header: list[str], positions: list[int], numbers: list[int]
) -> Iterator[list[str]]:
    width = len(header)
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != width and (len(row) < width or any(cell.strip() for cell in row[width:])):
            raise DataError(
                f"line {number} must have {width} cells as the header does, it has {len(row)}; "
                "complete the row, and use a decimal point, not a comma"
            )
    return ([row[position] for row in rows] for position in positions)


def _csv_numbers(cells: list[str], name: str, numbers: list[int]) -> np.ndarray:
    joined = "".join(cells)
    # float() accepts more than a log should hold: 1_000, and digits of other scripts.
    if joined.isascii() and "_" not in joined:
        try:
            return np.array(list(map(float, cells)), np.float64)
        except ValueError:
            pass
    return np.array([_csv_number(c, name, n) for c, n in zip(cells, numbers, strict=True)], np.float64)


def _csv_number(cell: str, name: str, line: int) -> float:
    cell = cell.strip()
    if cell.lower() in MISSING_CELLS:
        return math.nan
    if NUMBER.fullmatch(cell):
        return float(cell)
    comma = " with a decimal comma; write a decimal point" if DECIMAL_COMMA.fullmatch(cell) else ""
    raise DataError(f"line {line}, column {name!r}: {cell[:40]!r} is not a number{comma}")
