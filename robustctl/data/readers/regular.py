"""Large text tables whose rows are all alike, a block at a time by pandas' parser; all others are read cell by cell."""

from __future__ import annotations

import codecs
import contextlib
import csv
import importlib.util
import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from ...errors import DataError
from .clock import is_clock, uniform_stamps
from .decode import decode
from .header import MOST_PREAMBLE, SOON, Header, find_header, is_comment, places, split_line
from .numerals import EITHER, MISSING, decimal_sign, is_sample, parsed
from .request import Wanted
from .rows import UNITS_FOUND, begins_sample, units_in

# Below them, reading cell by cell takes no longer than pandas' import, and than its calls where it has been imported.
FEWEST_BYTES, FEWEST_IMPORTED = 2**22, 2**16
BLOCK = 2**22  # bytes
HEAD = 2 * (MOST_PREAMBLE + SOON)  # lines; half of them filled hold the header that the whole file would show
UTF_8, EXTENDING_ASCII = ("utf-8", "utf-8-sig"), ("ascii", "iso8859-1", "cp1252")
NEWLINE, SPACE, TAB = b"\n"[0], b" "[0], b"\t"[0]
# Comments, quotes, and what text does not hold: rows with one of them are not all alike.
IRREGULAR = (b"\0", b"\r", b'"', b"#", b"%")
RULES, RULED = (b"---", b"==="), " \t|"
# What pandas raises at a cell that is no number for it, or at a table that it cannot take apart.
REFUSED = (DataError, ValueError, TypeError, OverflowError, Warning)


@dataclass(frozen=True)
class Table:
    """What a table holds.

    **Arguments:**

    - `header`: of the table.
    - `number`: of the header's line.
    - `units`: of the columns, where a row of units follows the header.
    - `arrays`: of the wanted columns.
    - `found`: guesses about encoding, about the rows, and about the cells.
    """

    header: Header
    number: int
    units: list[str]
    arrays: dict[str, np.ndarray]
    found: tuple[list[str], list[str], list[str]]


class Irregular(ValueError):
    """Raised at what must be read cell by cell."""


@dataclass
class Layout:
    """How the rows of a table are written, and what has been found in the blocks so far.

    **Arguments:**

    - `separator`: between cells.
    - `width`: cells of each row.
    - `spare`: cells of each row beyond the header's: 1 where rows end with a separator, -1 where the last column is absent.
    - `numbers`: place of each wanted column of numbers.
    - `clocks`: place of each wanted column of dates or times.
    - `words`: that mark missing samples, as they may be spelled.
    - `utf8`: whether cells of other columns may hold more than ASCII.
    - `decimal`: sign of the numbers, None until it is known.
    - `filled`: whether no missing sample has been met.
    - `points`: whether a point has been met.
    - `last`: the last row.
    - `parts`: of each column, an array for each block.
    """

    separator: str
    width: int
    spare: int
    numbers: dict[str, int]
    clocks: dict[str, int]
    words: list[str]
    utf8: bool
    decimal: str | None
    filled: bool = True
    points: bool = False
    last: bytes = b""
    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)


def read_regular(file: BinaryIO, wanted: Wanted) -> Table | None:
    """The wanted columns of a large table as they are found cell by cell; None for a table that must be read so.

    Its rows have one number of cells, no quotes and no comments; its numbers are those that pandas and Python read alike, its
    missing samples are empty or words, and its dates and times are all written with the same digits.
    """
    fewest = FEWEST_IMPORTED if "pandas" in sys.modules else FEWEST_BYTES
    large = os.fstat(file.fileno()).st_size >= fewest
    if not large or importlib.util.find_spec("pandas") is None:
        return None
    try:
        return _read(file, wanted)
    except REFUSED:
        return None


def _read(file: BinaryIO, wanted: Wanted) -> Table:
    raw = list(itertools.islice(file, HEAD))
    head = b"".join(raw)
    _require(b"\0" not in head and head.count(b"\r") == head.count(b"\r\n"))
    text, encoding = decode(head, wanted.format.encoding)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    _require(len(raw) < HEAD or len(lines) > MOST_PREAMBLE + SOON)
    header = find_header(lines, wanted.names)
    number, below = lines[header.index][0], lines[header.index + 1 :]
    _require(bool(below) and below[0][0] == number + 1 and not is_comment(below[0][1]))
    units = units_in(split_line(below[0][1], header.separator), len(header.cells))
    cells = [line.split(_argument(header.separator)) for _, line in below[bool(units) :]]
    layout = _layout(header, cells, wanted, _is_utf8(wanted, encoding))
    given = layout.decimal is not None
    file.seek(sum(map(len, raw[: number + bool(units)])))
    for block in _blocks(file):
        _add(block, layout)
    _check_end(layout, wanted)
    arrays, stamped = _arrays(layout)
    # A number beyond the largest one, or a cell beyond the longest one, is named by its line.
    _require(not any(a.dtype.kind == "f" and np.isinf(a).any() for a in arrays.values()))
    guesses = [] if given else _decimal_guess(layout, cells, wanted)
    return Table(header, number, units, arrays, (encoding, [UNITS_FOUND] * bool(units), [*guesses, *stamped]))


def _require(regular: bool) -> None:
    if not regular:
        raise Irregular


def _argument(separator: str) -> str | None:
    """Separator as `str.split` takes it."""
    return None if separator == " " else separator


def _is_utf8(wanted: Wanted, encoding: list[str]) -> bool:
    """Whether cells may hold more than ASCII; an encoding that has other characters in place of ASCII is not regular."""
    if wanted.format.encoding is None:
        return not encoding
    name = codecs.lookup(wanted.format.encoding).name
    _require(name in UTF_8 + EXTENDING_ASCII)
    return name in UTF_8


def _layout(header: Header, rows: Sequence[list[str]], wanted: Wanted, utf8: bool) -> Layout:
    words = MISSING | wanted.format.words
    _require(bool(rows) and not words & {"inf", "infinity"})
    place = places(header, wanted)
    _require(len(place) == len(wanted.names))
    # The header once more between rows is left out, and is noticed where it is no sample.
    titles = [header.cells[k] for k in place.values()]
    _require(not all(is_sample(title, words) or is_clock(title) for title in titles))
    first, width = rows[0], len(header.cells)
    spare = len(first) - width
    ended = spare == 1 and not first[-1].strip()
    shorter = spare == -1 and header.cells[-1] == "Comment"  # of LabVIEW
    _require((spare == 0 or ended or shorter) and max(place.values()) < len(first))
    clocks = {name: place[name] for name in wanted.time if is_clock(first[place[name]])}
    numbers = {name: k for name, k in place.items() if name not in clocks}
    # A number that marks missing samples is looked for among the values of every format.
    spelled = {word for word in words if parsed(word, ".", frozenset()) is None}
    spellings = [*spelled, *map(str.upper, spelled), *map(str.title, spelled), "NaN", "-NaN", "<NA>"]
    decimal = wanted.format.decimal or header.decimal
    return Layout(header.separator, len(first), spare, numbers, clocks, spellings, utf8, decimal)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, each with a newline at its end; empty lines at the end of the file are left out."""
    while block := file.read(BLOCK):
        block += file.readline()
        block = block.replace(b"\r\n", b"\n") if b"\r" in block else block
        if len(block) < BLOCK:
            block = block.rstrip(b"\n") + b"\n"
        yield block if block.endswith(b"\n") else block + b"\n"


def _add(block: bytes, layout: Layout) -> None:
    """Add the cells of a block to the parts of their columns."""
    ruled = layout.separator in RULED and any(rule in block for rule in RULES)
    _require(not ruled and not any(byte in block for byte in IRREGULAR))
    if not block.isascii():
        _require(layout.utf8)
        block.decode()
    values = _of_numbers(block, layout) or _with_cells(block, layout)
    for name, place in layout.numbers.items():
        layout.parts.setdefault(name, []).append(values[place])
    layout.points |= b"." in block
    layout.last = block[block.rfind(b"\n", 0, -1) + 1 : -1]


def _of_numbers(block: bytes, layout: Layout) -> dict[int, np.ndarray] | None:
    """Numbers by place, where all columns are wanted: the parser refuses longer rows, and the separators count shorter ones."""
    alone = layout.spare == 0 and not layout.clocks and len(set(layout.numbers.values())) == layout.width
    if not alone or layout.decimal is None or layout.separator == " ":
        return None
    separators = np.count_nonzero(np.frombuffer(block, np.uint8) == ord(layout.separator))
    for filled in (True, False)[not layout.filled :]:
        with contextlib.suppress(*REFUSED):
            found = _by_pandas(block, layout, layout.decimal, filled)
            rows = len(next(iter(found.values())))
            if len(found) == layout.width and separators == (layout.width - 1) * rows:
                layout.filled = filled
                return found
    return None


def _with_cells(block: bytes, layout: Layout) -> dict[int, np.ndarray]:
    """Numbers by place, after a check of each row; the cells of dates and times are added to their parts."""
    starts, stops = (_words if layout.separator == " " else _cells)(block, layout)
    for name, place in layout.clocks.items():
        layout.parts.setdefault(name, []).append(_text(block, starts[:, place], stops[:, place]))
    values = _values(block, len(starts), layout)
    # A row without a comment and without a number is a line of text.
    _require(layout.spare >= 0 or not np.isnan(list(values.values())).all(axis=0).any())
    return values


def _cells(block: bytes, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops of the cells (rows, width)."""
    characters = np.frombuffer(block, np.uint8)
    stops = np.flatnonzero((characters == ord(layout.separator)) | (characters == NEWLINE))
    _require(len(stops) % layout.width == 0)
    ends = (characters[stops] == NEWLINE).reshape(-1, layout.width)
    _require(bool(ends[:, -1].all()) and np.count_nonzero(ends) == len(ends))
    starts = np.concatenate([[0], stops[:-1] + 1])
    starts, stops = starts.reshape(ends.shape), stops.reshape(ends.shape)
    _require(layout.spare < 1 or bool((starts[:, -1] == stops[:, -1]).all()))
    return starts, stops


def _words(block: bytes, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The same where blanks separate the cells, as many as there are."""
    characters = np.frombuffer(b"\n" + block, np.uint8)
    blank = (characters == SPACE) | (characters == TAB) | (characters == NEWLINE)
    # Python counts further bytes as blanks.
    _require(bool((blank | (characters > SPACE)).all()) and block.isascii())
    starts, stops = np.flatnonzero(blank[:-1] & ~blank[1:]), np.flatnonzero(~blank[:-1] & blank[1:])
    below = np.searchsorted(starts, np.flatnonzero(characters[1:] == NEWLINE))
    _require(bool((np.diff(below, prepend=0) == layout.width).all()))
    return starts.reshape(-1, layout.width), stops.reshape(-1, layout.width)


def _text(block: bytes, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Cells of one length as an array of bytes (rows,)."""
    length = int(stops[0] - starts[0])
    _require(length > 0 and bool((stops - starts == length).all()))
    characters = np.frombuffer(block, np.uint8)
    return np.ascontiguousarray(characters[starts[:, None] + np.arange(length)]).view(f"S{length}")[:, 0]


def _values(block: bytes, rows: int, layout: Layout) -> dict[int, np.ndarray]:
    """Numbers by place, with the sign and the words that this block is the first to need."""
    signs = ("." if layout.separator == "," else ".,") if layout.decimal is None else layout.decimal
    tried = [(sign, filled) for sign in signs for filled in (True, False)[not layout.filled :]]
    for decimal, filled in tried:
        try:
            found = _by_pandas(block, layout, decimal, filled)
            _require(len(next(iter(found.values()))) == rows)
        except REFUSED:
            continue
        layout.decimal, layout.filled = decimal, filled
        return found
    raise Irregular


def _by_pandas(block: bytes, layout: Layout, decimal: str, filled: bool) -> dict[int, np.ndarray]:
    import pandas

    columns = sorted(set(layout.numbers.values()))
    part = None if len(columns) == layout.width else columns  # with a part, longer rows are not refused
    version = tuple(int(part) for part in pandas.__version__.split(".")[:2])
    # Since 3.1 there is no other way of reading a number.
    exact: dict[str, Any] = {} if version >= (3, 1) else {"float_precision": "round_trip"}
    frame = pandas.read_csv(
        io.BytesIO(block), engine="c", sep=r"\s+" if layout.separator == " " else layout.separator, header=None,
        usecols=part, dtype=dict.fromkeys(columns, np.float64), decimal=decimal, na_filter=not filled,
        na_values=layout.words, keep_default_na=False, quoting=csv.QUOTE_NONE, skip_blank_lines=False, skipinitialspace=True,
        low_memory=False, **exact,
    )  # fmt: skip
    return {place: frame[place].to_numpy() for place in (frame.columns if part is None else columns)}


def _check_end(layout: Layout, wanted: Wanted) -> None:
    """Require a last row that is no closing line and not empty."""
    row = layout.last.decode().split(_argument(layout.separator))
    used = 0 in (*layout.numbers.values(), *layout.clocks.values())
    _require(any(map(str.strip, row)) and (used or begins_sample(row[0], MISSING | wanted.format.words)))


def _arrays(layout: Layout) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays of the columns, and the guesses made about dates."""
    arrays, guesses = {}, []
    for name in layout.numbers:
        arrays[name] = np.concatenate(layout.parts.pop(name))
    for name in layout.clocks:
        found = uniform_stamps(np.concatenate(layout.parts.pop(name)))
        if found is None:
            raise Irregular
        arrays[name], more = found
        guesses += more
    return arrays, guesses


def _decimal_guess(layout: Layout, rows: Sequence[list[str]], wanted: Wanted) -> list[str]:
    """What is guessed of the decimal sign; a file that leaves it open is not regular."""
    words = MISSING | wanted.format.words
    cells = (row[k].strip() for row in rows for k in layout.numbers.values() if k < len(row))
    if layout.decimal == ",":
        commas = [cell for cell in cells if "," in cell and cell.lower() not in words]
        _require(bool(commas) and decimal_sign(commas) == ",")
        return ["decimal commas"]
    grouped = layout.separator == ";" and layout.points
    _require(not grouped or any("." in cell and not EITHER.fullmatch(cell) for cell in cells))
    return []
