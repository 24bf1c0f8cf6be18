"""How C reads a value: from a variable, from an array through strides, or by an expression that computes an entry."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from .c_text import Index, plus, times


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A variable or constant, read whatever the index is."""

    name: str

    def read(self, at: Sequence[Index]) -> str:
        """Return it."""
        return self.name


@dataclasses.dataclass(frozen=True)
class Place:
    """Entries of an array in memory: entry `at` is `name[offset + strides . at]`."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: Index = 0

    def read(self, at: Sequence[Index]) -> str:
        """Return an entry."""
        position = self.offset
        for stride, index in zip(self.strides, at, strict=True):
            position = plus(position, times(stride, index))
        return f"{self.name}[{position}]"

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


@dataclasses.dataclass(frozen=True)
class Formula:
    """An expression for an entry, computed where it is read."""

    read: Callable[[Sequence[Index]], str]


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


def regrouped(ref: Ref, before: tuple[int, ...], after: tuple[int, ...]) -> Ref | None:
    """Return a reference in another shape of the same order; None where it has to be written out first."""
    if isinstance(ref, Scalar):
        return ref
    if isinstance(ref, Place) and ref.packed:
        return Place(ref.name, after, strides(after), ref.offset)
    old, new = without_ones(before), without_ones(after)
    if [before[k] for k in old] != [after[k] for k in new]:
        return None
    if isinstance(ref, Place):
        steps = dict(zip(new, (ref.strides[k] for k in old), strict=True))
        return Place(ref.name, after, tuple(steps.get(k, 0) for k in range(len(after))), ref.offset)

    def read(at: Sequence[Index]) -> str:
        inner: list[Index] = [0] * len(before)
        for k, j in zip(old, new, strict=True):
            inner[k] = at[j]
        return ref.read(inner)

    return Formula(read)


def viewed(
    ref: Ref, shape: tuple[int, ...], offset: Sequence[Index], steps: Sequence[tuple[int, int]]
) -> Ref:
    """Return entry `offset + sum of factor * at[axis]` of each axis of a reference.

    **Arguments:**

    - `ref`: what is read.
    - `shape`: of the result.
    - `offset`: where it begins, one an axis of `ref`.
    - `steps`: for each axis of `ref` the axis of the result and the factor; a factor 0 reads the offset alone.
    """
    if isinstance(ref, Scalar):
        return ref
    if isinstance(ref, Formula):
        return Formula(
            lambda at: ref.read(
                [plus(o, times(f, at[a])) if f else o for o, (a, f) in zip(offset, steps, strict=True)]
            )
        )
    begin, found = ref.offset, [0] * len(shape)
    for stride, o, (axis, factor) in zip(ref.strides, offset, steps, strict=True):
        begin = plus(begin, times(stride, o))
        if factor:
            found[axis] += stride * factor
    return Place(ref.name, shape, tuple(found), begin)
