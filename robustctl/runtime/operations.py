"""Each kind of operation as a function of NumPy arrays; `HANDLERS` has one for each, `make(operation, dtypes) -> function`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import numbers, products
from .numbers import in_order
from .program import BINARY, COMPARE, UNARY, Operation, Value, registers

Array = np.ndarray
Function = Callable[..., Any]
"""From arrays to an array, or to a tuple of them where an operation has several results."""
HANDLERS: dict[str, Callable[[Operation, dict[str, np.dtype]], Function]] = {}
handler = registers(HANDLERS)
_ENTRIES = numbers.UNARY | numbers.BINARY | numbers.COMPARE


@handler(*UNARY, *BINARY, *COMPARE)
def _entries(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    kind, dtype = op.kind, op.operands[0].dtype
    if dtype.startswith("int") and kind in numbers.OF_INTEGERS:
        return numbers.OF_INTEGERS[kind]
    if kind in ("max", "min"):
        known = [v.data is not None and not np.isnan(v.data).any() for v in op.operands]
        if any(known):
            return _with_constant(op, known.index(True), dtypes)
    return _ENTRIES[kind]


def _with_constant(op: Operation, k: int, dtypes: dict[str, np.dtype]) -> Function:
    """Return a maximum or minimum whose operand k is a constant."""
    bound = numbers.bounded(op.kind, _constant(op.operands[k], dtypes))
    return (lambda x, y: bound(y)) if k == 0 else (lambda x, y: bound(x))


@handler("select")
def _select(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    return np.where


@handler("convert")
def _convert(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    dtype = dtypes[op.results[0].dtype]
    return lambda x: numbers.converted(np.asarray(x), dtype)


@handler("reshape")
def _reshape(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    shape = op.results[0].shape
    return lambda x: x.reshape(shape)


@handler("transpose")
def _transpose(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    axes = op.params["axes"]
    return lambda x: x.transpose(axes)


@handler("broadcast")
def _broadcast(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    (x,), (result,) = op.operands, op.results
    grouped, dtype = numbers.aligned(x.shape, op.params["axes"], len(result.shape)), dtypes[result.dtype]

    def repeat(x: Array) -> Array:
        found = np.empty(result.shape, dtype)
        found[...] = x.reshape(grouped)
        return found

    return repeat


@handler("slice")
def _slice(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    at = tuple(map(slice, op.params["start"], op.params["stop"], op.params["step"]))
    return lambda x: x[at]


@handler("reverse")
def _reverse(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    at = tuple(
        slice(None, None, -1 if k in op.params["axes"] else 1) for k in range(len(op.operands[0].shape))
    )
    return lambda x: x[at]


@handler("concatenate")
def _concatenate(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    axis = op.params["axis"]
    return lambda *parts: np.concatenate(parts, axis)


@handler("dot")
def _dot(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    a, b = op.operands
    wide = op.results[0].dtype != a.dtype
    if wide:
        a, b = (Value(v.shape, "int64", v.data) for v in (a, b))
    # A constant is stored in the dtype that it is read with.
    product = products.product(*(v if v.data is None else _typed(v, dtypes) for v in (a, b)))
    return (lambda x, y: product(x.astype(np.int64), y.astype(np.int64))) if wide else product


@handler("rescale")
def _rescale(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    shift, limit = op.params["shift"], op.params["limit"]
    return lambda x: numbers.rescaled(x, shift, limit)


def _typed(v: Value, dtypes: dict[str, np.dtype]) -> Value:
    return Value(v.shape, v.dtype, _constant(v, dtypes))


def _constant(v: Value, dtypes: dict[str, np.dtype]) -> Array:
    return np.asarray(v.data, dtypes[v.dtype])


def _first(axis: int) -> Callable[[Array], Array]:
    """Return what moves an axis to the front, in C order."""
    return lambda x: np.ascontiguousarray(np.moveaxis(x, axis, 0))


@handler("reduce")
def _reduce(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    how, moved = numbers.HOW[op.params["how"]], _first(op.params["axis"])
    return lambda x: in_order(how, moved(x))


_FIND = {"max": np.argmax, "min": np.argmin}


@handler("arg")
def _arg(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    find, axis, dtype = _FIND[op.params["how"]], op.params["axis"], dtypes[op.results[0].dtype]
    return lambda x: np.asarray(find(x, axis), dtype)


@handler("cumulate")
def _cumulate(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    how, axis, dtype = numbers.HOW[op.params["how"]], op.params["axis"], dtypes[op.operands[0].dtype]
    if op.params["reverse"]:
        return lambda x: np.flip(how.accumulate(np.flip(x, axis), axis, dtype), axis)
    return lambda x: how.accumulate(x, axis, dtype)


@handler("sort")
def _sort(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    axis = op.params["axis"]

    def sort(key: Array, *others: Array) -> tuple[Array, ...]:
        order = np.argsort(key, axis, kind="stable")
        return tuple(np.take_along_axis(x, order, axis) for x in (key, *others))

    return sort if len(op.operands) > 1 else lambda key: np.sort(key, axis, kind="stable")


@handler("take")
def _take(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    # A program moves its positions inside itself; one that was tampered with reads the last entry.
    return lambda x, at: x.reshape(-1).take(at, mode="clip")


@handler("put")
def _put(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    how = op.params["how"]

    def put(x: Array, at: Array, updates: Array) -> Array:
        found = np.array(x)
        kept = (np.ravel(at) >= 0) & (np.ravel(at) < found.size)
        flat, at, updates = found.reshape(-1), np.ravel(at)[kept], np.ravel(updates)[kept]
        if how == "set":
            flat[at] = updates
        else:
            numbers.HOW[how].at(flat, at, updates)
        return found

    return put


def _window(starts: tuple, shape: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    """Return where a slice of these sizes lies, moved into the array."""
    moved = (min(max(int(start), 0), n - size) for start, n, size in zip(starts, shape, sizes, strict=True))
    return tuple(slice(start, start + size) for start, size in zip(moved, sizes, strict=True))


@handler("dynamic_slice")
def _dynamic_slice(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    sizes = op.params["sizes"]
    return lambda x, *starts: x[_window(starts, x.shape, sizes)]


@handler("dynamic_update")
def _dynamic_update(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    def update(x: Array, part: Array, *starts: Array) -> Array:
        found = np.array(x)
        found[_window(starts, x.shape, part.shape)] = part
        return found

    return update


@handler("lu")
def _lu(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    return products.lu


@handler("cholesky")
def _cholesky(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    return products.cholesky


@handler("triangular_solve")
def _triangular_solve(op: Operation, dtypes: dict[str, np.dtype]) -> Function:
    lower, unit = op.params["lower"], op.params["unit"]
    return lambda a, b: products.triangular_solve(a, b, lower, unit)
