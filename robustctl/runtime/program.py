"""A small program of array operations: what is left of a system's step once JAX is taken away.

All shapes are fixed. A value is an input, a part of the state, a constant or the result of one operation; a block (the body of a
loop, a branch) may read the values of the blocks around it. The whole vocabulary, results equal to NumPy's where a name is NumPy's:

=====================  ==============================  ==========================================================================
kind                   operands                        params and meaning
=====================  ==============================  ==========================================================================
a name in `UNARY`      x                               entry by entry
a name in `BINARY`     x, y                            entry by entry; one may be a scalar (); `div` and `rem` of integers truncate
a name in `COMPARE`    x, y                            as `BINARY`, the result is bool
`select`               which, x, y                     x where `which`, else y; each may be a scalar
`convert`              x                               to the result's dtype; to integers truncates and saturates, NaN becomes 0
`reshape`              x                               to the result's shape, in C order
`transpose`            x                               `axes`, those of `numpy.transpose`
`broadcast`            x                               `axes`: axis k of x is axis `axes[k]` of the result, repeated where it has length 1
`slice`                x                               `start`, `stop`, `step`, one of each an axis, step at least 1
`reverse`              x                               `axes` to be reversed
`concatenate`          x, y, ...                       `axis`
`dot`                  x, y                            `x @ y`: vectors, matrices, or stacks (b, m, k) and (b, k, n) of matrices; of
                                                       int32 the result may be int64, in which all is then computed
`rescale`              x                               of integers: x 2^-`shift` to the nearest int32, halves away from zero, its size
                                                       at most `limit`
`reduce`               x                               `how` in `HOW`, along `axis`, which the result lacks
`arg`                  x                               `how` max or min: the first position of it along `axis`, which the result lacks
`cumulate`             x                               `how` in `HOW`, along `axis`, from its end if `reverse`
`sort`                 x, y, ...                       stable and ascending by x along `axis`; the others are carried along
`take`                 x, indices                      entries of x in C order by position; the result has the shape of `indices`
`put`                  x, indices, updates             `how` is set or in `HOW`: x with entries, by position in C order, changed; a
                                                       negative position changes nothing
`dynamic_slice`        x, start, ...                   `sizes`; one start an axis, moved so that the slice lies inside x
`dynamic_update`       x, update, start, ...           x with `update` written at the starts, moved likewise
`lu`                   x                               `L U = x[permutation]`: results packed L and U, pivots, permutation; of stacks too
`cholesky`             x                               the lower factor, from the lower triangle; NaN where x is not positive definite
`triangular_solve`     a, b                            a^-1 b, (..., n, n) and (..., n, m); `lower`, and `unit` for a diagonal of ones
`loop`                 carries, xs                     `body`, `length`, `reverse`, `carries` (their number): results are the carries
                                                       at the end and ys, stacked
`while`                carries                         `condition`, `body`, and `most`, the number of turns that it never exceeds
`branch`               which                           `branches[clip(which)]`: blocks without inputs
=====================  ==============================  ==========================================================================

A `body` has the inputs carries and slices of xs and the outputs carries and slices of ys; a `condition` gives one bool.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

UNARY = (
    "neg", "abs", "sign", "exp", "exp2", "expm1", "log", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "floor", "ceil", "round", "round_even", "is_finite", "not",
)  # fmt: skip
"""`round` rounds halves away from zero, `round_even` to even; `not` is of bools."""
BINARY = ("add", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2", "and", "or", "xor")
"""`max` and `min` are NaN where an operand is; the last three are of bools."""
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
HOW = ("add", "mul", "max", "min", "and", "or")
DTYPES = ("float", "int32", "int64", "bool")
"""`float` is the program's own dtype."""


def dtypes_of(real: Any) -> dict[str, np.dtype]:
    """Return NumPy's dtype of each of `DTYPES`, `real` for `float`."""
    return {"float": np.dtype(real)} | {name: np.dtype(name) for name in DTYPES[1:]}


def registers(table: dict[str, Any]) -> Callable[..., Callable[[Callable], Callable]]:
    """Return a decorator, called with kinds of operations, that puts a function into a table as theirs."""

    def of(*kinds: str) -> Callable[[Callable], Callable]:
        def register(function: Callable) -> Callable:
            table.update(dict.fromkeys(kinds, function))
            return function

        return register

    return of


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """An array.

    **Arguments:**

    - `shape`: its shape, without a zero in it.
    - `dtype`: one of `DTYPES`.
    - `data`: of a constant, its array.
    """

    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape, dtype=int))


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """What computes `results` from `operands`; see the table of kinds."""

    kind: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    params: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Operations in order, from inputs and the values around it to outputs."""

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Value, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Signals:
    """An array among the inputs or the outputs.

    **Arguments:**

    - `name`: an identifier.
    - `value`: the array.
    - `labels`: names of its entries, None where unknown.
    - `units`: one an entry, None where unknown.
    - `flags`: positions of the entries that are 0 or 1.
    """

    name: str
    value: Value
    labels: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None
    flags: tuple[int, ...] = ()

    @property
    def described(self) -> tuple[str, ...]:
        """The names of its entries with their units, `speed [m/s]`; none where the names are unknown."""
        if self.labels is None:
            return ()
        pairs = zip(self.labels, self.units or ("",) * len(self.labels), strict=True)
        return tuple(f"{label} [{unit}]" if unit else label for label, unit in pairs)


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """An array of the state.

    **Arguments:**

    - `name`: an identifier.
    - `value`: the array before the sample.
    - `after`: the array after it.
    - `start`: where it starts.
    """

    name: str
    value: Value
    after: Value
    start: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A system's step.

    **Arguments:**

    - `name`: an identifier.
    - `dt`: sample time in seconds, None where unknown.
    - `dtype`: `float32` or `float64`.
    - `state`: the arrays of the state.
    - `inputs`: those of the input.
    - `outputs`: those of the output.
    - `operations`: in order.
    """

    name: str
    dt: float | None
    dtype: str
    state: tuple[State, ...]
    inputs: tuple[Signals, ...]
    outputs: tuple[Signals, ...]
    operations: tuple[Operation, ...]

    @property
    def results(self) -> tuple[Value, ...]:
        """What is computed: outputs and next state."""
        return (*(o.value for o in self.outputs), *(s.after for s in self.state))

    @property
    def constants(self) -> tuple[Value, ...]:
        """The constants, each once, in the order of their use."""
        used = [v for op in walk(self.operations) for v in reads(op)]
        return tuple(dict.fromkeys(v for v in (*used, *self.results) if v.data is not None))


def blocks(operation: Operation) -> tuple[Block, ...]:
    """Return the blocks of a loop or branch, none of another operation."""
    params = operation.params
    own = (params.get("condition"), params.get("body"), *params.get("branches", ()))
    return tuple(block for block in own if block is not None)


def reads(operation: Operation) -> tuple[Value, ...]:
    """Return what an operation itself reads: its operands, and what its blocks pass on."""
    return (*operation.operands, *(v for block in blocks(operation) for v in block.outputs))


def walk(operations: tuple[Operation, ...]) -> Iterator[Operation]:
    """Go through operations and those of their blocks."""
    for operation in operations:
        yield operation
        for block in blocks(operation):
            yield from walk(block.operations)
