"""ONNX of arithmetic: what acts entry by entry. Functions that ONNX lacks are made of those it has."""

import math

import numpy as np

from ..runtime.program import BINARY, COMPARE, UNARY, Operation
from .onnx_graph import Graph, adds

_SAME = {
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "tan": "Tan",
    "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "asinh": "Asinh", "acosh": "Acosh",
    "atanh": "Atanh", "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "round_even": "Round", "not": "Not", "add": "Add", "sub": "Sub",
    "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow", "and": "And", "or": "Or", "xor": "Xor", "eq": "Equal",
    "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
}  # fmt: skip


@adds(*UNARY, *BINARY, *COMPARE)
def _entries(g: Graph, op: Operation) -> None:
    (result,), x = op.results, g.refs(op.operands)
    dtype = op.operands[0].dtype
    if op.kind in COMPARE and dtype == "bool" and op.kind not in ("eq", "ne"):
        x = [g.add("Cast", each, to=g.kind("int32")) for each in x]
    if op.kind in ("div", "rem") and dtype != "float":
        g.names[result] = _divided(g, op.kind, x, dtype)
    elif op.kind in _MADE:
        g.names[result] = _MADE[op.kind](g, x)
    else:
        g.names[result] = g.add(_SAME[op.kind], *x)


def _number(g: Graph, x: float) -> str:
    return g.constant(x, "float")


def _exp2(g: Graph, x: list[str]) -> str:
    return g.add("Pow", _number(g, 2), x[0])


def _expm1(g: Graph, x: list[str]) -> str:
    """tanh(x / 2) (exp(x) + 1), exact near zero too."""
    half = g.add("Tanh", g.add("Mul", x[0], _number(g, 0.5)))
    return g.add("Mul", half, g.add("Add", g.add("Exp", x[0]), _number(g, 1)))


def _log1p(g: Graph, x: list[str]) -> str:
    """log(1 + x), corrected for what the sum rounded away where x is small."""
    one = _number(g, 1)
    total = g.add("Add", x[0], one)
    log = g.add("Log", total)
    kept = g.add("Sub", total, one)
    lost = g.add("Equal", kept, _number(g, 0))
    small = g.add("Mul", log, g.add("Div", x[0], g.add("Where", lost, one, kept)))
    near = g.add("Where", lost, x[0], small)
    return g.add("Where", g.add("Greater", x[0], one), log, near)


def _cbrt(g: Graph, x: list[str]) -> str:
    root = g.add("Pow", g.add("Abs", x[0]), _number(g, 1 / 3))
    return g.add("Mul", g.add("Sign", x[0]), root)


def _erfc(g: Graph, x: list[str]) -> str:
    return g.add("Sub", _number(g, 1), g.add("Erf", x[0]))


def _round(g: Graph, x: list[str]) -> str:
    """To the nearest, halves away from zero."""
    size = g.add("Abs", x[0])
    low = g.add("Floor", size)
    up = g.add("GreaterOrEqual", g.add("Sub", size, low), _number(g, 0.5))
    up = g.add("Where", up, _number(g, 1), _number(g, 0))
    return g.add("Mul", g.add("Sign", x[0]), g.add("Add", low, up))


def _is_finite(g: Graph, x: list[str]) -> str:
    return g.add("Not", g.add("Or", g.add("IsInf", x[0]), g.add("IsNaN", x[0])))


def _atan2(g: Graph, x: list[str]) -> str:
    """The angle of (b, a), but for the sign of zeros."""
    a, b = x
    zero, pi = _number(g, 0), _number(g, math.pi)
    upright = g.add("Equal", b, zero)
    angle = g.add("Atan", g.add("Div", a, g.add("Where", upright, _number(g, 1), b)))
    turn = g.add("Where", g.add("Less", a, zero), g.add("Neg", pi), pi)
    left = g.add("Where", g.add("Less", b, zero), g.add("Add", angle, turn), angle)
    quarter = g.add("Mul", g.add("Sign", a), _number(g, math.pi / 2))
    return g.add("Where", upright, quarter, left)


def _rem(g: Graph, x: list[str]) -> str:
    return g.add("Mod", *x, fmod=1)


def _ne(g: Graph, x: list[str]) -> str:
    return g.add("Not", g.add("Equal", *x))


_MADE = {
    "exp2": _exp2, "expm1": _expm1, "log1p": _log1p, "cbrt": _cbrt, "erfc": _erfc, "round": _round, "is_finite": _is_finite,
    "atan2": _atan2, "rem": _rem, "ne": _ne,
}  # fmt: skip


def _divided(g: Graph, kind: str, x: list[str], dtype: str) -> str:
    """Return a quotient or remainder of integers, truncated; by 0 as JAX has it, since a processor would stop."""
    a, b = x
    zero, one, minus = (g.constant(n, dtype) for n in (0, 1, -1))
    nothing, flips = g.add("Equal", b, zero), g.add("Equal", b, minus)
    safe = g.add("Where", g.add("Or", nothing, flips), one, b)
    if kind == "div":
        found = g.add("Where", flips, g.add("Neg", a), g.add("Div", a, safe))
        return g.add("Where", nothing, minus, found)
    return g.add("Where", nothing, a, g.add("Mod", a, safe, fmod=1))


@adds("select")
def _select(g: Graph, op: Operation) -> None:
    which, x, y = g.refs(op.operands)
    g.names[op.results[0]] = chosen(g, which, x, y, op.results[0].dtype)


def chosen(g: Graph, which: str, x: str, y: str, dtype: str) -> str:
    """Return x where `which`, else y."""
    if dtype != "bool":
        return g.add("Where", which, x, y)
    return g.add("Or", g.add("And", which, x), g.add("And", g.add("Not", which), y))


@adds("convert")
def _convert(g: Graph, op: Operation) -> None:
    (x,), (result,) = op.operands, op.results
    new = result.dtype
    if x.dtype == "float" and new == "bool":
        g.names[result] = g.add("Not", g.add("Equal", g.ref(x), _number(g, 0)))
    elif x.dtype == "float":
        g.names[result] = _truncated(g, g.ref(x), new)
    else:
        g.names[result] = g.add("Cast", g.ref(x), to=g.kind(new))


@adds("rescale")
def _rescale(g: Graph, op: Operation) -> None:
    shift, limit = op.params["shift"], op.params["limit"]

    def number(n: int) -> str:
        return g.constant(n, "int64")

    x = g.add("Cast", g.ref(op.operands[0]), to=g.kind("int64"))
    size = g.add("Abs", x)
    if shift > 0:
        size = g.add("Div", g.add("Add", size, number(1 << (shift - 1))), number(1 << shift))
    else:
        # Already above the limit, and small enough to be multiplied.
        most = number((limit >> -shift) + 1)
        size = g.add("Mul", g.add("Min", size, most), number(1 << -shift))
    found = g.add("Mul", g.add("Sign", x), g.add("Min", size, number(limit)))
    g.names[op.results[0]] = g.add("Cast", found, to=g.kind("int32"))


def _truncated(g: Graph, x: str, dtype: str) -> str:
    """Return floats as integers: too large ones as the largest, NaN as 0."""
    ends, real = np.iinfo(dtype), g.dtypes["float"].type
    limit = float(ends.max) + 1.0  # a power of two, in every format of floats
    below, above = g.add("Less", x, _number(g, -limit)), g.add("GreaterOrEqual", x, _number(g, limit))
    out = g.add("Or", g.add("Or", below, above), g.add("IsNaN", x))
    inside = g.add("Cast", g.add("Where", out, g.constant(real(0), "float"), x), to=g.kind(dtype))
    low = g.add("Where", below, g.constant(ends.min, dtype), inside)
    return g.add("Where", above, g.constant(ends.max, dtype), low)
