"""Translations of arithmetic, of changes of shape, of products and of reductions."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..errors import InvalidModelError
from ..runtime.program import BINARY, COMPARE, UNARY, Value
from .translate import Call, Translator, rule


def require(holds: bool, message: str) -> None:
    """Raise `InvalidModelError` unless something holds."""
    if not holds:
        raise InvalidModelError(message)


def entries(t: Translator, kind: str, operands: Sequence[Value], dtype: str | None = None) -> Value:
    """Return an operation entry by entry; scalars, and in JAX axes of length 1, are repeated."""
    shape = np.broadcast_shapes(*(v.shape for v in operands))
    operands = [broadcast(t, v, shape, range(len(shape))) if v.shape else v for v in operands]
    dtype = dtype or operands[0].dtype
    same = _unchanged(kind, operands)
    if same is not None and same.dtype == dtype:
        return same if same.shape == shape else broadcast(t, same, shape, ())
    return t.emit(kind, operands, shape, dtype)


def _unchanged(kind: str, operands: Sequence[Value]) -> Value | None:
    """Return the operand that an operation with a constant leaves as it is; None for another."""
    first = operands[0].data
    if kind == "select" and first is not None and first.min() == first.max():
        return operands[1] if first.all() else operands[2]
    if kind in ("mul", "div", "add", "sub"):
        neutral = 1 if kind in ("mul", "div") else 0
        pairs = [operands, operands[::-1]] if kind in ("mul", "add") else [operands]
        for kept, other in pairs:
            if other.data is not None and (other.data == neutral).all():
                return kept
    return None


def reshaped(t: Translator, x: Value, shape: Sequence[int]) -> Value:
    """Return x in another shape."""
    return x if x.shape == tuple(shape) else t.emit("reshape", [x], shape, x.dtype)


def transposed(t: Translator, x: Value, axes: Sequence[int]) -> Value:
    """Return x with its axes in another order."""
    if list(axes) == list(range(len(x.shape))):
        return x
    return t.emit("transpose", [x], [x.shape[a] for a in axes], x.dtype, axes=tuple(map(int, axes)))


def sliced(
    t: Translator, x: Value, start: Sequence[int], stop: Sequence[int], step: Sequence[int] | None = None
) -> Value:
    """Return a part of x."""
    step = [1] * len(x.shape) if step is None else step
    ends = [[int(i) for i in each] for each in (start, stop, step)]
    shape = tuple(len(range(*each)) for each in zip(*ends, strict=True))
    if shape == x.shape:
        return x
    start, stop, step = map(tuple, ends)
    return t.emit("slice", [x], shape, x.dtype, start=start, stop=stop, step=step)


def broadcast(t: Translator, x: Value, shape: Sequence[int], axes: Sequence[int]) -> Value:
    """Return x repeated to a shape, its axis k as axis `axes[k]`."""
    if x.size == math.prod(shape):  # nothing but axes of length 1
        return reshaped(t, x, shape)
    return t.emit("broadcast", [x], shape, x.dtype, axes=tuple(map(int, axes)))


def concatenated(t: Translator, parts: Sequence[Value], axis: int) -> Value:
    """Return parts one after another."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return t.emit("concatenate", parts, shape, parts[0].dtype, axis=int(axis))


def scalar(t: Translator, number: float | int, dtype: str) -> Value:
    """Return a constant scalar."""
    return t.constant(np.asarray(number, t.dtype if dtype == "float" else dtype))


_KINDS = {"add_any": "add"}


@rule(*set(UNARY) - {"round", "round_even", "not"}, *set(BINARY) - {"and", "or", "xor"}, "add_any")
def _entries(t: Translator, call: Call, *operands: Value) -> Value:
    require(call.params.get("accuracy") is None, "the accuracy of a function must be left at its default")
    return entries(t, _KINDS.get(call.name, call.name), operands, call.types[0][1])


@rule("and", "or", "xor", "not")
def _logic(t: Translator, call: Call, *operands: Value) -> Value:
    require(call.types[0][1] == "bool", f"{call.name} must act on bools; bits of integers are not exported")
    return entries(t, call.name, operands)


@rule(*COMPARE)
def _compare(t: Translator, call: Call, *operands: Value) -> Value:
    return entries(t, call.name, operands, "bool")


@rule("round")
def _round(t: Translator, call: Call, x: Value) -> Value:
    return entries(t, "round_even" if int(call.params["rounding_method"]) == 1 else "round", [x])


@rule("logistic")
def _logistic(t: Translator, call: Call, x: Value) -> Value:
    one = scalar(t, 1, "float")
    if t.for_integers:
        half = scalar(t, 0.5, "float")
        rise = entries(t, "tanh", [entries(t, "mul", [x, half])])
        return entries(t, "mul", [half, entries(t, "add", [one, rise])])
    return entries(t, "div", [one, entries(t, "add", [one, entries(t, "exp", [entries(t, "neg", [x])])])])


@rule("rsqrt")
def _rsqrt(t: Translator, call: Call, x: Value) -> Value:
    return entries(t, "div", [scalar(t, 1, "float"), entries(t, "sqrt", [x])])


@rule("square")
def _square(t: Translator, call: Call, x: Value) -> Value:
    return entries(t, "mul", [x, x])


@rule("integer_pow")
def _integer_pow(t: Translator, call: Call, x: Value) -> Value:
    n, power = abs(call.params["y"]), None
    while n:  # by squaring
        if n % 2:
            power = x if power is None else entries(t, "mul", [power, x])
        n //= 2
        x = entries(t, "mul", [x, x]) if n else x
    one = scalar(t, 1, x.dtype)
    if power is None:
        return broadcast(t, one, x.shape, ())
    return power if call.params["y"] > 0 else entries(t, "div", [one, power])


@rule("select_n")
def _select(t: Translator, call: Call, which: Value, *cases: Value) -> Value:
    if which.dtype == "bool":
        return entries(t, "select", [which, cases[1], cases[0]], cases[0].dtype)
    found = cases[-1]
    for k in reversed(range(len(cases) - 1)):
        is_k = entries(t, "eq", [which, scalar(t, k, which.dtype)], "bool")
        found = entries(t, "select", [is_k, cases[k], found], found.dtype)
    return found


@rule("clamp")
def _clamp(t: Translator, call: Call, low: Value, x: Value, high: Value) -> Value:
    return entries(t, "min", [entries(t, "max", [x, low]), high])


@rule("convert_element_type")
def _convert(t: Translator, call: Call, x: Value) -> Value:
    return converted(t, x, call.types[0][1])


def converted(t: Translator, x: Value, dtype: str) -> Value:
    """Return x in another dtype."""
    if x.dtype == dtype:
        return x
    if x.data is not None and dtype == "float":
        return t.constant(x.data.astype(t.dtype))
    return entries(t, "convert", [x], dtype)


@rule("copy", "copy_p", "stop_gradient", "optimization_barrier", "pvary", "reduce_precision")
def _same(t: Translator, call: Call, *operands: Value) -> Sequence[Value]:
    require(
        call.name != "reduce_precision", "numbers must keep their precision; leave lax.reduce_precision out"
    )
    return operands


@rule("reshape", "squeeze", "expand_dims")
def _reshape(t: Translator, call: Call, x: Value) -> Value:
    require(call.params.get("dimensions") is None or call.name != "reshape", "axes must be in their order")
    return reshaped(t, x, call.types[0][0])


@rule("broadcast_in_dim")
def _broadcast(t: Translator, call: Call, x: Value) -> Value:
    return broadcast(t, x, call.types[0][0], call.params["broadcast_dimensions"])


@rule("transpose")
def _transpose(t: Translator, call: Call, x: Value) -> Value:
    return transposed(t, x, call.params["permutation"])


@rule("rev")
def _reverse(t: Translator, call: Call, x: Value) -> Value:
    return t.emit("reverse", [x], x.shape, x.dtype, axes=tuple(map(int, call.params["dimensions"])))


@rule("slice")
def _slice(t: Translator, call: Call, x: Value) -> Value:
    p = call.params
    return sliced(t, x, p["start_indices"], p["limit_indices"], p["strides"])


@rule("split")
def _split(t: Translator, call: Call, x: Value) -> list[Value]:
    ends = np.cumsum([0, *call.params["sizes"]])
    return [_along(t, x, call.params["axis"], *pair) for pair in itertools.pairwise(ends)]


def _along(t: Translator, x: Value, axis: int, start: int, stop: int) -> Value:
    low, high = [0] * len(x.shape), list(x.shape)
    low[axis], high[axis] = start, stop
    return sliced(t, x, low, high)


@rule("unstack")
def _unstack(t: Translator, call: Call, x: Value) -> list[Value]:
    axis = call.params["axis"]
    return [reshaped(t, _along(t, x, axis, k, k + 1), shape) for k, (shape, _) in enumerate(call.types)]


@rule("stack")
def _stack(t: Translator, call: Call, *parts: Value) -> Value:
    axis = call.params["axis"]
    shape = list(call.types[0][0])
    shape[axis] = 1
    return concatenated(t, [reshaped(t, part, shape) for part in parts], axis)


@rule("concatenate")
def _concatenate(t: Translator, call: Call, *parts: Value) -> Value:
    return concatenated(t, [part for part in parts if part.size], call.params["dimension"])


@rule("pad")
def _pad(t: Translator, call: Call, x: Value, padding: Value) -> Value:
    for axis, (low, high, interior) in enumerate(call.params["padding_config"]):
        if interior:
            x = _spread(t, x, padding, axis, interior)
        x = _along(t, x, axis, max(-low, 0), x.shape[axis] - max(-high, 0))
        around = [max(low, 0), max(high, 0)]
        shapes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in around]
        before, after = (
            [broadcast(t, padding, shape, ())] if n else [] for n, shape in zip(around, shapes, strict=True)
        )
        x = concatenated(t, [*before, x, *after], axis)
    return x


def _spread(t: Translator, x: Value, padding: Value, axis: int, interior: int) -> Value:
    """Return x with `interior` entries of padding between its own along an axis."""
    shape = list(x.shape)
    shape[axis] = (shape[axis] - 1) * (interior + 1) + 1
    at = np.full(shape, x.size, np.int32)
    every = [slice(None)] * len(shape)
    every[axis] = slice(None, None, interior + 1)
    at[tuple(every)] = np.arange(x.size).reshape(x.shape)
    flat = concatenated(t, [reshaped(t, x, (x.size,)), reshaped(t, padding, (1,))], 0)
    return t.emit("take", [flat, t.constant(at)], shape, x.dtype)


@rule("dot_general")
def _dot(t: Translator, call: Call, a: Value, b: Value) -> Value:
    (a_sum, b_sum), (a_batch, b_batch) = call.params["dimension_numbers"]
    shape, dtype = call.types[0]
    if not (a.size and b.size):
        return t.constant(np.zeros(shape, t.dtype if dtype == "float" else dtype))
    a_free, b_free = _others(a, a_sum, a_batch), _others(b, b_sum, b_batch)
    m, n = (math.prod(v.shape[k] for k in free) for v, free in ((a, a_free), (b, b_free)))
    k = math.prod(a.shape[i] for i in a_sum)
    stack = [math.prod(a.shape[i] for i in a_batch)] if a_batch else []
    # Vectors are left vectors where there is no stack of products.
    rows, columns = [m] if a_free or stack else [], [n] if b_free or stack else []
    a, b = converted(t, a, dtype), converted(t, b, dtype)
    a = reshaped(t, transposed(t, a, [*a_batch, *a_free, *a_sum]), [*stack, *rows, k])
    b = reshaped(t, transposed(t, b, [*b_batch, *b_sum, *b_free]), [*stack, k, *columns])
    return reshaped(t, t.emit("dot", [a, b], [*stack, *rows, *columns], dtype), shape)


def _others(v: Value, *taken: Sequence[int]) -> list[int]:
    return [k for k in range(len(v.shape)) if all(k not in axes for axes in taken)]


_REDUCTIONS = {
    "reduce_sum": "add", "reduce_prod": "mul", "reduce_max": "max", "reduce_min": "min", "reduce_and": "and", "reduce_or": "or",
}  # fmt: skip


@rule(*_REDUCTIONS)
def _reduce(t: Translator, call: Call, x: Value) -> Value:
    for axis in sorted(map(int, call.params["axes"]), reverse=True):
        kept = (*x.shape[:axis], *x.shape[axis + 1 :])
        how = _REDUCTIONS[call.name]
        x = (
            reshaped(t, x, kept)
            if x.shape[axis] == 1
            else t.emit("reduce", [x], kept, x.dtype, how=how, axis=axis)
        )
    return x


@rule("argmax", "argmin")
def _arg(t: Translator, call: Call, x: Value) -> Value:
    ((shape, dtype),), (axis,) = call.types, call.params["axes"]
    return t.emit("arg", [x], shape, dtype, how=call.name[3:], axis=int(axis))


_CUMULATIONS = {"cumsum": "add", "cumprod": "mul", "cummax": "max", "cummin": "min"}


@rule(*_CUMULATIONS)
def _cumulate(t: Translator, call: Call, x: Value) -> Value:
    axis, reverse = int(call.params["axis"]), bool(call.params["reverse"])
    return t.emit("cumulate", [x], x.shape, x.dtype, how=_CUMULATIONS[call.name], axis=axis, reverse=reverse)


@rule("sort")
def _sort(t: Translator, call: Call, *operands: Value) -> Sequence[Value]:
    require(call.params["num_keys"] == 1, "arrays must be sorted by one key")
    return t.emit_all("sort", operands, call.types, axis=int(call.params["dimension"]))
