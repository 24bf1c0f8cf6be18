"""C of each kind of operation."""

from collections.abc import Sequence

from ..runtime.program import BINARY, COMPARE, UNARY, Operation, Value
from .c_print import Printer, prints
from .c_refs import Formula, Ref, Scalar
from .c_text import Index, bare, plus

_FUNCTIONS = {"abs": "fabs", "round_even": "rint", "rem": "fmod"}
_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&&", "or": "||", "xor": "!=", "eq": "==", "ne": "!=", "lt": "<",
    "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip


_TOGETHER = 8
"""Terms of a product that are added to every sum at once, so that the sums are read and written less often."""


@prints(*UNARY, *BINARY, *COMPARE, "select", "convert")
def _entries(p: Printer, op: Operation) -> None:
    (result,) = op.results

    def read(at: Sequence[Index]) -> str:
        return _expression(p, op, [p.read(v, at) for v in op.operands])

    p.define(result, Formula(read))


def _expression(p: Printer, op: Operation, x: list[str]) -> str:
    kind, dtype, operands = op.kind, op.operands[0].dtype, ", ".join(map(bare, x))
    if kind == "select":
        return f"({x[0]} ? {x[1]} : {x[2]})"
    if kind == "convert":
        return _converted(p, x[0], dtype, op.results[0].dtype)
    if kind == "not":
        return f"(!{x[0]})"
    if kind in ("max", "min") and dtype == "float":
        return _extreme(p, op, x)
    if dtype == "bool" or kind in COMPARE:
        return f"({x[0]} {_SIGNS[kind]} {x[1]})"
    if dtype != "float":
        return f"{p.helper(kind, dtype)}({operands})"
    if kind == "neg":
        return f"(- {x[0]})"  # a constant may have its own sign
    if kind in _SIGNS:
        return f"({x[0]} {_SIGNS[kind]} {x[1]})"
    if kind in ("sign", "is_finite"):
        return f"{p.helper(kind)}({operands})"
    return f"{p.function(_FUNCTIONS.get(kind, kind))}({operands})"


def _extreme(p: Printer, op: Operation, x: list[str]) -> str:
    """Return a maximum or minimum that is NaN where an operand is; with a constant one comparison does it."""
    names = {"max": "above", "min": "below"}
    for k, v in enumerate(op.operands):
        if v.data is not None and not (v.data != v.data).any():
            return f"{p.helper(names[op.kind])}({bare(x[1 - k])}, {bare(x[k])})"
    return f"{p.helper(op.kind)}({bare(x[0])}, {bare(x[1])})"


def _converted(p: Printer, x: str, old: str, new: str) -> str:
    if new == "bool":
        return f"({x} != {p.constant(0, old)})"
    if old == "bool":
        return f"({x} ? {p.constant(1, new)} : {p.constant(0, new)})"
    if old == "float":
        return f"{p.helper('from', new)}({bare(x)})"
    return f"(({p.types[new]}){x})"


@prints("rescale")
def _rescale(p: Printer, op: Operation) -> None:
    (x,), (result,), (shift, limit) = op.operands, op.results, (op.params["shift"], op.params["limit"])

    def read(at: Sequence[Index]) -> str:
        return f"{p.helper('rescale')}({bare(p.read(x, at))}, {shift}, {limit})"

    p.define(result, Formula(read))


@prints("reshape")
def _reshape(p: Printer, op: Operation) -> None:
    (x,), (result,) = op.operands, op.results
    ref = p.ref(x).regrouped(x.shape, result.shape) or p.packed(x).regrouped(x.shape, result.shape)
    assert ref is not None
    p.define(result, ref)


@prints("transpose", "slice", "reverse")
def _view(p: Printer, op: Operation) -> None:
    (x,), (result,), rank = op.operands, op.results, len(op.operands[0].shape)
    offset: list[Index] = [0] * rank
    steps = [(k, 1) for k in range(rank)]
    if op.kind == "transpose":
        steps = [(op.params["axes"].index(k), 1) for k in range(rank)]
    elif op.kind == "slice":
        offset, steps = list(op.params["start"]), list(enumerate(op.params["step"]))
    else:
        for k in op.params["axes"]:
            offset[k], steps[k] = x.shape[k] - 1, (k, -1)
    _define_view(p, result, p.ref(x), offset, steps)


def _define_view(
    p: Printer, result: Value, ref: Ref, offset: Sequence[Index], steps: Sequence[tuple[int, int]]
) -> None:
    ref = ref.viewed(result.shape, offset, steps)
    p.define(
        result,
        Scalar(ref.read([0] * len(result.shape))) if result.size == 1 and ref.array else ref,
    )


@prints("broadcast")
def _broadcast(p: Printer, op: Operation) -> None:
    (x,), (result,) = op.operands, op.results
    steps = [(axis, int(n > 1)) for axis, n in zip(op.params["axes"], x.shape, strict=True)]
    # Computed once, not again for each of the entries that are equal.
    p.define(result, p.stored(x).viewed(result.shape, [0] * len(x.shape), steps))


@prints("concatenate")
def _concatenate(p: Printer, op: Operation) -> None:
    (result,), axis, start = op.results, op.params["axis"], 0
    target = p.declare(result)
    for part in op.operands:
        offset: list[Index] = [0] * len(part.shape)
        offset[axis] = start
        own = target.viewed(part.shape, offset, [(k, 1) for k in range(len(part.shape))])
        p.fill(own, part.shape, p.ref(part).read)
        start += part.shape[axis]
    p.refs[result] = target


@prints("dot")
def _dot(p: Printer, op: Operation) -> None:
    (a, b), (result,) = op.operands, op.results
    x, y = p.stored(a), p.stored(b)
    terms = a.shape[-1]
    left, right = int(len(a.shape) > 1), int(len(b.shape) > 1)

    def product(at: Sequence[Index], k: Index) -> str:
        stack, free = list(at[: len(at) - left - right]), list(at[len(at) - left - right :])
        rows, columns = free[:left], free[left:]
        # From int32 to int64 before the product, which would overflow.
        wide = "" if result.dtype == a.dtype else f"({p.types[result.dtype]})"
        return f"{wide}{x.read([*stack, *rows, k])} * {y.read([*stack, k, *columns])}"

    target = p.declare(result)
    p.refs[result] = target
    if result.size == 1 or (left and not right and a not in p.by_columns):
        _rows(p, target, result.shape, terms, product, p.types[result.dtype])
    else:
        _columns(p, target, result.shape, terms, product)


def _rows(p: Printer, target: Ref, shape: Sequence[int], terms: int, product, kind: str) -> None:
    """Sum the entries of a product one after another."""

    def entry(at: list[Index]) -> None:
        name = p.name("s")
        p.line(f"{kind} {name} = {product(at, 0)};")
        _over(p, 1, terms, lambda k: p.line(f"{name} += {product(at, k)};"))
        p.line(f"{target.read(at)} = {name};")

    p.nest(shape, entry)


def _columns(p: Printer, target: Ref, shape: Sequence[int], terms: int, product) -> None:
    """Sum all entries of a product together, a few terms after the others: the same sums, in the same order."""
    *outer, n = shape
    first = (terms - 1) % _TOGETHER + 1

    def row(at: list[Index]) -> None:
        def add(k: Index, count: int) -> None:
            def entry(j: Index) -> None:
                own = target.read([*at, j])
                before = [own] if k != 0 else []
                _sum(p, own, [*before, *(product([*at, j], plus(k, i)) for i in range(count))])

            _over(p, 0, n, entry, "j")

        add(0, first)
        _over(p, first, terms, lambda k: add(k, _TOGETHER), step=_TOGETHER)

    p.nest(outer, row, "abcdefg")


def _sum(p: Printer, target: str, terms: Sequence[str]) -> None:
    """Print an assignment of a sum, a line for each term."""
    first, *others = terms
    p.line(f"{target} = {first}{'' if others else ';'}")
    for k, term in enumerate(others, 1):
        p.line(f"    + {term}{';' if k == len(others) else ''}")


def _over(p: Printer, start: int, end: int, body, name: str = "k", step: int = 1) -> None:
    """Print a loop over a range, without one where it has at most one turn."""
    if 0 < end - start <= step:
        body(start)
    elif end > start:
        move = f"{name}++" if step == 1 else f"{name} += {step}"
        with p.braces(f"for (int {name} = {start}; {name} < {end}; {move})"):
            body(name)


@prints("take")
def _take(p: Printer, op: Operation) -> None:
    (x, indices), (result,) = op.operands, op.results
    source = p.packed(x)

    def read(at: Sequence[Index]) -> str:
        return source.read([bare(p.read(indices, at))])

    p.define(result, Formula(read))


@prints("dynamic_slice")
def _dynamic_slice(p: Printer, op: Operation) -> None:
    (x, *starts), (result,) = op.operands, op.results
    offset = _starts(p, starts, x.shape, result.shape)
    _define_view(p, result, p.stored(x), offset, [(k, 1) for k in range(len(x.shape))])


def _starts(p: Printer, starts: Sequence[Value], shape: Sequence[int], sizes: Sequence[int]) -> list[Index]:
    """Return starts, moved so that the slice lies inside the array."""
    found: list[Index] = []
    for start, n, size in zip(starts, shape, sizes, strict=True):
        if n == size:
            found.append(0)
            continue
        name, kind = p.name("n"), p.types[start.dtype]
        zero, most = p.constant(0, start.dtype), p.constant(n - size, start.dtype)
        inside = f"{p.helper('min', start.dtype)}({p.helper('max', start.dtype)}({bare(p.read(start, ()))}, {zero}), {most})"
        p.line(f"const {kind} {name} = {inside};")
        found.append(name)
    return found


@prints("dynamic_update")
def _dynamic_update(p: Printer, op: Operation) -> None:
    (x, update, *starts), (result,) = op.operands, op.results
    offset = _starts(p, starts, x.shape, update.shape)
    target = p.declare_array(result)
    p.fill(target, x.shape, p.ref(x).read)
    own = target.viewed(update.shape, offset, [(k, 1) for k in range(len(x.shape))])
    p.fill(own, update.shape, p.ref(update).read)
    p.refs[result] = target


@prints("put")
def _put(p: Printer, op: Operation) -> None:
    (x, indices, updates), (result,), how = op.operands, op.results, op.params["how"]
    target = p.declare_array(result)
    p.fill(target, x.shape, p.ref(x).read)

    def one(at: list[Index]) -> None:
        name = p.name("n")
        p.line(f"const {p.types[indices.dtype]} {name} = {bare(p.read(indices, at))};")
        entry, update = f"{target.name}[{name}]", p.read(updates, at)
        with p.braces(f"if ({name} >= 0)"):
            p.line(f"{entry} = {bare(combined(p, how, entry, update, result.dtype))};")

    p.nest(updates.shape, one)
    p.refs[result] = target


def combined(p: Printer, how: str, a: str, b: str, dtype: str) -> str:
    """Return two numbers put together as a reduction or a `put` does it."""
    if how == "set":
        return b
    if how in ("max", "min") or dtype.startswith("int"):
        return f"{p.helper(how, dtype)}({bare(a)}, {bare(b)})"
    return f"({a} {_SIGNS[how]} {b})"


def along(at: Sequence[Index], axis: int, k: Index) -> list[Index]:
    """Return an index with `k` put in at an axis."""
    return [*at[:axis], k, *at[axis:]]
