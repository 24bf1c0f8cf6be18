"""How each operation maps intervals of values and slopes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..errors import InvalidModelError
from . import interval as iv
from .dual import Dual, aligned, constant, scaled, summed, zeros_where_none
from .interval import Interval

_ONE = iv.thin(np.asarray(1.0))


def _unary(function: Callable[[Interval], Interval], slope: Callable[[Interval, Interval], Interval]):
    """Return the rule of a function of one number whose slope is `slope(value, function(value))`."""

    def rule(params: dict, a: Dual, **_) -> Dual:
        out = function(a.value)
        return Dual(out, None if a.slope is None else scaled(a.slope, slope(a.value, out)))

    return rule


def _add(params: dict, a: Dual, b: Dual) -> Dual:
    a, b = aligned(a, b)
    # A number added to an array keeps its slopes, in the array's shape
    return _broadcast(Dual(iv.add(a.value, b.value), summed(a.slope, b.slope)))


def _broadcast(a: Dual) -> Dual:
    """Return slopes in the shape of the value."""
    if a.slope is None or a.slope.lo.shape[2:] == a.shape:
        return a
    shape = (*a.slope.lo.shape[:2], *a.shape)
    return Dual(a.value, a.slope.map(lambda s: np.broadcast_to(s, shape)))


def _neg(params: dict, a: Dual) -> Dual:
    return Dual(iv.neg(a.value), None if a.slope is None else iv.neg(a.slope))


def _sub(params: dict, a: Dual, b: Dual) -> Dual:
    return _add(params, a, _neg(params, b))


def _mul(params: dict, a: Dual, b: Dual) -> Dual:
    a, b = aligned(a, b)
    slope = summed(scaled(a.slope, b.value), scaled(b.slope, a.value))
    return _broadcast(Dual(iv.mul(a.value, b.value), slope))


def _div(params: dict, a: Dual, b: Dual) -> Dual:
    a, b = aligned(a, b)
    out = iv.div(a.value, b.value)
    # (a / b)' = (a' - (a / b) b') / b
    inner = summed(a.slope, scaled(b.slope, iv.neg(out)))
    return _broadcast(Dual(out, scaled(inner, iv.reciprocal(b.value))))


def _power(params: dict, a: Dual) -> Dual:
    n = params["y"]
    return _unary(
        lambda v: iv.power(v, n), lambda v, out: iv.mul(iv.thin(np.asarray(float(n))), iv.power(v, n - 1))
    )(params, a)


def _pow(params: dict, a: Dual, b: Dual) -> Dual:
    """`a^b = exp(b log a)` of a positive a, and a whole number b as products."""
    whole = b.fixed and np.all(b.value.lo == np.round(b.value.lo)) and np.unique(b.value.lo).size == 1
    if whole:
        return _power({"y": int(b.value.lo.flat[0])}, a)
    return _exp(params, _mul(params, b, _log(params, a)))


_exp = _unary(iv.exp, lambda v, out: out)
_log = _unary(iv.log, lambda v, out: iv.reciprocal(v))


def _half_reciprocal(v: Interval, out: Interval) -> Interval:
    return iv.mul(iv.thin(np.asarray(0.5)), iv.reciprocal(out))


def _one_minus_square(v: Interval, out: Interval) -> Interval:
    found = iv.sub(_ONE, iv.square(out))
    return Interval(np.maximum(found.lo, 0.0), np.minimum(found.hi, 1.0))


def _logistic_slope(v: Interval, out: Interval) -> Interval:
    found = iv.mul(out, iv.sub(_ONE, out))
    return Interval(np.maximum(found.lo, 0.0), np.minimum(found.hi, 0.25))


def _tan(v: Interval) -> Interval:
    cos = iv.cos(v)
    # Between two poles tan increases; a cosine that may be zero is a pole
    ends = iv.increasing(np.tan)(v)
    pole = (cos.lo <= 0) & (cos.hi >= 0) | (v.hi - v.lo >= 3.0)
    return Interval(np.where(pole, -np.inf, ends.lo), np.where(pole, np.inf, ends.hi))


def _sign_slope(v: Interval, out: Interval) -> Interval:
    return Interval(np.where(v.lo >= 0, 1.0, -1.0), np.where(v.hi <= 0, -1.0, 1.0))


def _steps(function: Callable):
    """Return the rule of a function that is constant between jumps."""

    def rule(params: dict, a: Dual) -> Dual:
        out = a.value.map(function)
        if not out.thin:
            raise InvalidModelError(
                f"the equations must not jump inside the box, got {function.__name__} of a signal that passes a jump; take a smaller box, "
                "or write a smooth function, tanh(v / width) in place of sign(v)"
            )
        return Dual(out)

    return rule


def _extremum(function: Callable, first: Callable[[Interval, Interval], np.ndarray]):
    """Return the rule of the larger or smaller of two numbers; `first`: where it surely is the first one."""

    def rule(params: dict, a: Dual, b: Dual) -> Dual:
        a, b = aligned(a, b)
        out = function(a.value, b.value)
        slopes = zeros_where_none([a.slope, b.slope])
        if slopes is None:
            return Dual(out)
        one, other = slopes
        surely, never = (w[:, None] for w in (first(a.value, b.value), first(b.value, a.value)))
        slope = iv.choose(surely, one, iv.choose(never, other, iv.hull([one, other])))
        return _broadcast(Dual(out, slope))

    return rule


_max = _extremum(iv.maximum, lambda a, b: a.lo >= b.hi)
_min = _extremum(iv.minimum, lambda a, b: a.hi <= b.lo)


def _clamp(params: dict, low: Dual, a: Dual, high: Dual) -> Dual:
    return _min(params, _max(params, a, low), high)


def _compare(surely: Callable[[Interval, Interval], np.ndarray], possibly: Callable):
    def rule(params: dict, a: Dual, b: Dual) -> Dual:
        a, b = aligned(a, b)
        return Dual(Interval(surely(a.value, b.value), possibly(a.value, b.value)))

    return rule


def _same(a: Interval, b: Interval) -> np.ndarray:
    return (a.lo == a.hi) & (b.lo == b.hi) & (a.lo == b.lo)


def _overlap(a: Interval, b: Interval) -> np.ndarray:
    return (a.lo <= b.hi) & (b.lo <= a.hi)


def _logical(function: Callable):
    def rule(params: dict, a: Dual, b: Dual) -> Dual:
        a, b = aligned(a, b)
        return Dual(Interval(function(a.value.lo, b.value.lo), function(a.value.hi, b.value.hi)))

    return rule


def _not(params: dict, a: Dual) -> Dual:
    return Dual(Interval(~a.value.hi, ~a.value.lo))


def _select(params: dict, condition: Dual, *given: Dual) -> Dual:
    if not condition.value.thin:
        raise InvalidModelError(
            "the equations must not switch between formulas inside the box, got a where whose condition depends on the state there; take a "
            "smaller box, or write the switch as a maximum, minimum or clip, whose slopes have bounds"
        )
    which, *cases = aligned(condition, *given)
    number = np.asarray(which.value.lo, int)
    value, slopes = cases[0].value, zeros_where_none([c.slope for c in cases])
    slope = None if slopes is None else slopes[0]
    for k, case in enumerate(cases[1:], 1):
        value = iv.choose(number == k, case.value, value)
        if slopes is not None and slope is not None:
            slope = iv.choose((number == k)[:, None], slopes[k], slope)
    return _broadcast(Dual(value, slope))


def _same_number(params: dict, a: Dual, *_: Dual) -> Dual:
    return a


def _converted(params: dict, a: Dual) -> Dual:
    dtype = np.dtype(params["new_dtype"])
    narrower = np.issubdtype(dtype, np.floating) and dtype.itemsize < 8
    if narrower and a.slope is not None:
        raise InvalidModelError(
            f"the equations must compute in the precision of the state, got a conversion to {dtype}"
        )
    if not np.issubdtype(dtype, np.floating) and not a.value.thin:
        raise InvalidModelError(
            f"the equations must not round to whole numbers inside the box, got a conversion to {dtype}"
        )
    return Dual(a.value.map(lambda v: v.astype(dtype)), a.slope)


def _reduce_sum(params: dict, a: Dual) -> Dual:
    axes = tuple(params["axes"])
    value = iv.total(a.value, tuple(k + 1 for k in axes))
    return Dual(value, None if a.slope is None else iv.total(a.slope, tuple(k + 2 for k in axes)))


def _dot(params: dict, a: Dual, b: Dual) -> Dual:
    """A product of arrays as the sum of products, in the layout (batch, rows of a, columns of b, contracted)."""
    (ca, cb), (ba, bb) = params["dimension_numbers"]
    fa = [k for k in range(len(a.shape)) if k not in (*ca, *ba)]
    fb = [k for k in range(len(b.shape)) if k not in (*cb, *bb)]
    batch, contracted = [a.shape[k] for k in ba], [a.shape[k] for k in ca]
    one = _transposed(a, [*ba, *fa, *ca]).reshaped(
        (*batch, *(a.shape[k] for k in fa), *[1] * len(fb), *contracted)
    )
    two = _transposed(b, [*bb, *fb, *cb]).reshaped(
        (*batch, *[1] * len(fa), *(b.shape[k] for k in fb), *contracted)
    )
    product = _mul(params, one, two)
    first = len(product.shape) - len(contracted)
    return _reduce_sum({"axes": range(first, len(product.shape))}, product)


def _transposed(a: Dual, order: list[int]) -> Dual:
    value = a.value.map(lambda v: v.transpose(0, *(k + 1 for k in order)))
    if a.slope is None:
        return Dual(value)
    return Dual(value, a.slope.map(lambda v: v.transpose(0, 1, *(k + 2 for k in order))))


RULES: dict[str, Callable[..., Dual]] = {
    "add": _add, "add_any": _add, "sub": _sub, "neg": _neg, "mul": _mul, "div": _div, "dot_general": _dot, "reduce_sum": _reduce_sum,
    "integer_pow": _power, "pow": _pow, "square": lambda params, a: _power({"y": 2}, a),
    "sqrt": _unary(iv.sqrt, _half_reciprocal),
    "rsqrt": lambda params, a: _div(params, constant(1.0), RULES["sqrt"](params, a)),
    "exp": _exp, "log": _log,
    "expm1": _unary(iv.expm1, lambda v, out: iv.exp(v)),
    "log1p": _unary(iv.log1p, lambda v, out: iv.reciprocal(iv.add(_ONE, v))),
    "sin": _unary(iv.sin, lambda v, out: iv.cos(v)), "cos": _unary(iv.cos, lambda v, out: iv.neg(iv.sin(v))),
    "tan": _unary(_tan, lambda v, out: iv.add(_ONE, iv.square(out))),
    "tanh": _unary(iv.tanh, _one_minus_square), "logistic": _unary(iv.logistic, _logistic_slope),
    "atan": _unary(iv.arctan, lambda v, out: iv.reciprocal(iv.add(_ONE, iv.square(v)))),
    "sinh": _unary(iv.sinh, lambda v, out: iv.cosh(v)), "cosh": _unary(iv.cosh, lambda v, out: iv.sinh(v)),
    "abs": _unary(iv.absolute, _sign_slope), "max": _max, "min": _min, "clamp": _clamp,
    "sign": _steps(np.sign), "floor": _steps(np.floor), "ceil": _steps(np.ceil), "round": _steps(np.round),
    "lt": _compare(lambda a, b: a.hi < b.lo, lambda a, b: a.lo < b.hi),
    "le": _compare(lambda a, b: a.hi <= b.lo, lambda a, b: a.lo <= b.hi),
    "gt": _compare(lambda a, b: a.lo > b.hi, lambda a, b: a.hi > b.lo),
    "ge": _compare(lambda a, b: a.lo >= b.hi, lambda a, b: a.hi >= b.lo),
    "eq": _compare(_same, _overlap), "ne": _compare(lambda a, b: ~_overlap(a, b), lambda a, b: ~_same(a, b)),
    "and": _logical(np.logical_and), "or": _logical(np.logical_or), "not": _not, "select_n": _select,
    "stop_gradient": _same_number, "copy": _same_number, "copy_p": _same_number, "optimization_barrier": _same_number,
    "reduce_precision": _same_number, "convert_element_type": _converted,
}  # fmt: skip
"""The rule of each operation, `rule(params, *args)`."""

_MOVES = {
    "reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "slice", "dynamic_slice", "gather", "rev", "concatenate",
    "stack", "pad", "split", "scatter", "unstack",
}  # fmt: skip
"""Operations that only move elements; the second number counts the arguments that hold elements, None for all."""

_ELEMENTS = {"dynamic_slice": 1, "gather": 1}


def moved(equation: Any, args: list[Dual]) -> list[Dual] | None:
    """Return the outputs of an operation that only moves elements: it is done to their numbers, which show where each came from."""
    name = equation.primitive.name
    if name not in _MOVES:
        return None
    elements = [
        k for k in range(len(args)) if k < _ELEMENTS.get(name, len(args)) and (name, k) != ("scatter", 1)
    ]
    if not all(args[k].fixed for k in range(len(args)) if k not in elements):
        raise InvalidModelError(
            f"the equations must read fixed positions, got a {name} whose position depends on the state"
        )
    sizes = [int(np.prod(args[k].shape)) for k in elements]
    starts = dict(zip(elements, np.cumsum([0, *sizes[:-1]]), strict=True))
    inputs = [
        np.arange(int(np.prod(a.shape))).reshape(a.shape) + starts[k] if k in starts else a.value.lo[0]
        for k, a in enumerate(args)
    ]
    found = equation.primitive.bind(*(jnp.asarray(a) for a in inputs), **equation.params)
    found = found if equation.primitive.multiple_results else [found]
    return [_picked([args[k] for k in elements], np.asarray(index)) for index in found]


def _picked(args: list[Dual], index: np.ndarray) -> Dual:
    """Return the elements at positions in all arrays, one after the other."""
    if np.any((index < 0) | (index >= sum(int(np.prod(a.shape)) for a in args))):
        raise InvalidModelError("the equations must read positions that exist, got one outside of its array")
    pieces = max(len(a.value.lo) for a in args)
    value = Interval(*(
        np.concatenate([np.broadcast_to(end, (pieces, *a.shape)).reshape(pieces, -1) for a, end in ends], 1)[:, index]
        for ends in ([(a, a.value.lo) for a in args], [(a, a.value.hi) for a in args])
    ))  # fmt: skip
    slopes = zeros_where_none([a.slope for a in args])
    if slopes is None:
        return Dual(value)
    n, pieces = max(s.lo.shape[1] for s in slopes), max(len(s.lo) for s in slopes)

    def flat(a: Dual, end: np.ndarray) -> np.ndarray:
        end = end.reshape(end.shape[:2] + (1,) * (len(a.shape) - end.ndim + 2)) if end.size == 1 else end
        return np.broadcast_to(end, (pieces, n, *a.shape)).reshape(pieces, n, -1)

    both = [np.concatenate([flat(a, s[e]) for a, s in zip(args, slopes, strict=True)], 2) for e in (0, 1)]
    return Dual(value, Interval(*(end[:, :, index] for end in both)))
