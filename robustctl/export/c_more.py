"""C of reductions, sorting, factorizations, loops and branches."""

import math
from collections.abc import Sequence

from ..runtime.program import Operation, Value
from .c_kinds import along, combined
from .c_print import Printer, prints
from .c_refs import Place, Ref
from .c_text import Index, bare


@prints("reduce")
def _reduce(p: Printer, op: Operation) -> None:
    (x,), (result,), axis, how = op.operands, op.results, op.params["axis"], op.params["how"]
    source, target = p.ref(x), p.declare(result)

    def entry(at: list[Index]) -> None:
        name = p.name("s")
        p.line(f"{p.types[x.dtype]} {name} = {bare(source.read(along(at, axis, 0)))};")
        with p.braces(f"for (int r = 1; r < {x.shape[axis]}; r++)"):
            p.line(f"{name} = {bare(combined(p, how, name, source.read(along(at, axis, 'r')), x.dtype))};")
        p.line(f"{target.read(at)} = {name};")

    p.nest(result.shape, entry)
    p.refs[result] = target


@prints("arg")
def _arg(p: Printer, op: Operation) -> None:
    (x,), (result,), axis = op.operands, op.results, op.params["axis"]
    source, target = p.stored(x), p.declare(result)
    sign = ">" if op.params["how"] == "max" else "<"

    def entry(at: list[Index]) -> None:
        best = p.name("n")
        p.line(f"int {best} = 0;")
        new, old = source.read(along(at, axis, "r")), source.read(along(at, axis, best))
        nan = f" || ({new} != {new} && {old} == {old})" if x.dtype == "float" else ""
        with (
            p.braces(f"for (int r = 1; r < {x.shape[axis]}; r++)"),
            p.braces(f"if ({new} {sign} {old}{nan})"),
        ):
            p.line(f"{best} = r;")
        p.line(f"{target.read(at)} = ({p.types[result.dtype]}){best};")

    p.nest(result.shape, entry)
    p.refs[result] = target


@prints("cumulate")
def _cumulate(p: Printer, op: Operation) -> None:
    (x,), (result,), axis, how = op.operands, op.results, op.params["axis"], op.params["how"]
    source, target, n = p.ref(x), p.declare_array(result), x.shape[axis]
    reverse = op.params["reverse"]

    def lane(at: list[Index]) -> None:
        here, before = (f"{n - 1} - r", f"{n} - r") if reverse else ("r", "r - 1")
        first = along(at, axis, n - 1 if reverse else 0)
        p.line(f"{target.read(first)} = {bare(source.read(first))};")
        new, old = source.read(along(at, axis, here)), target.read(along(at, axis, before))
        with p.braces(f"for (int r = 1; r < {n}; r++)"):
            p.line(f"{target.read(along(at, axis, here))} = {bare(combined(p, how, old, new, x.dtype))};")

    p.nest([*x.shape[:axis], *x.shape[axis + 1 :]], lane)
    p.refs[result] = target


@prints("sort")
def _sort(p: Printer, op: Operation) -> None:
    axis, key = op.params["axis"], op.operands[0]
    targets = []
    for v, result in zip(op.operands, op.results, strict=True):
        target = p.declare_array(result)
        p.fill(target, v.shape, p.ref(v).read)
        targets.append(target)
        p.refs[result] = target

    def lane(at: list[Index]) -> None:
        # By exchanges with the entry before: stable, and short arrays need no better.
        before, here = targets[0].read(along(at, axis, "q - 1")), targets[0].read(along(at, axis, "q"))
        nan = f" || ({before} != {before} && {here} == {here})" if key.dtype == "float" else ""
        exchange = f"for (int q = r; q > 0 && ({here} < {before}{nan}); q--)"
        with p.braces(f"for (int r = 1; r < {key.shape[axis]}; r++)"), p.braces(exchange):
            for v, target in zip(op.operands, targets, strict=True):
                name = p.name("s")
                one, other = target.read(along(at, axis, "q")), target.read(along(at, axis, "q - 1"))
                p.line(f"const {p.types[v.dtype]} {name} = {one};")
                p.line(f"{one} = {other};")
                p.line(f"{other} = {name};")

    p.nest([*key.shape[:axis], *key.shape[axis + 1 :]], lane)


def _each_matrix(p: Printer, shape: Sequence[int], call: str, *pointers: tuple[Place, int]) -> None:
    """Print a call for each matrix of a stack: `call` with pointers to the parts that belong to it."""
    count = math.prod(shape[:-2])
    if count == 1:
        p.line(call.format(*(ref.pointer for ref, _ in pointers)) + ";")
        return
    with p.braces(f"for (int m = 0; m < {count}; m++)"):
        p.line(call.format(*(f"{ref.pointer} + {size} * m" for ref, size in pointers)) + ";")


def _copy(p: Printer, source: Value, result: Value) -> Place:
    target = p.declare_array(result)
    p.fill(target, source.shape, p.ref(source).read)
    p.refs[result] = target
    return target


@prints("lu")
def _lu(p: Printer, op: Operation) -> None:
    (x,), n = op.operands, op.operands[0].shape[-1]
    factors = _copy(p, x, op.results[0])
    rows = []
    for result in op.results[1:]:
        target = p.declare_array(result)
        p.refs[result] = target
        rows.append((target, n))
    _each_matrix(p, x.shape, f"{p.helper('lu')}({{}}, {{}}, {{}}, {n})", (factors, n * n), *rows)


@prints("cholesky")
def _cholesky(p: Printer, op: Operation) -> None:
    (x,), (result,), n = op.operands, op.results, op.operands[0].shape[-1]
    _each_matrix(p, x.shape, f"{p.helper('cholesky')}({{}}, {n})", (_copy(p, x, result), n * n))


@prints("triangular_solve")
def _solve(p: Printer, op: Operation) -> None:
    (a, b), (result,) = op.operands, op.results
    n, m = b.shape[-2:]
    matrix, right = p.packed(a), _copy(p, b, result)
    flags = ", ".join("true" if op.params[key] else "false" for key in ("lower", "unit"))
    call = f"{p.helper('solve')}({{}}, {{}}, {n}, {m}, {flags})"
    _each_matrix(p, b.shape, call, (matrix, n * n), (right, n * m))


@prints("loop")
def _loop(p: Printer, op: Operation) -> None:
    body, n, length = op.params["body"], op.params["carries"], op.params["length"]
    carries = _carries(p, op.operands, op.results[:n])
    stacks = [p.declare_array(v) for v in op.results[n:]]
    p.refs.update(zip(op.results[n:], stacks, strict=True))
    xs = [p.stored(x) for x in op.operands[n:]]
    t = _turn(p)
    down = f"int {t} = {length - 1}; {t} >= 0; {t}--"
    with p.braces(f"for ({down if op.params['reverse'] else f'int {t} = 0; {t} < {length}; {t}++'})"):
        slices = [_at(x, t, part.shape) for x, part in zip(xs, body.inputs[n:], strict=True)]
        p.block(body, [*carries, *slices])
        for y, stack in zip(body.outputs[n:], stacks, strict=True):
            p.fill(_at(stack, t, y.shape), y.shape, p.ref(y).read)
        _advance(p, body.outputs[:n], carries)


def _turn(p: Printer) -> str:
    p.loops += 1
    return f"t{p.loops}"


def _at(ref: Ref, turn: str, shape: Sequence[int]) -> Ref:
    """Return entry `turn` along the first axis."""
    steps = [(0, 0), *((k, 1) for k in range(len(shape)))]
    return ref.viewed(tuple(shape), [turn, *([0] * len(shape))], steps)


def _carries(p: Printer, starts: Sequence[Value], results: Sequence[Value]) -> list[Ref]:
    """Declare the carries of a loop with their starts; they are its first results."""
    found = []
    for start, result in zip(starts, results, strict=False):
        target = p.declare(result)
        p.fill(target, start.shape, p.ref(start).read)
        p.refs[result] = target
        found.append(target)
    return found


def _advance(p: Printer, after: Sequence[Value], carries: Sequence[Ref]) -> None:
    """Write the carries of the next turn; first all that reads the old ones, then the new ones."""
    names = {ref.array for ref in carries}
    written = [_kept(p, v, own, names) for v, own in zip(after, carries, strict=True)]
    for v, source, own in zip(after, written, carries, strict=True):
        if source != own:
            p.fill(own, v.shape, source.read)


def _kept(p: Printer, value: Value, own: Ref, names: set[str]) -> Ref:
    """Return a carry's next value, written out unless it is in a variable that the other carries leave alone."""
    ref = p.ref(value)
    safe = value.data is not None or (ref.array != "" and ref.array not in names)
    return ref if safe or ref == own else p.write_out(value)


@prints("while")
def _while(p: Printer, op: Operation) -> None:
    condition, body, t = op.params["condition"], op.params["body"], _turn(p)
    carries = _carries(p, op.operands, op.results)
    with p.braces(f"for (int {t} = 0; {t} < {op.params['most']}; {t}++)"):
        p.block(condition, carries)
        with p.braces(f"if (!({bare(p.read(condition.outputs[0], ()))}))"):
            p.line("break;")
        p.block(body, carries)
        _advance(p, body.outputs, carries)


@prints("branch")
def _branch(p: Printer, op: Operation) -> None:
    (which,), branches = op.operands, op.params["branches"]
    targets = [p.declare(result) for result in op.results]
    p.refs.update(zip(op.results, targets, strict=True))
    chosen = bare(p.stored(which).read([]))
    for k, block in enumerate(branches):
        test = f"if ({chosen} {'==' if k else '<='} {p.constant(k, which.dtype)})"
        last = k == len(branches) - 1
        with p.braces(test if k == 0 else "else" if last else f"else {test}"):
            p.block(block, ())
            for target, y in zip(targets, block.outputs, strict=True):
                p.fill(target, y.shape, p.ref(y).read)
