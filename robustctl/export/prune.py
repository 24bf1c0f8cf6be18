"""What nothing depends on is taken out of a program."""

import dataclasses
from collections.abc import Sequence

from ..runtime.program import Block, Operation, Program, Value, blocks


def pruned(program: Program) -> Program:
    """Return a program without operations, carries and results of loops that nothing depends on."""
    return dataclasses.replace(program, operations=_needed(program.operations, set(program.results)))


def _needed(operations: Sequence[Operation], wanted: set[Value]) -> tuple[Operation, ...]:
    """Return the operations that wanted values depend on; adds to `wanted` what those read from outside."""
    kept: list[Operation] = []
    for operation in reversed(operations):
        if wanted.isdisjoint(operation.results):
            continue
        operation = _narrowed(operation, wanted)
        wanted.update(operation.operands)
        kept.append(operation)
    return tuple(reversed(kept))


def _narrowed(operation: Operation, wanted: set[Value]) -> Operation:
    """Return a loop or branch without what is not wanted of it."""
    if operation.kind == "branch":
        keep = [result in wanted for result in operation.results]
        branches = tuple(
            _block(Block((), b.operations, _where(b.outputs, keep)), wanted)
            for b in operation.params["branches"]
        )
        params = operation.params | {"branches": branches}
        return dataclasses.replace(operation, results=_where(operation.results, keep), params=params)
    if operation.kind == "loop":
        return _loop(operation, wanted)
    if operation.kind == "while":
        params = {
            key: _block(value, wanted) if isinstance(value, Block) else value
            for key, value in operation.params.items()
        }
        return dataclasses.replace(operation, params=params)
    return operation


def _loop(operation: Operation, wanted: set[Value]) -> Operation:
    body, results = operation.params["body"], operation.results
    n = operation.params["carries"]
    keep = [result in wanted for result in results]
    # A carry that only the next turns read stays; one that reaches nothing wanted goes. Few rounds settle it.
    while True:
        outer: set[Value] = set()
        block = _block(Block(body.inputs, body.operations, _where(body.outputs, keep)), outer)
        read = {v for op in block.operations for v in _read(op)} | set(block.outputs)
        now = [kept or (k < n and body.inputs[k] in read) for k, kept in enumerate(keep)]
        if now == keep:
            break
        keep = now
    wanted.update(outer - set(body.inputs))
    inputs = [keep[k] if k < n else body.inputs[k] in read for k in range(len(body.inputs))]
    block = Block(_where(body.inputs, inputs), block.operations, block.outputs)
    params = operation.params | {"body": block, "carries": sum(keep[:n])}
    return Operation("loop", _where(operation.operands, inputs), _where(results, keep), params)


def _read(operation: Operation) -> set[Value]:
    """Return all that an operation and its blocks read."""
    found = set(operation.operands)
    for block in blocks(operation):
        found |= set(block.outputs) | {v for op in block.operations for v in _read(op)}
    return found


def _block(block: Block, wanted: set[Value]) -> Block:
    """Return a block without what its outputs do not depend on; adds to `wanted` what it reads from outside."""
    own = set(block.outputs)
    operations = _needed(block.operations, own)
    made = {v for op in operations for v in op.results} | set(block.inputs)
    wanted.update(own - made)
    return Block(block.inputs, operations, block.outputs)


def _where(values: Sequence[Value], keep: Sequence[bool]) -> tuple[Value, ...]:
    return tuple(value for value, kept in zip(values, keep, strict=True) if kept)
