"""NumPy of each operation entry by entry, with what C and JAX give where NumPy gives something else."""

import math
from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray


def _sign(x: Array) -> Array:
    return np.where(x == 0, x, np.sign(x))


def _round(x: Array) -> Array:
    """Round halves away from zero; adding one half first would round 0.49999999999999994 up."""
    whole = np.trunc(x)
    return whole + np.copysign((np.abs(x - whole) >= 0.5).astype(x.dtype), x)


def _by_entry(function: Callable[[float], float]) -> Callable[[Array], Array]:
    def apply(x: Array) -> Array:
        return np.asarray([function(v) for v in np.ravel(x).tolist()], x.dtype).reshape(np.shape(x))

    return apply


def _max(x: Array, y: Array) -> Array:
    """Return the maximum as C has it: which zero of +0 and -0 it is would be left open by `numpy.maximum`."""
    return np.where((x > y) | (x != x), x, y)


def _min(x: Array, y: Array) -> Array:
    return np.where((x < y) | (x != x), x, y)


def bounded(kind: str, bound: Array) -> Callable[[Array], Array]:
    """Return the maximum or minimum with a constant, by one comparison, as the exported C has it."""
    if kind == "max":
        return lambda x: np.where(x < bound, bound, x)
    return lambda x: np.where(x > bound, bound, x)


def _quotient(x: Array, y: Array) -> Array:
    """Divide integers toward zero; by zero -1, as JAX does."""
    safe = np.where((y == 0) | (y == -1), np.ones_like(y), y)
    whole = (x - np.fmod(x, safe)) // safe
    return np.where(y == 0, -np.ones_like(y), np.where(y == -1, np.negative(x), whole)).astype(y.dtype)


def _remainder(x: Array, y: Array) -> Array:
    safe = np.where((y == 0) | (y == -1), np.ones_like(y), y)
    return np.where(y == 0, x, np.fmod(x, safe)).astype(y.dtype)


def _power(x: Array, y: Array) -> Array:
    return np.power(x, y.astype(x.dtype, copy=False))


UNARY: dict[str, Callable] = {
    "neg": np.negative, "abs": np.abs, "sign": _sign, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log,
    "log1p": np.log1p, "sqrt": np.sqrt, "cbrt": np.cbrt, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "erf": _by_entry(math.erf), "erfc": _by_entry(math.erfc), "floor": np.floor,
    "ceil": np.ceil, "round": _round, "round_even": np.rint, "is_finite": np.isfinite, "not": np.logical_not,
}  # fmt: skip
BINARY: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "rem": np.fmod, "max": _max, "min": _min,
    "pow": _power, "atan2": np.arctan2, "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor,
}  # fmt: skip
OF_INTEGERS: dict[str, Callable] = {"div": _quotient, "rem": _remainder, "max": np.maximum, "min": np.minimum}
COMPARE: dict[str, Callable] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
HOW: dict[str, np.ufunc] = {
    "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "and": np.logical_and, "or": np.logical_or,
}  # fmt: skip


def converted(x: Array, dtype: np.dtype) -> Array:
    """Return x in another dtype; to integers it truncates and saturates, and NaN becomes 0."""
    if dtype.kind != "i" or x.dtype.kind != "f":
        return x != 0 if dtype.kind == "b" else x.astype(dtype)
    end = 2.0 ** (8 * dtype.itemsize - 1)
    inside = np.where((x >= -end) & (x < end), x, np.zeros_like(x)).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.where(x >= end, np.asarray(high, dtype), np.where(x < -end, np.asarray(low, dtype), inside))


def aligned(shape: Sequence[int], axes: Sequence[int], rank: int) -> list[int]:
    """Return a shape of so many axes, whose axis `axes[k]` is as long as axis k of `shape`, the others 1."""
    full = [1] * rank
    for n, axis in zip(shape, axes, strict=True):
        full[axis] = n
    return full


def in_order(how: np.ufunc, x: Array) -> Array:
    """Return the reduction along the first axis, one entry after the other from the first.

    NumPy sums a contiguous axis by halves, other axes in order; `x` must be in C order.
    """
    if x.size == x.shape[0]:
        return how.accumulate(x, dtype=x.dtype)[-1]
    return how.reduce(x, axis=0, dtype=x.dtype)


def rescaled(x: Array, shift: int, limit: int) -> Array:
    """Return integers times `2^-shift`, to the nearest, halves away from zero, with a size of at most `limit`."""
    # The size of the least int64 is one that uint64 alone has.
    size = np.abs(np.asarray(x, np.int64)).astype(np.uint64)
    if shift > 0:
        size = (size + np.uint64(1 << (shift - 1))) >> np.uint64(shift)
        size = np.minimum(size, np.uint64(limit))
    else:
        size = np.where(size > limit >> -shift, np.uint64(limit), size << np.uint64(-shift))
    found = size.astype(np.int32)
    return np.asarray(np.where(np.asarray(x) < 0, -found, found))
