"""What a step costs: its arithmetic, counted from the program."""

import math
from collections import Counter
from collections.abc import Iterable

from ..runtime.program import BINARY, COMPARE, UNARY, Operation, Program

_MOVES = (
    "reshape", "transpose", "broadcast", "slice", "reverse", "concatenate", "take", "put", "dynamic_slice", "dynamic_update", "convert",
)  # fmt: skip
"""Kinds that copy numbers and compute none."""


def operations(program: Program) -> dict[str, int]:
    """Return how many additions, multiplications, divisions, comparisons and calls of functions one step takes at most.

    Exact for a program without `while` and branches; a `while` counts with the turns that it never exceeds, a branch with all of its
    blocks. Factorizations and sorts are counted as whole operations under their own names.
    """
    return dict(sorted(_counted(program.operations).items()))


def _counted(operations: Iterable[Operation]) -> Counter[str]:
    total: Counter[str] = Counter()
    for op in operations:
        total.update(_of_one(op))
    return total


def _of_one(op: Operation) -> dict[str, int]:
    size, kind = op.results[0].size, op.kind
    inner = max(op.operands[0].size // max(size, 1), 1) if op.operands else 1
    match kind:
        case "add" | "sub" | "neg":
            return {"add": size}
        case "mul" | "div":
            return {kind: size}
        case "dot":
            terms = op.operands[0].shape[-1]
            return {"mul": size * terms, "add": size * (terms - 1)}
        case "reduce" | "cumulate":
            count = op.operands[0].size - size if kind == "reduce" else size
            return {op.params["how"]: count}
        case "arg":
            return {"compare": size * (inner - 1)}
        case "loop":
            return _times(_counted(op.params["body"].operations), op.params["length"])
        case "while":
            turns = op.params["most"]
            both = _counted([*op.params["condition"].operations, *op.params["body"].operations])
            return _times(both, turns)
        case "branch":
            return dict(_counted(o for block in op.params["branches"] for o in block.operations))
        case _ if kind in _MOVES:
            return {}
        case _ if kind in COMPARE or kind in (
            "select",
            "max",
            "min",
            "abs",
            "sign",
            "floor",
            "ceil",
            "round",
        ):
            return {"compare": size}
        case _ if kind in UNARY or kind in BINARY:
            return {kind: size}
        case _:
            stacks = math.prod(op.operands[0].shape[:-2])
            return {kind: stacks}


def _times(counts: Counter[str], number: int) -> dict[str, int]:
    return {kind: count * number for kind, count in counts.items()}
