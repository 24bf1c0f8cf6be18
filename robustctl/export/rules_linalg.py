"""Translations of factorizations and solves of small matrices."""

from collections.abc import Sequence

from ..errors import InvalidModelError
from ..runtime.program import Value
from .rules import require, transposed
from .translate import Call, Translator, rule


@rule("lu")
def _lu(t: Translator, call: Call, x: Value) -> Sequence[Value]:
    require(x.shape[-1] == x.shape[-2], f"a matrix must be square to be factored, got shape {x.shape}")
    factors, pivots, permutation = t.emit_all("lu", [x], call.types)
    t.permutations[pivots] = permutation
    return factors, pivots, permutation


@rule("lu_pivots_to_permutation")
def _permutation(t: Translator, call: Call, pivots: Value) -> Value:
    if pivots not in t.permutations:
        raise InvalidModelError("pivots must be those of lax.linalg.lu")
    return t.permutations[pivots]


@rule("cholesky")
def _cholesky(t: Translator, call: Call, x: Value) -> Value:
    return t.emit("cholesky", [x], x.shape, x.dtype)


@rule("triangular_solve")
def _triangular(t: Translator, call: Call, a: Value, b: Value) -> Value:
    p = call.params
    lower, flipped = bool(p["lower"]), bool(p["transpose_a"])
    # x a = b is a' x' = b'.
    if not p["left_side"]:
        b, flipped = _flip(t, b), not flipped
    if flipped:
        a, lower = _flip(t, a), not lower
    x = t.emit("triangular_solve", [a, b], b.shape, b.dtype, lower=lower, unit=bool(p["unit_diagonal"]))
    return x if p["left_side"] else _flip(t, x)


def _flip(t: Translator, x: Value) -> Value:
    n = len(x.shape)
    return transposed(t, x, [*range(n - 2), n - 1, n - 2])
