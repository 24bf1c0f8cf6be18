"""How a batch of vectors lies in memory while it steps through time, and the products that go with it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, PyTree

# On a CPU a product with few columns is slow: (B, n) is 1.1 to 1.3 times as fast with 16 and 32 vectors, (n, B) with 64.
_FEW = 33
# A product that transposes its matrix is a quarter slower on a CPU up to here, above it uses more threads and is faster.
_MANY = 128


class Layout(NamedTuple):
    """Vectors as rows, (B, n), for a small batch, or as columns, (n, B)."""

    rows: bool

    def times(self, W: Array, h: Array) -> Array:
        """Return `W h` for each vector."""
        return h @ W.T if self.rows else W @ h

    def product(self, W: Array) -> Callable[[Array], Array]:
        """Return the map to `W h` for each vector; call it outside of the loop that takes it."""
        if not self.rows:
            return lambda h: W @ h
        turned = W.T
        return lambda h: h @ turned

    def transposed(self, W: Array, batch: int) -> Callable[[Array], Array]:
        """Return the map to `W' d` for each vector of so many; call it outside of the loop that takes it."""
        if self.rows:
            return lambda d: d @ W
        if batch > _MANY:
            return lambda d: W.T @ d
        turned = W.T
        return lambda d: turned @ d

    def outer(self, d: Array, h: Array) -> Array:
        """Return the sum of `d h'` over all vectors."""
        return d.T @ h if self.rows else d @ h.T

    def total(self, d: Array) -> Array:
        """Return the sum of all vectors."""
        return jnp.sum(d, axis=0 if self.rows else 1)

    def each(self, b: Array) -> Array:
        """Return `b` so that it adds to each vector."""
        return b[None] if self.rows else b[:, None]

    def join(self, *parts: Array) -> Array:
        """Stack vectors on vectors."""
        return jnp.concatenate(parts, axis=1 if self.rows else 0)

    def split(self, z: Array, n: int) -> tuple[Array, Array]:
        """Return the first n entries of each vector, and the others."""
        return (z[:, :n], z[:, n:]) if self.rows else (z[:n], z[n:])

    def side_by_side(self, a: Array) -> Array:
        """Return T batches as one of T B vectors."""
        return a.reshape(-1, a.shape[-1]) if self.rows else jnp.swapaxes(a, 0, 1).reshape(a.shape[1], -1)

    def in_time(self, a: Array, samples: int) -> Array:
        """Undo `side_by_side`."""
        if self.rows:
            return a.reshape(samples, -1, a.shape[-1])
        return jnp.swapaxes(a.reshape(a.shape[0], samples, -1), 0, 1)

    @property
    def axis(self) -> int:
        """Where the batch is, counted from the end."""
        return -2 if self.rows else -1


def over_batch(fn: Callable) -> Callable:
    """Return `fn(layout, weights, *arrays) -> (summed, arrays)` as a function `(weights, *arrays)` of arrays without a batch.

    Under `jax.vmap` over the arrays alone `fn` sees the whole batch. `summed` is what `fn` has added up over it: as gradients in
    weights that all share it needs no axis. Where the weights are mapped over too, each element is a batch of one.
    """

    def single(weights: PyTree, *arrays: Array) -> Any:
        layout = Layout(rows=True)
        summed, out = fn(layout, weights, *(jnp.expand_dims(a, -2) for a in arrays))
        return summed, jax.tree.map(lambda a: jnp.squeeze(a, -2), out)

    mapped = custom_vmap(single)

    @mapped.def_vmap
    def _(size: int, batched: PyTree, weights: PyTree, *arrays: Array) -> Any:
        if any(jax.tree.leaves(batched[0])):
            axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
            out = jax.vmap(single, in_axes=axes, axis_size=size)(weights, *arrays)
            return out, jax.tree.map(lambda _: True, out)
        layout = Layout(rows=size < _FEW)

        def placed(a: Array, is_batched: bool) -> Array:
            a = a if is_batched else jnp.broadcast_to(a, (size, *a.shape))
            return jnp.moveaxis(a, 0, layout.axis)

        summed, out = fn(layout, weights, *map(placed, arrays, batched[1:]))
        out = jax.tree.map(lambda a: jnp.moveaxis(a, layout.axis, 0), out)
        return (summed, out), (jax.tree.map(lambda _: False, summed), jax.tree.map(lambda _: True, out))

    return mapped
