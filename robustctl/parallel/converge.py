"""Fixed points of whole sequences: corrections until they are small, and the scan if they do not converge."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..linalg import slack


class Effort(eqx.Module):
    """Effort of a parallel rollout: iterations of all stages, and whether they converged (otherwise the scan ran)."""

    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


def converge(
    corrections: Sequence[Callable], guess: Array, sequential: Callable, limit: int
) -> tuple[Array, Effort]:
    """Iterate `X <- X + correction(X)` with each correction in turn until one converges; run the scan if none does.

    **Arguments:**

    - `corrections`: functions of X.
    - `guess`: from which each correction starts.
    - `sequential`: the scan, a function without arguments.
    - `limit`: iterations per correction.
    """
    X, done, iterations = guess, jnp.asarray(False), jnp.zeros((), int)
    for correction in corrections:
        X, done, iterations = _iterate(correction, jnp.where(done, X, guess), done, iterations, limit)
    # A loop of at most one turn: lax.cond becomes a select under vmap, and the scan would always run.
    answer, _ = lax.while_loop(lambda s: ~s[1], lambda s: (sequential(), jnp.asarray(True)), (X, done))
    return answer, Effort(iterations, done)


def _iterate(correction, X, done, iterations, limit):
    """Iterate at most `limit` times, and stop where the correction grows tenfold or is not finite."""
    last = iterations + limit
    tolerance = slack(X.dtype)

    def body(state):
        X, change, least, _, _, iterations = state
        dX = correction(X)
        X, size = X + dX, _largest(dX)
        ratio = size / change
        # Corrections that shrink by `ratio` sum up to size ratio / (1 - ratio) in the limit.
        left = size * jnp.maximum(1, ratio / (1 - ratio))
        done = (size == 0) | ((ratio < 1) & (left <= tolerance * _largest(X)))
        # Tenfold: Newton's corrections may grow for a few iterations before they converge.
        going = ~done & (size <= 10 * least) & jnp.isfinite(size)
        return X, size, jnp.minimum(least, size), done, going, iterations + 1

    infinite = jnp.asarray(jnp.inf, X.dtype)
    start = X, infinite, infinite, done, ~done, iterations
    X, _, _, done, _, iterations = lax.while_loop(lambda s: s[4] & (s[5] < last), body, start)
    return X, done, iterations


def _largest(X) -> Float[Array, ""]:
    return jnp.max(jnp.abs(X), initial=0)
