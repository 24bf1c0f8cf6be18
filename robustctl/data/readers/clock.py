"""Dates and times of day in text to time stamps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from ...errors import DataError

_SECONDS = r":(?P<s>\d{2})(?:[.,:](?P<f>\d+))?"
_HALF = r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
_ZONE = r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?(?:\[[\w/+-]+\])?"
_TIME = rf"(?:[T\s,]\s*(?P<h>\d{{1,2}}):(?P<m>\d{{2}})(?:{_SECONDS})?{_HALF}{_ZONE})?"
DATES = tuple(
    re.compile(date + _TIME, re.ASCII)
    for date in (
        r"(?P<Y>\d{4})[-/.](?P<M>\d{1,2})[-/.](?P<D>\d{1,2})",
        r"(?P<D>\d{1,2})\.(?P<M>\d{1,2})\.(?P<Y>\d{4}|\d{2})",
        r"(?P<D>\d{1,2})[- ](?P<M>[A-Za-z]{3})[a-z]*[- ](?P<Y>\d{4})",
        r"(?P<first>\d{1,2})[-/](?P<second>\d{1,2})[-/](?P<Y>\d{4}|\d{2})",
    )
)
# Of 14 digits; milliseconds since 1970 have as many only from the year 2286 on.
COMPACT = re.compile(
    rf"(?P<Y>(?:19|20)\d{{2}})(?P<M>\d{{2}})(?P<D>\d{{2}})[T_ -]?(?P<h>\d{{2}})(?P<m>\d{{2}})(?P<s>\d{{2}})(?:[.,](?P<f>\d+))?{_ZONE}",
    re.ASCII,
)
CLOCK = re.compile(
    rf"(?:(?P<days>\d+)\s*(?:days?|d)?[\s,]+)?(?P<h>\d{{1,4}}):(?P<m>\d{{2}}){_SECONDS}{_HALF}", re.ASCII
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
YEARS = (1700, 2200)  # within what 64 bits hold in nanoseconds
SECOND = 1_000_000_000  # ns
DAY = 86_400 * SECOND
LONGEST = 9999  # hours of an elapsed time
MANY = 1000  # cells: fewer are quick one by one
SHOWN = 40  # characters of a cell in a message


def is_clock(cell: str) -> bool:
    """True for a date, a time of day, or both."""
    return _pattern(cell) is not None


def _pattern(cell: str) -> re.Pattern[str] | None:
    return next((p for p in (*DATES, COMPACT, CLOCK) if p.fullmatch(cell.strip())), None)


def to_stamps(cells: Sequence[str], name: str, lines: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Stamps as ``datetime64[ns]`` in UTC where the file names zones, or times of day as ``timedelta64[ns]``; and the guesses made.

    **Raises:** `DataError` for a cell that is not written as the first one is, a date that does not exist, and days and months
    that cannot be distinguished.
    """
    alike = _alike(cells) if len(cells) >= MANY else None
    if alike is not None:
        return alike
    pattern = _pattern(cells[0])
    assert pattern is not None
    found = [pattern.fullmatch(cell.strip()) for cell in cells]
    for match, cell, line in zip(found, cells, lines, strict=True):
        if match is None:
            raise DataError(
                f"line {line}, column {name!r}: {cell.strip()[:SHOWN]!r} is not a time written as {cells[0].strip()!r} is; "
                "correct it, or delete the line"
            )
    parts = [match.groupdict() for match in found if match]
    most = LONGEST if pattern is CLOCK else 24
    of_day = [_of_day(part, most, name, line) for part, line in zip(parts, lines, strict=True)]
    if pattern is CLOCK:
        return _unwrapped(np.array(of_day, np.int64))
    largest = {key: max(int(part[key] or 0) for part in parts) for key in _either(pattern)}
    order, guesses = _day_and_month(largest, cells[0])
    days = [_date(part, order, name, line) for part, line in zip(parts, lines, strict=True)]
    shifts, zones = _zones(parts)
    total = np.array(days, "datetime64[D]").astype("datetime64[ns]").astype(np.int64)
    stamps = total + np.array(of_day, np.int64) - np.array(shifts, np.int64)
    return stamps.astype("datetime64[ns]"), guesses + zones


def uniform_stamps(cells: np.ndarray) -> tuple[np.ndarray, list[str]] | None:
    """What `to_stamps` finds in cells (T,) of bytes that all have digits, and the same other characters, at the same positions.

    None for other cells, and for those that are no times or are none for certain.
    """
    example = bytes(cells[0]).decode("latin-1")
    pattern = _pattern(example)
    match = None if pattern is None else pattern.fullmatch(example.strip())
    if pattern is None or match is None or not example.isascii():
        return None
    characters = np.ascontiguousarray(cells).view(np.uint8).reshape(len(cells), -1)
    before = len(example) - len(example.lstrip())
    varies = np.array([c.isdigit() for c in example] + [False] * (characters.shape[1] - len(example)))
    if match.groupdict().get("zone"):
        varies[slice(*(before + place for place in match.span("zone")))] = False
    digits = characters[:, varies] - np.uint8(ord("0"))
    if (digits > 9).any() or (characters[:, ~varies] != characters[0, ~varies]).any():
        return None
    places = np.cumsum(varies) - 1

    def number(name: str) -> np.ndarray:
        start, stop = match.span(name) if match.groupdict().get(name) else (0, 0)
        total = np.zeros(len(cells), np.int64)
        for place in range(before + start, before + stop):
            total = 10 * total + digits[:, places[place]]
        return total

    try:
        return _uniform(pattern, match, number, example)
    except DataError:
        return None


def _uniform(
    pattern: re.Pattern[str], match: re.Match[str], number: Callable[[str], np.ndarray], example: str
) -> tuple[np.ndarray, list[str]] | None:
    """Stamps from the numbers of each group; None for times and dates that do not exist."""
    part = match.groupdict()
    hours, minutes, seconds = number("h"), number("m"), number("s")
    half, most = (part.get("half") or "").lower(), LONGEST if pattern is CLOCK else 24
    if (
        (hours > (12 if half else most)).any()
        or max(minutes.max(), seconds.max()) > 59
        or (half and not hours.all())
    ):
        return None
    hours = hours % 12 + 12 * (half == "p") if half else hours
    digits = len(part.get("f") or "")
    fraction = number("f") if digits <= 18 else np.full(len(hours), -1)
    if digits and (fraction < 0).any():
        return None
    fraction = fraction // 10 ** max(digits - 9, 0) * 10 ** max(9 - digits, 0)
    of_day = number("days") * DAY + ((hours * 60 + minutes) * 60 + seconds) * SECOND + fraction
    if pattern is CLOCK:
        return _unwrapped(of_day)
    order, guesses = _day_and_month({key: int(number(key).max()) for key in _either(pattern)}, example)
    month = part[order[1]] or ""
    named = month.lower() in MONTHS
    months = np.full(len(hours), MONTHS.index(month.lower()) + 1) if named else number(order[1])
    years = number("Y") + (2000 if len(part["Y"] or "") == 2 else 0)
    dates = _dates(years, months, number(order[0]), (1900, 2099) if pattern is COMPACT else YEARS)
    if dates is None:
        return None
    stamps = dates.astype("datetime64[ns]").astype(np.int64) + of_day - _shift(part["zone"])
    return stamps.astype("datetime64[ns]"), guesses


def _dates(
    years: np.ndarray, months: np.ndarray, days: np.ndarray, within: tuple[int, int]
) -> np.ndarray | None:
    """Dates in these years; None where one does not exist."""
    if (
        years.min() < within[0]
        or years.max() > within[1]
        or months.min() < 1
        or months.max() > 12
        or days.min() < 1
    ):
        return None
    begin = ((years - 1970) * 12 + months - 1).astype("datetime64[M]")
    dates = begin.astype("datetime64[D]") + (days - 1)
    return dates if (dates.astype("datetime64[M]") == begin).all() else None


def _alike(cells: Sequence[str]) -> tuple[np.ndarray, list[str]] | None:
    try:
        return uniform_stamps(np.array(cells, bytes))
    except UnicodeEncodeError:
        return None


def text_stamps(cells: np.ndarray, name: str) -> np.ndarray:
    """Stamps of the text in a binary file, as in `to_stamps`.

    **Raises:** `DataError` for text that is no date and no time of day, and as `to_stamps`.
    """
    texts = [str(cell) for cell in cells]
    if not is_clock(texts[0]):
        raise DataError(f"row 1 must be a number, a date or a time of day, got {texts[0][:SHOWN]!r}")
    return to_stamps(texts, name, range(1, len(texts) + 1))[0]


def date_and_time(dates: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Stamps of a column of dates and one of times of day.

    **Raises:** `DataError` for columns that are not these, in this order, of one length.
    """
    kinds = dates.dtype.kind + times.dtype.kind
    if kinds != "Mm" or len(dates) != len(times):
        what = {"M": "dates", "m": "times of day"}
        got = " and ".join(f"{len(one)} {what.get(one.dtype.kind, 'numbers')}" for one in (dates, times))
        raise DataError(f"two columns must be as many dates and times of day, in this order, got {got}")
    # the dates already continue after midnight
    return dates.astype("datetime64[ns]") + times.astype("timedelta64[ns]") % np.timedelta64(DAY, "ns")


def refuse_repeated_days(stamps: np.ndarray, name: str) -> None:
    """Raise a DataError for dates without times of day of which one repeats."""
    if stamps.dtype.kind == "M" and len(stamps) > 1:
        days = stamps.astype("datetime64[D]")
        if (days == stamps).all() and (days[1:] == days[:-1]).any():
            raise DataError(
                f"the dates repeat and hold no times of day; give the column of those as well: time=({name!r}, ...) (--time {name} ...)"
            )


def _of_day(part: dict[str, str | None], most: int, name: str, line: int) -> int:
    """Nanoseconds since midnight, and whole days of a duration; at most `most` hours."""
    hours, minutes, seconds = (int(part.get(key) or 0) for key in ("h", "m", "s"))
    half = (part.get("half") or "").lower()
    if hours > (12 if half else most) or minutes > 59 or seconds > 59 or (half and not hours):
        raise DataError(
            f"line {line}, column {name!r}: there is no time {hours}:{minutes}:{seconds}; correct it"
        )
    if half:
        hours = hours % 12 + 12 * (half == "p")
    fraction = int((part.get("f") or "0")[:9].ljust(9, "0"))
    days = int(part.get("days") or 0)
    return days * DAY + ((hours * 60 + minutes) * 60 + seconds) * SECOND + fraction


def _unwrapped(of_day: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Times of day that continue after midnight, where one is half a day or more before the one above it."""
    wraps = np.concatenate([[0], np.cumsum(np.diff(of_day) <= -DAY // 2)])
    guesses = ["times of day continued after midnight"] if wraps[-1] else []
    return (of_day + wraps * DAY).astype("timedelta64[ns]"), guesses


def _either(pattern: re.Pattern[str]) -> list[str]:
    """Names of the groups of which either may hold the day; none where the pattern has the day in its own group."""
    return [key for key in ("first", "second") if key in pattern.groupindex]


def _day_and_month(largest: Mapping[str, int], example: str) -> tuple[tuple[str, str], list[str]]:
    """Names of the groups that hold day and month, from the largest numbers in those of which either may be either."""
    if not largest:
        return ("D", "M"), []
    first, second = largest["first"], largest["second"]
    if (first > 12) == (second > 12):
        raise DataError(
            f"dates must be written year-month-day: in {example!r} day and month cannot be distinguished; convert them, or "
            "give dt= without time="
        )
    day_first = first > 12
    guess = f"dates with the {'day' if day_first else 'month'} first"
    return (("first", "second") if day_first else ("second", "first")), [guess]


def _date(part: dict[str, str | None], order: tuple[str, str], name: str, line: int) -> str:
    day, month = (part[key] or "" for key in order)
    text = _iso(part["Y"] or "", month, day)
    if text is None:
        raise DataError(
            f"line {line}, column {name!r}: there is no date {part['Y']}-{month}-{day} in the years {YEARS}; correct it"
        )
    return text


@lru_cache(1000)  # a log has few dates and many rows
def _iso(year: str, month: str, day: str) -> str | None:
    if month.lower() in MONTHS:
        month = str(MONTHS.index(month.lower()) + 1)
    text = f"{int(year) + (2000 if len(year) == 2 else 0):04d}-{month:0>2}-{day:0>2}"
    try:
        np.datetime64(text, "D")
    except ValueError:
        return None
    return text if YEARS[0] <= int(text[:4]) <= YEARS[1] else None


def _zones(parts: list[dict[str, str | None]]) -> tuple[list[int], list[str]]:
    """What each stamp is ahead of UTC, nanoseconds."""
    zones = {part["zone"] for part in parts}
    shift = {zone: _shift(zone) for zone in zones}
    if None in zones and len(zones) > 1:
        raise DataError("time stamps must all have a time zone, or none; only some have one")
    guesses = ["time zones converted to UTC"] if len(set(shift.values())) > 1 else []
    return [shift[part["zone"]] for part in parts], guesses


def _shift(zone: str | None) -> int:
    if zone is None or zone in ("Z", "UTC", "GMT"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    minutes = 60 * int(digits[:2]) + int(digits[2:])
    return (-1 if zone[0] == "-" else 1) * minutes * 60 * SECOND
