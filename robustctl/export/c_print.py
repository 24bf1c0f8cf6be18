"""Statements of C, one block at a time: what the kinds of operations are printed with."""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..runtime.program import Block, Operation, Program, Value, blocks, registers, walk
from .c_helpers import NEEDS, OWN, finished, helper
from .c_refs import Place, Ref, Scalar, place
from .c_text import Index, bare, number

KINDS: dict[str, Callable[["Printer", Operation], None]] = {}
"""What prints an operation, by its kind."""
prints = registers(KINDS)
_LONGEST = 300
"""Characters of an expression; a longer one is written to a variable."""


class Printer:
    """Prints the operations of a program.

    **Arguments:**

    - `program`: the program.
    - `own_functions`: whether `exp` and `tanh` are written into the file instead of called.
    """

    def __init__(self, program: Program, own_functions: bool = True):
        self.own = OWN if own_functions else ()
        self.prefix, self.double = program.name, program.dtype == "float64"
        self.types = {
            "float": "double" if self.double else "float", "int32": "int32_t", "int64": "int64_t", "bool": "bool",
        }  # fmt: skip
        self.lines: list[str] = []
        self.depth, self.count, self.loops = 1, 0, 0
        self.refs: dict[Value, Ref] = {}
        self.helpers: dict[str, str] = {}
        self.libm: set[str] = set()
        self.tables: dict[Value, str] = {}
        self.uses = uses(program)
        # A matrix that multiplies a vector is stored by columns: all rows grow together, which compilers turn into vector code.
        self.by_columns = {
            op.operands[0] for op in walk(program.operations)
            if op.kind == "dot" and op.operands[0].data is not None and [len(v.shape) for v in op.operands] == [2, 1]
        }  # fmt: skip

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * self.depth + text if text else "")

    def name(self, letter: str = "v") -> str:
        """Return a name that no other variable of the step has."""
        self.count += 1
        return f"{letter}{self.count}"

    def function(self, base: str) -> str:
        """Return a function of libm in the program's precision, or the file's own."""
        if base in self.own:
            return self.helper(base)
        name = base if self.double else f"{base}f"
        self.libm.add(name)
        return name

    def helper(self, name: str, dtype: str = "float") -> str:
        """Return the name of a helper, which is then written into the file."""
        for needed in NEEDS.get(name, ()):
            self.helper(needed)
        short, text = helper(name, dtype)
        for base in ("fabs", "sqrt"):
            if f"{base}(" in text:
                self.function(base)
        self.helpers[short] = finished(text, self.prefix, self.double)
        return f"{self.prefix}_{short}"

    def constant(self, value: float | int, dtype: str = "float") -> str:
        """Return a number as C writes it."""
        return number(value, dtype, self.double)

    def ref(self, value: Value) -> Ref:
        """Return how a value is read."""
        if value not in self.refs:
            self.refs[value] = self._table(value)
        return self.refs[value]

    def _table(self, value: Value) -> Ref:
        """Return a constant: a number, or a table at the top of the file."""
        assert value.data is not None
        if value.size == 1:
            return Scalar(self.constant(value.data.item(), value.dtype))
        name = self.tables.setdefault(value, f"{self.prefix}_c{len(self.tables) + 1}")
        if value in self.by_columns:
            return Place(name, value.shape, (1, value.shape[0]))
        return place(name, value.shape)

    def read(self, value: Value, at: Sequence[Index]) -> str:
        """Return an entry of a value; a scalar has one for every index."""
        return self.ref(value).read(at if value.shape else ())

    def nest(
        self, shape: Sequence[int], body: Callable[[list[Index]], None], names: str = "ijklmnpq"
    ) -> None:
        """Print loops over a shape around what `body` prints; axes of length 1 have none."""
        at: list[Index] = [0 if n == 1 else name for n, name in zip(shape, names, strict=False)]
        with contextlib.ExitStack() as loops:
            for n, name in zip(shape, at, strict=False):
                if n != 1:
                    loops.enter_context(self.braces(f"for (int {name} = 0; {name} < {n}; {name}++)"))
            body(at)

    def declare(self, value: Value) -> Ref:
        """Declare a variable for a value, an array for more than one entry."""
        if value.size != 1:
            return self.declare_array(value)
        name = self.name()
        self.line(f"{self.types[value.dtype]} {name};")
        return Scalar(name)

    def declare_array(self, value: Value) -> Place:
        """Declare an array for a value."""
        name = self.name()
        self.line(f"{self.types[value.dtype]} {name}[{value.size}];")
        return place(name, value.shape)

    def fill(self, target: Ref, shape: Sequence[int], read: Callable[[Sequence[Index]], str]) -> None:
        """Write `read` to every entry of a target."""
        self.nest(shape, lambda at: self.line(f"{target.read(at)} = {bare(read(at))};"))

    def write_out(self, value: Value) -> Ref:
        """Write a value's entries to its own variable, and read it there from now on."""
        if value.size != 1:
            return self.write_array(value)
        source, name = self.ref(value), self.name()
        self.line(f"const {self.types[value.dtype]} {name} = {bare(source.read([0] * len(value.shape)))};")
        self.refs[value] = Scalar(name)
        return self.refs[value]

    def write_array(self, value: Value) -> Place:
        """Write a value's entries to its own array, and read it there from now on."""
        source, target = self.ref(value), self.declare_array(value)
        self.fill(target, value.shape, source.read)
        self.refs[value] = target
        return target

    def stored(self, value: Value) -> Ref:
        """Return a value as a variable or array, written out where it is an expression."""
        ref = self.ref(value)
        return self.write_out(value) if ref.computed else ref

    def packed(self, value: Value) -> Place:
        """Return a value as an array in C order."""
        ref = self.ref(value)
        match ref:
            case Place(packed=True):
                return ref
            case _:
                return self.write_array(value)

    def define(self, value: Value, ref: Ref) -> None:
        """Let a value be read in some way; an expression that is read more than once, or is long, is written out."""
        self.refs[value] = ref
        if ref.computed:
            long = len(ref.read(["i"] * len(value.shape))) > _LONGEST
            if self.uses[value] > 1 or long:
                self.write_out(value)

    def operations(self, operations: Iterable[Operation]) -> None:
        """Print operations in order."""
        for operation in operations:
            KINDS[operation.kind](self, operation)

    @contextlib.contextmanager
    def braces(self, head: str) -> Iterator[None]:
        """Print a statement with a body; what the body writes out is known in it alone."""
        self.line(f"{head} {{")
        self.depth += 1
        before = dict(self.refs)
        yield
        self.refs = before
        self.depth -= 1
        self.line("}")

    def block(self, block: Block, inputs: Sequence[Ref]) -> None:
        """Print a block, its inputs read as given."""
        self.refs.update(zip(block.inputs, inputs, strict=True))
        self.operations(block.operations)


def uses(program: Program) -> collections.Counter[Value]:
    """Return how often each value is read; what a block reads from outside counts twice, since it may run again and again."""
    counts: collections.Counter[Value] = collections.Counter(program.results)

    def count(operations: Iterable[Operation], own: set[Value]) -> None:
        for operation in operations:
            read = [*operation.operands]
            for block in blocks(operation):
                inside = {*block.inputs, *(v for op in block.operations for v in op.results)}
                count(block.operations, inside)
                counts.update({v: 1 if v in inside else 2 for v in block.outputs})
            counts.update(read)
            counts.update(v for v in read if v not in own)
            own.update(operation.results)

    count(program.operations, {s.value for s in program.state} | {s.value for s in program.inputs})
    return counts
