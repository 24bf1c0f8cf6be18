"""Lower bounds for the times of the speed table: arithmetic and memory traffic at the machine's own rates.

::

    floor = operations / rate of one large product,      bytes floor = bytes moved / rate of one large copy

The operations of our arrangement: the parameter map, the products folded once per rollout, and for each sample of each sequence

::

    F = 2 (nx + ny + h1) (nx + nu) + sum 2 h_k h_{k+1} + 2 (nx + ny) h_L       one step
    R = 2 h1 (nx + nu) + sum 2 h_k h_{k+1}                                     activations computed again

so that a gradient costs F + R forwards and again, F for the adjoint state and F for the weights. A product of (m, k) and (k, n)
is 2 m k n operations; operations other than products and inverses (activations, sums, Adam, the plant of the Youla loop) are
ignored. Bytes: every argument read once, every result written once, and the states that a gradient stores.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .cases import Case
from .timing import compiled, seconds_a_call


class Rates(NamedTuple):
    """Rates of this machine with the threads of the rows: operations and bytes per second, in 1e9."""

    gflops: float
    gbytes: float


def measure_rates() -> Rates:
    """Measure a product of 1,024 by 1,024 matrices, and a copy of 64 MB (sign changed, so that it is not left out)."""
    matrix, long = jnp.ones((1024, 1024)), jnp.ones(64_000_000 // jnp.ones(()).itemsize)
    product, copy = _seconds(lambda a: a @ a, matrix), _seconds(jnp.negative, long)
    return Rates(round(2 * 1024**3 / product / 1e9, 1), round(2 * long.nbytes / copy / 1e9, 1))


def _seconds(fn: Callable, argument: jax.Array) -> float:
    """The fastest of eleven runs, because a lower bound refers to the machine at its best."""
    call, _, _ = compiled(fn, argument)
    return min(seconds_a_call(call, 1) for _ in range(11))


def floors(
    rates: Rates, case: Case, what: str, samples: int, fn: Callable, args: tuple
) -> dict[str, float | None]:
    """Return `floor_ms` and `bytes_floor_ms` of a row `fn(*args)`, None for a row that is not counted.

    **Arguments:**

    - `rates`: of the machine.
    - `case`: the size.
    - `what`: the row's name.
    - `samples`: of all sequences together.
    - `fn`: the row's function.
    - `args`: its arguments.
    """
    flops = operations(case, what, samples)
    if flops is None:
        return {"floor_ms": None, "bytes_floor_ms": None}
    stored = (
        0 if what == "rollout" or _single_steps(case, what) else samples * case.nx * jnp.ones(()).itemsize
    )
    moved = stored + sum(map(_bytes, (args, jax.eval_shape(fn, *args))))
    return {"floor_ms": _ms(flops, rates.gflops), "bytes_floor_ms": _ms(moved, rates.gbytes)}


def _bytes(tree: Any) -> int:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _ms(count: float, giga: float) -> float:
    return float(f"{count / giga / 1e6:.4g}")


def operations(case: Case, what: str, samples: int) -> float | None:
    """Return a row's operations; None for a row that is not counted."""
    (value, slope), folds, (step, again) = _map(case), _fold(case), _step(case)
    if what == "explicit map":
        return value
    if what == "explicit map, with gradient":
        return slope
    if what == "rollout":
        return value + folds + samples * step
    if _single_steps(case, what):  # nothing is computed again, and no gradient in the data is needed
        data = 2 * (case.nx + case.ny + case.hidden[0]) * (case.nx + case.nu)
        return slope + 3 * folds + samples * (3 * step - data)
    if what == "training step" or "gradient" in what:
        return slope + 3 * folds + samples * (3 * step + again)
    return None


def _single_steps(case: Case, what: str) -> bool:
    return what == "training step" and case.name == "pde"


def _step(case: Case) -> tuple[int, int]:
    """F and R of the module's docstring."""
    inputs, outputs = case.nx + case.nu, case.nx + case.ny
    again = 2 * case.hidden[0] * inputs + sum(2 * a * b for a, b in pairwise(case.hidden))
    return again + 2 * outputs * (inputs + case.hidden[-1]), again


def _fold(case: Case) -> int:
    """The products of neighboring maps: with C1 and D12, between layers, and with B1 and D21."""
    first, last = case.hidden[0], case.hidden[-1]
    between = sum(2 * a**2 * b for a, b in pairwise(case.hidden))
    return (
        2 * first * case.nv * (case.nx + case.nu) + between
        + 2 * case.nv * last**2 + 2 * (case.nx + case.ny) * case.nv * last
    )  # fmt: skip


def _map(case: Case) -> tuple[float, float]:
    """The parameter map without its metric, and that with its gradient.

    ::

        layer of m features from n:  Y'Y and Y V, 2 n m^2 each; bound of Q'Q, 2 (m + n) m^2, no gradient; (I + Z)^-1, 8/3 m^3
        core:                        X'X, 2 (2 nx)^3; B1 B1' and C1'C1, 2 nx^2 nv each; E^-1 [F B1], 2/3 nx^3 + 2 nx^2 (nx + nv)

    The gradient of X'X is one product, that of Y V two, that of an inverse two, that of a solve another solve and a product.
    """
    widths = list(pairwise((case.nv, *case.hidden, case.nv)))
    nx, nv = case.nx, case.nv
    YV = sum(2 * n * m**2 for n, m in widths)
    grams = YV + 16 * nx**3 + 4 * nx**2 * nv
    solve = 2 * nx**2 * (nx + nv)
    value = YV + grams + solve + 2 / 3 * nx**3 + sum(2 * (m + n) * m**2 + 8 / 3 * m**3 for n, m in widths)
    return value, value + 2 * YV + grams + 2 * solve + sum(4 * m**3 for _, m in widths)
