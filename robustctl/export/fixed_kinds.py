"""Integer operations of each kind of operation."""

import math

import numpy as np

from ..errors import InvalidModelError
from ..runtime.program import COMPARE, Operation, Value
from .fixed_formats import constant_fraction
from .fixed_lower import ROOM, Lowering, lowers


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
        raise InvalidModelError(
            "in fixed point the positions of entries must be constants; take dtype float32"
        )
    low.of[op.results[0]] = low.operation(op.kind, [x, *others], _shape(op), x.dtype, **op.params), n


@lowers("concatenate")
def _concatenated(low: Lowering, op: Operation) -> None:
    if op.results[0].dtype != "float":
        _logical(low, op)
        return
    most = min([low.fraction(op.results[0]), *(low.of[v][1] for v in op.operands if v.data is None)])
    pairs = [low.read(v, most) for v in op.operands]
    to = min([most, *(n for _, n in pairs)])
    parts = [low.rescaled(x, n, to) for x, n in pairs]
    low.of[op.results[0]] = low.operation("concatenate", parts, _shape(op), "int32", **op.params), to


@lowers("put", "dynamic_update")
def _changed(low: Lowering, op: Operation) -> None:
    """Entries at known positions, in the format of the array or, where they need it, in one with fewer fractional bits."""
    array, others = op.operands[0], op.operands[1:]
    k = 1 if op.kind == "put" else 0
    update, at = others[k], [*others[:k], *others[k + 1 :]]
    if array.dtype != "float" or op.params.get("how", "set") != "set" or any(v.data is None for v in at):
        raise InvalidModelError(
            "in fixed point entries of an array must be set at positions that are constants; take dtype float32"
        )
    most = min([low.fraction(op.results[0]), *(low.of[v][1] for v in (array, update) if v.data is None)])
    pairs = [low.read(v, most) for v in (array, update)]
    to = min(n for _, n in pairs)
    x, new = (low.rescaled(v, n, to) for v, n in pairs)
    operands = [x, *at, new] if k else [x, new, *at]
    low.of[op.results[0]] = low.operation(op.kind, operands, _shape(op), "int32", **op.params), to


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
        raise InvalidModelError(
            "in fixed point a step must divide by constants other than 0 alone; take dtype float32"
        )
    inverse = Value(by.shape, "float", 1.0 / np.asarray(by.data, np.float64))
    _product(low, Operation("mul", (x, inverse), op.results, {}))


@lowers("dot")
def _dot(low: Lowering, op: Operation) -> None:
    pairs = [low.read(v) for v in op.operands]
    (a, n), (b, m) = pairs
    terms = op.operands[0].shape[-1]
    if all(v.data is None for v in op.operands) and math.log2(terms) + 2 * low.bits > ROOM:
        raise InvalidModelError(
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
        raise InvalidModelError(
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
        raise InvalidModelError(
            "in fixed point a step must not count or convert integers; take dtype float32"
        )
    n = low.bits - 1
    one, zero = (Value((), "int32", np.asarray(k << n, np.int32)) for k in (1, 0))
    low.of[result] = low.operation("select", [low.read(x)[0], one, zero], result.shape, "int32"), n
