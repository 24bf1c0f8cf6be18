"""Fixed-point formats: bits, how many of them are fractional, constants rounded to them, and the ranges that they are chosen from."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InvalidModelError
from ..runtime.compiled import Compiled
from ..runtime.numbers import UNARY
from ..runtime.program import Program, Value, walk
from ..system import System

MOST_BITS = 31
_ACCUMULATOR = 62
"""A sum of products stays below 2 to this, so that a term may be added in int64."""


def bits_of(dtype: Any) -> int | None:
    """Return B of a dtype `qB`, numbers of B bits and a sign; None for a dtype of another kind.

    **Raises:** `InvalidModelError` for another number of bits than 4 to 31.
    """
    found = re.fullmatch(r"q(\d{1,3})", dtype) if isinstance(dtype, str) else None
    if found is None:
        return None
    if not 4 <= int(found[1]) <= MOST_BITS:
        raise InvalidModelError(
            f"a fixed-point dtype must be q4 to q{MOST_BITS}, got {dtype!r}; q15 and q31 are usual"
        )
    return int(found[1])


def fraction(size: float, bits: int) -> int:
    """Return the most fractional bits with which numbers up to a size have so many bits; a size of 0 counts as 1."""
    if size == 0:
        return bits
    found = bits - math.frexp(size)[1]
    found -= round(size * 2.0**found) >= 1 << bits
    # Between the formats of any two signals there are few enough bits for int64.
    return min(max(found, bits - MOST_BITS), bits + MOST_BITS)


def constant_fraction(data: np.ndarray, bits: int) -> int:
    """Return the fractional bits of a constant array, with which the sums of its products with a signal fit into int64."""
    finite = np.abs(np.where(np.isfinite(data), data, 0.0)).astype(np.float64)
    found = fraction(float(finite.max(initial=0.0)), bits)
    row = float(np.max(np.sum(finite, axis=-1), initial=0.0)) if finite.ndim else float(finite)
    terms = finite.shape[-1] if finite.ndim else 1
    # Each entry may be rounded up by a half.
    while row * 2.0**found + terms / 2 > 2.0 ** (_ACCUMULATOR - bits):
        found -= 1
    return found


def quantized(system: System, bits: int) -> System:
    """Return a system in float64 whose arrays are rounded to numbers of so many bits, an array to one format.

    ```
    round(a 2^n) 2^-n,   n the most fractional bits with which all entries of a fit
    ```

    **Arguments:**

    - `system`: the system, in float64.
    - `bits`: of a number, without its sign.
    """

    def rounded(leaf: Any) -> Any:
        if not eqx.is_inexact_array(leaf) or not leaf.size:
            return leaf
        data = np.asarray(leaf, np.float64)
        n = constant_fraction(data, bits)
        most = (1 << bits) - 1
        found = np.where(np.isfinite(data), np.clip(integers(data, n), -most, most) * 2.0**-n, data)
        return jnp.asarray(found)

    with jax.enable_x64(True):
        return jax.tree.map(rounded, system)


def integers(data: Any, n: int) -> np.ndarray:
    """Return numbers times `2^n` rounded to the nearest, halves away from zero, as floats; NaN becomes 0."""
    scaled = np.nan_to_num(np.asarray(data, np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf) * 2.0**n
    with np.errstate(invalid="ignore"):
        return UNARY["round"](scaled)


def ranges(program: Program, log: Sequence[np.ndarray]) -> dict[Value, float]:
    """Return the largest size of each floating-point value of a program along a log.

    **Arguments:**

    - `program`: the program, in float64, without loops.
    - `log`: for each input an array of samples, time first.
    """
    compiled = Compiled(program)
    values = [v for v in signals(program) if v.dtype == "float"]
    at, most = compiled.at(values), np.zeros(len(values))
    with np.errstate(all="ignore"):
        for m in along(program, compiled, log):
            np.maximum(most, [np.max(np.abs(m[position])) for position in at], out=most)
    if not np.isfinite(most).all():
        raise InvalidModelError(
            "every signal must stay finite along the log, from which the formats are chosen; give another log="
        )
    return dict(zip(values, most.tolist(), strict=True))


def along(program: Program, compiled: Compiled, log: Sequence[np.ndarray]) -> Iterator[list]:
    """Step a program along a log, samples of each input, time first, and give the memory of each step."""
    m = list(compiled.template)
    before, after = (compiled.at([getattr(s, at) for s in program.state]) for at in ("value", "after"))
    inputs = compiled.at([u.value for u in program.inputs])
    for at, s in zip(before, program.state, strict=True):
        m[at] = np.asarray(s.start)
    for k in range(len(log[0]) if log else 1):
        for at, u in zip(inputs, log, strict=True):
            m[at] = u[k]
        for run in compiled.runs:
            run(m)
        yield m
        for at, array in zip(before, [m[i] for i in after], strict=True):
            m[at] = array


def signals(program: Program) -> list[Value]:
    """Return all values of a program but its constants, in order."""
    own = [s.value for s in (*program.state, *program.inputs)]
    return [*own, *(v for op in walk(program.operations) for v in op.results)]
