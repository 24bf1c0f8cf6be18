"""Whether a program is one: each operation reads what is there, and its results have the shapes and dtypes that follow."""

import math
from collections.abc import Callable, Iterable

from ..errors import ModelFileError
from .program import BINARY, COMPARE, DTYPES, HOW, UNARY, Block, Operation, Program, Value, blocks, registers

Type = tuple[tuple[int, ...], str]
RULES: dict[str, Callable[[Operation], list[Type]]] = {}
"""For each kind of operation the types of its results."""
rule = registers(RULES)
MOST_WORK = 10**10
"""Of a step, in entries: a minute of computing."""


def check(program: Program) -> None:
    """Check every operation of a program; nothing is computed.

    **Raises:** `ModelFileError`.
    """
    known = {s.value for s in (*program.state, *program.inputs)}
    _check_operations(program.operations, known)
    _check_known([*(s.after for s in program.state), *(s.value for s in program.outputs)], known, "results")
    for s in program.state:
        given = [(s.after.shape, s.after.dtype), (s.start.shape, s.value.dtype)]
        _require(
            given == [(s.value.shape, s.value.dtype)] * 2, f"state {s.name} must keep its shape and dtype"
        )
    _require(_work(program.operations) <= MOST_WORK, f"a step must compute at most {MOST_WORK:.0e} entries")


def _work(operations: Iterable[Operation]) -> int:
    """Return how many entries a step computes at most, products of a sum one by one."""
    total = 0
    for op in operations:
        turns = op.params.get("length", op.params.get("most", 1))
        total += turns * max(1, sum(_work(block.operations) for block in blocks(op)))
        terms = op.operands[0].shape[-1] if op.kind == "dot" else 1  # pyright: ignore[reportGeneralTypeIssues]
        total += terms * sum(v.size for v in op.results)
    return total


def _check_operations(operations: Iterable[Operation], known: set[Value]) -> None:
    for op in operations:
        _check_known(op.operands, known, op.kind)
        for block in blocks(op):
            _check_block(block, known, op.kind)
        try:
            found = RULES[op.kind](op)
        except (ValueError, IndexError, TypeError, KeyError, StopIteration) as error:
            raise ModelFileError(
                f"{op.kind} must have operands and numbers of its kind, got ones that fail with {error!r:.150}; export it again"
            ) from error
        given = [(v.shape, v.dtype) for v in op.results]
        _require(given == found, f"{op.kind} must give {found}, got {given}")
        _define(op.results, known, op.kind)


def _check_block(block: Block, known: set[Value], kind: str) -> None:
    inside = set(known)
    _define(block.inputs, inside, kind)
    _check_operations(block.operations, inside)
    _check_known(block.outputs, inside, kind)


def _check_known(values: Iterable[Value], known: set[Value], kind: str) -> None:
    _require(
        all(v in known or v.data is not None for v in values), f"{kind} must read what was computed before"
    )


def _define(values: Iterable[Value], known: set[Value], kind: str) -> None:
    for value in values:
        _require(value not in known and value.data is None, f"{kind} must give new values")
        known.add(value)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ModelFileError(f"{message}; export the system again")


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


_OF_ALL = ("neg", "abs", "sign", "add", "sub", "mul", "div", "rem", "max", "min", *COMPARE)


@rule(*UNARY, *BINARY, *COMPARE, "select", "convert")
def _entries(op: Operation) -> list[Type]:
    kind, operands = op.kind, op.operands
    _need(len(operands) == {"select": 3, "convert": 1}.get(kind, 1 if kind in UNARY else 2), "operands")
    shapes = {v.shape for v in operands if v.shape}
    _need(len(shapes) <= 1, f"shapes {shapes}")
    shape, dtypes = next(iter(shapes), ()), [v.dtype for v in operands]
    if kind == "convert":
        return [(shape, op.results[0].dtype)]
    if kind == "select":
        _need(dtypes[0] == "bool" and dtypes[1] == dtypes[2], f"dtypes {dtypes}")
        return [(shape, dtypes[1])]
    logical = kind in ("not", "and", "or", "xor")
    _need(len(set(dtypes)) == 1 or kind == "pow", f"dtypes {dtypes}")
    _need(logical == (dtypes[0] == "bool") or kind in ("eq", "ne"), f"dtypes {dtypes}")
    _need(dtypes[0] == "float" or logical or kind in _OF_ALL, f"dtypes {dtypes}")
    return [(shape, "bool" if kind in (*COMPARE, "is_finite") else dtypes[0])]


@rule("reshape")
def _reshape(op: Operation) -> list[Type]:
    (x,), (result,) = op.operands, op.results
    _need(x.size == result.size, "sizes")
    return [(result.shape, x.dtype)]


@rule("transpose")
def _transpose(op: Operation) -> list[Type]:
    ((x,), axes) = op.operands, op.params["axes"]
    _need(sorted(axes) == list(range(len(x.shape))), "axes")
    return [(tuple(x.shape[k] for k in axes), x.dtype)]


@rule("broadcast")
def _broadcast(op: Operation) -> list[Type]:
    (x,), (result,), axes = op.operands, op.results, op.params["axes"]
    _need(list(axes) == sorted(set(axes)) and len(axes) == len(x.shape), "axes")
    _need(all(k >= 0 and n in (1, result.shape[k]) for k, n in zip(axes, x.shape, strict=True)), "shapes")
    return [(result.shape, x.dtype)]


@rule("slice")
def _slice(op: Operation) -> list[Type]:
    (x,), p = op.operands, op.params
    ranges = list(zip(p["start"], p["stop"], p["step"], strict=True))
    inside = all(
        0 <= low < high <= n and step >= 1 for (low, high, step), n in zip(ranges, x.shape, strict=True)
    )
    _need(inside, "start, stop and step")
    return [(tuple(len(range(*each)) for each in ranges), x.dtype)]


@rule("reverse")
def _reverse(op: Operation) -> list[Type]:
    (x,), axes = op.operands, op.params["axes"]
    _need(set(axes) <= set(range(len(x.shape))), "axes")
    return [(x.shape, x.dtype)]


@rule("concatenate")
def _concatenate(op: Operation) -> list[Type]:
    parts, axis = op.operands, op.params["axis"]
    others = {(v.shape[:axis], v.shape[axis + 1 :], v.dtype) for v in parts}
    _need(len(others) == 1 and all(0 <= axis < len(v.shape) for v in parts), "parts")
    first = parts[0].shape
    return [((*first[:axis], sum(v.shape[axis] for v in parts), *first[axis + 1 :]), parts[0].dtype)]


@rule("dot")
def _dot(op: Operation) -> list[Type]:
    x, y = op.operands
    a, b = x.shape, y.shape
    _need(x.dtype == y.dtype != "bool" and min(len(a), len(b)) >= 1 and max(len(a), len(b)) <= 3, "operands")
    _need(
        (len(a) == 3) == (len(b) == 3) and a[:-2] == b[:-2] and a[-1] == b[-2 if len(b) > 1 else 0], "shapes"
    )
    wide = x.dtype == "int32" and op.results[0].dtype == "int64"
    return [((*a[:-1], *b[len(b) - 1 :][: len(b) > 1]), "int64" if wide else x.dtype)]


@rule("rescale")
def _rescale(op: Operation) -> list[Type]:
    (x,), shift, limit = op.operands, op.params["shift"], op.params["limit"]
    _need(x.dtype.startswith("int"), "integers")
    _need(type(shift) is type(limit) is int and abs(shift) <= 62 and 1 <= limit < 2**31, "shift and limit")
    return [(x.shape, "int32")]


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    _need(0 <= axis < len(shape), "axis")
    return (*shape[:axis], *shape[axis + 1 :])


@rule("reduce", "cumulate")
def _reduce(op: Operation) -> list[Type]:
    (x,), how, axis = op.operands, op.params["how"], op.params["axis"]
    _need(how in HOW and (how in ("and", "or")) == (x.dtype == "bool"), "how")
    rest = _without(x.shape, axis)
    return [(rest if op.kind == "reduce" else x.shape, x.dtype)]


@rule("arg")
def _arg(op: Operation) -> list[Type]:
    ((x,), (result,)) = op.operands, op.results
    _need(op.params["how"] in ("max", "min") and result.dtype.startswith("int"), "how")
    return [(_without(x.shape, op.params["axis"]), result.dtype)]


@rule("sort")
def _sort(op: Operation) -> list[Type]:
    _without(op.operands[0].shape, op.params["axis"])
    _need(len({v.shape for v in op.operands}) == 1, "shapes")
    return [(v.shape, v.dtype) for v in op.operands]


def _positions(at: Value, x: Value, least: int) -> None:
    _need(at.dtype.startswith("int"), "indices")
    _need(at.data is None or (least <= at.data.min() and at.data.max() < x.size), "indices inside the array")


@rule("take")
def _take(op: Operation) -> list[Type]:
    x, at = op.operands
    _positions(at, x, 0)
    return [(at.shape, x.dtype)]


@rule("put")
def _put(op: Operation) -> list[Type]:
    x, at, updates = op.operands
    _positions(at, x, -math.inf)  # pyright: ignore[reportArgumentType]
    _need(
        op.params["how"] in ("set", *HOW) and at.shape == updates.shape and x.dtype == updates.dtype,
        "updates",
    )
    return [(x.shape, x.dtype)]


def _starts(x: Value, starts: tuple[Value, ...], sizes: tuple[int, ...]) -> None:
    _need(
        all(s.shape == () and s.dtype.startswith("int") for s in starts) and len(starts) == len(x.shape),
        "starts",
    )
    _need(all(1 <= size <= n for size, n in zip(sizes, x.shape, strict=True)), "sizes")


@rule("dynamic_slice")
def _dynamic_slice(op: Operation) -> list[Type]:
    x, *starts = op.operands
    _starts(x, tuple(starts), op.params["sizes"])
    return [(op.params["sizes"], x.dtype)]


@rule("dynamic_update")
def _dynamic_update(op: Operation) -> list[Type]:
    x, update, *starts = op.operands
    _starts(x, tuple(starts), update.shape)
    _need(x.dtype == update.dtype, "dtypes")
    return [(x.shape, x.dtype)]


def _square(x: Value) -> int:
    _need(x.dtype == "float" and len(x.shape) >= 2 and x.shape[-1] == x.shape[-2], "a square matrix")
    return x.shape[-1]  # pyright: ignore[reportGeneralTypeIssues]


@rule("lu")
def _lu(op: Operation) -> list[Type]:
    (x,) = op.operands
    _square(x)
    return [(x.shape, x.dtype), (x.shape[:-1], "int32"), (x.shape[:-1], "int32")]


@rule("cholesky")
def _cholesky(op: Operation) -> list[Type]:
    (x,) = op.operands
    _square(x)
    return [(x.shape, x.dtype)]


@rule("triangular_solve")
def _triangular_solve(op: Operation) -> list[Type]:
    a, b = op.operands
    n = _square(a)
    _need(b.dtype == "float" and b.shape[:-1] == (*a.shape[:-2], n), "right side")
    _need(all(type(op.params[key]) is bool for key in ("lower", "unit")), "lower and unit")
    return [(b.shape, b.dtype)]


def _types(values: Iterable[Value]) -> list[Type]:
    return [(v.shape, v.dtype) for v in values]


@rule("loop")
def _loop(op: Operation) -> list[Type]:
    body, n, length = op.params["body"], op.params["carries"], op.params["length"]
    carries, xs = _types(op.operands[:n]), op.operands[n:]
    _need(
        0 <= n <= len(op.operands) and length >= 1 and type(op.params["reverse"]) is bool,
        "carries and length",
    )
    _need(all(v.shape[:1] == (length,) for v in xs), "length")
    _need(_types(body.inputs) == [*carries, *((v.shape[1:], v.dtype) for v in xs)], "inputs of the body")
    _need(_types(body.outputs[:n]) == carries, "carries after a turn")
    return [*carries, *(((length, *v.shape), v.dtype) for v in body.outputs[n:])]


@rule("while")
def _while(op: Operation) -> list[Type]:
    condition, body, carries = op.params["condition"], op.params["body"], _types(op.operands)
    _need(op.params["most"] >= 0 and _types(condition.outputs) == [((), "bool")], "condition")
    _need(_types(condition.inputs) == _types(body.inputs) == _types(body.outputs) == carries, "carries")
    return carries


@rule("branch")
def _branch(op: Operation) -> list[Type]:
    (which,), branches = op.operands, op.params["branches"]
    _need(not which.shape and which.dtype in DTYPES[1:], "which")
    _need(not any(block.inputs for block in branches), "inputs of a branch")
    first, *others = (_types(block.outputs) for block in branches)
    _need(all(other == first for other in others), "branches of equal types")
    return first
