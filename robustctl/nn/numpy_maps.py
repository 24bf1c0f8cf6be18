"""Initial values that need a map of the free arrays, or its inverse, before anything runs: by NumPy, which compiles nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..linalg import headroom, slack
from ..pytrees import traced
from .bounded_real import corner, of_gram
from .inverse import ren_gram, ren_ports
from .ren_map import port_gram

Shapes = Sequence[tuple[int, ...]]


def in_numpy(
    fn: Callable[..., Sequence[Any]], shapes: Shapes, dtype: Any, *arrays: Array
) -> tuple[Array, ...]:
    """Return `fn(*arrays)`, arrays of the given shapes and dtype, computed by NumPy in float64 and integers.

    Nothing is compiled. Where `arrays` are traced, as those drawn from a key under `jax.vmap`, the compiled program calls
    back, so that a model is the same however it was built.
    """

    def compute(*arrays):
        values = map(np.asarray, arrays)
        wide = (a.astype(np.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in values)
        return tuple(np.asarray(value).astype(dtype) for value in fn(*wide))

    if not traced(arrays):
        return jax.device_put(compute(*arrays))
    like = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    return jax.pure_callback(compute, like, *arrays, vmap_method="sequential")


def zeros(shape: int | tuple[int, ...], dtype: Any) -> Array:
    """Return `jnp.zeros(shape, dtype)`."""
    return jax.device_put(np.zeros(shape, dtype))


def norm(X: Float[Array, "..."]) -> Float[Array, ""]:
    """Return the Frobenius norm, where the size in a polar form starts."""
    return in_numpy(lambda X: [np.linalg.norm(X)], [()], X.dtype, X)[0]


def first_feedthrough(G12: Array, G21: Array, G22: Array, sizes: tuple[int, int, int]) -> Array:
    """Return `[[0, D12], [D21, D22]]` as `UnitGainR2DN.feedthrough` does, by `feedthrough`; sizes `(nu, nv, ny)`."""
    nu, nv, ny = sizes
    dtype = G12.dtype

    def compute(*G):
        D12, D21, W = (
            contraction_of(g, s, dtype) for g, s in zip(G, ((nv, nu), (ny, nv), (ny, nu)), strict=True)
        )
        D22 = corner(D12, D21, W)
        return [(1 - headroom(dtype)) * np.block([[np.zeros((nv, nv)), D12], [D21, D22]])]

    return in_numpy(compute, [(nv + ny, nv + nu)], dtype, G12, G21, G22)[0]


def small_feedthrough(D12: Array, D21: Array, G22: Array) -> Array:
    """Return `[[0, D12], [D21, D22]]` with the first two scaled until the whole is a contraction."""
    (nv, nu), ny, dtype = D12.shape, D21.shape[0], G22.dtype

    def compute(D12, D21, G22):
        D22 = contraction_of(G22, (ny, nu), dtype)
        # |[[0, D12], [D21, D22]]| <= max(|D12|, |D21|) + |D22|: half of what D22 leaves is within the bound.
        room = (1 - np.linalg.norm(D22, 2)) / 2
        D12, D21 = (room / np.linalg.norm(D, 2) * D for D in (D12, D21))
        return [np.block([[np.zeros((nv, nv)), D12], [D21, D22]])]

    return in_numpy(compute, [(nv + ny, nv + nu)], dtype, D12, D21, G22)[0]


def from_linear_part(part: Any, D: Array, rate: float, nv: int) -> tuple[Array, ...]:
    """Return `X` and the port arrays of the REN that is the R2DN with this `LinearPart`, with D11 = 0, Lambda = I."""
    nx, ny, nu, least = len(part.Y), D.shape[0] - nv, D.shape[1] - nv, slack(D.dtype)

    def compute(X, B_imp, C, D):
        # H of `bounded_real` with p = |X|_F; such a start has Y = 0.
        H = X.T @ X + least / (2 * nx) * np.sum(X**2) * np.eye(2 * nx)
        A, B, P = of_gram(H, np.zeros((nx, nx)), B_imp, C, D, rate)
        W, ports = ren_ports(rate**2 * P @ B[:, nv:], C[nv:], D[:nv, nv:], D[nv:, :nv], D[nv:, nv:])
        return _root(ren_gram(A, B[:, :nv], C[:nv], P, rate) - port_gram(*ports, W=W), least), *ports

    shapes = ((2 * nx + nv, 2 * nx + nv), (nx, nu), (ny, nx), (nv, nu), (ny, nv))
    return in_numpy(compute, shapes, D.dtype, part.X, part.B_imp, part.C, D)


def contraction_of(G: np.ndarray, shape: tuple[int, int], dtype: Any) -> np.ndarray:
    """The contraction that `linalg.contraction` makes of `G`, by the lower block of the Cayley map."""
    n = min(shape)
    X, Y = G[:n], G[n:]
    N = -2 * Y @ np.linalg.inv(np.eye(n) + X - X.T + Y.T @ Y)
    return (1 - headroom(dtype)) * (N if shape[0] >= shape[1] else N.T)


def _root(H: np.ndarray, least: float) -> np.ndarray:
    """Return `X` with `X'X` the positive part of `H`, which rounding may have left short of definite."""
    values, vectors = np.linalg.eigh((H + H.T) / 2)
    return np.sqrt(np.maximum(values, least * np.abs(values).max()))[:, None] * vectors.T
