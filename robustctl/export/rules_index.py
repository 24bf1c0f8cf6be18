"""Translations of indexing: gathers and scatters become positions in C order."""

import math
from collections.abc import Sequence

import numpy as np
from jax.lax import GatherScatterMode

from ..errors import InvalidModelError
from ..runtime.program import Value
from .rules import broadcast, concatenated, converted, entries, reshaped, scalar, sliced
from .translate import Call, Translator, rule


@rule("dynamic_slice")
def _dynamic_slice(t: Translator, call: Call, x: Value, *starts: Value) -> Value:
    sizes = tuple(map(int, call.params["slice_sizes"]))
    if all(start.data is not None for start in starts):
        low = _inside(starts, x.shape, sizes)
        return sliced(t, x, low, np.add(low, sizes).tolist())
    return t.emit("dynamic_slice", [x, *starts], sizes, x.dtype, sizes=sizes)


def _inside(starts: Sequence[Value], shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Return known starts, moved so that the slice lies inside the array."""
    return [
        min(max(int(start.data), 0), n - size)  # pyright: ignore[reportArgumentType]
        for start, n, size in zip(starts, shape, sizes, strict=True)
    ]


@rule("dynamic_update_slice")
def _dynamic_update(t: Translator, call: Call, x: Value, update: Value, *starts: Value) -> Value:
    if update.shape == x.shape:
        return update
    return t.emit("dynamic_update", [x, update, *starts], x.shape, x.dtype)


class _Window:
    """Where the windows of a gather or scatter lie in its operand.

    Entry i of the slices or updates has a position in its window, along `window_axes`, and a window, along the others.
    """

    def __init__(
        self, shape: Sequence[int], window_axes: Sequence[int], operand: Sequence[int], numbers: tuple
    ):
        collapsed, index_map, operand_batch, index_batch = ([int(k) for k in each] for each in numbers)
        self.shape, self.operand, self.index_map = tuple(shape), tuple(operand), index_map
        kept = [k for k in range(len(operand)) if k not in (*collapsed, *operand_batch)]
        self.batch_axes = [k for k in range(len(shape)) if k not in window_axes]
        self.strides = [math.prod(operand[k + 1 :]) for k in range(len(operand))]
        at = np.indices(shape) if shape else np.zeros((0,))
        sizes = [1] * len(operand)
        offset = np.zeros(shape, np.int32)
        for k, axis in zip(kept, window_axes, strict=True):
            sizes[k] = shape[axis]
            offset += (at[axis] * self.strides[k]).astype(np.int32)
        for k, b in zip(operand_batch, index_batch, strict=True):
            offset += (at[self.batch_axes[b]] * self.strides[k]).astype(np.int32)
        self.offset, self.sizes = offset, sizes

    def positions(self, t: Translator, indices: Value, mode: GatherScatterMode) -> tuple[Value, Value | None]:
        """Return the position of each entry in the operand, and whether its window lies inside (None: all do)."""
        position, inside = t.constant(self.offset), None
        indices = converted(t, indices, "int32")
        for c, k in enumerate(self.index_map):
            low, high = [0] * len(indices.shape), list(indices.shape)
            low[-1], high[-1] = c, c + 1
            one = sliced(t, indices, low, high)
            start = reshaped(t, one, one.shape[:-1])
            zero, most = scalar(t, 0, "int32"), scalar(t, self.operand[k] - self.sizes[k], "int32")
            if mode == GatherScatterMode.FILL_OR_DROP:
                above = entries(t, "ge", [start, zero], "bool")
                fits = entries(t, "and", [above, entries(t, "le", [start, most], "bool")])
                inside = fits if inside is None else entries(t, "and", [inside, fits])
            # A promise to lie inside is not relied on: C would read past the end.
            start = entries(t, "min", [entries(t, "max", [start, zero]), most])
            step = entries(t, "mul", [start, scalar(t, self.strides[k], "int32")])
            position = entries(t, "add", [position, broadcast(t, step, self.shape, self.batch_axes)])
        if inside is None or (inside.data is not None and inside.data.all()):
            return position, None
        return position, broadcast(t, inside, self.shape, self.batch_axes)


@rule("gather")
def _gather(t: Translator, call: Call, x: Value, indices: Value) -> Value:
    ((shape, _),), p, n = call.types, call.params, call.params["dimension_numbers"]
    numbers = (
        n.collapsed_slice_dims,
        n.start_index_map,
        n.operand_batching_dims,
        n.start_indices_batching_dims,
    )
    window = _Window(shape, n.offset_dims, x.shape, numbers)
    position, inside = window.positions(t, indices, _mode(p["mode"]))
    found = taken(t, x, position)
    if inside is None:
        return found
    fill = p["fill_value"]
    if fill is None:
        fill = math.nan if x.dtype == "float" else True if x.dtype == "bool" else np.iinfo(x.dtype).min
    return entries(t, "select", [inside, found, scalar(t, fill, x.dtype)], x.dtype)


def taken(t: Translator, x: Value, position: Value) -> Value:
    """Return entries of x by position: a slice where they are evenly spaced."""
    flat = reshaped(t, x, (x.size,))
    if (at := position.data) is not None:
        steps = np.unique(np.diff(at.ravel()))
        if at.size == 1 or (steps.size == 1 and steps[0] > 0):
            step, first = int(steps[0]) if at.size > 1 else 1, int(at.flat[0])
            part = sliced(t, flat, [first], [int(at.flat[-1]) + 1], [step])
            return reshaped(t, part, position.shape)
    return t.emit("take", [flat, position], position.shape, x.dtype)


_SCATTERS = {
    "scatter": "set", "scatter-add": "add", "scatter_add": "add", "scatter-mul": "mul", "scatter_mul": "mul", "scatter_min": "min",
    "scatter-min": "min", "scatter_max": "max", "scatter-max": "max",
}  # fmt: skip


@rule(*_SCATTERS)
def _scatter(t: Translator, call: Call, x: Value, indices: Value, updates: Value) -> Value:
    if not updates.size:
        return x
    n = call.params["dimension_numbers"]
    numbers = (
        n.inserted_window_dims, n.scatter_dims_to_operand_dims, n.operand_batching_dims, n.scatter_indices_batching_dims,
    )  # fmt: skip
    window = _Window(updates.shape, n.update_window_dims, x.shape, numbers)
    position, inside = window.positions(t, indices, _mode(call.params["mode"]))
    if inside is not None:
        position = entries(t, "select", [inside, position, scalar(t, -1, "int32")], "int32")
    how = _SCATTERS[call.name]
    at = position.data
    # Every entry once and in order: the updates are the result.
    if how == "set" and at is not None and np.array_equal(at.ravel(), np.arange(x.size)):
        return reshaped(t, updates, x.shape)
    if how == "add" and (joined := _added(t, x, position, updates)) is not None:
        return joined
    return t.emit("put", [x, position, updates], x.shape, x.dtype, how=how)


def _added(t: Translator, x: Value, position: Value, updates: Value) -> Value | None:
    """Return the scatter of a consecutive stretch to zeros, as the derivative of a slice has it; None for another."""
    at = position.data
    if at is None or x.data is None or x.data.any():
        return None
    flat = at.ravel()
    if flat[0] < 0 or not np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
        return None
    ends = (int(flat[0]), x.size - int(flat[-1]) - 1)
    zero = [[t.constant(np.zeros(n, t.dtype))] if n else [] for n in ends]
    parts = [*zero[0], reshaped(t, updates, (updates.size,)), *zero[1]]
    return reshaped(t, concatenated(t, parts, 0), x.shape)


def _mode(mode: GatherScatterMode | None) -> GatherScatterMode:
    if mode is None:
        return GatherScatterMode.FILL_OR_DROP
    if mode not in (
        GatherScatterMode.FILL_OR_DROP,
        GatherScatterMode.PROMISE_IN_BOUNDS,
        GatherScatterMode.CLIP,
    ):
        raise InvalidModelError(
            f"the mode of an index must be clip, fill, drop or promise_in_bounds, got {mode}"
        )
    return mode
