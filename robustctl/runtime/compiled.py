"""A program as a list of functions on one list of arrays, made once."""

from collections.abc import Callable, Sequence

import numpy as np

from .operations import HANDLERS
from .program import Block, Operation, Program, Value, blocks, dtypes_of, walk

Memory = list
Run = Callable[[Memory], None]


class Compiled:
    """A program's operations as functions, each of which reads and writes entries of one list.

    **Arguments:**

    - `program`: the program.
    """

    def __init__(self, program: Program):
        self.dtypes = dtypes_of(program.dtype)
        self.positions: dict[Value, int] = {}
        self.template: Memory = []
        for value in (*(s.value for s in (*program.state, *program.inputs)), *program.constants):
            self.place(value)
        for op in walk(program.operations):
            for value in (*op.results, *(v for block in blocks(op) for v in block.inputs)):
                self.place(value)
        self.runs = tuple(map(self.run_of, program.operations))

    def place(self, value: Value) -> int:
        """Return a value's position in the list."""
        if value not in self.positions:
            self.positions[value] = len(self.template)
            self.template.append(
                None if value.data is None else np.asarray(value.data, self.dtypes[value.dtype])
            )
        return self.positions[value]

    def at(self, values: Sequence[Value]) -> tuple[int, ...]:
        """Return the positions of values that are in the list."""
        return tuple(self.positions[value] for value in values)

    def run_of(self, op: Operation) -> Run:
        """Return an operation as a function on the list."""
        if op.kind in _BLOCKS:
            return _BLOCKS[op.kind](self, op)
        function, sources, results = (
            HANDLERS[op.kind](op, self.dtypes),
            self.at(op.operands),
            self.at(op.results),
        )
        if len(results) == 1:
            return _one(function, sources, results[0])

        def several(m: Memory) -> None:
            for at, found in zip(results, function(*(m[i] for i in sources)), strict=True):
                m[at] = found

        return several

    def block(self, block: Block) -> Run:
        """Return a block's operations as one function."""
        runs = tuple(map(self.run_of, block.operations))

        def run(m: Memory) -> None:
            for one in runs:
                one(m)

        return run


def _one(function: Callable, sources: tuple[int, ...], result: int) -> Run:
    """Return a call without the loop over its operands, which would take as long as the call."""
    if len(sources) == 1:
        (a,) = sources

        def unary(m: Memory) -> None:
            m[result] = function(m[a])

        return unary
    if len(sources) == 2:
        a, b = sources

        def binary(m: Memory) -> None:
            m[result] = function(m[a], m[b])

        return binary

    def call(m: Memory) -> None:
        m[result] = function(*(m[i] for i in sources))

    return call


def _moved(m: Memory, sources: Sequence[int], targets: Sequence[int]) -> None:
    for at, value in zip(targets, [m[i] for i in sources], strict=True):
        m[at] = value


def _loop(c: Compiled, op: Operation) -> Run:
    body, n, length = op.params["body"], op.params["carries"], op.params["length"]
    run, sources, results = c.block(body), c.at(op.operands), c.at(op.results)
    inside, outputs = c.at(body.inputs), c.at(body.outputs)
    turns = range(length - 1, -1, -1) if op.params["reverse"] else range(length)
    stacks = [(v.shape, c.dtypes[v.dtype]) for v in op.results[n:]]

    def loop(m: Memory) -> None:
        carries, xs = [m[i] for i in sources[:n]], [m[i] for i in sources[n:]]
        ys = [np.empty(shape, dtype) for shape, dtype in stacks]
        for t in turns:
            m_of = (*carries, *(x[t] for x in xs))
            for at, value in zip(inside, m_of, strict=True):
                m[at] = value
            run(m)
            carries = [m[i] for i in outputs[:n]]
            for y, i in zip(ys, outputs[n:], strict=True):
                y[t] = m[i]
        for at, value in zip(results, (*carries, *ys), strict=True):
            m[at] = value

    return loop


def _while(c: Compiled, op: Operation) -> Run:
    condition, body = op.params["condition"], op.params["body"]
    test, run, (holds,) = c.block(condition), c.block(body), c.at(condition.outputs)
    tested, inside, after = c.at(condition.inputs), c.at(body.inputs), c.at(body.outputs)
    sources, results, most = c.at(op.operands), c.at(op.results), op.params["most"]

    def repeat(m: Memory) -> None:
        _moved(m, sources, results)
        for _ in range(most):
            _moved(m, results, tested)
            test(m)
            if not m[holds]:
                return
            _moved(m, results, inside)
            run(m)
            _moved(m, after, results)

    return repeat


def _branch(c: Compiled, op: Operation) -> Run:
    (which,), results = c.at(op.operands), c.at(op.results)
    cases = [(c.block(block), c.at(block.outputs)) for block in op.params["branches"]]

    def branch(m: Memory) -> None:
        run, outputs = cases[min(max(int(m[which]), 0), len(cases) - 1)]
        run(m)
        _moved(m, outputs, results)

    return branch


_BLOCKS = {"loop": _loop, "while": _while, "branch": _branch}
