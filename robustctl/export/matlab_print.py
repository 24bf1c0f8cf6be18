"""Statements of MATLAB for the operations of a program.

Each array is a column of its entries in C order, so that a change of its shape changes nothing and a transpose is an index. Integers
are doubles, exact up to 2^53.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..runtime.program import Block, Operation, Value, registers
from .matlab_helpers import HELPERS, NEEDS

KINDS: dict[str, Callable[["Script", Operation], None]] = {}
"""What prints an operation, by its kind."""
writes = registers(KINDS)
_WRITTEN = 8
"""Entries of an irregular index that are written out; more are stored in the file of constants."""


class Script:
    """Collects the lines of a function.

    **Arguments:**

    - `dtype`: of the program's floats.
    """

    def __init__(self, dtype: str):
        self.dtype = np.dtype(dtype)
        self.real = "single" if dtype == "float32" else "double"
        self.lines: list[str] = []
        self.depth, self.count = 1, 0
        self.names: dict[Value, str] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.known: dict[Any, str] = {}
        self.helpers: dict[str, str] = {}

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * self.depth + text)

    def name(self, letter: str = "v") -> str:
        """Return a name that no other variable has."""
        self.count += 1
        return f"{letter}{self.count}"

    def helper(self, name: str, *arguments: str | int) -> str:
        """Return a call of a helper, which is then written into the file."""
        for needed in (name, *NEEDS.get(name, ())):
            self.helpers[needed] = HELPERS[needed]
        return f"{name}({', '.join(map(str, arguments))})"

    def assigned(self, expression: str) -> str:
        """Return the name of a new variable for an expression."""
        name = self.name()
        self.line(f"{name} = {expression};")
        return name

    def set(self, value: Value, expression: str) -> None:
        """Let a variable be the value."""
        self.names[value] = self.assigned(expression)

    def number(self, x: float | int | bool, dtype: str) -> str:
        """Return a number as MATLAB writes it."""
        if dtype == "bool":
            return "true" if x else "false"
        if dtype != "float":
            return str(x) if x >= 0 else f"({x})"
        x = float(x)
        text = "NaN" if math.isnan(x) else "Inf" if x == math.inf else "-Inf" if x == -math.inf else repr(x)
        if self.real == "single":
            return f"single({text})"
        return f"({text})" if text[0] == "-" else text

    def ref(self, value: Value) -> str:
        """Return how a value is read."""
        if value.data is None:
            return self.names[value]
        if value.size == 1:
            return self.number(value.data.item(), value.dtype)
        return self.constant(value.data.reshape(-1, 1), value.dtype)

    def refs(self, values: Iterable[Value]) -> list[str]:
        """Return how values are read."""
        return [self.ref(value) for value in values]

    def constant(self, array: np.ndarray, dtype: str) -> str:
        """Return a constant matrix or column; equal ones are one."""
        array = np.asarray(array, {"float": self.dtype, "bool": np.dtype(bool)}.get(dtype, np.dtype(float)))
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self.known:
            self.known[key] = f"c{len(self.known) + 1}"
            self.constants[self.known[key]] = array
        return f"c.{self.known[key]}"

    def matrix(self, value: Value) -> str:
        """Return a value (m, k) as a matrix."""
        m, k = value.shape
        if value.data is not None:
            return self.constant(value.data, value.dtype)
        return self.ref(value) if value.size == 1 else f"reshape({self.ref(value)}, {k}, {m}).'"

    def index(self, positions: np.ndarray) -> str:
        """Return positions that count from 0 as an index, which counts from 1."""
        at = np.asarray(positions, int).ravel() + 1
        steps = np.unique(np.diff(at))
        if at.size == 1:
            return str(at[0])
        if steps.size == 1 and steps[0] != 0:
            step = "" if steps[0] == 1 else f"{steps[0]}:"
            return f"{at[0]}:{step}{at[-1]}"
        if at.size <= _WRITTEN:
            return f"[{' '.join(map(str, at))}]"
        return self.constant(at.reshape(-1, 1), "int64")

    def viewed(self, x: str, size: int, positions: np.ndarray) -> str:
        """Return the entries of a column of `size` entries at positions."""
        at = np.asarray(positions).ravel()
        if at.size == size and (at == np.arange(size)).all():
            return x
        if size == 1:
            return f"repmat({x}, {at.size}, 1)"
        # An index applies to a name alone.
        name = x if x.replace(".", "").isalnum() else self.assigned(x)
        return f"{name}({self.index(at)})"

    def operations(self, operations: Iterable[Operation]) -> None:
        """Print operations in order."""
        for operation in operations:
            KINDS[operation.kind](self, operation)

    def block(self, block: Block, inputs: Sequence[str]) -> list[str]:
        """Print a block, and return how its outputs are read."""
        self.names.update(zip(block.inputs, inputs, strict=True))
        self.operations(block.operations)
        return self.refs(block.outputs)
