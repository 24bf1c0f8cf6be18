"""The recurrence of a folded R2DN, and the adjoint one, as one GPU kernel each that runs through all samples.

A scan launches a handful of kernels a sample, each far too small for a GPU. Here one block of threads takes one to four sequences
from the first sample to the last. State and activations stay in registers; the weights, 140 to 260 kB at the published sizes, are
more than a block's registers hold and are read again at every sample, from the L1 cache where they fit and from L2 where not.

Products in the kernels are sums of IEEE products, never TF32, for every setting of `jax.default_matmul_precision`. They do not use the
matrix units, which so few sequences would leave nearly empty. The arrangement is ours.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as gpu
from jaxtyping import Array

from robustctl.nn.activations import Activation
from robustctl.nn.folded_scan import folded_scan, in_chunks
from robustctl.nn.layout import Layout

_BLOCKS = 128  # to aim at: an H100 has 132 multiprocessors
_MOST_SEQUENCES = 4  # of one block
# Sizes on the chip are powers of two. A tile of weights of the widest by the widest is 64 registers a thread.
_WIDEST, _NARROWEST = 128, 16
_WARPS = 8

_ROWS = Layout(rows=True)

Vectors = tuple[Array, ...]
"""A vector for each sequence of a block, cut along its entries into arrays (sequences, size) that end in zeros."""


def suits(weights: Any, us: Array) -> bool:
    """Return whether the kernels take these weights and inputs (T, B, nu): single precision on an NVIDIA GPU."""
    G, _, hidden, W = weights
    widest = max(G.shape[0], W.shape[1], *(b.size for _, b in hidden))
    single = all(a.dtype == jnp.float32 for a in (us, *jax.tree.leaves(weights)))
    small = (us.shape[0] + 1) * us.shape[1] * widest < 2**30  # more takes offsets of 64 bits
    return single and small and jax.default_backend() == "gpu" and "NVIDIA" in jax.devices()[0].device_kind


def fused_scan(activation: Activation, weights: Any, x0: Array, us: Array) -> tuple[Array, Array, Array]:
    """Return what `folded_scan` does, of a whole batch `x0` (B, nx), `us` (B, T, nu): by the kernels where they suit."""
    us = jnp.swapaxes(us, 0, 1)
    if not suits(weights, us):
        return jax.vmap(functools.partial(folded_scan, activation, weights), (0, 1))(x0, us)
    xs, ys, x_final = _by_kernels(activation, weights, x0, us)  # pyright: ignore[reportGeneralTypeIssues]
    return jnp.swapaxes(xs, 0, 1), jnp.swapaxes(ys, 0, 1), x_final


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_kernels(activation, weights, x0, us):
    return forward(activation, weights, x0, us)


def _fwd(activation, weights, x0, us):
    xs, ys, x_final = forward(activation, weights, x0, us)
    return (xs, ys, x_final), (weights, xs, us)


def _bwd(activation, stored, bars):
    weights, xs, us = stored
    dxs, dys, dx_final = bars
    back = functools.partial(adjoint, weights)
    weights_bar, others = in_chunks(activation, back, _ROWS, weights, dx_final, (xs, us, dxs, dys))
    return weights_bar, *others


_by_kernels.defvjp(_fwd, _bwd)


def forward(
    activation: Activation, weights: Any, x0: Array, us: Array, *, interpret: bool = False
) -> tuple[Array, Array, Array]:
    """Return `(xs, ys, x_final)`, (T, B, nx), (T, B, ny) and (B, nx), of `us` (T, B, nu).

    The inputs' part `c = G_u u + g` is one product before. The kernel carries `s = [x; y]`, where y is that of the sample before::

        h_1 = activation(Z x + c_z),   h_k = activation(W_k h_{k-1} + b_k),   s+ = A x + W h_L + c_s
    """
    G, g, hidden, W = weights
    samples, batch, nx, n = us.shape[0], us.shape[1], x0.shape[1], W.shape[0]
    c = _product(us, G[:, nx:].T) + g[None, None]
    maps = (G[:n, :nx].T, G[n:, :nx].T, W.T, [Wk.T for Wk, _ in hidden])
    args = (x0, c, *jax.tree.map(_aligned, maps), [b[None] for _, b in hidden])
    (s,) = _call(functools.partial(_forward_kernel, activation), [(samples + 1, batch, n)], args, interpret)
    return s[:-1, :, :nx], s[1:, :, nx:], s[-1, :, :nx]


def adjoint(
    weights: Any, x_bar: Array, dxs: Array, dys: Array, slopes: Sequence[Array], *, interpret: bool = False
) -> tuple[Array, Array, list[Array], Array]:
    """Return `(x_bar, sd, ds, us_bar)`: adjoint state before the first sample, `[s; d_1]`, `d_2 ... d_L`, gradient in `us`.

    `x_bar` (B, nx) comes from the samples after; `dxs`, `dys` and the slope of each hidden layer are (T, B, ...). With
    `e = [dx of the next sample; dy]` the kernel goes back in time::

        s = f + e,   d_L = W' s * slope_L,   d_k = W_{k+1}' d_{k+1} * slope_k,   f = [A' s + Z' d_1; 0]
    """
    G, _, hidden, W = weights
    (samples, batch, nx), n = dxs.shape, W.shape[0]
    e = jnp.concatenate([jnp.concatenate([dxs[1:], x_bar[None]]), dys], axis=2)
    to_f = jnp.pad(G[:, :nx], ((0, 0), (0, n - nx)))
    maps = (to_f[:n], to_f[n:], W, [Wk for Wk, _ in hidden])
    shapes = [(samples, batch, width) for width in (G.shape[0], *(b.size for _, b in hidden))]
    sd, *ds = _call(_adjoint_kernel, shapes, (e, *jax.tree.map(_aligned, maps), list(slopes)), interpret)
    return _product(sd[0], G[:, :nx]) + dxs[0], sd, ds, _product(sd, G[:, nx:])


def _forward_kernel(activation, rows, x0, c, A, Z, W, hidden, biases, out):
    samples, n = c.shape[0], out[0].shape[2]
    fixed = rows * np.int32(0)

    def body(t, s):
        _store(out[0], (t, rows), s, 0, n)
        h = _each(lambda z, c: activation(z + c), _times(s, Z), _load(c, (t, rows), n, c.shape[2]))
        for Wk, b in zip(hidden, biases, strict=True):
            h = _each(lambda z, b: activation(z + b), _times(h, Wk), _load(b, (fixed,), 0, b.shape[1]))
        return _each(lambda a, b, c: a + b + c, _times(s, A), _times(h, W), _load(c, (t, rows), 0, n))

    s = lax.fori_loop(np.int32(0), np.int32(samples), body, _load(x0, (rows,), 0, x0.shape[1], n))
    _store(out[0], (np.int32(samples), rows), s, 0, n)


def _adjoint_kernel(rows, e, A, Z, W, hidden, slopes, out):
    samples, _, n = e.shape

    def body(i, f):
        t = np.int32(samples - 1) - i
        d = s = _each(jnp.add, f, _load(e, (t, rows), 0, n))
        _store(out[0], (t, rows), s, 0, n)
        for k, Wk in reversed(list(enumerate([*hidden, W]))):
            slope = _load(slopes[k], (t, rows), 0, slopes[k].shape[2])
            d = _each(jnp.multiply, _times(d, Wk), slope)
            _store(out[k], (t, rows), d, 0 if k else n, out[k].shape[2])
        return _each(jnp.add, _times(s, A), _times(d, Z))

    nothing = tuple(jnp.zeros((rows.size, size), e.dtype) for _, size in _segments(n))
    lax.fori_loop(np.int32(0), np.int32(samples), body, nothing)


def _call(kernel: Callable, shapes: list[tuple], args: tuple, interpret: bool) -> Sequence[Array]:
    """Run `kernel(rows, *args, out)` over the blocks; each sees the whole arrays, of which `rows` are its sequences."""
    batch, dtype = shapes[0][1], args[0].dtype
    size = min(_MOST_SEQUENCES, pl.next_power_of_2(pl.cdiv(batch, _BLOCKS)))
    flat, tree = jax.tree.flatten(args)

    def block(*refs):
        rows = pl.program_id(0) * np.int32(size) + lax.iota(np.int32, size)
        kernel(rows, *jax.tree.unflatten(tree, refs[: len(flat)]), refs[len(flat) :])

    call = pl.pallas_call(
        block,
        grid=(pl.cdiv(batch, size),),
        out_shape=[jax.ShapeDtypeStruct(shape, dtype) for shape in shapes],
        compiler_params=gpu.CompilerParams(num_warps=_WARPS, num_stages=1),
        interpret=interpret,
    )
    return call(*flat)


def _times(v: Vectors, M: Any) -> Vectors:
    """Return `M' v` for each sequence. `M` is read from memory in tiles, and is zero beyond its rows and columns."""
    rows, columns = M.shape

    def segment(start, size):
        first, parts = 0, []
        for a in v:
            if first < rows:
                k, n = _indices(first, a.shape[1])[None, :, None], _indices(start, size)[None, None]
                tile = gpu.load(M.at[k, n], mask=(k < np.int32(rows)) & (n < np.int32(columns)), other=0)
                parts.append(jnp.sum(a[:, :, None] * tile, axis=1))
            first += a.shape[1]
        return functools.reduce(jnp.add, parts)

    return tuple(segment(*each) for each in _segments(columns))


def _load(ref: Any, at: tuple, start: int, end: int, width: int | None = None) -> Vectors:
    """Return `ref[*at, start:end]`, cut as a vector of that width or the one given."""
    cells = _cells(ref, at, start, end, width or end - start)
    return tuple(gpu.load(cell, mask=mask, other=0) for cell, mask in cells)


def _store(ref: Any, at: tuple, v: Vectors, start: int, end: int) -> None:
    """Write `v` to `ref[*at, start:end]`."""
    for a, (cell, mask) in zip(v, _cells(ref, at, start, end, end - start), strict=True):
        gpu.store(cell, a, mask=mask)


def _cells(ref: Any, at: tuple, start: int, end: int, width: int) -> Iterator[tuple[Any, Array]]:
    """Yield for each segment the reference to its entries and which of them exist."""
    *time, rows = at
    for first, size in _segments(width):
        i, j = rows[:, None], _indices(start + first, size)[None]
        yield ref.at[(*time, i, j)], (i < np.int32(ref.shape[-2])) & (j < np.int32(end))


def _segments(width: int) -> list[tuple[int, int]]:
    """Return (start, size) of each part of a vector; the last may reach beyond its end."""
    starts = range(0, width, _WIDEST)
    return [(k, max(_NARROWEST, min(_WIDEST, pl.next_power_of_2(width - k)))) for k in starts]


def _indices(start: int, size: int) -> Array:
    return np.int32(start) + lax.iota(np.int32, size)


def _each(fn: Callable, *vectors: Vectors) -> Vectors:
    """Apply `fn` to each segment. What it makes of the zeros after the end, as `activation(0)`, later meets no weights."""
    return tuple(fn(*parts) for parts in zip(*vectors, strict=True))


def _aligned(M: Array) -> Array:
    """Widen rows by zeros to a multiple of 16, so that four entries are read at once."""
    return jnp.pad(M, ((0, 0), (0, -M.shape[1] % 16)))


def _product(a: Array, b: Array) -> Array:
    """Multiply in full precision, as the kernels do, unless `jax.default_matmul_precision` asks for another."""
    asked = jax.config.jax_default_matmul_precision  # pyright: ignore
    return jnp.matmul(a, b, precision=None if asked else "highest")
