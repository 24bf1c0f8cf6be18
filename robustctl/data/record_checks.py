"""Checks shared by the records and the readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import are_all, one_or_more
from ..errors import DataError

CONSTANT = 1e-12  # deviation over largest value; rounding of a constant leaves about 1e-16, logs resolve 1e-6 or coarser
MEASURED = " is measured"
"""Suffix of a channel's flag: 1 if the sample was measured, 0 if the last one is held."""
SMALLEST_SPREAD = 1e-150  # its square is 1e-300, close to the smallest number of float64


def as_floats(values: Any, what: str) -> np.ndarray:
    """Float64 copy or view of real numbers; ``None`` and masked entries become NaN.

    **Raises:** `DataError` when the values are complex, text, dates or of unequal row lengths.
    """
    hidden = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} must be an array of numbers with rows of one length: {error}") from error
    if array.dtype.kind == "O":
        array = _from_objects(array, what)
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{what} must hold real numbers, not dtype {array.dtype}; "
            "give real and imaginary parts as two channels, and convert text or dates to numbers"
        )
    # A copy only where masked entries are overwritten: the caller's array is not changed.
    array = array.astype(np.float64, copy=hidden is not None)
    if hidden is not None:
        array[hidden] = np.nan
    return array


def _from_objects(array: np.ndarray, what: str) -> np.ndarray:
    def number(item: Any) -> float:
        match item:
            case None:
                return math.nan
            case str() | bytes():
                raise TypeError(f"{item!r} is text")
            case _:
                return float(item)

    try:
        return np.array([number(item) for item in array.flat], np.float64).reshape(array.shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{what} must hold real numbers or None: {error}") from error


def refuse_infinite(values: np.ndarray, names: Sequence[str], where: str = "") -> None:
    """Raise a DataError that names the first infinite sample of `values` (T, n)."""
    bad = np.isinf(values)
    if bad.any():
        sample, channel = np.argwhere(bad)[0]
        raise DataError(
            f"{where}channel {names[channel]!r} is infinite at sample {sample} (counted from 0); "
            "samples must be finite, with NaN for a missing one"
        )


def check_squares(values: np.ndarray, mask: np.ndarray, names: Sequence[str]) -> None:
    """Raise a DataError where float64 cannot square what is measured of a channel (T, n): deviations would be inf or zero."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        std = np.std(values, axis=0, where=mask)
        largest = np.abs(values).max(axis=0, where=mask, initial=0.0)
        spread = np.max(values, axis=0, where=mask, initial=-np.inf) - np.min(
            values, axis=0, where=mask, initial=np.inf
        )
    for k, name in enumerate(names):
        if not np.isfinite(std[k]) and mask[:, k].any():
            raise DataError(
                f"the squares of the samples of {name!r} must be finite; change the unit: its largest value is {largest[k]:.3g}"
            )
        if CONSTANT * largest[k] < spread[k] < SMALLEST_SPREAD:
            raise DataError(
                f"the squares of the samples of {name!r} must be above zero in float64; change the unit: its "
                f"largest value is {largest[k]:.3g}"
            )


def check_dt(dt: Any) -> float:
    """`dt` as a float; DataError unless it is a finite number of seconds above zero."""
    try:
        match dt:
            case bool() | str() | bytes():  # float() accepts True and "0.1", which are mistakes here
                value = math.nan
            case _:
                value = float(dt)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise DataError(f"dt must be a finite sample time > 0 in seconds, got {dt!r}")
    return value


def as_names(names: Any, what: str) -> tuple[str, ...]:
    """Tuple of strings from one string or several; DataError for anything else."""
    listed = one_or_more(names)
    if not are_all(listed, str):
        raise DataError(f"{what} must be a name or a list of names, got {names!r}")
    return tuple(listed)


def check_names(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raise a DataError for no channel, an empty name, or a name used twice."""
    for kind, names in (("inputs", inputs), ("outputs", outputs)):
        if not names:
            raise DataError(f"{kind} must name at least one channel, got none")
        if not all(name.strip() for name in names):
            raise DataError(f"{kind} must not hold an empty name, got {names}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{kind} must all be different, {twice} given more than once")
    both = sorted(set(inputs) & set(outputs))
    if both:
        raise DataError(f"a channel is either an input or an output, {both} given as both")
