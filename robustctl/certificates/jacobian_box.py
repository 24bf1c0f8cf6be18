"""Bounds on the Jacobian of a JAX function over a box, by interval arithmetic on the operations that it is made of.

::

    f(b) - f(a) = J (b - a)     with J in [lo, hi]     for all a, b in the box

Each operation maps intervals of values and of slopes together (forward differentiation), so that no rule for a derivative that
somebody wrote is trusted, and a kink inside the box gives the hull of both slopes. A jump inside the box is refused. The box is cut
into pieces that are evaluated in parallel, and the hull of them all is returned.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from ..errors import InvalidModelError
from ..jaxprs import called, walk
from . import interval as iv
from .dual import Dual, constant
from .dual_rules import RULES, moved
from .interval import Interval

_UNBOUNDED = (
    "the Jacobian must be bounded on the box, but is not: the box contains a point where a root, a logarithm or a quotient has no slope; "
    "take a smaller box"
)


def jacobian_box(function: Callable, box: Interval, pieces: int = 256) -> Interval:
    """Return bounds on every entry of the Jacobian of a function over a box, (m, n).

    **Arguments:**

    - `function`: of an array (n,), to an array (m,); traced in float64.
    - `box`: of its argument, both ends (n,).
    - `pieces`: of the box, at most so many.

    **Raises:** `InvalidModelError` for an operation without known bounds, with its name; for a function that jumps inside the box; and for
    slopes that are not bounded on it.
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        traced = jax.make_jaxpr(function)(jnp.zeros(box.lo.shape))

        def bounds(counts: np.ndarray) -> Interval:
            return _hull_of_pieces(traced, box, counts)

        found, _ = _refined(bounds, box, pieces)
    if not (np.isfinite(found.lo).all() and np.isfinite(found.hi).all()):
        at = np.argwhere(~(np.isfinite(found.lo) & np.isfinite(found.hi)))[0].tolist()
        raise InvalidModelError(f"{_UNBOUNDED} (entry {at})")
    return found


_SMOOTH = frozenset((
    "add", "sub", "neg", "mul", "div", "dot_general", "reduce_sum", "integer_pow", "square", "sqrt", "rsqrt", "exp", "expm1", "log",
    "log1p", "sin", "cos", "tan", "tanh", "logistic", "atan", "sinh", "cosh", "convert_element_type", "copy", "copy_p", "scan",
    "pjit", "jit", "closed_call", "reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "slice", "gather", "rev",
    "concatenate", "stack", "unstack", "split", "dynamic_slice",
))  # fmt: skip
"""Operations that have derivatives of any order where they have values, and whose derivative in JAX is the true one."""


class MeanSlopes(NamedTuple):
    """Bounds on slopes from the middle of a box, `J = middle + sum_l curvature_l dz_l / 2` to within `half`.

    **Arguments:**

    - `middle`: (m, n).
    - `curvature`: (m, n, n), zero for a function that may have no second derivatives.
    - `half`: (m, n).
    """

    middle: np.ndarray
    curvature: np.ndarray
    half: np.ndarray


def mean_slopes(function: Callable, box: Interval, n: int, pieces: int = 64, levels: int = 4) -> MeanSlopes:
    """Return bounds on the mean slopes between the middle c of a box and its other points.

    ::

        f(c + dz) - f(c) = J dz,    J = integral of f'(c + t dz) over 0 <= t <= 1

    The integral is at most the mean of bounds on boxes of 1/levels, 2/levels, ... of the size. Of a function with second derivatives what
    changes in proportion to dz is taken out first, as `curvature`.

    **Arguments:**

    - `function`: as for `jacobian_box`.
    - `box`: of its argument.
    - `n`: the first n variables move from the middle; the others may be anywhere in their interval all the time.
    - `pieces`: of each box, at most so many.
    - `levels`: number of boxes.

    **Raises:** same errors as `jacobian_box`.
    """
    m, c = jacobian_box(function, box, 1).lo.shape[0], (box.lo + box.hi) / 2
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        traced: Any = jax.make_jaxpr(function)(jnp.zeros(c.size))
        counts = _refined(lambda k: _hull_of_pieces(traced, box, k), box, pieces)[1]
        slopes: Any = jax.make_jaxpr(lambda z: jax.jacfwd(function)(z).ravel())(jnp.zeros(c.size))
        try:
            H = (
                _curvature(slopes, box, counts, n).reshape(m, c.size, c.size)
                if _is_smooth(traced.jaxpr)
                else None
            )
        except InvalidModelError:
            H = None
        found = []
        for k in range(levels):
            part = _shrunk(box, n, (k + 1) / levels)
            if H is None:
                found.append(_hull_of_pieces(traced, part, counts))
            else:
                found.append(_without_curvature(slopes, part, counts, H))
    lo, hi = (np.mean([end[:, :n] for end in ends], axis=0) for ends in zip(*found, strict=True))
    H = np.zeros((m, n, n)) if H is None else H[:, :n, :n]
    middle = lo / 2 + hi / 2
    # The few sums above round by less than this
    size = np.abs(middle) + np.abs(H) @ (box.hi - box.lo)[:n]
    exact = lo == hi
    half = np.where(exact, 0.0, (hi - lo) / 2 * (1 + 1e-9) + 1e-14 * size)
    if not np.isfinite(half).all():
        raise InvalidModelError(_UNBOUNDED)
    return MeanSlopes(middle, H, half)


def _shrunk(box: Interval, n: int, part: float) -> Interval:
    c, share = (box.lo + box.hi) / 2, np.where(np.arange(box.lo.size) < n, part, 1.0)
    return Interval(c - (c - box.lo) * share, c + (box.hi - c) * share)


def _curvature(slopes: Any, box: Interval, counts: np.ndarray, n: int) -> np.ndarray:
    """Return the middle of the second derivatives over a box, (m n, n), zero for variables that do not start in the middle."""
    H = _pieces_of_slopes(slopes, _divided(box, counts))
    lo, hi = H.lo.min(0), H.hi.max(0)
    if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
        raise InvalidModelError(_UNBOUNDED)
    return (lo / 2 + hi / 2) * (np.arange(lo.shape[1]) < n)


def _pieces_of_slopes(slopes: Any, pieces: Interval) -> Interval:
    """Return bounds on the derivatives of all slopes on each piece, (pieces, m n, n)."""
    n = pieces.lo.shape[1]
    (out,) = run(slopes, [Dual(pieces, iv.thin(np.eye(n)[None]))])
    if out.slope is None:
        return iv.thin(np.zeros((1, out.shape[0], n)))
    return out.slope.map(lambda a: a.transpose(0, 2, 1))


def _without_curvature(slopes: Any, box: Interval, counts: np.ndarray, H: np.ndarray) -> Interval:
    """Return bounds on `f'(z) - H (z - c)` over a box: on each piece from its middle, where it is a number."""
    pieces, c = _divided(box, counts), (box.lo + box.hi) / 2
    m, n, _ = H.shape
    at, reach = (pieces.lo + pieces.hi) / 2, (pieces.hi - pieces.lo) / 2 * (1 + 1e-12)
    (values,) = run(slopes, [Dual(iv.thin(at))])
    rest = _pieces_of_slopes(slopes, pieces)
    off = np.maximum(np.abs(rest.lo - H.reshape(-1, n)), np.abs(rest.hi - H.reshape(-1, n)))
    # 0 times infinity where a variable does not move
    off = np.where(reach[:, None] > 0, off * reach[:, None], 0.0).sum(-1)
    moved = np.einsum("kn,pn->pk", H.reshape(-1, n), at - c)
    lo, hi = values.value.lo - moved - off, values.value.hi - moved + off
    return Interval(lo.min(0).reshape(m, n), hi.max(0).reshape(m, n))


def _is_smooth(jaxpr: Any) -> bool:
    inner = [e.params["jaxpr"] if e.primitive.name == "scan" else called(e) for e in jaxpr.eqns]
    return all(e.primitive.name in _SMOOTH for e in jaxpr.eqns) and all(
        _is_smooth(closed.jaxpr) for closed in inner if closed is not None
    )


def _refined(
    bounds: Callable[[np.ndarray], Interval], box: Interval, pieces: int
) -> tuple[Interval, np.ndarray]:
    """Halve the pieces along the variable that narrows the bounds most; return the bounds and the pieces of each variable."""
    counts = np.ones(box.lo.size, int)
    found = bounds(counts)
    scale = box.hi - box.lo
    matters = [k for k in np.flatnonzero(scale > 0)]
    while 2 * counts.prod() <= pieces and matters:
        finer = []
        for k in matters:
            halved = counts.copy()
            halved[k] *= 2
            finer.append((halved, bounds(halved)))
        widths = [_width(each, scale) for _, each in finer]
        best = int(np.argmin(widths))
        # A variable that narrows nothing now seldom does later
        matters = [k for k, w in zip(matters, widths, strict=True) if w < _width(found, scale) * (1 - 1e-6)]
        if not widths[best] < _width(found, scale) * (1 - 1e-3):
            break
        counts, found = finer[best]
    return found, counts


def _width(bounds: Interval, scale: np.ndarray) -> float:
    """Return what a deviation over the box can be uncertain by, row by row relative to what it can be."""
    with np.errstate(all="ignore"):
        size = (np.maximum(np.abs(bounds.lo), np.abs(bounds.hi)) * scale).sum(1, keepdims=True)
        share = (bounds.hi - bounds.lo) * scale / np.where(size > 0, size, 1.0)
        # An unbounded row counts as a million times what it can be, so that any bounded one is preferred.
        return float(np.nan_to_num(share, nan=1e6, posinf=1e6).sum())


def _hull_of_pieces(traced: Any, box: Interval, counts: np.ndarray) -> Interval:
    n = box.lo.size
    (out,) = run(traced, [Dual(_divided(box, counts), iv.thin(np.eye(n)[None]))])
    if out.slope is None:
        zeros = np.zeros((*out.value.lo.shape[1:], n))
        return Interval(zeros, zeros)
    return Interval(out.slope.lo.min(0).T, out.slope.hi.max(0).T)


def _divided(box: Interval, counts: np.ndarray) -> Interval:
    """Return the pieces of a box, (pieces, n)."""
    edges = [np.linspace(lo, hi, c + 1) for lo, hi, c in zip(*box, counts, strict=True)]
    ends = ([e[:-1] for e in edges], [e[1:] for e in edges])
    return Interval(
        *(np.stack(np.meshgrid(*each, indexing="ij"), -1).reshape(-1, box.lo.size) for each in ends)
    )


def value_box(function: Callable, box: Interval) -> Interval:
    """Return bounds on the values of a function over a box; same arguments and errors as `jacobian_box`."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        traced: Any = jax.make_jaxpr(function)(jnp.zeros(box.lo.shape))
        (out,) = run(traced, [Dual(box.map(lambda a: a[None]), None)])
    return out.value.map(lambda a: a[0])


def run(traced: ClosedJaxpr, args: list[Dual]) -> list[Dual]:
    """Return the outputs of a traced program for values and slopes in intervals."""
    return walk(traced, args, _equation, constant)


def _equation(equation: Any, args: list[Dual]) -> list[Dual]:
    name = equation.primitive.name
    if (inner := called(equation)) is not None:
        return run(inner, args)
    if name == "scan":
        return _scan(equation.params, args)
    if name == "cond":
        return _cond(equation.params, args)
    if name in ("eq", "ne") and equation.invars[0] is equation.invars[1]:
        # How JAX asks whether a number is none: bounded values are
        return [constant(np.full(args[0].shape, name == "eq"))]
    if name in RULES:
        return [RULES[name](equation.params, *args)]
    if all(a.fixed for a in args):
        # Of numbers that are no variables the operation itself is the truth, whatever it is
        values = [
            jnp.asarray(a.value.lo[0], v.aval.dtype) for a, v in zip(args, equation.invars, strict=True)
        ]
        found = equation.primitive.bind(*values, **equation.params)
        return [constant(a) for a in (found if equation.primitive.multiple_results else [found])]
    if (outs := moved(equation, args)) is not None:
        return outs
    raise InvalidModelError(
        f"the equations must be of operations whose slopes can be bounded, got {name}; known are {', '.join(sorted(RULES))}"
        f"{'; use steps of a fixed size' if name == 'while' else ''}"
    )


def _scan(params: dict, args: list[Dual]) -> list[Dual]:
    consts, carried = params["num_consts"], params["num_carry"]
    fixed, carry, sequences = args[:consts], args[consts : consts + carried], args[consts + carried :]
    inner, collected = params["jaxpr"], []
    order = range(params["length"])
    for t in reversed(order) if params["reverse"] else order:
        outs = run(inner, [*fixed, *carry, *(s.at(t) for s in sequences)])
        carry = outs[:carried]
        collected.append(outs[carried:])
    if collected and collected[0]:
        raise InvalidModelError(
            "the equations must not collect values of a loop that depend on the state, got a scan with outputs"
        )
    return carry


def _cond(params: dict, args: list[Dual]) -> list[Dual]:
    which, *rest = args
    if not which.fixed:
        raise InvalidModelError(
            "the equations must not switch between programs inside the box, got a cond that depends on the state"
        )
    branch = params["branches"][int(np.clip(which.value.lo[0], 0, len(params["branches"]) - 1))]
    return run(branch, rest)
