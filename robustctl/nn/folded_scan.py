"""The recurrence of a folded R2DN over a sequence, and its gradient, arranged for few and large matrix products.

The gradient stores the states alone. It goes back in chunks of time: for a chunk all activations are computed again in one
product a layer, then the adjoint state

::

    s = [x+_bar; y_bar],   d_L = W' s * slope_L,   d_k = W_{k+1}' d_{k+1} * slope_k,   [x_bar; u_bar] = G' [s; d_1]

runs step by step, and then each weight's gradient is one product over the chunk. The arrangement is ours; the adjoint is
backpropagation through time.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .activations import Activation
from .layout import Layout, over_batch

Weights = tuple[Array, Array, tuple[tuple[Array, Array], ...], Array]
"""`G`, `g`, the hidden layers `(W_k, b_k)` and `W` of a `FoldedR2DN`."""

# Vectors (chunk times batch) of one product: on two CPU cores 512 is a few per cent faster than 64; a GPU wants more.
_VECTORS = {"cpu": 512}
_VECTORS_ELSEWHERE = 8192


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def folded_scan(activation: Activation, weights: Weights, x0: Array, us: Array) -> tuple[Array, Array, Array]:
    """Return `(xs, ys, x_final)` of one sequence `us` (T, nu); a batch goes through `jax.vmap`, which sees it as one.

    Derivatives are reverse mode only.
    """
    return _run(activation, weights, x0, us)


def _run(activation, weights, x0, us):
    run = over_batch(lambda *args: ((), _forward(activation, *args)))
    return run(weights, x0, us)[1]


def _fwd(activation, weights, x0, us):
    xs, ys, x_final = _run(activation, weights, x0, us)
    return (xs, ys, x_final), (weights, xs, us)


def _bwd(activation, stored, bars):
    weights, xs, us = stored
    back = over_batch(partial(_backward, activation))
    weights_bar, (x0_bar, us_bar) = back(weights, xs, us, *bars)
    return weights_bar, x0_bar, us_bar


folded_scan.defvjp(_fwd, _bwd)


def _forward(activation, lay: Layout, weights, x0, us):
    """`x0` a batch of nx, `us` T batches of nu."""
    G, g, hidden, W = weights
    first, *between, last = (lay.product(M) for M in (G, *(Wk for Wk, _ in hidden), W))

    def body(x, u):
        r, z = lay.split(first(lay.join(x, u)) + lay.each(g), W.shape[0])
        h = activation(z)
        for product, (_, b) in zip(between, hidden, strict=True):
            h = activation(product(h) + lay.each(b))
        x_next, y = lay.split(r + last(h), nx)
        return x_next, (x, y)

    nx = x0.shape[-1 if lay.rows else -2]
    x_final, (xs, ys) = lax.scan(body, x0, us)
    return xs, ys, x_final


def _backward(activation, lay: Layout, weights, xs, us, dxs, dys, dx_final):
    """Gradients in the weights, summed over the batch, then in `x0` and `us`."""
    G, _, hidden, W = weights
    turn = partial(lay.transposed, batch=xs.shape[lay.axis])
    transposed = jax.tree.map(turn, (G, [Wk for Wk, _ in hidden], W))
    adjoint = partial(_adjoint, lay, transposed)
    return in_chunks(activation, adjoint, lay, weights, dx_final, (xs, us, dxs, dys))


def in_chunks(activation, adjoint, lay: Layout, weights, dx_final, data):
    """Return the gradients, chunk by chunk from the last sample to the first, by that way of running the adjoint state."""
    xs, us, _, _ = data
    samples, batch = xs.shape[0], xs.shape[lay.axis]
    vectors = _VECTORS.get(jax.default_backend(), _VECTORS_ELSEWHERE)
    size = max(1, min(samples, vectors // batch))
    first = samples % size

    def chunk(carry, part):
        x_bar, total = carry
        x_bar, weights_bar, us_bar = _chunk(activation, adjoint, lay, weights, x_bar, *part)
        return (x_bar, jax.tree.map(jnp.add, total, weights_bar)), us_bar

    def chunk_at(carry, start):
        # Cut out of the whole: a scan over reshaped arrays would copy them, the states too.
        return chunk(carry, jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), data))

    # Chunks of one size are one compiled loop body; the samples left over come first in time, so last in the way back.
    starts = jnp.arange(first, samples, size)
    carry: Any = (dx_final, jax.tree.map(jnp.zeros_like, weights))
    carry, by_chunk = lax.scan(chunk_at, carry, starts, reverse=True)
    us_bar = jnp.reshape(by_chunk, (samples - first, *us.shape[1:]))
    if first:
        carry, head = chunk(carry, jax.tree.map(lambda a: a[:first], data))
        us_bar = jnp.concatenate([head, us_bar])
    return carry[1], (carry[0], us_bar)


def _chunk(activation, adjoint, lay: Layout, weights, x_bar, xs, us, dxs, dys):
    """Go back over one chunk: the adjoint state before it, the weights' gradients and that in us."""
    n, samples = weights[-1].shape[0], xs.shape[0]
    xu = lay.join(lay.side_by_side(xs), lay.side_by_side(us))
    hs, slopes = _activations(activation, lay, weights, xu)

    x_bar, sd, ds, us_bar = adjoint(x_bar, dxs, dys, [lay.in_time(slope, samples) for slope in slopes])
    sd, ds = lay.side_by_side(sd), [lay.side_by_side(d) for d in ds]
    layers = tuple((lay.outer(d, h), lay.total(d)) for d, h in zip(ds, hs, strict=False))
    last = lay.outer(lay.split(sd, n)[0], hs[-1])
    return x_bar, (lay.outer(sd, xu), lay.total(sd), layers, last), us_bar


def _adjoint(lay: Layout, transposed, x_bar, dxs, dys, slopes):
    """The adjoint state before the first sample; `[s; d_1]`, `d_2 ... d_L` and the gradient in us, all with time first."""
    from_sd, between, from_s = transposed
    nx = dxs.shape[-1 if lay.rows else -2]

    def back(x_bar, now):
        dx, dy, *slopes = now
        s = lay.join(x_bar, dy)
        d = from_s(s) * slopes[-1]
        ds = [d]
        for from_d, slope in zip(between[::-1], slopes[-2::-1], strict=True):
            d = from_d(d) * slope
            ds.append(d)
        sd = lay.join(s, d)
        x_bar, u_bar = lay.split(from_sd(sd), nx)
        return x_bar + dx, (sd, ds[-2::-1], u_bar)

    x_bar, (sd, ds, us_bar) = lax.scan(back, x_bar, (dxs, dys, *slopes), reverse=True)
    return x_bar, sd, ds, us_bar


def _activations(activation, lay: Layout, weights, xu):
    """Each hidden layer's output and slope, for many vectors at once."""
    G, g, hidden, W = weights
    n = W.shape[0]
    z, hs, slopes = lay.times(G[n:], xu) + lay.each(g[n:]), [], []
    for k in range(len(hidden) + 1):
        # The activation acts entry by entry: its derivative along ones is every slope at once.
        h, slope = jax.jvp(activation, (z,), (jnp.ones_like(z),))
        hs.append(h)
        slopes.append(slope)
        if k < len(hidden):
            z = lay.times(hidden[k][0], h) + lay.each(hidden[k][1])
    return hs, slopes
