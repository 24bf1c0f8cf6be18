"""Reader of delimited text."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import RobustctlWarning
from .clock import is_clock, to_stamps
from .decode import decode
from .header import Header, find_header, places
from .labels import split_unit
from .numerals import MISSING, to_numbers
from .regular import Table, read_regular
from .request import Columns, Wanted
from .rows import Rows, read_rows, refuse_closing


def load_text(path: Path, wanted: Wanted) -> Columns:
    """Columns of delimited text with a header row."""
    with path.open("rb") as file:
        found = read_regular(file, wanted)
    if found is None:
        found = _by_cell(path, wanted)
    header, where = found.header, places(found.header, wanted)
    encoding, rows, cells = found.found
    return Columns(
        [cell for cell in header.cells if cell],
        {name: [array] for name, array in found.arrays.items()},
        _called(header, where, wanted),
        {name: _unit(header, found.units, place) for name, place in where.items()},
        [*encoding, *_of_header(header, found.number), *rows, *cells],
    )


def _by_cell(path: Path, wanted: Wanted) -> Table:
    text, encoding = decode(path.read_bytes(), wanted.format.encoding)
    lines = [
        (number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip() or "\t" in line
    ]
    filled = [line for line in lines if line[1].strip()]
    header = find_header(filled, wanted.names)
    number = filled[header.index][0]
    words = MISSING | wanted.format.words
    rows = read_rows([line for line in lines if line[0] > number], header, words, bool(wanted.time))
    where = places(header, wanted)
    refuse_closing(rows, list(where.values()), words)
    cells = {name: [row[place] for row in rows.cells] for name, place in where.items()}
    arrays, more, doubt = _arrays(cells, rows, header, wanted)
    if doubt:
        warnings.warn(f"{path}: {doubt}", RobustctlWarning, stacklevel=7)
    return Table(header, number, rows.units, arrays, (encoding, rows.guesses, more))


def _arrays(
    cells: Mapping[str, list[str]], rows: Rows, header: Header, wanted: Wanted
) -> tuple[dict[str, np.ndarray], list[str], str]:
    """Arrays of the columns found, guesses, and a doubt to warn of."""
    form = wanted.format
    if form.decimal is None and header.decimal is not None:
        form = dataclasses.replace(form, decimal=header.decimal)
    clocks = {
        name: cells[name]
        for name in wanted.time
        if name in cells and cells[name] and is_clock(cells[name][0])
    }
    others = {name: column for name, column in cells.items() if name not in clocks}
    arrays, guesses, doubt = to_numbers(others, rows.lines, form, header.separator)
    for name, column in clocks.items():
        arrays[name], more = to_stamps(column, name, rows.lines)
        guesses = guesses + more
    return arrays, guesses, doubt


def _called(header: Header, where: Mapping[str, int], wanted: Wanted) -> dict[str, str]:
    """Names without the unit that the header adds, where that leaves them different."""
    short = {name: split_unit(header.cells[place])[0] for name, place in where.items()}
    return {name: s for name, s in short.items() if list(short.values()).count(s) == 1 and s != name}


def _unit(header: Header, units: list[str], place: int) -> str:
    return split_unit(header.cells[place])[1] or (units[place] if place < len(units) else "")


def _of_header(header: Header, number: int) -> list[str]:
    if header.comment:
        return [f"names from the comment in line {number}"]
    return (
        [f"{header.above} line{'s' * (header.above > 1)} above the header left out"] if header.above else []
    )
