"""The hyperbolic tangent in integers: a table of cubic polynomials, with a bound on its error."""

import math
from typing import NamedTuple

import numpy as np

from ..runtime.program import Operation, Value
from .fixed_lower import Approximated, Lowering, lowers

_MOST_FRACTION = 30
"""Fractional bits of the polynomials, so that their values fit into int32."""
_SPARE = 3
"""Bits that the polynomials have more than a number, whose error is then half a unit at most."""
_FOURTH = 4.1
"""Above the largest size of the fourth derivative of tanh, `8 t (2 - 3 t^2) (1 - t^2)` with t = tanh x."""


class Segments(NamedTuple):
    """Polynomials that approximate tanh, the one of segment k about `k 2^shift`.

    ```
    tanh(x 2^-n) = 2^-fraction (c0[k] + c1[k] z + c2[k] z^2 + c3[k] z^3),   k = round(x 2^-shift),  z = x 2^-shift - k
    ```

    **Arguments:**

    - `coefficients`: integers (terms, 2 last + 1), those of segment -last first; one term where every integer has its own segment.
    - `shift`: the length of a segment is 2 to this, in units of the operand.
    - `last`: the last segment.
    - `clips`: whether there are operands beyond it, which are taken for its middle.
    - `fraction`: fractional bits of the result.
    - `error`: what the result is off at most, in its units, for every integer x.
    """

    coefficients: np.ndarray
    shift: int
    last: int
    clips: bool
    fraction: int
    error: float


def segments(bits: int, n: int) -> Segments:
    """Return the polynomials for operands of so many bits, n of them fractional.

    The error is that of interpolation at Chebyshev's nodes, `max |tanh''''| (h / 2)^4 / (4! 2^3)` for segments of length h, what is
    left of 1 beyond the last segment, and the rounding of four coefficients and of three products: below 2 units.
    """
    fraction = min(bits + _SPARE, _MOST_FRACTION)
    longest = 2 * (192 / _FOURTH * 2.0**-fraction) ** 0.25
    shift = max(n + math.floor(math.log2(longest)), 0)
    step = 2.0 ** (shift - n)
    # Beyond, tanh is nearer to 1 than a unit.
    end = (fraction + 1) * math.log(2) / 2
    largest = ((1 << bits) - 1 + ((1 << shift) >> 1)) >> shift
    last = min(math.ceil(end / step), largest)
    middles = np.arange(-last, last + 1)[:, None]
    nodes = np.cos((2 * np.arange(4) + 1) * np.pi / 8) / 2 if shift else np.zeros(1)
    values = np.tanh((middles + nodes) * step)
    exact = np.linalg.solve(np.vander(nodes, increasing=True), values.T) * 2.0**fraction
    interpolation = _FOURTH * (step / 2) ** 4 / 192 if shift else 0.0
    left = 1 - math.tanh(last * step) if last < largest else 0.0
    return Segments(
        np.rint(exact).astype(np.int32),
        shift,
        last,
        last < largest,
        fraction,
        2 + (interpolation + left) * 2.0**fraction,
    )


@lowers("tanh")
def _tanh(low: Lowering, op: Operation) -> None:
    (given,), (result,) = op.operands, op.results
    x, n = low.read(given)
    table, shape = segments(low.bits, n), result.shape
    clipped, inside = x, table.last << table.shift
    if table.clips:
        clipped = low.operation("max", [x, _integer(-inside)], shape, "int32")
        clipped = low.operation("min", [clipped, _integer(inside)], shape, "int32")
    found = _value(low, table, clipped)
    low.approximated[found] = Approximated(x, 2.0 ** (table.fraction - n), table.error)
    low.define(result, found, table.fraction)


def _value(low: Lowering, table: Segments, x: Value) -> Value:
    """Return the polynomial of each entry's segment, by Horner's rule."""
    shape, shift = x.shape, table.shift
    k = low.operation("rescale", [x], shape, "int32", shift=shift, limit=max(table.last, 1))
    at = low.operation("add", [k, _integer(table.last)], shape, "int32")
    found, *others = (
        low.operation("take", [Value(c.shape, "int32", c), at], shape, "int32")
        for c in reversed(table.coefficients)
    )
    if not others:
        return found
    middle = low.operation("mul", [low.wide(k), _integer(1 << shift, "int64")], shape, "int64")
    rest = low.operation("sub", [low.wide(x), middle], shape, "int64")
    low.inside[rest] = (1 << shift) / 2
    for c in others:
        product = low.operation("mul", [low.wide(found), rest], shape, "int64")
        rounded = low.operation("rescale", [product], shape, "int32", shift=shift, limit=2**31 - 1)
        found = low.operation("add", [c, rounded], shape, "int32")
    return found


def _integer(number: int, dtype: str = "int32") -> Value:
    return Value((), dtype, np.asarray(number, dtype))
