"""Cells of text to numbers, with the decimal sign that the file uses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import DataError
from .labels import is_unit
from .request import Format, advised

# What spreadsheets, pandas, R, MATLAB, LabVIEW and the C library write for a missing number; words of other programs are for
# the user to name, because a word in a column of numbers may also be a damaged number.
MISSING = frozenset((
    "", "nan", "-nan", "+nan", "na", "n/a", "<na>", "none", "nil", "nat", "null", "#null", "missing", "#na", "#n/a", "#n/a n/a",
    "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "#nv", "#wert!", "#zahl!", "#bezug!", "#valeur!", "#¡valor!",
    "1.#qnan", "-1.#qnan", "1.#qnan0", "1.#qnan00", "1.#snan", "1.#ind", "-1.#ind", "1.#ind00", "-1.#ind0", "-1.#ind00",
    "nan(ind)", "-nan(ind)", "nan(snan)", "?", "-", "--", "---", ".", "..", "*",
))  # fmt: skip
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
# Groups of three digits, by the decimal sign; spaces and apostrophes stand for either.
GROUPED = {
    ".": re.compile(
        r"([+-]?[1-9]\d{0,2})((?:,\d{3})+|(?:[ \u00a0\u2009\u202f'\u2019]\d{3})+)(\.\d*)?", re.ASCII
    ),
    ",": re.compile(
        r"([+-]?[1-9]\d{0,2})((?:\.\d{3})+|(?:[ \u00a0\u2009\u202f'\u2019]\d{3})+)(,\d*)?", re.ASCII
    ),
}
DECIMAL_COMMA = re.compile(r"[+-]?(\d*,\d+|\d+,)([eE][+-]?\d+)?", re.ASCII)
EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[,.]\d{3}", re.ASCII)  # 49,987 and 49.987
WITH_UNIT = re.compile(r"[+-]?[\d.,]*\d\s*([^\d\s].*)", re.ASCII)
TRUTH = {"true": 1.0, "false": 0.0}
_STATES = frozenset((
    "on", "off", "open", "closed", "yes", "no", "high", "low", "start", "stop", "ein", "aus", "auf", "zu", "ja", "nein", "t", "f", "y", "n",
))  # fmt: skip
CLOSING = re.compile(
    r"(average|avg|mean|min|max|sum|total|std|stdev|rms|median|count|end|eof|mittelwert|summe|moyenne|media|promedio)\b.*",
    re.IGNORECASE,
)
SHOWN = 40  # characters of a cell in a message


def to_numbers(
    columns: Mapping[str, list[str]], lines: Sequence[int], form: Format, separator: str
) -> tuple[dict[str, np.ndarray], list[str], str]:
    """Numbers of each column of cells, the guesses made, and a doubt to warn of or an empty text.

    **Arguments:**

    - `columns`: cells by the name of the column, as many as `lines`.
    - `lines`: their numbers in the file.
    - `form`: decimal sign and words of missing samples, as given.
    - `separator`: of the file; points in a file separated by semicolons may group thousands.

    **Raises:** `DataError` for a cell that is no number, with its line, column and the likely cause, and for numbers that mean
    one thing with a decimal comma and another with a decimal point.
    """
    words, guesses = MISSING | form.words, []
    commas = [
        cell.strip() for cells in columns.values() if "," in "".join(cells) for cell in cells if "," in cell
    ]
    commas = [cell for cell in commas if cell.lower() not in words]
    decimal = form.decimal or (decimal_sign(commas) if commas else ".")
    if commas and form.decimal is None:
        guesses.append("decimal commas" if decimal == "," else "commas between thousands")
    points = form.decimal is None and decimal == "." and separator == ";"
    doubt = _points_of_thousands(columns) if points else ""
    arrays = {name: _column(cells, name, lines, decimal, words) for name, cells in columns.items()}
    return arrays, guesses, doubt


def decimal_sign(commas: list[str]) -> str:
    """The decimal sign of a file whose cells with commas are these.

    **Raises:** `DataError` for numbers that mean one thing with a decimal comma and another with a decimal point.
    """
    surely_comma = [c for c in commas if DECIMAL_COMMA.fullmatch(c) and not EITHER.fullmatch(c)]
    surely_comma += [c for c in commas if "." in c and GROUPED[","].fullmatch(c)]
    surely_point = [c for c in commas if GROUPED["."].fullmatch(c) and not EITHER.fullmatch(c)]
    if surely_comma and surely_point:
        raise DataError(
            f"numbers must have one decimal sign: {surely_comma[0]!r} has a comma, in {surely_point[0]!r} commas group thousands; "
            "write all with a decimal point"
        )
    if not surely_comma and not surely_point and any(EITHER.fullmatch(c) for c in commas):
        raise DataError(
            f"{commas[0]!r} may have a decimal comma or group thousands; give {advised('decimal', ',')} for the first, or '.' for "
            "the second"
        )
    return "," if surely_comma else "."


def _points_of_thousands(columns: Mapping[str, list[str]]) -> str:
    """A warning where every point may group thousands: 49.987 in a file separated by semicolons."""
    pointed = {name: [cell.strip() for cell in cells if "." in cell] for name, cells in columns.items()}
    if not any(pointed.values()) or not all(EITHER.fullmatch(c) for cells in pointed.values() for c in cells):
        return ""
    name, cells = next((name, cells) for name, cells in pointed.items() if cells)
    return (
        f"column {name!r}: {cells[0]!r} is read as {float(cells[0]):g}, with a decimal point; where points group thousands, "
        f"give {advised('decimal', ',')}"
    )


def _column(
    cells: list[str], name: str, lines: Sequence[int], decimal: str, words: frozenset[str]
) -> np.ndarray:
    joined = "".join(cells)
    # float() accepts more than a log should hold: 1_000, and digits of other scripts.
    if joined.isascii() and "_" not in joined and (decimal == "." or "." not in joined):
        plain = [cell.replace(",", ".") for cell in cells] if decimal == "," else cells
        try:
            values = np.array(list(map(float, plain)), np.float64)
        except ValueError:
            pass
        else:
            if not words & {"inf", "infinity"}:
                return values
    return np.array(
        [_number(c, name, n, decimal, words) for c, n in zip(cells, lines, strict=True)], np.float64
    )


def _number(cell: str, name: str, line: int, decimal: str, words: frozenset[str]) -> float:
    text = cell.strip()
    value = parsed(text, decimal, words)
    if value is None:
        raise DataError(
            f"line {line}, column {name!r}: {text[:SHOWN]!r} is not a number{_cause(text, decimal)}"
        )
    return value


def parsed(text: str, decimal: str, words: frozenset[str]) -> float | None:
    """Number of one cell, NaN for a missing one, None for something else."""
    if text.lower() in words:
        return math.nan
    plain = text.replace("\u2212", "-")
    grouped = GROUPED[decimal].fullmatch(plain)
    if grouped:
        plain = grouped[1] + re.sub(r"\D", "", grouped[2]) + (grouped[3] or "")
    elif decimal == "," and "." in plain:
        return None
    if decimal == ",":
        plain = plain.replace(",", ".")
    if NUMBER.fullmatch(plain):
        return float(plain.lower().replace("d", "e"))
    return TRUTH.get(plain.lower())


def is_sample(text: str, words: frozenset[str]) -> bool:
    """True for a cell that is a number in either decimal sign, or missing."""
    return any(parsed(text.strip(), decimal, words) is not None for decimal in GROUPED)


def _cause(text: str, decimal: str) -> str:
    if CLOSING.fullmatch(text):
        return "; a closing line is no sample: delete it"
    if "\0" in text:
        return ": it holds NUL characters, as a log has after a crash or a loss of power; delete the damaged lines"
    if decimal == "." and DECIMAL_COMMA.fullmatch(text):
        return f" with a decimal point; for a decimal comma give {advised('decimal', ',')}"
    if decimal == "," and NUMBER.fullmatch(text):
        return " with a decimal comma, as the others are; write all numbers with one decimal sign"
    measured = WITH_UNIT.fullmatch(text)
    if measured and is_unit(measured[1]):
        return "; write the unit into the header, not behind each number"
    if ":" in text:
        return "; times are read from the column time= names, as 2024-03-31 12:30:00 or hours:minutes:seconds"
    if text.lower() in _STATES:
        return "; write 1 and 0 for the two states"
    if text.isprintable() and any(c.isalpha() for c in text) and not any(c.isdigit() for c in text):
        return f"; if it marks a missing sample, give {advised('missing', text[:SHOWN])}"
    return "; correct it, or leave the cell empty"
