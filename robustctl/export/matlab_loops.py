"""MATLAB of loops and branches."""

from collections.abc import Sequence

from ..runtime.program import Operation, Value
from .matlab_print import Script, writes


def _started(s: Script, starts: Sequence[Value], results: Sequence[Value]) -> list[str]:
    """Declare the carries of a loop with their starts; they are its first results."""
    names = []
    for start, result in zip(starts, results, strict=True):
        s.set(result, s.ref(start))
        names.append(s.names[result])
    return names


def _advance(s: Script, carries: Sequence[str], after: Sequence[str]) -> None:
    """Write the carries of the next turn, first all that reads the old ones."""
    for name, old in zip([s.assigned(new) for new in after], carries, strict=True):
        s.line(f"{old} = {name};")


@writes("loop")
def _loop(s: Script, op: Operation) -> None:
    body, n, length = op.params["body"], op.params["carries"], op.params["length"]
    carries = _started(s, op.operands[:n], op.results[:n])
    for y in op.results[n:]:
        s.set(y, f"false({y.size}, 1)" if y.dtype == "bool" else f"zeros({y.size}, 1, '{_class(s, y)}')")
    turn, xs = s.name("t"), [_named(s, x) for x in op.operands[n:]]
    s.line(f"for {turn} = {f'{length - 1}:-1:0' if op.params['reverse'] else f'0:{length - 1}'}")
    s.depth += 1
    slices = [f"{x}({_part(turn, part.size)})" for x, part in zip(xs, body.inputs[n:], strict=True)]
    after = s.block(body, [*carries, *map(s.assigned, slices)])
    for y, new, one in zip(op.results[n:], after[n:], body.outputs[n:], strict=True):
        s.line(f"{s.names[y]}({_part(turn, one.size)}) = {new};")
    _advance(s, carries, after[:n])
    s.depth -= 1
    s.line("end")


def _class(s: Script, value: Value) -> str:
    return s.real if value.dtype == "float" else "double"


def _named(s: Script, x: Value) -> str:
    """Return a value as a variable, since an index applies to one alone."""
    return s.assigned(s.ref(x)) if x.size == 1 else s.ref(x)


def _part(turn: str, size: int) -> str:
    """Return the index of what a turn reads or writes of a stack."""
    return f"{turn} + 1" if size == 1 else f"{turn} * {size} + (1:{size})"


@writes("while")
def _while(s: Script, op: Operation) -> None:
    condition, body = op.params["condition"], op.params["body"]
    carries = _started(s, op.operands, op.results)
    s.line(f"for {s.name('t')} = 1:{op.params['most']}")
    s.depth += 1
    (holds,) = s.block(condition, carries)
    s.line(f"if ~{holds}, break, end")
    _advance(s, carries, s.block(body, carries))
    s.depth -= 1
    s.line("end")


@writes("branch")
def _branch(s: Script, op: Operation) -> None:
    (which,), blocks = op.operands, op.params["branches"]
    names = [s.name() for _ in op.results]
    for k, block in enumerate(blocks):
        last = k == len(blocks) - 1
        s.line("else" if last else f"{'elseif' if k else 'if'} {s.ref(which)} <= {k}")
        s.depth += 1
        for name, new in zip(names, s.block(block, ()), strict=True):
            s.line(f"{name} = {new};")
        s.depth -= 1
    s.line("end")
    s.names.update(zip(op.results, names, strict=True))
