"""Bounds on the Jacobian of a JAX function over a box, by interval arithmetic on the operations that it is made of.

::

    f(b) - f(a) = J (b - a)     with J in [lo, hi]     for all a, b in the box

Each operation maps intervals of values and of slopes together (forward differentiation), so that no rule for a derivative that
somebody wrote is trusted, and a kink inside the box gives the hull of both slopes. A jump inside the box is refused. The box is cut
into pieces that are evaluated side by side, and the hull of them all is returned.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from ..errors import ModelError
from .dual import Dual, constant
from .dual_rules import RULES, moved
from .interval import Interval

_CALLS = {
    "pjit": "jaxpr", "jit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
    "custom_lin": "call_jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr",
}  # fmt: skip
"""Operations that call another program, and the name of that program; the rules for derivatives beside it are not read."""


def jacobian_box(function: Callable, box: Interval, pieces: int = 256) -> Interval:
    """Return bounds on every entry of the Jacobian of a function over a box, (m, n).

    **Arguments:**

    - `function`: of an array (n,), to an array (m,); traced in float64.
    - `box`: of its argument, both ends (n,).
    - `pieces`: of the box, at most so many.

    **Raises:** `ModelError` for an operation without known bounds, with its name; for a function that jumps inside the box; and for
    slopes that are not bounded on it.
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        traced = jax.make_jaxpr(function)(jnp.zeros(box.lo.shape))

        def bounds(counts: np.ndarray) -> Interval:
            return _hull_of_pieces(traced, box, counts)

        found = _refined(bounds, box, pieces)
    if not (np.isfinite(found.lo).all() and np.isfinite(found.hi).all()):
        at = np.argwhere(~(np.isfinite(found.lo) & np.isfinite(found.hi)))[0].tolist()
        raise ModelError(
            f"the Jacobian must be bounded on the box, but its entry {at} is not: the box contains a point where a root, a logarithm or a "
            "quotient has no slope; take a smaller box"
        )
    return found


_SMOOTH = frozenset((
    "add", "sub", "neg", "mul", "div", "dot_general", "reduce_sum", "integer_pow", "square", "sqrt", "rsqrt", "exp", "expm1", "log",
    "log1p", "sin", "cos", "tan", "tanh", "logistic", "atan", "sinh", "cosh", "convert_element_type", "copy", "copy_p", "scan",
    "pjit", "jit", "closed_call", "reshape", "broadcast_in_dim", "squeeze", "expand_dims", "transpose", "slice", "gather", "rev",
    "concatenate", "stack", "unstack", "split", "dynamic_slice",
))  # fmt: skip
"""Operations that have derivatives of any order where they have values, and whose derivative in JAX is the true one."""


def curvature_box(function: Callable, box: Interval, pieces: int = 64) -> Interval | None:
    """Return bounds on the second derivatives of a function over a box, (m, n, n); None where it may have none.

    Arguments as of `jacobian_box`.
    """
    n = box.lo.size
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        traced: Any = jax.make_jaxpr(function)(jnp.zeros(n))
    if not _is_smooth(traced.jaxpr):
        return None
    try:
        found = jacobian_box(lambda z: jax.jacfwd(function)(z).ravel(), box, pieces)
    except ModelError:
        return None
    return found.map(lambda a: a.reshape(-1, n, n))


def _is_smooth(jaxpr: Any) -> bool:
    inner = [getattr(p, "jaxpr", None) for equation in jaxpr.eqns for p in equation.params.values()]
    return all(e.primitive.name in _SMOOTH for e in jaxpr.eqns) and all(
        _is_smooth(j) for j in inner if j is not None
    )


def _refined(bounds: Callable[[np.ndarray], Interval], box: Interval, pieces: int) -> Interval:
    """Halve the pieces along the variable that narrows the bounds most, until there are as many as allowed."""
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
    return found


def _width(bounds: Interval, scale: np.ndarray) -> float:
    """Return what a deviation over the box can be uncertain by, row by row relative to what it can be."""
    with np.errstate(all="ignore"):
        size = (np.maximum(np.abs(bounds.lo), np.abs(bounds.hi)) * scale).sum(1, keepdims=True)
        share = (bounds.hi - bounds.lo) * scale / np.where(size > 0, size, 1.0)
        return float(np.nan_to_num(share, nan=1e6, posinf=1e6).sum())


def _hull_of_pieces(traced: Any, box: Interval, counts: np.ndarray) -> Interval:
    n = box.lo.size
    edges = [np.linspace(lo, hi, c + 1) for lo, hi, c in zip(*box, counts, strict=True)]
    lows = np.stack(np.meshgrid(*(e[:-1] for e in edges), indexing="ij"), -1).reshape(-1, n)
    highs = np.stack(np.meshgrid(*(e[1:] for e in edges), indexing="ij"), -1).reshape(-1, n)
    seeds = Interval(np.eye(n)[None], np.eye(n)[None])
    (out,) = run(traced.jaxpr, traced.consts, [Dual(Interval(lows, highs), seeds)])
    if out.slope is None:
        zeros = np.zeros((*out.value.lo.shape[1:], n))
        return Interval(zeros, zeros)
    return Interval(out.slope.lo.min(0).T, out.slope.hi.max(0).T)


def value_box(function: Callable, box: Interval) -> Interval:
    """Return bounds on the values of a function over a box; arguments and errors as of `jacobian_box`."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        traced: Any = jax.make_jaxpr(function)(jnp.zeros(box.lo.shape))
        (out,) = run(traced.jaxpr, traced.consts, [Dual(box.map(lambda a: a[None]), None)])
    return out.value.map(lambda a: a[0])


def run(jaxpr: Any, consts: list, args: list[Dual]) -> list[Dual]:
    """Return the outputs of a traced program for values and slopes in intervals."""
    known: dict = dict(zip(jaxpr.constvars, map(constant, consts), strict=True))
    known |= dict(zip(jaxpr.invars, args, strict=True))

    def read(atom) -> Dual:
        return constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        outs = _equation(equation, [read(atom) for atom in equation.invars])
        known |= dict(zip(equation.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(equation: Any, args: list[Dual]) -> list[Dual]:
    name = equation.primitive.name
    if name in _CALLS:
        inner = equation.params[_CALLS[name]]
        return run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", []), args)
    if name == "scan":
        return _scan(equation.params, args)
    if name == "cond":
        return _cond(equation.params, args)
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
    raise ModelError(
        f"the equations must be of operations whose slopes can be bounded, got {name}; known are {', '.join(sorted(RULES))}"
        f"{'; use steps of a fixed size' if name == 'while' else ''}"
    )


def _scan(params: dict, args: list[Dual]) -> list[Dual]:
    consts, carried = params["num_consts"], params["num_carry"]
    fixed, carry, sequences = args[:consts], args[consts : consts + carried], args[consts + carried :]
    inner, collected = params["jaxpr"], []
    order = range(params["length"])
    for t in reversed(order) if params["reverse"] else order:
        outs = run(inner.jaxpr, inner.consts, [*fixed, *carry, *(s.at(t) for s in sequences)])
        carry = outs[:carried]
        collected.append(outs[carried:])
    if collected and collected[0]:
        raise ModelError(
            "the equations must not collect values of a loop that depend on the state, got a scan with outputs"
        )
    return carry


def _cond(params: dict, args: list[Dual]) -> list[Dual]:
    which, *rest = args
    if not which.fixed:
        raise ModelError(
            "the equations must not switch between programs inside the box, got a cond that depends on the state"
        )
    branch = params["branches"][int(np.clip(which.value.lo[0], 0, len(params["branches"]) - 1))]
    return run(branch.jaxpr, branch.consts, rest)
