"""Initial values of the free arrays, as functions to pick from; drawn by NumPy, so that building a model compiles nothing."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import is_positive
from ..errors import InvalidModelError
from ..lft import block_diagonal
from ..linalg import slack
from .inverse import invert_bounded_real
from .numpy_maps import Shapes, in_numpy


def split(key: PRNGKeyArray, count: int) -> tuple[PRNGKeyArray, ...]:
    """Return new keys, as `jax.random.split` does."""
    bits = key_bits(key)

    def fresh(bits):
        return np.random.SeedSequence(bits.tolist()).generate_state(count * bits.size).reshape(count, -1)

    found = in_numpy(lambda bits: tuple(fresh(bits)), [bits.shape] * count, np.uint32, bits)
    return tuple(jr.wrap_key_data(each, impl=jr.key_impl(key)) for each in found)


def key_bits(key: Array) -> Array:
    """Return the numbers (n,) that a single key holds, or raise `InvalidModelError` for a batch of keys."""
    bits = jr.key_data(key)
    if bits.ndim != 1:
        raise InvalidModelError(
            f"key must be a single key, for example jax.random.key(0), got keys of shape {key.shape}; build under jax.vmap"
        )
    return bits


def draw(
    fn: Callable[..., Sequence[Any]], shapes: Shapes, dtype: Any, key: PRNGKeyArray, *arrays: Array
) -> tuple[Array, ...]:
    """Return `fn(generator, *arrays)` of NumPy's generator that the key seeds, as `in_numpy` does."""

    def seeded(bits, *arrays):
        return fn(np.random.default_rng(bits.tolist()), *arrays)

    return in_numpy(seeded, shapes, dtype, key_bits(key), *arrays)


def lecun_normals(key: PRNGKeyArray, shapes: Shapes, dtype: Any, scale: float = 1.0) -> tuple[Array, ...]:
    """Normal matrices of the given shapes with variance `scale^2 / columns`; at 1 a product keeps a unit variance."""
    return draw(lambda rng: [scale * M for M in _normals(rng, shapes)], shapes, dtype, key)


def _normals(rng: np.random.Generator, shapes: Shapes) -> list[np.ndarray]:
    return [rng.standard_normal(shape) / math.sqrt(max(shape[-1], 1)) for shape in shapes]


def check_memory(memory: tuple[float, float]) -> None:
    """Raise `InvalidModelError` unless two time constants, samples, are finite and in order."""
    shortest, longest = memory
    if not (is_positive(shortest) and is_positive(longest) and shortest <= longest):
        raise InvalidModelError(
            f"memory must be two finite time constants, 0 < shortest <= longest, samples, got {memory}; at a rate of 1 an infinite one "
            "is an integrator, which has no gain bound"
        )


class LinearPart(NamedTuple):
    """Free arrays of the state equation: see `bounded_real`."""

    X: Float[Array, "n2 n2"]
    Y: Float[Array, "nx nx"]
    B_imp: Float[Array, "nx ns"]
    C: Float[Array, "nr nx"]


Initializer = Callable[[PRNGKeyArray, int, Array, float], LinearPart]
"""`(key, nx, D, rate) -> LinearPart`, with `D` the (nc, nb) feedthrough that the part will meet."""


def part_shapes(nx: int, D: Array) -> Shapes:
    """Return the shapes of a `LinearPart` of nx states that meets the feedthrough D."""
    nr, ns = D.shape
    return (2 * nx, 2 * nx), (nx, nx), (nx, ns), (nr, nx)


def random(key: PRNGKeyArray, nx: int, D: Float[Array, "nr ns"], rate: float) -> LinearPart:
    """Return normal free arrays, as published [BWM25]: fast, well damped modes.

    **Arguments:**

    - `key`: one PRNG key.
    - `nx`: number of states.
    - `D`: the feedthrough that the linear part will meet, (nr, ns).
    - `rate`: contraction rate per sample; not used here.
    """
    return LinearPart(*lecun_normals(key, part_shapes(nx, D), D.dtype))


def long_memory(key: PRNGKeyArray, nx: int, D: Float[Array, "nr ns"], rate: float) -> LinearPart:
    """Return free arrays of slow modes, for plants that are slow against the sample time.

    ::

        A = rate (I - diag(e)),   e uniform in [0.002, 0.05]

    `B` and `C` shrink with `sqrt(e)`, so that each mode's gain from input to output stays of order one.

    **Arguments:** as `random`.

    - `key`: one PRNG key.
    - `nx`: number of states.
    - `D`: the feedthrough that the linear part will meet, (nr, ns).
    - `rate`: contraction rate per sample, which the slowest modes come near.
    """
    least = slack(D.dtype)

    def part(rng, D):
        # Time constants of 20 to 500 samples.
        e = rng.uniform(0.002, 0.05, nx)
        return _slow(rng, np.diag(1 - e), e, D, rate, 0.1, least)

    return LinearPart(*draw(part, part_shapes(nx, D), D.dtype, key, D))


def resonances(lowest: float, highest: float, *, dt: float) -> Initializer:
    """Return an initializer of lightly damped oscillations between two frequencies, Hz, for what vibrates.

    ::

        A = rate blkdiag(..., (1 - e) R(2 pi f dt), ...),     R(a) = [[cos a, -sin a], [sin a, cos a]]

    with frequencies f spread evenly on a logarithmic scale and e uniform in [0.002, 0.05]; `B` and `C` as in `long_memory`,
    whose mode an odd state is.

    **Arguments:**

    - `lowest`: frequency, Hz.
    - `highest`: frequency, Hz.
    - `dt`: sample time, seconds.

    **Raises:** `InvalidModelError` unless 0 < lowest <= highest < 1 / (2 dt).
    """
    if not 0 < lowest <= highest < 1 / (2 * dt):
        raise InvalidModelError(
            f"frequencies must satisfy 0 < lowest <= highest < 1 / (2 dt) = {1 / (2 * dt):g} Hz, got lowest = {lowest!r} and "
            f"highest = {highest!r}; are they in Hz, and dt in s?"
        )
    return functools.partial(_resonances, (lowest, highest, dt))


def _resonances(
    band: tuple[float, float, float], key: PRNGKeyArray, nx: int, D: Float[Array, "nr ns"], rate: float
) -> LinearPart:
    lowest, highest, dt = band
    pairs, least = nx // 2, slack(D.dtype)

    def part(rng, D):
        # One e for each pair of states and for a state without a partner.
        e = rng.uniform(0.002, 0.05, nx - pairs)
        turns = [
            np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
            for a in 2 * math.pi * dt * np.geomspace(lowest, highest, pairs)
        ]
        last = [np.array([[1 - d]]) for d in e[pairs:]]
        A = block_diagonal([(1 - d) * R for d, R in zip(e, turns, strict=False)] + last)
        return _slow(rng, A, np.concatenate([np.repeat(e[:pairs], 2), e[pairs:]]), D, rate, 0.0, least)

    return LinearPart(*draw(part, part_shapes(nx, D), D.dtype, key, D))


_HALVINGS = 20
"""Room grows fourfold with each, so that a |D| of `1 - 1e-12` has enough."""


def _slow(
    rng: np.random.Generator, A, e, D, rate: float, skew: float, least: float
) -> tuple[np.ndarray, ...]:
    """Return the arrays of the part with the given `A / rate` of modes `1 - e`, each of a gain of order one.

    `skew` turns them; `least` is the slack of the dtype.
    """
    (nr, ns), nx = D.shape, e.size
    # E = I and P_imp = rate^2 I make A the one given; sqrt(e) on both ports gives each mode a gain of order one.
    Y, B, C = _normals(rng, ((nx, nx), (nx, ns), (nr, nx)))
    B, C = rate * np.sqrt(e)[:, None] * unit(B), unit(C) * np.sqrt(e)[None, :]
    X, B, C = with_room(A, B, C, D, rate, least)
    return X, skew * Y, B, C


def with_room(A, B, C, D, rate: float, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the X of `bounded_real` that gives `rate A`, with the ports halved until this D leaves them room."""
    nx = len(A)
    # Of wide networks |D| is near one, which leaves ports of the usual size no room.
    for _ in range(_HALVINGS):
        X = invert_bounded_real(np.eye(nx), rate * A, rate**2 * np.eye(nx), B, C, D, rate, least)
        if np.isfinite(X).all():
            break
        B, C = B / 2, C / 2
    return X, B, C


def unit(M: np.ndarray) -> np.ndarray:
    """Scale to a spectral norm of 0.4, which leaves the bounded-real inequality room."""
    # (0.4^2 + 0.4^2) e for both ports is well below the 2 e that a mode 1 - e leaves; the tiny number avoids 0 / 0.
    return 0.4 * M / max(np.linalg.norm(M, 2), np.finfo(M.dtype).tiny) if M.size else M
