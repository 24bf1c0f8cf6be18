"""From a program of floats to one of integers: each array has a format, and each result is rounded to its own."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import ModelError
from ..runtime.program import COMPARE, Operation, Program, Signals, State, Value, walk
from .fixed_formats import constant_fraction, fraction, integers
from .prune import pruned

_ROOM = 61
"""Bits of an int64 that a shifted operand of a sum may use."""
_MOST_SHIFT = 62
RULES: dict[str, Callable[["Lowering", Operation], None]] = {}
"""What makes integer operations of an operation, by its kind."""


def lowers(*kinds: str) -> Callable[[Callable], Callable]:
    """Register what makes integer operations of kinds of operations."""

    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


@dataclasses.dataclass(frozen=True, eq=False)
class Lowered:
    """A program of integers, and what its integers mean: a number is its integer times `2^-n`.

    **Arguments:**

    - `program`: the program.
    - `fractions`: n of each array of the state, the inputs and the outputs, by its name.
    - `constant_errors`: how far an integer constant is from the number times `2^n`, of the constants that had to be rounded.
    - `bits`: of a number, without its sign.
    """

    program: Program
    fractions: dict[str, int]
    constant_errors: dict[Value, np.ndarray]
    bits: int


def lowered(program: Program, ranges: dict[Value, float], bits: int) -> Lowered:
    """Return a program of integers of so many bits.

    **Arguments:**

    - `program`: the program, in float64.
    - `ranges`: a size that each of its floating-point values is not expected to exceed.
    - `bits`: of a number, without its sign.

    **Raises:** `ModelError` for operations that fixed point does not have, by name.
    """
    check_kinds(program)
    low = Lowering(program, ranges, bits)
    for op in program.operations:
        RULES[op.kind](low, op)
    return low.finish()


def check_kinds(program: Program) -> None:
    """Raise `ModelError` unless fixed point has all operations of a program."""
    missing = sorted({op.kind for op in walk(program.operations)} - set(RULES))
    kept = {v.dtype for v in (*(s.value for s in (*program.state, *program.inputs)), *program.results)}
    if missing or kept - {"float", "bool"}:
        what = ", ".join(missing) if missing else "integers in the state, the inputs or the outputs"
        raise ModelError(
            f"in fixed point a step must consist of sums, products, comparisons and selections, and this one has {what}; "
            "take dtype float32, or a model with relu"
        )


class Lowering:
    """What is known while a program is made one of integers; arguments are those of `lowered`."""

    def __init__(self, program: Program, ranges: dict[Value, float], bits: int):
        self.program, self.ranges, self.bits, self.most = program, ranges, bits, (1 << bits) - 1
        self.operations: list[Operation] = []
        self.of: dict[Value, tuple[Value, int]] = {}
        self.errors: dict[Value, np.ndarray] = {}
        self.wanted: dict[Value, int] = {}
        for s in program.state:
            size = max(
                ranges.get(s.value, 0.0),
                ranges.get(s.after, 0.0),
                float(np.max(np.abs(s.start), initial=0.0)),
            )
            self._begin(s.value, size)
            if s.value.dtype == "float":
                self.wanted[s.after] = self.of[s.value][1]
        for u in program.inputs:
            self._begin(u.value, ranges.get(u.value, 0.0))

    def _begin(self, value: Value, size: float) -> None:
        dtype = "int32" if value.dtype == "float" else value.dtype
        self.of[value] = Value(value.shape, dtype), fraction(size, self.bits)

    def operation(self, kind: str, operands: Sequence[Value], shape: tuple, dtype: str, **params) -> Value:
        """Add an operation and return its result."""
        result = Value(shape, dtype)
        self.operations.append(Operation(kind, tuple(operands), (result,), params))
        return result

    def fraction(self, value: Value) -> int:
        """Return the fractional bits of a result."""
        return self.wanted.get(value, fraction(self.ranges.get(value, 0.0), self.bits))

    def read(self, value: Value, most: int | None = None) -> tuple[Value, int]:
        """Return a value's integers and their fractional bits; those of a constant are at most `most`."""
        if value.data is None:
            return self.of[value]
        n = constant_fraction(value.data, self.bits)
        return self.constant(value, n if most is None else min(n, most))

    def constant(self, value: Value, n: int) -> tuple[Value, int]:
        """Return a constant as integers with n fractional bits."""
        assert value.data is not None
        if value.dtype != "float":
            return value, 0
        exact = np.asarray(value.data, np.float64) * 2.0**n
        found = np.clip(integers(value.data, n), -self.most, self.most)
        made = Value(value.shape, "int32", found.astype(np.int32))
        # No signal exceeds the largest number, so that an infinite bound is that one.
        error = np.where(np.isfinite(exact), np.abs(found - exact), 0.0)
        if error.any():
            self.errors[made] = error
        return made, n

    def rescaled(self, x: Value, n: int, to: int) -> Value:
        """Return integers with `to` fractional bits instead of n, as int32."""
        if n == to and x.dtype == "int32":
            return x
        if abs(n - to) > _MOST_SHIFT:
            raise ModelError(
                f"signals and constants must be within 2^{_MOST_SHIFT} of each other in size, and two are not; scale the signals"
            )
        return self.operation("rescale", [x], x.shape, "int32", shift=n - to, limit=self.most)

    def define(self, value: Value, x: Value, n: int) -> None:
        """Let integers with n fractional bits, rounded to the format of a result, be that result."""
        to = self.fraction(value)
        self.of[value] = self.rescaled(x, n, to), to

    def wide(self, x: Value) -> Value:
        """Return integers as int64."""
        if x.data is not None:
            made = Value(x.shape, "int64", x.data)
            if x in self.errors:
                self.errors[made] = self.errors[x]
            return made
        return x if x.dtype == "int64" else self.operation("convert", [x], x.shape, "int64")

    def times(self, x: Value, n: int, to: int) -> Value:
        """Return int64 with `to` fractional bits, at least n, exactly."""
        if x.data is not None:
            made = Value(x.shape, "int64", x.data.astype(np.int64) << (to - n))
            if x in self.errors:
                self.errors[made] = self.errors[x] * 2.0 ** (to - n)
            return made
        factor = Value((), "int64", np.asarray(1 << (to - n), np.int64))
        return self.wide(x) if n == to else self.operation("mul", [self.wide(x), factor], x.shape, "int64")

    def together(self, values: Sequence[Value], finer: bool) -> tuple[list[tuple[Value, int]], int]:
        """Return values in formats near enough to each other to be added in int64, and the finest one.

        `finer`: whether a constant may have more fractional bits than the signals have.
        """
        room = _ROOM - self.bits
        known = [self.of[v][1] for v in values if v.data is None]
        near = (min(known) + room if finer else max(known)) if known else None
        pairs = [self.read(v, near) for v in values]
        most = min(n for _, n in pairs) + room
        pairs = [(x, n) if n <= most else (self.rescaled(x, n, most), most) for x, n in pairs]
        return pairs, max(n for _, n in pairs)

    def finish(self) -> Lowered:
        """Return the program, its next state rounded to the formats of the state."""
        p, state = self.program, []
        for s in p.state:
            value, n = self.of[s.value]
            after = self._result(s.after, n)
            start = np.asarray(s.start)
            if s.value.dtype == "float":
                start = np.clip(integers(s.start, n), -self.most, self.most).astype(np.int32)
            state.append(State(s.name, value, after, start))
        inputs = tuple(dataclasses.replace(u, value=self.of[u.value][0]) for u in p.inputs)
        outputs = tuple(self._output(y) for y in p.outputs)
        named = {s.name: self.of[s.value][1] for s in (*p.state, *p.inputs) if s.value.dtype == "float"}
        named |= {y.name: self.read(y.value)[1] for y in p.outputs if y.value.dtype == "float"}
        made = dataclasses.replace(
            p,
            dtype="float32",
            state=tuple(state),
            inputs=inputs,
            outputs=outputs,
            operations=tuple(self.operations),
        )
        return Lowered(pruned(made), named, self.errors, self.bits)

    def _result(self, value: Value, n: int) -> Value:
        if value.dtype != "float":
            return self.read(value)[0]
        if value.data is not None:
            return self.constant(value, n)[0]
        x, own = self.of[value]
        return self.rescaled(x, own, n)

    def _output(self, y: Signals) -> Signals:
        return dataclasses.replace(y, value=self.read(y.value)[0])


def _shape(op: Operation) -> tuple[int, ...]:
    return op.results[0].shape


@lowers("add", "sub")
def _sum(low: Lowering, op: Operation) -> None:
    pairs, n = low.together(op.operands, finer=True)
    terms = [low.times(x, own, n) for x, own in pairs]
    low.define(op.results[0], low.operation(op.kind, terms, _shape(op), "int64"), n)


@lowers("max", "min", *COMPARE, "select")
def _chosen(low: Lowering, op: Operation) -> None:
    """Comparisons in one format for both operands, which for one signal and a constant is the signal's."""
    *which, a, b = op.operands
    if a.dtype != "float":
        _logical(low, op)
        return
    pairs, n = low.together([a, b], finer=False)
    same = all(own == n for _, own in pairs)
    terms = [x if same else low.times(x, own, n) for x, own in pairs]
    flags = [low.read(v)[0] for v in which]
    dtype = "bool" if op.kind in COMPARE else terms[0].dtype
    found = low.operation(op.kind, [*flags, *terms], _shape(op), dtype)
    if dtype == "bool":
        low.of[op.results[0]] = found, 0
    elif same:
        # Exactly one of the operands: no rounding.
        low.of[op.results[0]] = found, n
    else:
        low.define(op.results[0], found, n)


@lowers("and", "or", "xor", "not")
def _logical(low: Lowering, op: Operation) -> None:
    found = low.operation(
        op.kind, [low.read(v)[0] for v in op.operands], _shape(op), op.results[0].dtype, **op.params
    )
    low.of[op.results[0]] = found, 0


@lowers("neg", "abs")
def _exact(low: Lowering, op: Operation) -> None:
    x, n = low.read(op.operands[0])
    low.of[op.results[0]] = low.operation(op.kind, [x], _shape(op), x.dtype), n


@lowers("reshape", "transpose", "broadcast", "slice", "reverse", "take")
def _moved(low: Lowering, op: Operation) -> None:
    x, n = low.read(op.operands[0])
    others = op.operands[1:]
    if any(v.data is None for v in others):
        raise ModelError("in fixed point the positions of entries must be constants; take dtype float32")
    low.of[op.results[0]] = low.operation(op.kind, [x, *others], _shape(op), x.dtype, **op.params), n


@lowers("concatenate")
def _concatenated(low: Lowering, op: Operation) -> None:
    if op.results[0].dtype != "float":
        _logical(low, op)
        return
    to = min([low.fraction(op.results[0]), *(low.of[v][1] for v in op.operands if v.data is None)])
    parts = [
        low.constant(v, min(to, constant_fraction(v.data, low.bits)))[0]
        if v.data is not None
        else low.of[v][0]
        for v in op.operands
    ]
    fractions = [
        low.of[v][1] if v.data is None else min(to, constant_fraction(v.data, low.bits)) for v in op.operands
    ]
    to = min([to, *fractions])
    parts = [low.rescaled(x, n, to) for x, n in zip(parts, fractions, strict=True)]
    low.of[op.results[0]] = low.operation("concatenate", parts, _shape(op), "int32", **op.params), to


@lowers("mul")
def _product(low: Lowering, op: Operation) -> None:
    (x, n), (y, m) = (low.read(v) for v in op.operands)
    found = low.operation("mul", [low.wide(x), low.wide(y)], _shape(op), "int64")
    low.define(op.results[0], found, n + m)


@lowers("div")
def _quotient(low: Lowering, op: Operation) -> None:
    """Multiply by the inverse of a constant."""
    x, by = op.operands
    if by.data is None or not np.all(by.data):
        raise ModelError(
            "in fixed point a step must divide by constants other than 0 alone; take dtype float32"
        )
    inverse = Value(by.shape, "float", 1.0 / np.asarray(by.data, np.float64))
    _product(low, Operation("mul", (x, inverse), op.results, {}))


@lowers("dot")
def _dot(low: Lowering, op: Operation) -> None:
    pairs = [low.read(v) for v in op.operands]
    (a, n), (b, m) = pairs
    terms = op.operands[0].shape[-1]
    if all(v.data is None for v in op.operands) and math.log2(terms) + 2 * low.bits > _ROOM:
        raise ModelError(
            f"a sum of {terms} products of signals must fit into 64 bits, and does not with {low.bits} bits each; take fewer"
        )
    if b.data is not None and a.data is None:
        # The sums go along the first axis of a constant on the right.
        axis = max(len(b.shape) - 2, 0)
        m = constant_fraction(np.moveaxis(np.asarray(op.operands[1].data), axis, -1), low.bits)
        b, m = low.constant(op.operands[1], m)
    low.define(op.results[0], low.operation("dot", [a, b], _shape(op), "int64"), n + m)


@lowers("reduce")
def _reduced(low: Lowering, op: Operation) -> None:
    how, (x, n) = op.params["how"], low.read(op.operands[0])
    if how == "mul":
        raise ModelError(
            "in fixed point a step must not multiply all entries of an array; take dtype float32"
        )
    if how == "add":
        low.define(op.results[0], low.operation("reduce", [low.wide(x)], _shape(op), "int64", **op.params), n)
    else:
        low.of[op.results[0]] = low.operation("reduce", [x], _shape(op), x.dtype, **op.params), n


@lowers("convert")
def _converted(low: Lowering, op: Operation) -> None:
    (x,), (result,) = op.operands, op.results
    if x.dtype != "bool" or result.dtype != "float":
        raise ModelError("in fixed point a step must not count or convert integers; take dtype float32")
    n = low.bits - 1
    one, zero = (Value((), "int32", np.asarray(k << n, np.int32)) for k in (1, 0))
    low.of[result] = low.operation("select", [low.read(x)[0], one, zero], result.shape, "int32"), n
