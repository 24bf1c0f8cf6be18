"""Operations on constants, computed once by NumPy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..runtime.numbers import aligned
from ..runtime.program import Value


def _slice(x: np.ndarray, _: tuple, start: Sequence, stop: Sequence, step: Sequence) -> np.ndarray:
    return x[tuple(map(slice, start, stop, step))]


def _broadcast(x: np.ndarray, shape: tuple, axes: Sequence[int]) -> np.ndarray:
    return np.broadcast_to(x.reshape(aligned(x.shape, axes, len(shape))), shape)


VIEWS: dict[str, Callable[..., np.ndarray]] = {
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, _, axes: x.transpose(axes),
    "reverse": lambda x, _, axes: np.flip(x, axes),
    "slice": _slice,
    "broadcast": _broadcast,
}
"""What only moves or repeats entries: functions of the array, the shape of the result and the params."""
_ENTRIES: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "and": np.logical_and,
    "or": np.logical_or, "not": np.logical_not, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal, "select": np.where, "neg": np.negative, "sqrt": np.sqrt,
}  # fmt: skip
BY_NUMPY = (
    "add", "sub", "mul", "max", "min", "lt", "le", "gt", "ge", "eq", "ne", "neg", "sqrt", "broadcast_in_dim", "reshape", "squeeze",
    "transpose", "rev", "slice", "concatenate", "convert_element_type", "select_n", "stop_gradient", "copy",
)  # fmt: skip
"""Primitives that NumPy evaluates to the same bits, which spares the compilation that JAX makes for each shape."""


def folded(kind: str, operands: Sequence[Value], types: Sequence[tuple], params: dict) -> Any:
    """Return the array of an operation on constants alone; None where it has to be computed at each step."""
    data = [operand.data for operand in operands]
    if any(array is None for array in data):
        return None
    ((shape, dtype), *_) = types
    if kind in VIEWS:
        return VIEWS[kind](data[0], shape, **params)
    if kind == "concatenate":
        return np.concatenate(data, **params)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if kind in _ENTRIES:
        with np.errstate(all="ignore"):
            return np.broadcast_to(_ENTRIES[kind](*data), shape)
    if kind == "convert" and dtype != "float":
        return np.asarray(data[0]).astype(dtype)
    return None
