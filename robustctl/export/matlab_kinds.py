"""MATLAB of each kind of operation."""

import math

import numpy as np

from ..runtime.program import BINARY, COMPARE, UNARY, Operation, Value
from .fold import VIEWS
from .matlab_helpers import HELPERS
from .matlab_print import Script, writes

_SIGNS = {
    "add": "+", "sub": "-", "mul": ".*", "div": "./", "and": "&", "or": "|", "eq": "==", "ne": "~=", "lt": "<", "le": "<=", "gt": ">",
    "ge": ">=",
}  # fmt: skip
_FORMS = {
    "neg": "-{0}", "not": "~{0}", "exp2": "2 .^ {0}", "cbrt": "nthroot({0}, 3)", "round_even": "even({0})", "is_finite": "isfinite({0})",
    "sqrt": "within(sqrt({0}), {0} < 0)", "log": "within(log({0}), {0} < 0)", "log1p": "within(log1p({0}), {0} < -1)",
    "asin": "within(asin({0}), abs({0}) > 1)", "acos": "within(acos({0}), abs({0}) > 1)", "acosh": "within(acosh({0}), {0} < 1)",
    "atanh": "within(atanh({0}), abs({0}) > 1)", "rem": "modulo({0}, {1})", "pow": "powered({0}, {1})", "max": "larger({0}, {1})",
    "min": "smaller({0}, {1})",
}  # fmt: skip


@writes(*UNARY, *BINARY, *COMPARE)
def _entries(s: Script, op: Operation) -> None:
    (result,), x = op.results, s.refs(op.operands)
    integers = op.operands[0].dtype in ("int32", "int64")
    if integers and op.kind in ("div", "rem"):
        expression = s.helper({"div": "quotient", "rem": "remainder"}[op.kind], *x)
    elif op.kind in _SIGNS:
        expression = f"{x[0]} {_SIGNS[op.kind]} {x[1]}"
    elif op.kind in _FORMS:
        expression = _FORMS[op.kind].format(*x)
        if (helper := expression.split("(")[0]) in HELPERS:
            s.helper(helper)
    else:  # a function of MATLAB's of the same name
        expression = f"{op.kind}({', '.join(x)})"
    s.set(result, expression)


@writes("select")
def _select(s: Script, op: Operation) -> None:
    s.set(op.results[0], s.helper("pick", *s.refs(op.operands)))


@writes("convert")
def _convert(s: Script, op: Operation) -> None:
    (v,), (result,) = op.operands, op.results
    x, new = s.ref(v), result.dtype
    if new == "float":
        s.set(result, f"{s.real}({x})")
    elif new == "bool":
        s.set(result, f"{x} ~= 0")
    elif v.dtype == "float":
        bits = int(new[3:]) - 1
        s.set(result, s.helper("truncated", x, -(2**bits), f"{2**bits} - 1"))
    elif (v.dtype, new) == ("int64", "int32"):  # the lower bits
        s.set(result, f"mod({x} + 2^31, 2^32) - 2^31")
    else:
        s.set(result, f"double({x})")


@writes("rescale")
def _rescale(s: Script, op: Operation) -> None:
    x, shift, limit = s.ref(op.operands[0]), op.params["shift"], op.params["limit"]
    size = f"floor((abs({x}) + 2^{shift - 1}) / 2^{shift})" if shift > 0 else f"abs({x}) * 2^{-shift}"
    s.set(op.results[0], f"sign({x}) .* min({size}, {limit})")


@writes("reshape")
def _reshape(s: Script, op: Operation) -> None:
    s.names[op.results[0]] = s.ref(op.operands[0])


def positions(v: Value) -> np.ndarray:
    """Return the position of each entry of a value in its column, in its shape."""
    return np.arange(v.size).reshape(v.shape)


@writes("transpose", "slice", "reverse", "broadcast")
def _view(s: Script, op: Operation) -> None:
    (x,), (result,) = op.operands, op.results
    at = VIEWS[op.kind](positions(x), result.shape, **op.params)
    s.set(result, s.viewed(s.ref(x), x.size, at))


@writes("concatenate")
def _concatenate(s: Script, op: Operation) -> None:
    (result,), starts = op.results, np.cumsum([0, *(x.size for x in op.operands)])
    parts = [start + positions(x) for start, x in zip(starts, op.operands, strict=False)]
    at = np.concatenate(parts, op.params["axis"])
    s.set(result, s.viewed(f"[{'; '.join(s.refs(op.operands))}]", result.size, at))


@writes("dot")
def _dot(s: Script, op: Operation) -> None:
    (a, b), (result,) = op.operands, op.results
    ranks = len(a.shape), len(b.shape)
    if ranks == (1, 1):
        s.set(result, f"{s.ref(a)}.' * {s.ref(b)}")
    elif ranks == (2, 1):
        s.set(result, f"{s.matrix(a)} * {s.ref(b)}")
    elif ranks == (1, 2):
        s.set(result, f"({s.ref(a)}.' * {s.matrix(b)}).'")
    elif ranks == (2, 2):
        s.set(result, f"reshape(({s.matrix(a)} * {s.matrix(b)}).', [], 1)")
    else:
        count, m, k = a.shape
        s.set(result, s.helper("products", s.ref(a), s.ref(b), count, m, k, b.shape[-1]))


def _rows(s: Script, x: Value, axis: int) -> tuple[str, np.ndarray]:
    """Return a matrix with a row for each series along an axis, and where its entries, column after column, lie in x."""
    at = np.moveaxis(positions(x), axis, 0).ravel()
    found = s.viewed(s.ref(x), x.size, at)
    return f"reshape({found}, [], {x.shape[axis]})", at


_REDUCTIONS = {"add": "sum({}, 2)", "mul": "prod({}, 2)", "and": "all({}, 2)", "or": "any({}, 2)"}


@writes("reduce")
def _reduce(s: Script, op: Operation) -> None:
    (x,), (result,), how = op.operands, op.results, op.params["how"]
    rows, _ = _rows(s, x, op.params["axis"])
    s.set(
        result,
        _REDUCTIONS[how].format(rows) if how in _REDUCTIONS else s.helper("extreme", rows, f"'{how}'"),
    )


@writes("arg")
def _arg(s: Script, op: Operation) -> None:
    rows, _ = _rows(s, op.operands[0], op.params["axis"])
    s.set(op.results[0], s.helper("place", rows, f"'{op.params['how']}'"))


@writes("cumulate")
def _cumulate(s: Script, op: Operation) -> None:
    (x,), (result,), how = op.operands, op.results, op.params["how"]
    rows, at = _rows(s, x, op.params["axis"])
    rows = f"fliplr({rows})" if op.params["reverse"] else rows
    if how in ("max", "min"):
        found = s.helper("running", rows, f"'{how}'")
    else:
        found = f"{ {'add': 'cumsum', 'mul': 'cumprod'}[how] }({rows}, 2)".replace(" ", "", 1)
    found = f"fliplr({found})" if op.params["reverse"] else found
    s.set(result, s.viewed(f"reshape({found}, [], 1)", x.size, np.argsort(at)))


@writes("sort")
def _sort(s: Script, op: Operation) -> None:
    axis, order, key = op.params["axis"], s.name(), op.operands[0]
    rows, at = _rows(s, key, axis)
    s.line(f"[~, {order}] = sort({rows}, 2);")
    count = key.size // key.shape[axis]
    for x, result in zip(op.operands, op.results, strict=True):
        name, (matrix, _) = s.name(), _rows(s, x, axis)
        s.line(f"{name} = {matrix};")
        # The position of column j in row i is (j - 1) count + i.
        found = f"{name}(({order} - 1) * {count} + repmat((1:{count}).', 1, {key.shape[axis]}))"
        s.set(result, s.viewed(f"reshape({found}, [], 1)", x.size, np.argsort(at)))


@writes("take")
def _take(s: Script, op: Operation) -> None:
    (x, indices), (result,) = op.operands, op.results
    if x.size == 1:
        s.set(result, s.viewed(s.ref(x), 1, np.zeros(result.size)))
    elif indices.data is not None:
        s.set(result, s.viewed(s.ref(x), x.size, indices.data))
    else:
        s.set(result, f"{s.ref(x)}({s.ref(indices)} + 1)")


@writes("put")
def _put(s: Script, op: Operation) -> None:
    x, indices, updates = s.refs(op.operands)
    how = {"and": "min", "or": "max"}.get(op.params["how"], op.params["how"])
    s.set(op.results[0], s.helper("put", x, indices, updates, f"'{how}'"))


def _window(s: Script, x: Value, starts: tuple[Value, ...], sizes: tuple[int, ...]) -> str:
    """Return the index of a window of x whose starts are moved so that it lies inside."""
    at = positions(x)[tuple(map(slice, sizes))]
    found = f"({s.index(at)})" if at.size > 1 else s.index(at)
    for k, (start, n, size) in enumerate(zip(starts, x.shape, sizes, strict=True)):
        if n > size:
            stride = math.prod(x.shape[k + 1 :])
            found += f" + {stride} * min(max({s.ref(start)}, 0), {n - size})"
    return found


@writes("dynamic_slice")
def _dynamic_slice(s: Script, op: Operation) -> None:
    (x, *starts), (result,) = op.operands, op.results
    if x.size == 1:
        s.names[result] = s.ref(x)
    else:
        s.set(result, f"{s.ref(x)}({_window(s, x, tuple(starts), result.shape)})")


@writes("dynamic_update")
def _dynamic_update(s: Script, op: Operation) -> None:
    (x, update, *starts), (result,) = op.operands, op.results
    window = _window(s, x, tuple(starts), update.shape)
    s.set(result, s.ref(x))
    s.line(f"{s.names[result]}({window}) = {s.ref(update)};")


@writes("lu", "cholesky", "triangular_solve")
def _factors(s: Script, op: Operation) -> None:
    shape = op.operands[-1].shape
    count, n, m = math.prod(shape[:-2]), *shape[-2:]
    if op.kind == "lu":
        names = [s.name() for _ in op.results]
        s.line(f"[{', '.join(names)}] = {s.helper('factored', s.ref(op.operands[0]), count, n)};")
        s.names.update(zip(op.results, names, strict=True))
    elif op.kind == "cholesky":
        s.set(op.results[0], s.helper("cholesky", s.ref(op.operands[0]), count, n))
    else:
        flags = (str(bool(op.params[key])).lower() for key in ("lower", "unit"))
        s.set(op.results[0], s.helper("solved", *s.refs(op.operands), count, n, m, *flags))
