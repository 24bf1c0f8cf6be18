"""Matrix maps that turn free arrays into contractions, metrics and orthogonal factors.

The guarantees rest on these maps, so whoever calls them runs them through `exact_map`: on a GPU
the default matrix product rounds to ten bits (TF32), which would void every certificate.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_F = TypeVar("_F", bound=Callable)


def unstable(poles: np.ndarray, digits: int = 6) -> str:
    """Return the poles as a text, largest first, where not all are inside the unit circle; empty where they are."""
    if np.abs(poles).max(initial=0.0) < 1:
        return ""
    return ", ".join(f"{p:.{digits}g}" for p in sorted(poles, key=abs, reverse=True))


PRODUCT_ROUNDINGS = 64.0
"""How much larger than the rows of a product of matrices the summed sizes of its terms may be for its rounding to be counted."""


def exact_map(fn: _F) -> _F:
    """Compile `fn` as one call, its matrix products in the full precision of their dtype (no TF32, no bfloat16).

    For the maps from free arrays to models: called outside `jit` they would compile operation by operation.
    """

    @eqx.filter_jit
    @functools.wraps(fn)
    def compiled(*args, **kwargs):
        with jax.default_matmul_precision("highest"):
            return fn(*args, **kwargs)

    return compiled  # pyright: ignore[reportReturnType]


_product = functools.partial(jnp.matmul, precision="highest")
"""For functions with a rule for their derivative: JAX traces the rule, and the function again, when `exact_map` has ended."""


def slack(dtype) -> float:
    """Return the relative distance from the boundary of a guarantee, `eps^(3/4)` of `dtype`.

    6e-6 in float32 and 2e-12 in float64: out of reach of rounding, and too little to matter to a model.
    """
    return float(jnp.finfo(dtype).eps) ** 0.75


def headroom(dtype) -> float:
    """Return the part of a gain that is left to rounding, 4,096 eps: 5e-4 in float32 and 9e-13 in float64.

    A model's arrays are off by eps, its gain by eps times what its metric and `(I - D'D)^-1` amplify. With less,
    some models in float32 whose free arrays are of unlike sizes could not be certified.
    """
    return 4096 * float(jnp.finfo(dtype).eps)


@jax.custom_jvp
@jax.jit
def frobenius(X: Float[Array, "..."]) -> Float[Array, ""]:
    """Frobenius norm `sqrt(sum X_ij^2)`, differentiable at zero and safe from overflow of the squares."""
    # Entries divided by the largest cannot overflow when squared; eps under the root gives zero a derivative.
    scale = jnp.maximum(jnp.max(jnp.abs(X), initial=0.0), jnp.finfo(X.dtype).tiny ** 0.5)
    return scale * jnp.sqrt(jnp.sum((X / scale) ** 2) + jnp.finfo(X.dtype).eps)


@frobenius.defjvp
def _(primals, tangents):
    (X,), (dX,) = primals, tangents
    size = frobenius(X)
    return size, jnp.sum(X / size * dX)


@jax.custom_jvp
def gram(X: Float[Array, "m n"]) -> Float[Array, "n n"]:
    """`X'X`; its derivative, `T + T'` with `T = X' dX`, is one product in both directions where that of a product is two."""
    return _product(X.T, X)


@gram.defjvp
def _(primals, tangents):
    (X,), (dX,) = primals, tangents
    T = _product(X.T, dX)
    return gram(X), T + T.T


def polar_gram(X: Float[Array, "n n"], p: Float[Array, ""]) -> Float[Array, "n n"]:
    """Positive definite `p^2 X'X / |X|_F^2 + eps I`, with eps relative to its trace.

    The polar form separates size (`p`) from shape (`X`) [BWM25, Sec. V].
    """
    n = X.shape[0]
    unit = X / frobenius(X)
    # eps/n of the identity, next to a trace of one: a margin that no rounding of the product can consume
    return p**2 * (gram(unit) + slack(X.dtype) / n * jnp.eye(n, dtype=X.dtype))


_LEAF = 72
"""Rows up to which LAPACK inverts a matrix as it stands: above it, products are faster than its triangular solves."""


@jax.custom_jvp
def inverse(M: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Inverse of I plus skew plus positive semidefinite; its derivative, `-M^-1 dM M^-1`, is two products and no solve.

    ::

        [A B; C D]^-1 = [A^-1 0; 0 0] + [A^-1 B; -I] S [C A^-1, -I],   S = (D - C A^-1 B)^-1

    halved again and again, without exchange of rows: A and the Schur complement are matrices of the same kind, so that
    neither inverse has a norm above one.
    """
    n = M.shape[0]
    if n <= _LEAF:
        return jnp.linalg.inv(M)
    h = n // 2
    A, B, C, D = M[:h, :h], M[:h, h:], M[h:, :h], M[h:, h:]
    A_inv = inverse(A)
    CA = _product(C, A_inv)
    S = inverse(D - _product(CA, B))
    lower = jnp.concatenate([-_product(S, CA), S], axis=1)
    upper = jnp.pad(A_inv, ((0, 0), (0, n - h))) - _product(_product(A_inv, B), lower)
    return jnp.concatenate([upper, lower])


@inverse.defjvp
def _(primals, tangents):
    V = inverse(*primals)
    return V, -_product(_product(V, tangents[0]), V)


def cayley(G: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """Cayley map onto matrices with orthonormal columns, m >= n.

    ::

        G = [X; Y],  Z = X - X' + Y'Y,  V = (I + Z)^-1,  Q = [(I + Z)^-1 (I - Z); -2 Y V] = [2 V - I; -2 Y V],   Q'Q = I

    Source: [WM23], eq. (9). `I + Z` is I plus skew plus positive semidefinite, so that `|V| <= 1`. The last division
    removes what rounding left above one: it is 1 up to the rounding error, grows with it, and keeps |Q| <= 1 where the
    inverse was inaccurate.
    """
    n = G.shape[1]
    X, Y = G[:n], G[n:]
    eye = jnp.eye(n, dtype=G.dtype)
    # (I + Z)^-1 (I - Z) = 2 (I + Z)^-1 - I, which spares a second solve
    V = inverse(eye + X - X.T + gram(Y))
    Q = jnp.concatenate([2 * V - eye, -2 * (Y @ V)])
    return Q / lax.stop_gradient(jnp.sqrt(jnp.maximum(norm_bound(Q), jnp.ones((), G.dtype))))


def norm_bound(Q: Float[Array, "m n"]) -> Float[Array, ""]:
    """Upper bound on `|Q|^2` (spectral norm): the largest row sum of `|Q'Q|`, tight when `Q'Q` is near I."""
    return jnp.max(jnp.sum(jnp.abs(Q.T @ Q), axis=1), initial=0.0)


def polar_cayley(G: Float[Array, "m n"], a: Float[Array, ""]) -> Float[Array, "m n"]:
    """Cayley map of `a G / |G|_F`, so that the entries' size is one trained number."""
    return cayley(a / frobenius(G) * G)


def contraction(G: Float[Array, "k n"], shape: tuple[int, int]) -> Float[Array, "a b"]:
    """Return a matrix of the given shape with spectral norm at most `1 - headroom`, from free `G`.

    `G` has shape `(a + b, min(a, b))`: the Cayley map's lower block is a contraction, and every
    contraction is one for some `G`.
    """
    # The columns of [Q1; Q2] are orthonormal, so |Q2| <= 1; `headroom` leaves the rounding of what uses N below one.
    n = min(shape)
    N = cayley(G)[n:]
    N = N if shape[0] >= shape[1] else N.T
    return (1 - headroom(G.dtype)) * N


def defect_factor(N: Float[Array, "a b"]) -> Float[Array, "b b"]:
    """Cholesky factor `M` with `M M' = I - N'N`, for a contraction `N`."""
    eye = jnp.eye(N.shape[1], dtype=N.dtype)
    return jnp.linalg.cholesky(eye - gram(N))


def cancellation(products: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
    """Return what a proof with products of matrices assumes: nothing unless their terms cancel far.

    **Arguments:**

    - `products`: each with the same product of the absolute values, whose rows bound its rounding.
    """
    for product, sizes in products:
        rows, bounds = (np.linalg.norm(M, axis=1) if M.size else np.zeros(0) for M in (product, sizes))
        if np.any(bounds > PRODUCT_ROUNDINGS * rows):
            return (
                "the rounding of a product of the network's matrices, whose terms cancel almost, is not counted",
            )
    return ()


class Wired(NamedTuple):
    """The nine matrices of a system whose inputs are wired to its outputs.

    **Arguments:**

    - `whole`: A, B1, B2, C1, D11, D12, C2, D21, D22.
    - `sizes`: of the terms that each entry adds up.
    - `moved`: by how much each entry moves, at most and to first order, if every entry of the open system moves by its own size.
    """

    whole: list[np.ndarray]
    sizes: list[np.ndarray]
    moved: list[np.ndarray]


def closed_wiring(nine, inverse: np.ndarray, wiring) -> Wired:
    """Return the nine matrices of a system whose inputs are wired to its outputs, and what their rounding depends on.

    ::

        u = F y + G e,      z = H y + J e

    Products are in extended precision, and rounded to float64 once.

    **Arguments:**

    - `nine`: A, B1, B2, C1, D11, D12, C2, D21, D22 of the open system, as in `rc.lft.LFT`.
    - `inverse`: that of `I - D22 F`, in float64.
    - `wiring`: F, G, H, J.
    """
    given = [np.asarray(M, np.longdouble) for M in (*nine, inverse, *wiring)]
    sizes = [np.abs(M) for M in given]
    *_, C2, D21, D22, R, F, G, _, _ = given
    right = np.hstack([C2, D21, D22 @ G])
    y = R @ right
    # each step squares the relative error of the inverse
    for _ in range(2):
        y = y + R @ (right - y + D22 @ (F @ y))
    C2, D21, D22, R, F, G, H, _ = sizes[6:]
    right = np.hstack([C2, D21, D22 @ G])
    # y = D22 (F y + G e) + ..., of which C2, D21 and D22 move
    dy = R @ (right + D22 @ (F @ np.abs(y)))
    ends = np.split(H @ dy, np.cumsum((C2.shape[1], D21.shape[1])), axis=1)
    found = _wired(given, y), _wired(sizes, R @ right), [*_wired(sizes, np.abs(y) + dy)[:6], *ends]
    return Wired(*([np.asarray(M, np.float64) for M in each] for each in found))


def amplified(whole: Iterable[np.ndarray], moved: Iterable[np.ndarray], most: float) -> float:
    """Return how many times more rows and columns move, relative to their own sizes, than what they were made of: from 1 to `most`.

    **Arguments:**

    - `whole`: matrices.
    - `moved`: how far their entries move, see `Wired`.
    - `most`: the largest number that is returned.
    """
    found = 1.0
    for axis in (0, 1):
        for M, dM in zip(whole, moved, strict=True):
            size, change = (np.linalg.norm(A, axis=axis) for A in (M, dM))
            ratio = change[change > 0] / np.maximum(size[change > 0], 1e-300)
            found = max(found, float(ratio.max(initial=1.0)))
    return min(found, most)


def _wired(given, y: np.ndarray) -> list[np.ndarray]:
    A, B1, B2, C1, D11, D12, C2, D21, _, _, F, G, H, J = given
    # y = D22 (F y + G e) + C2 x + D21 w, so y = (I - D22 F)^-1 (C2 x + D21 w + D22 G e)
    C, W, D = np.split(y, np.cumsum((C2.shape[1], D21.shape[1])), axis=1)
    E, B, V = F @ D + G, B2 @ F, D12 @ F  # u = F C x + F W w + E e
    return [A + B @ C, B1 + B @ W, B2 @ E, C1 + V @ C, D11 + V @ W, D12 @ E, H @ C, H @ W, H @ D + J]


_AT_ONCE = 64
"""Frequencies solved for together, which bounds the memory of a system with many states."""


def response(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the frequency response `C (z I - A)^-1 B + D`, (F, ny, nu), of a linear system.

    **Arguments:**

    - `A`: (nx, nx).
    - `B`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: (ny, nu).
    - `points`: complex z, (F,).
    """
    if not len(A):
        return np.broadcast_to(D + 0j, (len(points), *D.shape))
    parts = [points[k : k + _AT_ONCE, None, None] for k in range(0, len(points), _AT_ONCE)]
    solved = [np.linalg.solve(z * np.eye(len(A)) - A, np.broadcast_to(B, (len(z), *B.shape))) for z in parts]
    return np.concatenate([C @ states + D for states in solved])
