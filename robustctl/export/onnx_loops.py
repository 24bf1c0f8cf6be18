"""ONNX of loops, branches and factorizations with pivots."""

import numpy as np

from ..runtime.program import Block, Operation, Value
from .onnx_graph import Graph, adds
from .onnx_shapes import part


@adds("loop")
def _loop(g: Graph, op: Operation) -> None:
    body, n = op.params["body"], op.params["carries"]
    xs, more = g.refs(op.operands), []
    if len(xs) == n:  # a scan goes over something
        xs.append(g.constant(np.zeros(op.params["length"]), "float"))
        more = [(g.name("i"), Value((), "float"))]
    back = int(op.params["reverse"])
    found = g.add_all(
        "Scan", xs, len(op.results), body=g.block(body, more), num_scan_inputs=len(xs) - n,
        scan_input_directions=[back] * (len(xs) - n), scan_output_directions=[back] * (len(op.results) - n),
    )  # fmt: skip
    g.names.update(zip(op.results, found, strict=True))


@adds("while")
def _while(g: Graph, op: Operation) -> None:
    condition, body = op.params["condition"], op.params["body"]
    starts = g.refs(op.operands)
    g.names.update(zip(condition.inputs, starts, strict=True))
    g.operations(condition.operations)
    first = g.ref(condition.outputs[0])
    carries = [(g.name("i"), value) for value in body.inputs]
    turn, going = (g.name("i"), Value((), "int64")), (g.name("i"), Value((), "bool"))
    g.names.update((value, name) for name, value in carries)

    def make() -> list[tuple[str, Value]]:
        g.operations(body.operations)
        after = [(g.ref(v), v) for v in body.outputs]
        # The condition again, of the carries after the turn.
        g.names.update((value, name) for value, (name, _) in zip(condition.inputs, after, strict=True))
        g.operations(condition.operations)
        return [(g.ref(condition.outputs[0]), going[1]), *after]

    most = g.constant(op.params["most"], "int64")
    inside = g.inside([turn, going, *carries], make)
    found = g.add_all("Loop", [most, first, *starts], len(starts), body=inside)
    g.names.update(zip(op.results, found, strict=True))


@adds("branch")
def _branch(g: Graph, op: Operation) -> None:
    (which,), blocks = op.operands, op.params["branches"]
    found = _chosen(g, which, blocks, 0, len(op.results))
    g.names.update(zip(op.results, found, strict=True))


def _chosen(g: Graph, which: Value, blocks: tuple[Block, ...], k: int, outputs: int) -> tuple[str, ...]:
    """Return the results of block `which` of those from `k` on."""
    test = g.add("LessOrEqual", g.ref(which), g.constant(k, which.dtype))
    last = k + 2 == len(blocks)
    other = g.block(blocks[k + 1]) if last else _rest(g, which, blocks, k + 1)
    return g.add_all("If", [test], outputs, then_branch=g.block(blocks[k]), else_branch=other)


def _rest(g: Graph, which: Value, blocks: tuple[Block, ...], k: int):
    outputs = blocks[k].outputs
    return g.inside([], lambda: list(zip(_chosen(g, which, blocks, k, len(outputs)), outputs, strict=True)))


@adds("lu")
def _lu(g: Graph, op: Operation) -> None:
    """Column by column: the largest pivot's row is exchanged with the first, which is then taken out of the others."""
    (x,), n, rank = op.operands, op.operands[0].shape[-1], len(op.operands[0].shape)
    stack = x.shape[:-2]
    a, pivots = g.ref(x), []
    places = np.arange(n).reshape(*(1,) * len(stack), n, 1)
    order = g.constant(np.broadcast_to(places, (*stack, n, 1)), "int64")
    for k in range(n):
        column = part(g, part(g, a, rank - 1, k, k + 1), rank - 2, k, n)
        best = g.add("ArgMax", g.add("Abs", column), axis=rank - 2, keepdims=1)
        best = g.add("Add", best, g.constant(k, "int64"))
        pivots.append(best)
        rows = g.constant(places, "int64")
        here, there = g.add("Equal", rows, g.constant(k, "int64")), g.add("Equal", rows, best)
        swapped = g.add("Where", there, g.constant(k, "int64"), rows)
        swapped = g.add("Where", here, best, swapped)
        order = g.add("GatherElements", order, swapped, axis=rank - 2)
        across = g.add("Expand", swapped, g.integers(x.shape))
        a = _eliminated(g, g.add("GatherElements", a, across, axis=rank - 2), n, rank, k)
    for result, found in zip(op.results, (a, g.add("Concat", *pivots, axis=rank - 2), order), strict=True):
        if result.dtype != "float":
            found = g.add("Squeeze", found, g.integers([rank - 1]))
            found = g.add("Cast", found, to=g.kind(result.dtype))
        g.names[result] = found


def _eliminated(g: Graph, a: str, n: int, rank: int, k: int) -> str:
    """Return a matrix with column k below the diagonal divided by the pivot, and its products taken out of the rest."""
    if k == n - 1:
        return a
    pivot = part(g, part(g, a, rank - 1, k, k + 1), rank - 2, k, k + 1)
    none = g.add("Equal", pivot, g.constant(0, "float"))
    column = part(g, part(g, a, rank - 1, k, k + 1), rank - 2, k + 1, n)
    column = g.add("Div", column, g.add("Where", none, g.constant(1, "float"), pivot))
    row = part(g, part(g, a, rank - 1, k + 1, n), rank - 2, k, k + 1)
    rest = part(g, part(g, a, rank - 1, k + 1, n), rank - 2, k + 1, n)
    rest = g.add("Sub", rest, g.add("Mul", column, row))
    lower = [part(g, part(g, a, rank - 1, 0, k), rank - 2, k + 1, n)] if k else []
    below = g.add("Concat", *lower, column, rest, axis=rank - 1)
    return g.add("Concat", part(g, a, rank - 2, 0, k + 1), below, axis=rank - 2)
