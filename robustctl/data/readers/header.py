"""Where the table of a text file begins: its separator, its header, and what is a comment."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import DataError
from .clock import is_clock
from .labels import split_unit
from .numerals import MISSING, NUMBER, is_sample
from .request import Wanted

SEPARATORS = ("\t", ";", ",", "|", " ")
MOST_PREAMBLE = 2000  # lines before the header; LabVIEW, INCA and data loggers write up to some hundred
SOON = 10  # lines between a header and the first row: units, or a console's
Line = tuple[int, str]
# A row of single dashes is one of missing samples.
_RULE = re.compile(r"[\s|+:=-]*(?:---|===)[\s|+:=-]*")
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_LABVIEW = {
    "separator": re.compile(r"Separator[\t,; ](Tab|Comma|Semicolon)\b", re.IGNORECASE),
    "decimal": re.compile(r"Decimal_Separator[\t,; ]([.,])", re.IGNORECASE),
}
_LABVIEW_SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";"}


@dataclass(frozen=True)
class Header:
    """The header of a table.

    **Arguments:**

    - `index`: of the header among the lines.
    - `separator`: between cells.
    - `cells`: names of the columns, without empty ones at the end.
    - `decimal`: decimal sign that the file names, or None.
    - `comment`: True where the names are in a comment.
    - `above`: number of lines above it that are neither comments nor name the separator.
    """

    index: int
    separator: str
    cells: list[str]
    decimal: str | None
    comment: bool = False
    above: int = 0

    def positions(self, name: str) -> list[int]:
        """Columns called `name`: exactly, or else with a unit behind it."""
        return positions(self.cells, name)


def positions(cells: Sequence[str], name: str) -> list[int]:
    """Cells that are `name`, or else `name` with a unit behind it."""
    exact = [index for index, cell in enumerate(cells) if cell == name.strip()]
    return exact or [index for index, cell in enumerate(cells) if split_unit(cell)[0] == name.strip()]


def places(header: Header, wanted: Wanted) -> dict[str, int]:
    """Place of each wanted column that the header names.

    **Raises:** `DataError` for a name that two columns have.
    """
    found = {name: header.positions(name) for name in wanted.names}
    for name, at in found.items():
        if len(at) > 1:
            raise DataError(f"the file has {len(at)} columns called {name!r}; rename all but one")
    return {name: at[0] for name, at in found.items() if at}


def is_comment(line: str) -> bool:
    """True for a line that starts with # or %, and for the line of dashes under the header of a Markdown or text table."""
    return line.lstrip()[:1] in ("#", "%") or bool(_RULE.fullmatch(line))


def split_line(line: str, separator: str) -> list[str]:
    """Cells of one line; none where its quotes do not match."""
    if separator == " " and '"' not in line:
        return line.split()
    try:
        rows = list(
            csv.reader([line.strip(" ")], delimiter=separator, skipinitialspace=separator == " ", strict=True)
        )
    except csv.Error:
        return []
    return [cell.strip() for cell in rows[0]] if len(rows) == 1 else []


def find_header(lines: Sequence[Line], names: Sequence[str]) -> Header:
    """The first line that holds all `names`; where there is none, the line above the first row of numbers.

    **Raises:** `DataError` for a file without lines, or one whose first line is numbers.
    """
    if not lines:
        raise DataError("the file holds no header and no rows")
    separators, decimal = _named_in_file(lines)
    first = lines[:MOST_PREAMBLE]
    found = _with_names(first, names, separators) or _in_comment(first, names, separators)
    index, separator, comment = found or (*_above_numbers(first, separators), False)
    cells = split_line(_uncommented(lines[index][1]) if comment else lines[index][1], separator)
    while cells and not cells[-1]:
        cells.pop()
    if all(NUMBER.fullmatch(cell) for cell in cells if cell):
        if lines[0][1].lstrip()[:1] in ("{", "["):
            raise DataError(
                "the text is JSON; read it with pandas, and give its DataFrame in place of the file"
            )
        raise DataError(
            f"line {lines[index][0]} must be a header with the column names, it holds only numbers; "
            "add one (a line that starts with # or % counts where it holds all the names)"
        )
    above = sum(not is_comment(line) and not _SEP_LINE.fullmatch(line) for _, line in lines[:index])
    return Header(index, separator, cells, decimal, comment, above)


def _named_in_file(lines: Sequence[Line]) -> tuple[tuple[str, ...], str | None]:
    """Separators to try, and the decimal sign, where the file names them: ``sep=;`` of Excel, the header of LabVIEW."""
    excel = _SEP_LINE.fullmatch(lines[0][1].strip("\n\r"))
    if excel:
        return (excel[1],), None
    if not lines[0][1].startswith("LabVIEW Measurement"):
        return SEPARATORS, None
    found = {key: [m[1] for _, line in lines[:50] if (m := p.match(line))] for key, p in _LABVIEW.items()}
    separators = [_LABVIEW_SEPARATORS[name.lower()] for name in found["separator"]]
    return tuple(separators) or SEPARATORS, next(iter(found["decimal"]), None)


def _with_names(
    lines: Sequence[Line], names: Sequence[str], separators: Sequence[str]
) -> tuple[int, str, bool] | None:
    """The first line with all names and a row of as many cells soon below it, or else the first line with all names."""
    found = []
    for index, (_, line) in enumerate(lines):
        if not is_comment(line) and all(name.strip() in line for name in names if '"' not in name):
            for separator in separators:
                cells = split_line(line, separator)
                if all(positions(cells, name) for name in names):
                    if any(
                        _fits(below, separator, cells) for _, below in lines[index + 1 : index + 1 + SOON]
                    ):
                        return index, separator, False
                    found.append((index, separator, False))
    return found[0] if found else None


def _fits(line: str, separator: str, header: Sequence[str]) -> bool:
    """True for a row of numbers or times that may follow `header`; the last cell may be missing."""
    cells = split_line(line, separator)
    enough = len(cells) >= sum(map(bool, header)) - 1
    return enough and any(is_sample(cell, frozenset()) or is_clock(cell) for cell in cells)


def _uncommented(line: str) -> str:
    return line.lstrip("#% \t")


def _in_comment(
    lines: Sequence[Line], names: Sequence[str], separators: Sequence[str]
) -> tuple[int, str, bool] | None:
    """The comment above the first other line, if it holds the names and as many cells: NumPy and Octave write it so."""
    first = next((index for index, (_, line) in enumerate(lines) if not is_comment(line)), 0)
    if first:
        for separator in separators:
            cells = split_line(_uncommented(lines[first - 1][1]), separator)
            if all(positions(cells, name) for name in names) and len(cells) == len(
                split_line(lines[first][1], separator)
            ):
                return first - 1, separator, True
    return None


def _above_numbers(lines: Sequence[Line], separators: Sequence[str]) -> tuple[int, str]:
    """The line to blame when names are not found: the one above the first row of numbers."""
    plain = [index for index, (_, line) in enumerate(lines) if not is_comment(line)]
    if not plain:
        raise DataError("the file holds no header and no rows")
    for order, index in enumerate(plain):
        if lines[index][1].count('"') % 2:
            raise DataError(f"line {lines[index][0]} must close the quote it opens")
        rows = {separator: split_line(lines[index][1], separator) for separator in separators}
        widths = {s: len(cells) for s, cells in rows.items() if len(cells) > 1 and _is_row(cells)}
        if widths:
            separator = max(widths, key=lambda s: widths[s])
            above = (
                i
                for i in reversed(plain[:order])
                if len(split_line(lines[i][1], separator)) >= widths[separator]
            )
            return next(above, index), separator
    bare = re.sub(r'"[^"]*"', "", lines[plain[0]][1])
    return plain[0], max(separators, key=lambda s: bare.strip().count(s))


def _is_row(cells: Sequence[str]) -> bool:
    samples = [cell for cell in cells if cell]
    return any(NUMBER.fullmatch(cell) for cell in samples) and all(
        is_sample(cell, MISSING) or is_clock(cell) for cell in samples
    )
