"""Linear recurrences over whole sequences: the linearization of a system along a trajectory."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Method = Literal["picard", "mean-slope", "newton"]

_SAMPLES = (
    64  # of the mean slope: all samples would cost as much as Newton's method, few would not represent it
)


def recurrence(stage: Method, system, xs, us, *, reverse: bool = False) -> Callable:
    """Return the map `r -> d` that solves `d[t] = M[t] d[t-1] + r[t]`, or its transpose, backward in time.

    **Arguments:**

    - `stage`: how M is computed.
    - `system`: the system.
    - `xs`: states before each sample (T, nx).
    - `us`: inputs (T, nu).
    - `reverse`: solve the transposed recurrence.
    """
    if stage == "newton":
        return _varying(_slopes(system, xs, us), reverse)
    if stage == "picard":
        return _constant(system.state_matrix(), len(us), reverse)
    stride = max(1, len(us) // _SAMPLES)
    return _constant(jnp.mean(_slopes(system, xs[::stride], us[::stride]), axis=0), len(us), reverse)


def _slopes(system, xs, us) -> Float[Array, "T nx nx"]:
    return jax.vmap(jax.jacfwd(lambda x, u: system.step(x, u)[0]))(xs, us)


def _constant(M: Float[Array, "nx nx"], length: int, reverse: bool) -> Callable:
    """Solve by doubling: after k products each entry is the sum of its last 2^k terms."""
    powers = [M if reverse else M.T]
    while 2 ** len(powers) < length:
        powers.append(powers[-1] @ powers[-1])

    def solve(r):
        for k, power in enumerate(powers):
            n = 2**k
            r = r.at[:-n].add(r[n:] @ power) if reverse else r.at[n:].add(r[:-n] @ power)
        return r

    return solve


def _varying(Ms: Float[Array, "T nx nx"], reverse: bool) -> Callable:
    if reverse:  # entry t of the transpose is reached from t + 1, through M[t + 1]
        Ms = jnp.roll(jnp.swapaxes(Ms, 1, 2), -1, axis=0)

    # d = M2 (M1 d0 + r1) + r2: affine maps compose associatively, so the scan is parallel.
    def compose(first, second):
        (M1, r1), (M2, r2) = first, second
        return M2 @ M1, jnp.einsum("tij,tj->ti", M2, r1) + r2

    return lambda r: lax.associative_scan(compose, (Ms, r), reverse=reverse)[1]
