"""Translations of `lax.scan`, `lax.while_loop` and `lax.cond`: loops of a known largest number of turns."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidModelError
from ..runtime.program import Block, Operation, Value
from .rules import concatenated, reshaped, sliced
from .translate import Call, Known, Translator, rule

_WRITTEN_OUT = 256
"""Turns of a scan, for a step of integers; a longer one is a loop, which fixed point does not have."""


class _Carried:
    """Which carries of a loop change: the others are values from outside."""

    def __init__(self, body: Any, consts: int, starts: Sequence[Value]):
        before, after = body.invars[consts:], body.outvars
        self.starts = starts
        self.moves = [
            start.size > 0 and old is not new for start, old, new in zip(starts, before, after, strict=False)
        ]
        self.moving = [start for start, moves in zip(starts, self.moves, strict=True) if moves]

    def inputs(self) -> list[Value]:
        """Return the inputs of a block for the carries that change."""
        return [Value(start.shape, start.dtype) for start in self.moving]

    def all(self, moving: Sequence[Known]) -> list[Known]:
        """Return all carries, given those that change."""
        given = iter(moving)
        return [next(given) if moves else start for start, moves in zip(self.starts, self.moves, strict=True)]

    def chosen(self, carries: Sequence[Known]) -> list[Known]:
        """Return those that change, given all."""
        return [carry for carry, moves in zip(carries, self.moves, strict=True) if moves]


@rule("scan")
def _scan(t: Translator, call: Call, *operands: Value) -> Sequence[Known]:
    p = call.params
    n, length = p["num_consts"], int(p["length"])
    consts, starts, xs = operands[:n], operands[n : n + p["num_carry"]], operands[n + p["num_carry"] :]
    if length == 1:
        slices = [reshaped(t, x, x.shape[1:]) if x.size else x.data[0] for x in xs]  # pyright: ignore[reportOptionalSubscript]
        found = t.closed(p["jaxpr"], [*consts, *starts, *slices])
        ys = zip(found[len(starts) :], call.types[len(starts) :], strict=True)
        return [*found[: len(starts)], *(reshaped(t, t.value(y), shape) for y, (shape, _) in ys)]
    if t.for_integers and length <= _WRITTEN_OUT:
        return _written_out(t, call, consts, starts, xs)
    carried = _Carried(p["jaxpr"].jaxpr, n, starts)
    inputs, slices = carried.inputs(), [Value(x.shape[1:], x.dtype) for x in xs]
    given = [part if x.size else x.data[0] for part, x in zip(slices, xs, strict=True)]  # pyright: ignore[reportOptionalSubscript]
    kept = [0 not in shape for shape, _ in call.types[len(starts) :]]

    def body() -> list[Known]:
        found = t.closed(p["jaxpr"], [*consts, *carried.all(inputs), *given])
        ys = zip(found[len(starts) :], kept, strict=True)
        return [*carried.chosen(found[: len(starts)]), *(y for y, keep in ys if keep)]

    read = [x for x in xs if x.size]
    block = t.block([*inputs, *(part for part in slices if 0 not in part.shape)], body)
    types = [(v.shape, v.dtype) for v in carried.moving]
    types += [kind for kind, keep in zip(call.types[len(starts) :], kept, strict=True) if keep]
    params = {"body": block, "length": length, "reverse": bool(p["reverse"]), "carries": len(inputs)}
    results = _emit(t, "loop", [*carried.moving, *read], types, **params)
    stacked = iter(results[len(inputs) :])
    ys = [
        next(stacked) if keep else np.zeros(shape)
        for (shape, _), keep in zip(call.types[len(starts) :], kept, strict=True)
    ]
    return [*carried.all(results[: len(inputs)]), *ys]


def _written_out(
    t: Translator, call: Call, consts: Sequence[Value], starts: Sequence[Value], xs: Sequence[Value]
) -> Sequence[Known]:
    """Translate a scan turn by turn."""
    length, stacks, carries = int(call.params["length"]), [], list(starts)
    turns = range(length)[::-1] if call.params["reverse"] else range(length)
    for k in turns:
        slices = [_turn(t, x, k) if x.size else x.data[k] for x in xs]  # pyright: ignore[reportOptionalSubscript]
        found = t.closed(call.params["jaxpr"], [*consts, *carries, *slices])
        carries, ys = found[: len(starts)], [t.value(y) for y in found[len(starts) :]]
        stacks.append([reshaped(t, y, (1, *y.shape)) if y.size else y for y in ys])
    if call.params["reverse"]:
        stacks.reverse()
    stacked = [
        concatenated(t, parts, 0) if 0 not in shape else np.zeros(shape)
        for parts, (shape, _) in zip(zip(*stacks, strict=True), call.types[len(starts) :], strict=True)
    ]
    return [*carries, *stacked]


def _turn(t: Translator, x: Value, k: int) -> Value:
    """Return what a turn reads of an array."""
    ends = [0] * len(x.shape), list(x.shape)
    ends[0][0], ends[1][0] = k, k + 1
    return reshaped(t, sliced(t, x, *ends), x.shape[1:])


def _emit(
    t: Translator, kind: str, operands: Sequence[Value], types: Sequence[tuple], **params: Any
) -> tuple[Value, ...]:
    results = tuple(Value(shape, dtype) for shape, dtype in types)
    t.operations.append(Operation(kind, tuple(operands), results, params))
    return results


@rule("while")
def _while(t: Translator, call: Call, *operands: Value) -> Sequence[Known]:
    p = call.params
    n, m = p["cond_nconsts"], p["body_nconsts"]
    tests, consts, starts = operands[:n], operands[n : n + m], operands[n + m :]
    carried = _Carried(p["body_jaxpr"].jaxpr, m, starts)
    before, inputs = carried.inputs(), carried.inputs()
    condition = t.block(before, lambda: t.closed(p["cond_jaxpr"], [*tests, *carried.all(before)]))
    body = t.block(inputs, lambda: carried.chosen(t.closed(p["body_jaxpr"], [*consts, *carried.all(inputs)])))
    most = _most(condition, body, carried.moving)
    if most is None:
        raise InvalidModelError(
            "a loop must end after a number of turns that is known beforehand; use lax.scan or lax.fori_loop with fixed bounds, or "
            "add `k < limit` to the condition of lax.while_loop, with a counter k that starts at a constant and grows by one"
        )
    types = [(v.shape, v.dtype) for v in carried.moving]
    found = _emit(t, "while", carried.moving, types, condition=condition, body=body, most=most)
    return carried.all(found)


def _most(condition: Block, body: Block, starts: Sequence[Value]) -> int | None:
    """Return how often a condition can hold, by a counter in it; None where nothing bounds it."""
    made = {op.results[0]: op for op in condition.operations}
    left, bounds = list(condition.outputs), []
    while left:
        op = made.get(left.pop())
        if op is not None and op.kind == "and":
            left += op.operands
        elif op is not None and op.kind in _TURNS:
            bounds += _turns(op, condition, body, starts)
    return min(bounds, default=None)


_TURNS: dict[str, tuple[int, int]] = {"lt": (1, 0), "le": (1, 1), "gt": (-1, 0), "ge": (-1, 1)}
"""The direction in which a comparison's left side must move to end it, and what equality adds."""


def _turns(op: Operation, condition: Block, body: Block, starts: Sequence[Value]) -> list[int]:
    """Return the number of turns that a comparison of a counter with a constant allows, in a list; empty where there is none."""
    (left, right), (sign, equal) = op.operands, _TURNS[op.kind]
    if left.data is not None:
        left, right, sign = right, left, -sign
    if right.data is None or left not in condition.inputs or left.dtype not in ("int32", "int64"):
        return []
    k = condition.inputs.index(left)
    step, start = sign * _step(body, k), starts[k].data
    if start is None or step <= 0:
        return []
    room = sign * (int(right.data) - int(start)) + equal
    return [max(0, -(-room // step))]


def _step(body: Block, k: int) -> int:
    """Return by what a counter grows in a turn; 0 where that is not constant."""
    made = {op.results[0]: op for op in body.operations}
    op = made.get(body.outputs[k])
    if op is None or op.kind not in ("add", "sub"):
        return 0
    (x, y), own = op.operands, body.inputs[k]
    if op.kind == "sub":
        return -int(y.data) if x is own and y.data is not None else 0
    other = y if x is own else x if y is own else None
    return 0 if other is None or other.data is None else int(other.data)


@rule("cond")
def _cond(t: Translator, call: Call, which: Value, *operands: Value) -> Sequence[Known]:
    bodies = call.params["branches"]
    if which.data is not None:
        return t.closed(bodies[min(max(int(which.data), 0), len(bodies) - 1)], operands)
    kept = [0 not in shape for shape, _ in call.types]

    def branch(body: Any) -> Callable[[], list[Known]]:
        return lambda: [y for y, keep in zip(t.closed(body, operands), kept, strict=True) if keep]

    branches = tuple(t.block((), branch(body)) for body in bodies)
    types = [kind for kind, keep in zip(call.types, kept, strict=True) if keep]
    found = iter(_emit(t, "branch", [which], types, branches=branches))
    return [
        next(found) if keep else np.zeros(shape) for (shape, _), keep in zip(call.types, kept, strict=True)
    ]
