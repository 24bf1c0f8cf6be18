"""How C reads a value: from a variable, from an array through strides, or by an expression that computes an entry."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from .c_text import Index, plus, times


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A variable or constant, read whatever the index is."""

    name: str
    array, packed, computed = "", False, False

    def read(self, at: Sequence[Index]) -> str:
        """Return it."""
        return self.name

    def regrouped(self, before: tuple[int, ...], after: tuple[int, ...]) -> "Scalar":
        """Return it: it has no shape."""
        return self

    def viewed(
        self, shape: tuple[int, ...], offset: Sequence[Index], steps: Sequence[tuple[int, int]]
    ) -> "Scalar":
        """Return it: it is its only entry."""
        return self


@dataclasses.dataclass(frozen=True)
class Place:
    """Entries of an array in memory: entry `at` is `name[offset + strides . at]`."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: Index = 0
    computed = False

    def read(self, at: Sequence[Index]) -> str:
        """Return an entry."""
        position = self.offset
        for stride, index in zip(self.strides, at, strict=True):
            position = plus(position, times(stride, index))
        return f"{self.name}[{position}]"

    @property
    def array(self) -> str:
        """Name of the array that it lies in."""
        return self.name

    @property
    def packed(self) -> bool:
        """Whether its entries lie one after another in C order."""
        return all(
            n == 1 or s == t for n, s, t in zip(self.shape, self.strides, strides(self.shape), strict=True)
        )

    @property
    def pointer(self) -> str:
        """Its first entry's address."""
        return self.name if self.offset == 0 else f"&{self.name}[{self.offset}]"

    def regrouped(self, before: tuple[int, ...], after: tuple[int, ...]) -> "Place | None":
        """Return it in another shape of the same order; None where it has to be written out first."""
        if self.packed:
            return Place(self.name, after, strides(after), self.offset)
        if (same := _same_axes(before, after)) is None:
            return None
        steps = {new: self.strides[old] for old, new in same}
        return Place(self.name, after, tuple(steps.get(k, 0) for k in range(len(after))), self.offset)

    def viewed(
        self, shape: tuple[int, ...], offset: Sequence[Index], steps: Sequence[tuple[int, int]]
    ) -> "Place":
        """Return entry `offset + sum of factor * at[axis]` of each axis.

        **Arguments:**

        - `shape`: of the result.
        - `offset`: where it begins, one an axis.
        - `steps`: for each axis the axis of the result and the factor; a factor 0 reads the offset alone.
        """
        begin, found = self.offset, [0] * len(shape)
        for stride, o, (axis, factor) in zip(self.strides, offset, steps, strict=True):
            begin = plus(begin, times(stride, o))
            if factor:
                found[axis] += stride * factor
        return Place(self.name, shape, tuple(found), begin)


@dataclasses.dataclass(frozen=True)
class Formula:
    """An expression for an entry, computed where it is read."""

    read: Callable[[Sequence[Index]], str]
    array, packed, computed = "", False, True

    def regrouped(self, before: tuple[int, ...], after: tuple[int, ...]) -> "Formula | None":
        """Return it in another shape of the same order; None where it has to be written out first."""
        if (same := _same_axes(before, after)) is None:
            return None

        def read(at: Sequence[Index]) -> str:
            inner: list[Index] = [0] * len(before)
            for old, new in same:
                inner[old] = at[new]
            return self.read(inner)

        return Formula(read)

    def viewed(
        self, shape: tuple[int, ...], offset: Sequence[Index], steps: Sequence[tuple[int, int]]
    ) -> "Formula":
        """Return the same entries as of a `Place`, computed."""
        return Formula(
            lambda at: self.read(
                [plus(o, times(f, at[a])) if f else o for o, (a, f) in zip(offset, steps, strict=True)]
            )
        )


Ref = Scalar | Place | Formula


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of C order."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def place(name: str, shape: Sequence[int]) -> Place:
    """Return an array in C order."""
    return Place(name, tuple(shape), strides(shape))


def without_ones(shape: Sequence[int]) -> list[int]:
    """Return the axes that are longer than 1."""
    return [k for k, n in enumerate(shape) if n != 1]


def _same_axes(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return the axes longer than 1 before and after, in pairs; None where they differ in length."""
    old, new = without_ones(before), without_ones(after)
    if [before[k] for k in old] != [after[k] for k in new]:
        return None
    return list(zip(old, new, strict=True))
