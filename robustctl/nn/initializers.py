"""Initial values of the free arrays, as functions to pick from."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ModelError
from .bounded_real import invert_bounded_real


def default_dtype():
    """Return float64 where JAX runs in 64 bits, else float32."""
    return jnp.result_type(float)


@functools.partial(jax.jit, static_argnums=(1, 2))
def lecun_normals(key: PRNGKeyArray, shapes: tuple[tuple[int, int], ...], dtype) -> tuple[Array, ...]:
    """Normal matrices of the given shapes with variance `1 / columns`, so that a product keeps a unit variance."""
    keys = jr.split(key, max(len(shapes), 1))
    return tuple(
        jr.normal(k, shape, dtype) / jnp.sqrt(jnp.asarray(max(shape[1], 1), dtype))
        for k, shape in zip(keys, shapes, strict=False)
    )


class LinearPart(NamedTuple):
    """Free arrays of the state equation: see `bounded_real`."""

    X: Float[Array, "n2 n2"]
    Y: Float[Array, "nx nx"]
    B_imp: Float[Array, "nx ns"]
    C: Float[Array, "nr nx"]


Initializer = Callable[[PRNGKeyArray, int, Array, float], LinearPart]
"""`(key, nx, D, rate) -> LinearPart`, with `D` the (nc, nb) feedthrough that the part will meet."""


@functools.partial(jax.jit, static_argnums=(1, 3))
def random(key: PRNGKeyArray, nx: int, D: Float[Array, "nr ns"], rate: float) -> LinearPart:
    """Normal free arrays, as published [BWM25]: fast, well damped modes."""
    nr, ns = D.shape
    return LinearPart(*lecun_normals(key, ((2 * nx, 2 * nx), (nx, nx), (nx, ns), (nr, nx)), D.dtype))


@functools.partial(jax.jit, static_argnums=(1, 3))
def long_memory(key: PRNGKeyArray, nx: int, D: Float[Array, "nr ns"], rate: float) -> LinearPart:
    """Slow modes: `A = rate (I - diag(e))` with e uniform in [0.002, 0.05], for plants slow against dt.

    `B` and `C` shrink with `sqrt(e)`, so that each mode's gain from input to output stays of order one.
    """
    e_key, part_key = jr.split(key)
    e = jr.uniform(e_key, (nx,), D.dtype, 0.002, 0.05)
    return _slow(part_key, jnp.diag(1 - e), e, D, rate, 0.1)


def resonances(lowest: float, highest: float, *, dt: float) -> Initializer:
    """Return an initializer of lightly damped oscillations between two frequencies, Hz, for what vibrates.

    ::

        A = rate blkdiag(..., (1 - e) R(2 pi f dt), ...),     R(a) = [[cos a, -sin a], [sin a, cos a]]

    with frequencies f spread evenly on a logarithmic scale and e uniform in [0.002, 0.05]; `B` and `C` as in `long_memory`,
    whose mode an odd state is. `dt`: sample time, s.

    **Raises:** `ModelError` unless 0 < lowest <= highest < 1 / (2 dt).
    """
    if not 0 < lowest <= highest < 1 / (2 * dt):
        raise ModelError(
            f"frequencies must satisfy 0 < lowest <= highest < 1 / (2 dt) = {1 / (2 * dt):g} Hz, got lowest = {lowest!r} and "
            f"highest = {highest!r}; are they in Hz, and dt in s?"
        )
    return functools.partial(_resonances, (math.log(lowest), math.log(highest), dt))


@functools.partial(jax.jit, static_argnums=(0, 2, 4))
def _resonances(
    band: tuple[float, float, float], key: PRNGKeyArray, nx: int, D: Float[Array, "nr ns"], rate: float
) -> LinearPart:
    low, high, dt = band
    e_key, part_key = jr.split(key)
    pairs = nx // 2
    e = jr.uniform(e_key, (nx - pairs,), D.dtype, 0.002, 0.05)
    a = 2 * math.pi * dt * jnp.exp(jnp.linspace(low, high, pairs, dtype=D.dtype))
    turns = jnp.stack([jnp.cos(a), -jnp.sin(a), jnp.sin(a), jnp.cos(a)], axis=1).reshape(pairs, 2, 2)
    blocks = (1 - e[:pairs])[:, None, None] * turns
    A = jsl.block_diag(*blocks, *(1 - e[pairs:]).reshape(-1, 1, 1))
    return _slow(part_key, A, jnp.concatenate([jnp.repeat(e[:pairs], 2), e[pairs:]]), D, rate, 0.0)


def _slow(key: PRNGKeyArray, A: Array, e: Array, D: Array, rate: float, skew: float) -> LinearPart:
    """Return the part with the given `A / rate` of modes `1 - e`, each of a gain of order one; `skew`: what turns them."""
    (nr, ns), nx = D.shape, e.size
    Y, B, C = lecun_normals(key, ((nx, nx), (nx, ns), (nr, nx)), D.dtype)
    B, C = rate * jnp.sqrt(e)[:, None] * _unit(B), _unit(C) * jnp.sqrt(e)[None, :]
    eye = jnp.eye(nx, dtype=D.dtype)
    X = invert_bounded_real(eye, rate * A, rate**2 * eye, B, C, D, rate)
    return LinearPart(X, skew * Y, B, C)


def _unit(M: Array) -> Array:
    """Scale to a spectral norm of 0.4, which leaves the bounded-real inequality room."""
    return 0.4 * M / jnp.maximum(jnp.linalg.norm(M, 2), jnp.finfo(M.dtype).tiny) if M.size else M
