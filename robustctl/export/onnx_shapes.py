"""ONNX of changes of shape, products, reductions, sorting and indexing."""

import math
from collections.abc import Sequence

import numpy as np

from ..runtime.numbers import aligned
from ..runtime.program import Operation, Value
from .onnx_graph import Graph, adds
from .onnx_kinds import chosen


def reshaped(g: Graph, x: str, shape: Sequence[int]) -> str:
    """Return x in another shape."""
    return g.add("Reshape", x, g.integers(shape))


@adds("reshape")
def _reshape(g: Graph, op: Operation) -> None:
    g.names[op.results[0]] = reshaped(g, g.ref(op.operands[0]), op.results[0].shape)


@adds("transpose")
def _transpose(g: Graph, op: Operation) -> None:
    g.names[op.results[0]] = g.add("Transpose", g.ref(op.operands[0]), perm=list(op.params["axes"]))


@adds("broadcast")
def _broadcast(g: Graph, op: Operation) -> None:
    (x,), (result,) = op.operands, op.results
    full = aligned(x.shape, op.params["axes"], len(result.shape))
    g.names[result] = g.add("Expand", reshaped(g, g.ref(x), full), g.integers(result.shape))


@adds("slice")
def _slice(g: Graph, op: Operation) -> None:
    p = op.params
    ends = (g.integers(numbers) for numbers in (p["start"], p["stop"], range(len(p["start"])), p["step"]))
    g.names[op.results[0]] = g.add("Slice", g.ref(op.operands[0]), *ends)


def part(g: Graph, x: str, axis: int, start: int, stop: int) -> str:
    """Return entries `start` to `stop` of x along an axis."""
    return g.add("Slice", x, *(g.integers([n]) for n in (start, stop, axis)))


def backwards(g: Graph, x: str, axes: Sequence[int]) -> str:
    """Return x reversed along axes."""
    ends = [[-1] * len(axes), [-(2**62)] * len(axes), axes, [-1] * len(axes)]
    return g.add("Slice", x, *map(g.integers, ends))


@adds("reverse")
def _reverse(g: Graph, op: Operation) -> None:
    g.names[op.results[0]] = backwards(g, g.ref(op.operands[0]), op.params["axes"])


@adds("concatenate")
def _concatenate(g: Graph, op: Operation) -> None:
    g.names[op.results[0]] = g.add("Concat", *g.refs(op.operands), axis=op.params["axis"])


@adds("dot")
def _dot(g: Graph, op: Operation) -> None:
    (result,), x = op.results, g.refs(op.operands)
    if result.dtype != op.operands[0].dtype:
        x = [g.add("Cast", each, to=g.kind(result.dtype)) for each in x]
    g.names[result] = g.add("MatMul", *x)


_REDUCTIONS = {
    "add": "ReduceSum", "mul": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin", "and": "ReduceMin", "or": "ReduceMax",
}  # fmt: skip


@adds("reduce")
def _reduce(g: Graph, op: Operation) -> None:
    (x,), (result,), how = op.operands, op.results, op.params["how"]
    source = g.ref(x)
    if x.dtype == "bool":
        source = g.add("Cast", source, to=g.kind("int32"))
    found = g.add(_REDUCTIONS[how], source, g.integers([op.params["axis"]]), keepdims=0)
    g.names[result] = g.add("Cast", found, to=g.kind("bool")) if x.dtype == "bool" else found


@adds("arg")
def _arg(g: Graph, op: Operation) -> None:
    (x,), (result,) = op.operands, op.results
    kind = {"max": "ArgMax", "min": "ArgMin"}[op.params["how"]]
    source = g.add("Cast", g.ref(x), to=g.kind("int32")) if x.dtype == "bool" else g.ref(x)
    found = g.add(kind, source, axis=op.params["axis"], keepdims=0)
    g.names[result] = g.add("Cast", found, to=g.kind(result.dtype))


_COMBINED = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min", "and": "And", "or": "Or"}


@adds("cumulate")
def _cumulate(g: Graph, op: Operation) -> None:
    (x,), (result,), axis, reverse = op.operands, op.results, op.params["axis"], op.params["reverse"]
    n, combine = x.shape[axis], _COMBINED[op.params["how"]]
    parts = [part(g, g.ref(x), axis, k, k + 1) for k in range(n)]
    parts = parts[::-1] if reverse else parts
    for k in range(1, n):
        parts[k] = g.add(combine, parts[k - 1], parts[k])
    g.names[result] = g.add("Concat", *(parts[::-1] if reverse else parts), axis=axis)


@adds("sort")
def _sort(g: Graph, op: Operation) -> None:
    key, axis = op.operands[0], op.params["axis"]
    source = g.add("Cast", g.ref(key), to=g.kind("int32")) if key.dtype == "bool" else g.ref(key)
    # Equal entries stay in their order, since the lower index comes first among them.
    _, order = g.add_all("TopK", [source, g.integers([key.shape[axis]])], 2, axis=axis, largest=0)
    for x, result in zip(op.operands, op.results, strict=True):
        g.names[result] = g.add("GatherElements", g.ref(x), order, axis=axis)


@adds("take")
def _take(g: Graph, op: Operation) -> None:
    x, indices = op.operands
    g.names[op.results[0]] = g.add("Gather", reshaped(g, g.ref(x), [x.size]), g.ref(indices), axis=0)


@adds("put")
def _put(g: Graph, op: Operation) -> None:
    (x, indices, updates), (result,), how = op.operands, op.results, op.params["how"]
    # One entry more, at the end, takes the updates that change nothing.
    trash = g.constant(np.zeros(1), x.dtype)
    flat = g.add("Concat", reshaped(g, g.ref(x), [x.size]), trash, axis=0)
    zero = g.constant(0, indices.dtype)
    at = g.add("Where", g.add("Less", g.ref(indices), zero), g.constant(x.size, indices.dtype), g.ref(indices))  # fmt: skip
    at, new = (reshaped(g, name, [updates.size]) for name in (at, g.ref(updates)))
    found = g.add("ScatterElements", flat, at, new, axis=0, reduction="none" if how == "set" else how)
    g.names[result] = reshaped(g, part(g, found, 0, 0, x.size), x.shape)


def _starts(g: Graph, starts: Sequence[Value], shape: Sequence[int], sizes: Sequence[int]) -> list[str]:
    """Return starts, moved so that the slice lies inside the array."""
    found = []
    for start, n, size in zip(starts, shape, sizes, strict=True):
        low = g.add("Max", g.ref(start), g.constant(0, start.dtype))
        inside = g.add("Min", low, g.constant(n - size, start.dtype))
        found.append(g.add("Cast", inside, to=g.kind("int64")))
    return found


@adds("dynamic_slice")
def _dynamic_slice(g: Graph, op: Operation) -> None:
    (x, *starts), (result,) = op.operands, op.results
    found = g.ref(x)
    for axis, start in enumerate(_starts(g, starts, x.shape, result.shape)):
        if x.shape[axis] != result.shape[axis]:
            at = g.add("Add", start, g.integers(range(result.shape[axis])))
            found = g.add("Gather", found, at, axis=axis)
    g.names[result] = found


@adds("dynamic_update")
def _dynamic_update(g: Graph, op: Operation) -> None:
    (x, update, *starts), (result,) = op.operands, op.results
    strides = [math.prod(x.shape[k + 1 :]) for k in range(len(x.shape))]
    offsets = np.tensordot(strides, np.indices(update.shape), 1) if update.shape else np.zeros(())
    at = g.integers(offsets.ravel())
    for start, stride in zip(_starts(g, starts, x.shape, update.shape), strides, strict=True):
        at = g.add("Add", at, g.add("Mul", start, g.constant(stride, "int64")))
    flat, new = reshaped(g, g.ref(x), [x.size]), reshaped(g, g.ref(update), [update.size])
    found = g.add("ScatterElements", flat, at, new, axis=0)
    g.names[result] = reshaped(g, found, x.shape)


@adds("triangular_solve")
def _solve(g: Graph, op: Operation) -> None:
    """Row by row, the rows that are known taken from the right side."""
    (a, b), (result,), n = op.operands, op.results, op.operands[1].shape[-2]
    matrix, right, rank, rows = g.ref(a), g.ref(b), len(b.shape), {}
    order = range(n) if op.params["lower"] else range(n - 1, -1, -1)
    for i in order:
        row = part(g, matrix, rank - 2, i, i + 1)
        s = part(g, right, rank - 2, i, i + 1)
        for k in rows:
            s = g.add("Sub", s, g.add("Mul", part(g, row, rank - 1, k, k + 1), rows[k]))
        rows[i] = s if op.params["unit"] else g.add("Div", s, part(g, row, rank - 1, i, i + 1))
    g.names[result] = g.add("Concat", *(rows[k] for k in range(n)), axis=rank - 2)


@adds("cholesky")
def _cholesky(g: Graph, op: Operation) -> None:
    """Column by column, each taken out of what is left."""
    (x,), (result,), n, rank = op.operands, op.results, op.operands[0].shape[-1], len(op.operands[0].shape)
    left, columns, definite = g.ref(x), [], g.constant(True, "bool")
    zero, one = g.constant(0, "float"), g.constant(1, "float")
    for k in range(n):
        column = part(g, left, rank - 1, 0, 1)
        pivot = part(g, column, rank - 2, 0, 1)
        holds = g.add("Greater", pivot, zero)
        definite = g.add("And", definite, holds)
        column = g.add("Div", column, g.add("Sqrt", g.add("Where", holds, pivot, one)))
        above = [g.constant(np.zeros((*x.shape[:-2], k, 1)), "float")] if k else []
        columns.append(g.add("Concat", *above, column, axis=rank - 2))
        if k < n - 1:
            below = part(g, column, rank - 2, 1, n - k)
            across = g.add("Transpose", below, perm=[*range(rank - 2), rank - 1, rank - 2])
            left = part(g, part(g, left, rank - 1, 1, n - k), rank - 2, 1, n - k)
            left = g.add("Sub", left, g.add("Mul", below, across))
    found = g.add("Concat", *columns, axis=rank - 1)
    g.names[result] = chosen(g, definite, found, g.constant(math.nan, "float"), "float")
