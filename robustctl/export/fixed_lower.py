"""From a program of floats to one of integers: each array has a format, and each result is rounded to its own."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidModelError
from ..runtime.program import Operation, Program, Signals, State, Value, registers, walk
from .fixed_formats import constant_fraction, fraction, integers
from .prune import pruned

ROOM = 61
"""Bits of an int64 that a shifted operand of a sum may use."""
_MOST_SHIFT = 62
RULES: dict[str, Callable[["Lowering", Operation], None]] = {}
"""What makes integer operations of an operation, by its kind."""
lowers = registers(RULES)


class Approximated(NamedTuple):
    """What integers approximate: a function of other integers with slopes of at most `factor`, `|result - f(x)| <= error`."""

    x: Value
    factor: float
    error: float


@dataclasses.dataclass(frozen=True, eq=False)
class Lowered:
    """A program of integers, and what its integers mean: a number is its integer times `2^-n`.

    **Arguments:**

    - `program`: the program.
    - `fractions`: n of each array of the state, the inputs and the outputs, by its name.
    - `constant_errors`: how far an integer constant is from the number times `2^n`, of the constants that had to be rounded.
    - `bits`: of a number, without its sign.
    - `approximated`: the integers that approximate a function, and how well.
    - `inside`: what some integers do not exceed in size by construction, which intervals do not see.
    """

    program: Program
    fractions: dict[str, int]
    constant_errors: dict[Value, np.ndarray]
    bits: int
    approximated: dict[Value, Approximated]
    inside: dict[Value, float]

    @property
    def as_given(self) -> bool:
        """Whether no constant had to be rounded."""
        return not any(v in self.constant_errors for v in self.program.constants)

    def integers(self, name: str, numbers: Any) -> np.ndarray:
        """Return numbers as the integers of an array of state, inputs or outputs: rounded to the nearest and saturated."""
        if name not in self.fractions:
            return np.asarray(numbers) != 0
        most = (1 << self.bits) - 1
        return np.clip(integers(numbers, self.fractions[name]), -most, most).astype(np.int32)

    def numbers(self, name: str, integers: Any) -> np.ndarray:
        """Return what the integers of an array mean."""
        return np.asarray(integers, np.float64) * 2.0 ** -self.fractions[name]


def lowered(program: Program, ranges: dict[Value, float], bits: int) -> Lowered:
    """Return a program of integers of so many bits.

    **Arguments:**

    - `program`: the program, in float64.
    - `ranges`: a size that each of its floating-point values is not expected to exceed.
    - `bits`: of a number, without its sign.

    **Raises:** `InvalidModelError` for operations that fixed point does not have, by name.
    """
    check_kinds(program)
    low = Lowering(program, ranges, bits)
    for op in program.operations:
        RULES[op.kind](low, op)
    return low.finish()


def check_kinds(program: Program) -> None:
    """Raise `InvalidModelError` unless fixed point has all operations of a program."""
    missing = sorted({op.kind for op in walk(program.operations)} - set(RULES))
    kept = {v.dtype for v in (*(s.value for s in (*program.state, *program.inputs)), *program.results)}
    if missing or kept - {"float", "bool"}:
        what = ", ".join(missing) if missing else "integers in the state, the inputs or the outputs"
        raise InvalidModelError(
            f"in fixed point a step must consist of sums, products, comparisons, selections and tanh, and this one has {what}; "
            "take dtype float32, or a model with relu or tanh"
        )


class Lowering:
    """What is known while a program is made one of integers; arguments are those of `lowered`."""

    def __init__(self, program: Program, ranges: dict[Value, float], bits: int):
        self.program, self.ranges, self.bits, self.most = program, ranges, bits, (1 << bits) - 1
        self.operations: list[Operation] = []
        self.of: dict[Value, tuple[Value, int]] = {}
        self.errors: dict[Value, np.ndarray] = {}
        self.wanted: dict[Value, int] = {}
        self.approximated: dict[Value, Approximated] = {}
        self.inside: dict[Value, float] = {}
        for s in program.state:
            size = max(
                ranges.get(s.value, 0.0),
                ranges.get(s.after, 0.0),
                float(np.max(np.abs(s.start), initial=0.0)),
            )
            self._begin(s.value, size)
            if s.value.dtype == "float":
                self.wanted[s.after] = self.of[s.value][1]
        self.inputs: dict[Value, Value] = {}
        for u in program.inputs:
            self._begin(u.value, ranges.get(u.value, 0.0))
            given, n = self.of[u.value]
            self.inputs[u.value] = given
            if given.dtype == "int32":
                # The caller may give any integer.
                self.of[u.value] = self._saturated(given), n

    def _begin(self, value: Value, size: float) -> None:
        dtype = "int32" if value.dtype == "float" else value.dtype
        self.of[value] = Value(value.shape, dtype), fraction(size, self.bits)

    def operation(self, kind: str, operands: Sequence[Value], shape: tuple, dtype: str, **params) -> Value:
        """Add an operation and return its result."""
        result = Value(shape, dtype)
        self.operations.append(Operation(kind, tuple(operands), (result,), params))
        return result

    def _saturated(self, x: Value) -> Value:
        return self.operation("rescale", [x], x.shape, "int32", shift=0, limit=self.most)

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
            raise InvalidModelError(
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
        room = ROOM - self.bits
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
        inputs = tuple(dataclasses.replace(u, value=self.inputs[u.value]) for u in p.inputs)
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
        return Lowered(pruned(made), named, self.errors, self.bits, self.approximated, self.inside)

    def _result(self, value: Value, n: int) -> Value:
        if value.dtype != "float":
            return self.read(value)[0]
        if value.data is not None:
            return self.constant(value, n)[0]
        x, own = self.of[value]
        return self.rescaled(x, own, n)

    def _output(self, y: Signals) -> Signals:
        return dataclasses.replace(y, value=self.read(y.value)[0])
