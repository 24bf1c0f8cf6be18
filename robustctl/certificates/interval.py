"""Interval arithmetic on NumPy arrays, rounded outwards.

Every result contains all values that its operation takes on the intervals given: each end is moved outwards by more than
float64 can have rounded it. Zero times anything and a sum with zero stay exact, so that what does not depend on a
variable shows it. Source: R. E. Moore, R. B. Kearfott, M. J. Cloud, "Introduction to Interval Analysis", 2009.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

_EPS = float(np.finfo(np.float64).eps)
_TINY = 1e-300
"""Added to what a result is moved by, where it underflows; relative to any signal it is nothing."""

_FUNCTION = 8.0
"""Rounding of sin, exp and their like in units of the last place: NumPy's own bound is 4."""


class Interval(NamedTuple):
    """All numbers between `lo` and `hi`, elementwise; of truth values, whether they hold surely and possibly."""

    lo: np.ndarray
    hi: np.ndarray

    @property
    def thin(self) -> bool:
        """Whether it is one number an element."""
        return bool(np.array_equal(self.lo, self.hi))

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> "Interval":
        """Return the same with both ends moved about by a function that computes nothing."""
        return Interval(function(self.lo), function(self.hi))


def thin(value) -> Interval:
    """Return the interval of one value."""
    value = np.asarray(value)
    return Interval(value, value)


def hull(parts: Sequence[Interval]) -> Interval:
    """Return the smallest interval that contains all of `parts`."""
    return Interval(reduce(np.minimum, [p.lo for p in parts]), reduce(np.maximum, [p.hi for p in parts]))


def choose(where: np.ndarray, a: Interval, b: Interval) -> Interval:
    """Return `a` where `where` is true, `b` elsewhere."""
    return Interval(np.where(where, a.lo, b.lo), np.where(where, a.hi, b.hi))


def widened(lo: np.ndarray, hi: np.ndarray, roundings: float = 1.0) -> Interval:
    """Return `[lo, hi]` moved outwards by `roundings` units of relative rounding; what is not a number becomes anything."""
    lo = np.where(np.isnan(lo), -np.inf, lo - (roundings * _EPS * np.abs(lo) + _TINY))
    hi = np.where(np.isnan(hi), np.inf, hi + (roundings * _EPS * np.abs(hi) + _TINY))
    return Interval(lo, hi)


def _unless(exact: np.ndarray, lo: np.ndarray, hi: np.ndarray, roundings: float = 1.0) -> Interval:
    return choose(exact, Interval(lo, hi), widened(lo, hi, roundings))


def neg(a: Interval) -> Interval:
    """Return `-a`."""
    return Interval(-a.hi, -a.lo)


def add(a: Interval, b: Interval) -> Interval:
    """Return `a + b`."""
    with np.errstate(all="ignore"):
        return _unless(is_zero(a) | is_zero(b), a.lo + b.lo, a.hi + b.hi)


def sub(a: Interval, b: Interval) -> Interval:
    """Return `a - b`."""
    return add(a, neg(b))


def is_zero(a: Interval) -> np.ndarray:
    """Return where an interval is the number zero."""
    return (a.lo == 0) & (a.hi == 0)


def _is_unit(a: Interval) -> np.ndarray:
    return (a.lo == a.hi) & (np.abs(a.lo) == 1)


def mul(a: Interval, b: Interval) -> Interval:
    """Return `a b`."""
    with np.errstate(all="ignore"):
        products = [x * y for x in a for y in b]
        lo, hi = reduce(np.minimum, products), reduce(np.maximum, products)
        nothing = is_zero(a) | is_zero(b)
        # 0 times infinity is nan in float64, and zero here
        lo, hi = np.where(nothing, 0.0, lo), np.where(nothing, 0.0, hi)
        return _unless(nothing | _is_unit(a) | _is_unit(b), lo, hi)


def reciprocal(a: Interval) -> Interval:
    """Return `1 / a`, anything where a contains zero."""
    with np.errstate(all="ignore"):
        through = (a.lo <= 0) & (a.hi >= 0)
        lo, hi = np.where(through, -np.inf, 1 / a.hi), np.where(through, np.inf, 1 / a.lo)
        return _unless(_is_unit(a), lo, hi)


def div(a: Interval, b: Interval) -> Interval:
    """Return `a / b`."""
    with np.errstate(all="ignore"):
        quotients = [x / y for x in a for y in b]
        through = (b.lo <= 0) & (b.hi >= 0)
        lo = np.where(through, -np.inf, reduce(np.minimum, quotients))
        hi = np.where(through, np.inf, reduce(np.maximum, quotients))
        return _unless((is_zero(a) & ~through) | _is_unit(b), lo, hi)


def total(a: Interval, axis: tuple[int, ...]) -> Interval:
    """Return the sum over axes."""
    if not axis:
        return a
    with np.errstate(all="ignore"):
        count = int(np.prod([a.lo.shape[k] for k in axis]))
        size = np.maximum(np.abs(a.lo), np.abs(a.hi)).sum(axis)
        # Each of the additions rounds by at most eps times the sum of sizes so far (Higham 2002, chapter 4).
        off = count * _EPS * size * 1.01
        lo, hi = a.lo.sum(axis) - off, a.hi.sum(axis) + off
        lo, hi = np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi)
        return Interval(lo, hi)


def square(a: Interval) -> Interval:
    """Return `a^2`."""
    return power(a, 2)


def power(a: Interval, n: int) -> Interval:
    """Return `a^n` for a whole number n."""
    if n < 0:
        return reciprocal(power(a, -n))
    if n == 0:
        return thin(np.ones_like(a.lo))
    if n == 1:
        return a
    with np.errstate(all="ignore"):
        lo, hi = a.lo**n, a.hi**n
        if n % 2 == 0:
            through = (a.lo <= 0) & (a.hi >= 0)
            lo, hi = np.where(through, 0.0, np.minimum(lo, hi)), np.maximum(lo, hi)
        wide = widened(lo, hi, 2.0 * n)
        if n % 2 == 0:
            wide = Interval(np.maximum(wide.lo, 0.0), wide.hi)
        return choose(is_zero(a) | _is_unit(a), Interval(lo, hi), wide)


def increasing(
    function: Callable, low: float = -np.inf, high: float = np.inf
) -> Callable[[Interval], Interval]:
    """Return the interval version of an increasing function whose values are in `[low, high]`."""

    def of(a: Interval) -> Interval:
        with np.errstate(all="ignore"):
            wide = widened(function(a.lo), function(a.hi), _FUNCTION)
        return Interval(np.maximum(wide.lo, low), np.minimum(wide.hi, high))

    return of


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


exp = increasing(np.exp, 0.0)
expm1 = increasing(np.expm1, -1.0)
tanh = increasing(np.tanh, -1.0, 1.0)
arctan = increasing(np.arctan)
sinh = increasing(np.sinh)
logistic = increasing(_logistic, 0.0, 1.0)
# Outside their domain log and sqrt are nan, which `widened` makes anything.
log = increasing(np.log)
log1p = increasing(np.log1p)
sqrt = increasing(np.sqrt)


def cosh(a: Interval) -> Interval:
    """Return `cosh a`."""
    size = absolute(a)
    with np.errstate(all="ignore"):
        wide = widened(np.cosh(size.lo), np.cosh(size.hi), _FUNCTION)
    return Interval(np.maximum(wide.lo, 1.0), wide.hi)


def sin(a: Interval) -> Interval:
    """Return `sin a`."""
    return _periodic(np.sin, a, np.pi / 2)


def cos(a: Interval) -> Interval:
    """Return `cos a`."""
    return _periodic(np.cos, a, 0.0)


def _periodic(function: Callable, a: Interval, top: float) -> Interval:
    """Return the range of a sine whose largest value is at `top`; a whole turn further counts as near it."""
    with np.errstate(all="ignore"):
        ends = [np.where(np.isfinite(x), function(x), 0.0) for x in a]
        wide = widened(np.minimum(*ends), np.maximum(*ends), _FUNCTION)
        # The turning points are rounded themselves, so that points this near an end count as inside.
        near = 1e-9 + 1e-15 * np.maximum(np.abs(a.lo), np.abs(a.hi))

        def turns(at: float) -> np.ndarray:
            first = np.ceil((a.lo - near - at) / (2 * np.pi)) * 2 * np.pi + at
            return ~(first > a.hi + near)

        lo = np.where(turns(top + np.pi), -1.0, np.maximum(wide.lo, -1.0))
        hi = np.where(turns(top), 1.0, np.minimum(wide.hi, 1.0))
    return Interval(lo, hi)


def absolute(a: Interval) -> Interval:
    """Return `|a|`."""
    through = (a.lo <= 0) & (a.hi >= 0)
    ends = [np.abs(x) for x in a]
    return Interval(np.where(through, 0.0, np.minimum(*ends)), np.maximum(*ends))


def maximum(a: Interval, b: Interval) -> Interval:
    """Return the larger of two numbers."""
    return Interval(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi))


def minimum(a: Interval, b: Interval) -> Interval:
    """Return the smaller of two numbers."""
    return Interval(np.minimum(a.lo, b.lo), np.minimum(a.hi, b.hi))
