"""Intervals of values together with intervals of their slopes."""

from typing import NamedTuple

import numpy as np

from . import interval as iv
from .interval import Interval


class Dual(NamedTuple):
    """What an array can be on each piece of a box, and how it changes with the box's variables.

    **Arguments:**

    - `value`: (pieces, *shape).
    - `slope`: (pieces, n, *shape) for n variables, None where it depends on none of them.
    """

    value: Interval
    slope: Interval | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.value.lo.shape[1:]

    @property
    def fixed(self) -> bool:
        """Whether it is the same number everywhere in the box."""
        return self.slope is None and len(self.value.lo) == 1 and self.value.thin

    def at(self, t: int) -> "Dual":
        """Return one element along the first axis of the array."""
        slope = None if self.slope is None else self.slope.map(lambda a: a[:, :, t])
        return Dual(self.value.map(lambda a: a[:, t]), slope)

    def reshaped(self, shape: tuple[int, ...]) -> "Dual":
        """Return the same elements in another shape."""
        slope = self.slope
        if slope is not None:
            slope = slope.map(lambda a: a.reshape(*a.shape[:2], *shape))
        return Dual(self.value.map(lambda a: a.reshape(len(a), *shape)), slope)


def constant(value) -> Dual:
    """Return what an array is that depends on no variable."""
    return Dual(iv.thin(np.asarray(value)[None]))


def aligned(*args: Dual) -> list[Dual]:
    """Return arrays of one number of axes: an operation may combine a scalar with an array."""
    most = max(len(a.shape) for a in args)
    return [a.reshaped((1,) * (most - len(a.shape)) + a.shape) for a in args]


def scaled(slope: Interval | None, by: Interval) -> Interval | None:
    """Return slopes multiplied by the slope of an outer function (pieces, *shape)."""
    if slope is None:
        return None
    return iv.mul(by.map(lambda a: a[:, None]), slope)


def summed(a: Interval | None, b: Interval | None) -> Interval | None:
    """Return the sum of slopes, of which each may be none."""
    if a is None or b is None:
        return b if a is None else a
    return iv.add(a, b)


def zeros_where_none(slopes: list[Interval | None]) -> list[Interval] | None:
    """Return slopes with zeros for those that are none; None where all are."""
    known = [s for s in slopes if s is not None]
    if not known:
        return None
    zero = iv.thin(np.zeros((1,) * known[0].lo.ndim))
    return [zero if s is None else s for s in slopes]
