"""A step as a function block in structured text (IEC 61131-3), for programmable controllers."""

import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InvalidModelError
from ..runtime.program import COMPARE, Operation, Program, Value, registers, walk
from .fields import Field
from .wrapped import Wrapped, filled, table

KINDS: dict[str, Callable[["Text", Operation], None]] = {}
"""What prints an operation, by its kind."""
_prints = registers(KINDS)
_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "and": "AND", "or": "OR", "xor": "XOR", "eq": "=", "ne": "<>", "lt": "<", "le": "<=",
    "gt": ">", "ge": ">=",
}  # fmt: skip
_CALLS = {
    "abs": "ABS", "exp": "EXP", "log": "LN", "sqrt": "SQRT", "sin": "SIN", "cos": "COS", "tan": "TAN", "asin": "ASIN", "acos": "ACOS",
    "atan": "ATAN", "max": "MAX", "min": "MIN", "not": "NOT", "neg": "-",
}  # fmt: skip
_README = """\
# NAME on a programmable controller

Import or paste NAME.st, a function block in structured text (IEC 61131-3), and call an instance of it once in each cycle of a task with the
interval <DT> s. Its state starts when the controller starts, and again while `reset` is TRUE. Inputs have to be finite.

<TABLE>

Inputs have `u_` in front of the name, outputs `y_`. The sums run in the order of NAME.c, which is the same step in C. Both files are
compared by `robustctl export FOLDER --check`.
"""


class Text:
    """Statements of a step, and the variables that they declare; every value that is no constant number is a variable.

    **Arguments:**

    - `program`: the step.
    """

    def __init__(self, program: Program):
        self.real = "LREAL" if program.dtype == "float64" else "REAL"
        self.types = {"float": self.real, "int32": "DINT", "int64": "LINT", "bool": "BOOL"}
        self.names: dict[Value, str] = {}
        self.variables: list[str] = []
        self.constants: list[str] = []
        self.lines: list[str] = []
        self.most = float(np.finfo(program.dtype).max)
        self.single = program.dtype == "float32"

    def declare(self, value: Value, letter: str = "v", start: np.ndarray | None = None) -> str:
        """Declare a variable for a value and return its name."""
        name = f"{letter}{len(self.names) + 1}"
        self.names[value] = name
        table = self.constants if value.data is not None else self.variables
        numbers = None if start is None else [self.number(x, value.dtype) for x in start.ravel().tolist()]
        kind = self.types[value.dtype]
        if value.size > 1:
            kind = f"ARRAY[0..{value.size - 1}] OF {kind}"
        first = (
            ""
            if numbers is None
            else f" := {numbers[0] if value.size == 1 else '[' + ', '.join(numbers) + ']'}"
        )
        table.append(f"{name} : {kind}{first};")
        return name

    def number(self, x: float | int | bool, dtype: str) -> str:
        """Return a literal; an infinite one is the largest number, since all others are below it."""
        if dtype == "bool":
            return "TRUE" if x else "FALSE"
        if dtype != "float":
            return str(int(x))
        if np.isnan(x):
            raise InvalidModelError(
                "structured text has no NaN, and a constant of the step is NaN; export it to C"
            )
        x = float(np.clip(x, -self.most, self.most))
        digits, _, power = (str(np.float32(x)) if self.single else repr(x)).partition("e")
        digits = digits if "." in digits else f"{digits}.0"
        return f"{digits}E{power}" if power else digits

    def read(self, value: Value, at: str) -> str:
        """Return an entry of a value by its position in C order; a scalar has one for every position."""
        if value.data is not None and value.size == 1:
            text = self.number(value.data.item(), value.dtype)
            return f"({text})" if text.startswith("-") else text
        name = self.names.get(value) or self.declare(value, "c", value.data)
        return name if value.size == 1 else f"{name}[{at}]"

    def loops(self, shape: Sequence[int], body: Callable[[list[str]], list[str]]) -> None:
        """Add loops over a shape around the statements of a body, which has the index of each axis."""
        at = ["0" if n == 1 else f"i{k}" for k, n in enumerate(shape)]
        inside = body(at)
        depth = 0
        for n, name in zip(shape, at, strict=True):
            if n != 1:
                self.lines.append("    " * depth + f"FOR {name} := 0 TO {n - 1} DO")
                depth += 1
        self.lines += ["    " * depth + line for line in inside]
        self.lines += ["    " * k + "END_FOR;" for k in reversed(range(depth))]

    def each(self, result: Value, read: Callable[[str], str]) -> None:
        """Add what computes a value entry by entry."""
        self.declare(result)
        self.loops([result.size], lambda at: [f"{self.read(result, at[0])} := {read(at[0])};"])


def _sum(offset: int, steps: Sequence[int], at: Sequence[str]) -> str:
    """Return `offset + steps . at` as text."""
    terms = [i if s == 1 else f"{s} * {i}" for s, i in zip(steps, at, strict=True) if s and i != "0"]
    return " + ".join([*([str(offset)] if offset or not terms else []), *terms]).replace("+ -", "- ")


@_prints(*(kind for kind in _SIGNS if kind not in COMPARE), *COMPARE, *_CALLS, "select", "convert")
def _entries(t: Text, op: Operation) -> None:
    t.each(op.results[0], lambda at: _expression(t, op, [t.read(v, at) for v in op.operands]))


def _expression(t: Text, op: Operation, x: list[str]) -> str:
    kind, dtype, after = op.kind, op.operands[0].dtype, op.results[0].dtype
    if kind == "select":
        return f"SEL({x[0]}, {x[2]}, {x[1]})"
    if kind in _SIGNS:
        return f"{x[0]} {_SIGNS[kind]} {x[1]}"
    if kind != "convert":
        return f"{_CALLS[kind]}({', '.join(x)})"
    if dtype == "bool":
        return f"SEL({x[0]}, {t.number(0, after)}, {t.number(1, after)})"
    if after == "bool":
        return f"{x[0]} <> {t.number(0, dtype)}"
    return f"{t.types[dtype]}_TO_{t.types[after]}({x[0]})"


@_prints("reshape", "transpose", "broadcast", "slice", "reverse")
def _view(t: Text, op: Operation) -> None:
    """Copy entries whose positions advance by a constant along each axis."""
    (x,), (result,), params = op.operands, op.results, op.params
    at = np.arange(x.size).reshape(x.shape)
    if op.kind == "transpose":
        at = at.transpose(params["axes"])
    elif op.kind == "slice":
        at = at[tuple(map(slice, params["start"], params["stop"], params["step"]))]
    elif op.kind == "reverse":
        at = np.flip(at, params["axes"])
    elif op.kind == "broadcast":
        whole = [1] * len(result.shape)
        for axis, n in zip(params["axes"], x.shape, strict=True):
            whole[axis] = n
        at = np.broadcast_to(at.reshape(whole), result.shape)
    else:
        at = at.reshape(result.shape)
    steps = [int(np.take(at, 1, k).flat[0] - at.flat[0]) if n > 1 else 0 for k, n in enumerate(at.shape)]
    own = [int(np.prod(at.shape[k + 1 :])) for k in range(at.ndim)]
    t.declare(result)
    first = int(at.flat[0])
    t.loops(at.shape, lambda i: [f"{t.read(result, _sum(0, own, i))} := {t.read(x, _sum(first, steps, i))};"])


@_prints("concatenate")
def _concatenate(t: Text, op: Operation) -> None:
    (result,), axis, begin = op.results, op.params["axis"], 0
    t.declare(result)
    inner = int(np.prod(result.shape[axis + 1 :]))
    for x in op.operands:
        outer, length = int(np.prod(x.shape[:axis])), x.shape[axis] * inner
        steps = [result.shape[axis] * inner, 1]
        t.loops(
            [outer, length],
            lambda i, x=x, steps=steps, begin=begin, length=length: [
                f"{t.read(result, _sum(begin, steps, i))} := {t.read(x, _sum(0, [length, 1], i))};"
            ],
        )
        begin += length


@_prints("dot")
def _dot(t: Text, op: Operation) -> None:
    (x, y), (result,) = op.operands, op.results
    if max(len(x.shape), len(y.shape)) > 2:
        raise InvalidModelError(
            "in structured text products of stacks of matrices have no form; export the step to C"
        )
    k = y.shape[0]
    m, n = x.size // k, y.size // k
    t.declare(result)

    def body(i: list[str]) -> list[str]:
        to = t.read(result, _sum(0, [n, 1], i))
        one, other = (
            [t.read(x, _sum(l, [k, s], [i[0], "i2"])) for l, s in ((0, 0), (0, 1))],
            [t.read(y, _sum(0, [s, 1], ["i2", i[1]])) for s in (0, n)],
        )
        rest = [f"FOR i2 := 1 TO {k - 1} DO", f"    {to} := {to} + {one[1]} * {other[1]};", "END_FOR;"]
        return [f"{to} := {one[0]} * {other[0]};", *(rest if k > 1 else [])]

    t.loops([m, n], body)


@_prints("reduce")
def _reduce(t: Text, op: Operation) -> None:
    (x,), (result,), axis, how = op.operands, op.results, op.params["axis"], op.params["how"]
    outer, n, inner = int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1 :]))
    t.declare(result)

    def body(i: list[str]) -> list[str]:
        to = t.read(result, _sum(0, [inner, 1], i))
        first, term = (t.read(x, _sum(0, [n * inner, s, 1], [i[0], "i2", i[1]])) for s in (0, inner))
        step = f"{_CALLS[how]}({to}, {term})" if how in _CALLS else f"{to} {_SIGNS[how]} {term}"
        rest = [f"FOR i2 := 1 TO {n - 1} DO", f"    {to} := {step};", "END_FOR;"]
        return [f"{to} := {first};", *(rest if n > 1 else [])]

    t.loops([outer, inner], body)


def plc(w: Wrapped) -> tuple[dict[str, str], dict[str, str]]:
    """Return the files for a programmable controller by name, and those that its user changes: none.

    **Raises:** `InvalidModelError` for a step of integers, and for operations that structured text does not have, by name.
    """
    missing = sorted({op.kind for op in walk(w.program.operations)} - set(KINDS))
    if w.low is not None or missing:
        what = ", ".join(missing) or "fixed point"
        raise InvalidModelError(
            f"in structured text a step must consist of sums, products, comparisons and selections of floats, and this one has {what}; "
            "export it to C, or take a model with relu"
        )
    readme = filled(_README.replace("<DT>", f"{w.dt:.9g}"), w, TABLE=table(w))
    return {f"{w.name}.st": _block(w), "README.md": readme}, {}


def _block(w: Wrapped) -> str:
    t = Text(w.program)
    for s in w.program.state:
        t.declare(s.value, "s", s.start)
    inputs = dict(zip(w.inputs, _names("u", w.inputs), strict=True))
    outputs = dict(zip(w.outputs, _names("y", w.outputs), strict=True))
    _restart(t, w.program)
    _gather(t, w, inputs)
    for op in w.program.operations:
        KINDS[op.kind](t, op)
    _finish(t, w, outputs)
    indices = [f"i{k} : DINT;" for k in range(8) if any(f"i{k} := " in line for line in t.lines)]
    parts = (
        ("VAR_INPUT", ["reset : BOOL; (* the state starts again *)", *_declared(t, inputs)]), ("VAR_OUTPUT", _declared(t, outputs)),
        ("VAR CONSTANT", t.constants), ("VAR", [*t.variables, *indices]),
    )  # fmt: skip
    head = [
        f"(* {w.name}: one step each {w.dt:.9g} s, made by robustctl. *)",
        f"FUNCTION_BLOCK {_plain(w.name)}_step",
    ]
    for what, lines in parts:
        head += [what, *(f"    {line}" for line in lines), "END_VAR"] if lines else []
    return "\n".join([*head, "", *t.lines, "END_FUNCTION_BLOCK", ""])


def _restart(t: Text, program: Program) -> None:
    lines = [
        f"    {t.read(s.value, str(k))} := {t.number(x, s.value.dtype)};"
        for s in program.state
        for k, x in enumerate(s.start.ravel().tolist())
    ]
    t.lines += ["IF reset THEN", *lines, "END_IF;"] if lines else []


def _gather(t: Text, w: Wrapped, names: dict[Field, str]) -> None:
    """Copy the inputs into arrays."""
    fields = iter(w.inputs)
    for signals in w.program.inputs:
        t.declare(signals.value, "a")
        for k in range(signals.value.size):
            t.lines.append(f"{t.read(signals.value, str(k))} := {names[next(fields)]};")


def _finish(t: Text, w: Wrapped, names: dict[Field, str]) -> None:
    """Write the outputs, and then the next state, all of it computed before any of it is written."""
    fields = iter(w.outputs)
    for signals in w.program.outputs:
        for k in range(signals.value.size):
            t.lines.append(f"{names[next(fields)]} := {t.read(signals.value, str(k))};")
    moving = [(s, Value(s.value.shape, s.value.dtype)) for s in w.program.state if s.after is not s.value]
    for s, after in moving:
        t.each(after, lambda at, s=s: t.read(s.after, at))
    for s, after in moving:
        t.loops(
            [after.size],
            lambda at, s=s, after=after: [f"{t.read(s.value, at[0])} := {t.read(after, at[0])};"],
        )


def _declared(t: Text, names: dict[Field, str]) -> list[str]:
    return [
        f"{name} : {t.types[f.kind]}; (* {f.about.replace('*)', '* )').replace('(*', '( *')} *)"
        for f, name in names.items()
    ]


def _names(letter: str, fields: Sequence[Field]) -> list[str]:
    """Return different names: structured text does not distinguish case, and no two underscores follow each other."""
    found: list[str] = []
    for field in fields:
        base = f"{letter}_{_plain(field.name)}"
        options = itertools.chain([base], (f"{base}_{k}" for k in itertools.count(2)))
        found.append(next(name for name in options if name.lower() not in map(str.lower, found)))
    return found


def _plain(name: str) -> str:
    return re.sub("_+", "_", name).strip("_")
