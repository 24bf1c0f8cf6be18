"""What `read` asks of the reader of a format, and what it gets back."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ...checks import are_all, one_or_more
from ...errors import DataError

DECIMALS = (".", ",")


@dataclass(frozen=True)
class Format:
    """How a log file is written, where `read` does not find it or finds it wrongly.

    **Arguments:**

    - `kind`: ``"csv"``, ``"parquet"``, ... (`read` lists them); from the file's suffix when None.
    - `encoding`: of text, for example ``"utf-8"`` or ``"latin-1"``; found from its bytes when None.
    - `decimal`: ``"."`` or ``","``, in text; found from its numbers when None.
    - `missing`: a word or number, or several, that mark a missing sample, in addition to empty cells and the usual spellings of
      "not a number": ``("Bad", -9999)``. Upper and lower case count as the same.

    **Raises:** `DataError` for an encoding that Python does not know, or another decimal.
    """

    kind: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    missing: str | float | Sequence[str | float] = ()

    def __post_init__(self):
        if self.decimal not in (None, *DECIMALS):
            raise DataError(f"decimal must be one of {DECIMALS}, got {self.decimal!r}")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except (LookupError, TypeError, ValueError) as error:
                raise DataError(
                    f"encoding must be one that Python knows, for example 'utf-8' or 'latin-1', got {self.encoding!r}"
                ) from error
        marks = one_or_more(self.missing)
        if not are_all(marks, str | int | float):
            raise DataError(f"missing must be a word or number, or a list of them, got {self.missing!r}")
        object.__setattr__(self, "missing", tuple(marks))

    @property
    def words(self) -> frozenset[str]:
        """Words that mark a missing sample, in lower case."""
        return frozenset(str(mark).strip().lower() for mark in self._marks)

    @property
    def numbers(self) -> tuple[float, ...]:
        """Numbers that mark a missing sample, in files of every format."""
        return tuple(number for mark in self._marks if (number := _number(mark)) is not None)

    @property
    def _marks(self) -> tuple[str | float, ...]:
        return cast(tuple, self.missing)


def advised(option: str, value: str) -> str:
    """How to give an option of `Format`, in Python and on the command line."""
    return f"format=rc.data.Format({option}={value!r}) (--{option} {shlex.quote(value)})"


def _number(mark: str | float) -> float | None:
    try:
        return float(mark)
    except ValueError:
        return None


@dataclass(frozen=True)
class Wanted:
    """What one file is read for.

    **Arguments:**

    - `names`: of the channels, and of the time stamps where there are some; each once.
    - `time`: the one of them that holds time stamps, the two that hold dates and times of day, or none.
    - `format`: how the file is written, as the user gave it.
    """

    names: tuple[str, ...]
    time: tuple[str, ...]
    format: Format


@dataclass(frozen=True)
class Columns:
    """What a reader found.

    **Arguments:**

    - `available`: names in the file, for messages; a name that is there twice is listed twice.
    - `arrays`: those wanted that the file holds, by the name asked for: one, or one for each experiment. Time
      stamps may be numbers, ``datetime64``, ``timedelta64`` or text; all else is numbers, NaN where missing.
    - `names`: what a channel is called in the record, by the name asked for, where that differs.
    - `units`: labels in the file, by the name asked for.
    - `guesses`: what the reader found out unasked, a phrase each; the record shows them.
    """

    available: Sequence[str]
    arrays: Mapping[str, Sequence[np.ndarray]]
    names: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    guesses: Sequence[str] = ()
