"""Fixed points of whole sequences: corrections until they are small, the scan where they do not get small."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..linalg import slack


class Effort(eqx.Module):
    """What a parallel rollout took: iterations of all stages, and whether they converged or the scan ran."""

    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


def converge(
    corrections: Sequence[Callable], guess: Array, sequential: Callable, limit: int
) -> tuple[Array, Effort]:
    """Iterate `X <- X + correction(X)`, each correction from the guess until one converges, the scan if none does."""
    X, done, iterations = guess, jnp.asarray(False), jnp.zeros((), int)
    for correction in corrections:
        X, done, iterations = _iterate(correction, jnp.where(done, X, guess), done, iterations, limit)
    # A loop of at most one turn: lax.cond becomes a select under vmap, and the scan would always run.
    answer, _ = lax.while_loop(lambda s: ~s[1], lambda s: (sequential(), jnp.asarray(True)), (X, done))
    return answer, Effort(iterations, done)


def _iterate(correction, X, done, iterations, limit):
    """Iterate at most `limit` times, and not on where changes grow tenfold or stop being numbers."""
    last = iterations + limit
    tolerance = slack(X.dtype)

    def body(state):
        X, change, least, _, _, iterations = state
        dX = correction(X)
        X, size = X + dX, _largest(dX)
        ratio = size / change
        left = size * jnp.maximum(1, ratio / (1 - ratio))
        done = (size == 0) | ((ratio < 1) & (left <= tolerance * _largest(X)))
        going = ~done & (size <= 10 * least) & jnp.isfinite(size)
        return X, size, jnp.minimum(least, size), done, going, iterations + 1

    infinite = jnp.asarray(jnp.inf, X.dtype)
    start = X, infinite, infinite, done, ~done, iterations
    X, _, _, done, _, iterations = lax.while_loop(lambda s: s[4] & (s[5] < last), body, start)
    return X, done, iterations


def _largest(X) -> Float[Array, ""]:
    return jnp.max(jnp.abs(X), initial=0)
