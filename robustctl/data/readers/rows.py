"""Rows of a text table: what is a sample, what is a comment, a unit, or a line of a program's output."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import DataError
from .clock import is_clock
from .header import Header, Line, is_comment, split_line
from .labels import bare, is_unit
from .numerals import MISSING, is_sample, parsed
from .request import advised

SHOWN_LINES = 5  # numbers of lines in a guess
UNITS_FOUND = "units from the line under the header"
MOST_CLOSING = 20  # lines with averages and the like under a table


@dataclass(frozen=True)
class Rows:
    """The samples of a table.

    **Arguments:**

    - `cells`: a list for each sample, as long as the header or longer.
    - `lines`: number of each sample's line in the file.
    - `units`: of the columns, where a row of units follows the header.
    - `guesses`: what was left out.
    """

    cells: list[list[str]]
    lines: list[int]
    units: list[str]
    guesses: list[str]


def read_rows(lines: Sequence[Line], header: Header, words: frozenset[str], timed: bool) -> Rows:
    """Samples below the header.

    Lines without any number, and with another number of cells than the header, are left out where that moves no sample:
    above the first and below the last one, and anywhere in a table with time stamps (`timed`).

    **Raises:** `DataError` for rows with too many or too few cells, for such a line between samples without time stamps, and
    for a closing line of averages.
    """
    width, separator = len(header.cells), header.separator
    kept = [line for line in lines if not _skipped(line[1], separator, width, words)]
    units = units_in(split_line(kept[0][1], separator), width) if kept else []
    parsed_rows = _parsed(kept[bool(units) :], separator)
    cells, numbers, texts = [], [], []
    for row, number in parsed_rows:
        if len(row) == width + 1 and not row[-1].strip():
            row.pop()
        if len(row) == width and row[0] != header.cells[0]:
            pass
        elif _is_text(row, header.cells, words):
            texts.append((number, len(cells)))
            continue
        else:
            row = _fitted(row, number, header, last=number == kept[-1][0])
        cells.append(row)
        numbers.append(number)
    _drop_empty_end(cells, numbers)
    guesses = [UNITS_FOUND] if units else []
    return Rows(cells, numbers, units, guesses + _left_out(texts, len(cells), timed))


def _skipped(line: str, separator: str, width: int, words: frozenset[str]) -> bool:
    """True for an empty line or a comment; ``#N/A`` may begin a sample, and tabs alone are one without measurements."""
    if not line.strip():
        return separator != "\t" or line.count("\t") < width - 1
    if not is_comment(line):
        return False
    cells = split_line(line, separator)
    return len(cells) != width or not all(is_sample(cell, words) for cell in cells[1:])


def units_in(cells: Sequence[str], width: int) -> list[str]:
    """The units in a row of them, of which one is no number, as wide as the header; none in any other row."""
    filled = [cell for cell in cells if cell]
    found = (
        len(cells) >= width
        and all(map(is_unit, filled))
        and any(not is_sample(cell, MISSING) for cell in filled)
        and not any(cell[:1].isdigit() and is_sample(cell, frozenset()) for cell in filled if cell != "1")
    )
    return [bare(cell) for cell in cells] if found else []


def _parsed(lines: Sequence[Line], separator: str) -> list[tuple[list[str], int]]:
    numbers = [number for number, _ in lines]
    texts = [line.strip() if separator == " " else line for _, line in lines]
    if separator == " " and not any('"' in text for text in texts):
        return [(text.split(), number) for text, number in zip(texts, numbers, strict=True)]
    reader, rows = csv.reader(texts, delimiter=separator, skipinitialspace=separator == " ", strict=True), []
    try:
        for row in reader:
            rows.append((row, numbers[len(rows)]))
            # A quote left open takes the rest of the file into one cell; the row that opened it is the one to name.
            if reader.line_num != len(rows):
                raise DataError(f"line {rows[-1][1]} must close the quote it opens")
    except csv.Error as error:
        raise DataError(f"line {numbers[min(len(rows), len(numbers) - 1)]}: {error}") from error
    return rows


def _is_text(row: Sequence[str], header: Sequence[str], words: frozenset[str]) -> bool:
    """True for a line of a program's output, or the header once more."""
    filled = [cell.strip() for cell in row if cell.strip()]
    if len(row) == len(header):
        return filled == [cell for cell in header if cell]
    return bool(filled) and not any(is_sample(cell, words) for cell in filled)


def _fitted(row: list[str], number: int, header: Header, last: bool) -> list[str]:
    """A row with at least as many cells as the header; DataError with the likely cause where it has not."""
    width = len(header.cells)
    if len(row) >= width and not any(cell.strip() for cell in row[width:]):
        return row
    if len(row) == width - 1 and header.cells[-1] == "Comment":  # LabVIEW leaves it out where there is none
        return [*row, ""]
    if len(row) < width:
        cause = (
            "it is the last one and was cut off: delete it"
            if last
            else "complete it, or delete it if it is no sample"
        )
    elif header.separator == "," and all(re.fullmatch(r"\s*[+-]?\d+\s*", cell) for cell in row):
        cause = "decimal commas cannot be used in a file separated by commas: put quotes around the numbers, or semicolons between them"
    else:
        cause = "the header must name every column: add the missing names to it"
    raise DataError(f"line {number} must have {width} cells as the header does, it has {len(row)}; {cause}")


def _drop_empty_end(cells: list[list[str]], numbers: list[int]) -> None:
    """Spreadsheets export the empty rows below a table, too; they are no samples."""
    while cells and not any(cell.strip() for cell in cells[-1]):
        cells.pop()
        numbers.pop()


def _left_out(texts: list[tuple[int, int]], samples: int, timed: bool) -> list[str]:
    between = [number for number, before in texts if 0 < before < samples]
    if between and not timed:
        raise DataError(
            f"line {between[0]} holds no number and is between samples; delete it, or give time= so that the samples keep "
            "their times without it"
        )
    if not texts:
        return []
    shown = ", ".join(str(number) for number, _ in texts[:SHOWN_LINES]) + ", ..." * (len(texts) > SHOWN_LINES)
    return [f"{len(texts)} line{'s' * (len(texts) > 1)} without numbers left out ({shown})"]


def begins_sample(cell: str, words: frozenset[str]) -> bool:
    """True where a row that begins with this cell is no closing line: for a number, a time, and a word of missing samples."""
    return _is_stamp(cell) or cell.strip().lower() in words - {""}


def _is_stamp(cell: str) -> bool:
    return is_clock(cell) or parsed(cell.strip(), ".", frozenset()) is not None


def refuse_closing(rows: Rows, used: Sequence[int], words: frozenset[str]) -> None:
    """Raise a DataError for a line of averages under the table: text, or nothing, in a first column of numbers or times."""
    if 0 in used or len(rows.cells) < 2 or begins_sample(rows.cells[-1][0], words):
        return
    start = len(rows.cells) - 1
    while start > 0 and len(rows.cells) - start < MOST_CLOSING and not _is_stamp(rows.cells[start - 1][0]):
        start -= 1
    if start and all(_is_stamp(row[0]) for row in rows.cells[:start]):
        word = rows.cells[start][0].strip()
        raise DataError(
            f"line {rows.lines[start]} begins with {word[:40]!r} where all lines above begin with a number: a closing line and no "
            f"sample; delete it, or give {advised('missing', word[:40])} if it is one"
        )
