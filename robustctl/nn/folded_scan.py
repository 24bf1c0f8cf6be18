"""The recurrence of a folded R2DN over a sequence, and its gradient, arranged for few and large matrix products.

Inside, features come first and the batch last. The gradient stores the states alone. It goes back in chunks of time: for a
chunk all activations are computed again in one product a layer, then the adjoint state

::

    s = [x+_bar; y_bar],   d_L = W' s * slope_L,   d_k = W_{k+1}' d_{k+1} * slope_k,   [x_bar; u_bar] = G' [s; d_1]

runs step by step, and then each weight's gradient is one product over the chunk. The arrangement is ours; the adjoint is
backpropagation through time.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, PyTree

from .activations import Activation

Weights = tuple[Array, Array, tuple[tuple[Array, Array], ...], Array]
"""`G`, `g`, the hidden layers `(W_k, b_k)` and `W` of a `FoldedR2DN`."""

# Columns (chunk times batch) of one product. On two CPU cores 64 to 256 are equally fast, 1,024 slower; a GPU wants more.
_COLUMNS = {"cpu": 128}
_COLUMNS_ELSEWHERE = 8192


def folded_scan(activation: Activation, weights: Weights, x0: Array, us: Array) -> tuple[Array, Array, Array]:
    """Return `(xs, ys, x_final)` of one sequence `us` (T, nu); a batch goes through `jax.vmap`, which sees it as one.

    Derivatives are reverse mode only.
    """
    return _scan(activation, weights, x0, us)


def _forward(activation, weights, x0, us):
    """`x0` (nx, B), `us` (T, nu, B)."""
    G, g, hidden, W = weights
    n, nx = W.shape[0], x0.shape[0]

    def body(x, u):
        z = G @ jnp.concatenate([x, u]) + g[:, None]
        h = activation(z[n:])
        for Wk, b in hidden:
            h = activation(Wk @ h + b[:, None])
        r = z[:n] + W @ h
        return r[:nx], (x, r[nx:])

    x_final, (xs, ys) = lax.scan(body, x0, us)
    return (), (xs, ys, x_final)


def _backward(activation, weights, xs, us, dxs, dys, dx_final):
    """Gradients in the weights, summed over the batch, then in `x0` and `us`; arrays are (T, ., B)."""
    samples, batch = xs.shape[0], xs.shape[-1]
    columns = _COLUMNS.get(jax.default_backend(), _COLUMNS_ELSEWHERE)
    size = max(1, min(samples, columns // batch))
    first = samples % size
    data = (xs, us, dxs, dys)

    def chunk(carry, part):
        x_bar, total = carry
        x_bar, slopes, us_bar = _chunk(activation, weights, x_bar, *part)
        return (x_bar, jax.tree.map(jnp.add, total, slopes)), us_bar

    blocks = jax.tree.map(lambda a: a[first:].reshape(samples // size, size, *a.shape[1:]), data)
    carry = (dx_final, jax.tree.map(jnp.zeros_like, weights))
    carry, us_bar = lax.scan(chunk, carry, blocks, reverse=True)
    us_bar = us_bar.reshape(samples - first, *us.shape[1:])
    if first:
        carry, head = chunk(carry, jax.tree.map(lambda a: a[:first], data))
        us_bar = jnp.concatenate([head, us_bar])
    return carry[1], (carry[0], us_bar)


def _chunk(activation, weights, x_bar, xs, us, dxs, dys):
    """Go back over one chunk: the adjoint state before it, the weights' gradients and that in us."""
    G, g, hidden, W = weights
    (n, _), (size, nx, _) = W.shape, xs.shape
    xu = jnp.concatenate([_side_by_side(xs), _side_by_side(us)])
    z, activations, slopes = G[n:] @ xu + g[n:, None], [], []
    for Wk, b in (*hidden, (None, None)):
        h, slope = jax.jvp(activation, (z,), (jnp.ones_like(z),))
        activations.append(h)
        slopes.append(_in_time(slope, size))
        if Wk is not None:
            z = Wk @ h + b[:, None]

    def back(x_bar, now):
        dx, dy, *slopes = now
        s = jnp.concatenate([x_bar, dy])
        d = (W.T @ s) * slopes[-1]
        ds = [d]
        for (Wk, _), slope in zip(hidden[::-1], slopes[-2::-1], strict=True):
            d = (Wk.T @ d) * slope
            ds.append(d)
        sd = jnp.concatenate([s, d])
        xu_bar = G.T @ sd
        return xu_bar[:nx] + dx, (sd, tuple(ds[-2::-1]), xu_bar[nx:])

    x_bar, (sd, ds, us_bar) = lax.scan(back, x_bar, (dxs, dys, *slopes), reverse=True)
    sd = _side_by_side(sd)
    ds = [_side_by_side(d) for d in ds]
    layers = tuple((d @ h.T, jnp.sum(d, axis=1)) for d, h in zip(ds, activations, strict=False))
    return x_bar, (sd @ xu.T, jnp.sum(sd, axis=1), layers, sd[:n] @ activations[-1].T), us_bar


def _side_by_side(a: Array) -> Array:
    """(T, n, B) as (n, T B): one product over all of it is one 2-D product."""
    return jnp.swapaxes(a, 0, 1).reshape(a.shape[1], -1)


def _in_time(a: Array, size: int) -> Array:
    return jnp.swapaxes(a.reshape(a.shape[0], size, -1), 0, 1)


def batch_last(fn: Callable) -> Callable:
    """Return `fn(weights, *arrays) -> (summed, arrays)`, written for a last batch axis, for arrays without one.

    Under `jax.vmap` over the arrays alone `fn` sees the whole batch. `summed` is what `fn` has added up over it: as gradients in
    weights that all share it needs no axis. Where the weights are mapped over too, each element is a batch of one.
    """

    def single(weights: PyTree, *arrays: Array) -> Any:
        summed, out = fn(weights, *jax.tree.map(lambda a: a[..., None], arrays))
        return summed, jax.tree.map(lambda a: a[..., 0], out)

    mapped = custom_vmap(single)

    @mapped.def_vmap
    def _(size: int, batched: PyTree, weights: PyTree, *arrays: Array) -> Any:
        if any(jax.tree.leaves(batched[0])):
            axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
            out = jax.vmap(single, in_axes=axes, axis_size=size)(weights, *arrays)
            return out, jax.tree.map(lambda _: True, out)
        arrays = jax.tree.map(
            lambda a, b: jnp.moveaxis(a, 0, -1) if b else jnp.repeat(a[..., None], size, axis=-1),
            arrays,
            tuple(batched[1:]),
        )
        summed, out = fn(weights, *arrays)
        out = jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), out)
        return (summed, out), (jax.tree.map(lambda _: False, summed), jax.tree.map(lambda _: True, out))

    return mapped


def _run(activation, weights, x0, us):
    return batch_last(lambda *args: _forward(activation, *args))(weights, x0, us)[1]


_scan = jax.custom_vjp(_run, nondiff_argnums=(0,))


def _fwd(activation, weights, x0, us):
    xs, ys, x_final = _run(activation, weights, x0, us)
    return (xs, ys, x_final), (weights, xs, us)


def _bwd(activation, kept, bars):
    weights, xs, us = kept
    back = batch_last(lambda *args: _backward(activation, *args))
    slopes, (x0_bar, us_bar) = back(weights, xs, us, *bars)
    return slopes, x0_bar, us_bar


_scan.defvjp(_fwd, _bwd)
