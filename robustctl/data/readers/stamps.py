"""Time stamps in any unit to seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from ..record_checks import as_floats
from .labels import split_unit

UNITS = {
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "h": 3600.0,
    "days": 86400.0,
    "ticks": 1e-7,
}
SPELLED = {
    "sec": "s", "seconds": "s", "second": "s", "msec": "ms", "millis": "ms", "milliseconds": "ms", "µs": "us", "μs": "us", "usec": "us",
    "micros": "us", "microseconds": "us", "nsec": "ns", "nanos": "ns", "nanoseconds": "ns", "minutes": "min", "hr": "h", "hours": "h",
    "d": "days", "day": "days",
}  # fmt: skip
IN_NAME = re.compile(
    r".*[_\s.](ms|msec|millis|us|usec|micros|ns|nsec|nanos|s|sec|seconds|hours|days)", re.IGNORECASE
)
# Seconds since 1970 reach 1e11 in the year 5138; ms, us and ns since 1970 are within these from 1973 to 5138.
SINCE_1970 = (("ms", 1e11, 1e14), ("us", 1e14, 1e17), ("ns", 1e17, 1e20))
# Ticks of 100 ns since 1601 (Windows) and since the year 1 (.NET) from 1990 to 2060: ns since 1970 would be of 1974 and 1990.
TICKS = ((1.22e17, 1.45e17), (6.277e17, 6.499e17))
# Days since 1900 (Excel) from 1954 to 2119, and since the year 0 (MATLAB) from 1916 to 2190.
DAYS = ((20_000, 80_000), (700_000, 800_000))
# Steps below this are days: in seconds they were sampled above 10 kHz by a clock that has run for 5 hours or more.
SHORT_STEP = 1e-4
ROUND = 1e-4  # relative; Excel exports stamps with ten decimals, 1e-10 of a day is 1e-4 of a step of 0.1 s
DAY_DECIMALS = 4  # of a second: MATLAB's days since the year 0 resolve 1e-5 s, Excel's cells 1e-3 s
THOUSANDS = (1e3, 1e6, 1e9)
NEAR = 0.01  # relative, of a step over dt: a drifting clock is nearer


@dataclass(frozen=True)
class Stamps:
    """Time stamps in seconds, what was guessed of their unit, and a doubt to warn of."""

    seconds: np.ndarray
    guess: str = ""
    doubt: str = ""


def check_unit(unit: str | None) -> None:
    """Raise a DataError unless `unit` is None or one of `UNITS`."""
    if unit is not None and unit not in UNITS:
        raise DataError(f"time_unit must be one of {tuple(UNITS)}, got {unit!r}")


def to_seconds(values: np.ndarray, name: str, label: str, given: str | None) -> Stamps:
    """Seconds of time stamps; dates, times of day and stamps since 1970 or 1900 count from the first one.

    **Arguments:**

    - `values`: numbers, ``datetime64`` or ``timedelta64``, (T,).
    - `name`: of the column, which may end in a unit: ``t_ms``, ``time [us]``.
    - `label`: unit that the file names, or an empty string.
    - `given`: unit that the user names, or None.
    """
    if values.dtype.kind in "mM":
        if np.isnat(values).any():
            row = int(np.argmax(np.isnat(values)))
            raise DataError(f"time stamps must be finite, row {row} (counted from 0) holds none")
        return Stamps((values - values[0]) / np.timedelta64(1, "ns") * 1e-9)
    stamps = as_floats(values, "time stamps")
    unit = given or _named(name, label)
    if unit is not None:
        guess = "" if given or unit == "s" else f"time in {unit}, by its name"
        return Stamps(_scaled(stamps, unit), guess)
    unit = _by_size(stamps)
    if unit is None:
        return Stamps(stamps)
    shown = f"{stamps[0]:.0f}" if stamps[0] == np.rint(stamps[0]) else f"{stamps[0]}"
    doubt = f"stamps like {shown} are taken as {unit}; if they are not, give time_unit= (--time-unit)"
    return Stamps(_scaled(stamps, unit), f"time in {unit}, by its size", doubt)


def _named(name: str, label: str) -> str | None:
    # netCDF: "days since 1970-01-01"
    inside = (label or split_unit(name)[1]).split(" since ")[0].strip()
    found = IN_NAME.fullmatch(name.strip())
    spelled = inside or (found[1] if found else "")
    unit = SPELLED.get(spelled.lower(), spelled)
    return unit if unit in UNITS else None


def _scaled(stamps: np.ndarray, unit: str) -> np.ndarray:
    scale = UNITS[unit]
    first = float(stamps[0]) if len(stamps) else 0.0
    # Differences of stamps since 1970 keep digits that the stamps in seconds would lose.
    # They passed 1e8 s in 1973; a clock that starts with the log stays below for three years.
    since = first if np.isfinite(first) and (_by_size(stamps) or abs(first) * scale > 1e8) else 0.0
    if unit == "days":
        return np.round((stamps - since) * scale, DAY_DECIMALS)
    with np.errstate(over="ignore"):
        return (stamps - since) * scale if scale > 1 else (stamps - since) / (1 / scale)


def _by_size(stamps: np.ndarray) -> str | None:
    """Unit of stamps that cannot be seconds, or are no round number of them; None for others."""
    if len(stamps) < 2 or not np.isfinite(stamps).all():
        return None
    first, step = float(stamps[0]), float(np.median(np.diff(stamps)))
    if any(low <= first < high for low, high in TICKS):
        return "ticks"
    for unit, low, high in SINCE_1970:
        if low <= abs(first) < high:
            return unit
    if any(low <= first <= high for low, high in DAYS) and 0 < step < 1:
        in_days = step < SHORT_STEP or (_is_round(step * UNITS["days"]) and not _is_round(step))
        return "days" if in_days else None
    return None


def _is_round(step: float) -> bool:
    return abs(step / float(f"{step:.2g}") - 1) < ROUND


def check_step(seconds: np.ndarray, dt: float) -> None:
    """Raise a DataError for steps of a thousand times `dt`, or that times a thousand, which is another unit."""
    if len(seconds) < 2 or not np.isfinite(seconds).all():
        return
    with np.errstate(over="ignore"):
        ratio = float(np.median(np.diff(seconds))) / dt
    for factor, unit in zip(THOUSANDS, ("ms", "us", "ns"), strict=True):
        if abs(ratio / factor - 1) < NEAR:
            raise DataError(
                f"the stamps are {ratio * dt:g} s apart, {factor:g} times dt = {dt:g} s; if they are in {unit}, give "
                f"time_unit={unit!r}; otherwise correct dt"
            )
