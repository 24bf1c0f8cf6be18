"""The yardstick for our speed: an R2DN computed as in the published code.

The free arrays and the map are those of `ContractingR2DN`, so that both give the same numbers. The parameter map is computed
once per rollout by plain solves; the scan steps batch first, one product per term, with nothing folded or hoisted; gradients
are plain automatic differentiation. Source of the arrangement: the code published with [BWM25], arXiv 2504.01250.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from robustctl.linalg import slack
from robustctl.nn import LBDN, R2DN


class Layer(NamedTuple):
    """One sandwich layer: `A'`, `B`, the diagonal of Psi and the bias."""

    A_T: Array
    B: Array
    psi: Array
    b: Array


class Plain(NamedTuple):
    """The explicit matrices, and the network's layers."""

    A: Array
    B1: Array
    model: R2DN
    layers: tuple[Layer, ...]
    last: Array


def explicit(model: R2DN) -> Plain:
    """Map free arrays to matrices, one solve for each."""
    core: Any = model.core
    nx, X, p = core.bx.size, core.X, core.p
    H = p**2 * (X.T @ X) / _norm(X) ** 2
    H = H + jnp.block(
        [
            [core.C1.T @ core.C1, jnp.zeros((nx, nx), X.dtype)],
            [jnp.zeros((nx, nx), X.dtype), core.B1_imp @ core.B1_imp.T],
        ]
    )
    H = H + p**2 * slack(X.dtype) / (2 * nx) * jnp.eye(2 * nx, dtype=X.dtype)
    E = (H[:nx, :nx] + H[nx:, nx:] / model.rate**2 + core.Y - core.Y.T) / 2
    A, B1 = jnp.linalg.solve(E, H[nx:, :nx]), jnp.linalg.solve(E, core.B1_imp)
    assert isinstance(core.phi, LBDN)
    layers = []
    for layer in core.phi.layers:
        A_T, B_T = _cayley(layer.a / _norm(layer.XY) * layer.XY)
        layers.append(Layer(A_T, B_T.T, jnp.exp(20 * jnp.tanh(layer.d / 20)), layer.b))
    last = _cayley(core.phi.a / _norm(core.phi.XY) * core.phi.XY)[1].T
    return Plain(A, B1, model, tuple(layers), last)


def step(e: Plain, x: Float[Array, "B nx"], u: Float[Array, "B nu"]) -> tuple[Array, Array]:
    """Return `(x_next, y)` of a batch."""
    m: Any = e.model.core
    assert isinstance(m.phi, LBDN)
    v = x @ m.C1.T + u @ m.D12.T + m.bv[None]
    h, root2 = v, jnp.sqrt(jnp.asarray(2.0, v.dtype))
    for layer in e.layers:
        z = root2 * (h @ (jnp.diag(1 / layer.psi) @ layer.B).T) + layer.b[None]
        h = root2 * (m.phi.activation(z) @ (layer.A_T * layer.psi[None]).T)
    w = h @ e.last.T + m.phi.b[None]
    x_next = x @ e.A.T + w @ e.B1.T + u @ m.B2.T + m.bx[None]
    return x_next, x @ m.C2.T + w @ m.D21.T + u @ m.D22.T + m.by[None]


def rollout(model: R2DN, us: Float[Array, "T B nu"], x0: Float[Array, "B nx"]) -> tuple[Array, Array]:
    """Return `(x_final, ys)` of a batch of sequences, time first."""
    e = explicit(model)
    return lax.scan(lambda x, u: step(e, x, u), x0, us)


def _norm(X: Array) -> Array:
    return jnp.sqrt(jnp.sum(X**2) + jnp.finfo(X.dtype).eps)


def _cayley(W: Array) -> tuple[Array, Array]:
    n = W.shape[1]
    U, V = W[:n], W[n:]
    Z, eye = U - U.T + V.T @ V, jnp.eye(n, dtype=W.dtype)
    return jnp.linalg.solve(eye + Z, eye - Z), -2 * jnp.linalg.solve((eye + Z).T, V.T).T


def explicit_map(model: R2DN) -> tuple[Array, ...]:
    """Return the results of the map as arrays."""
    e = explicit(model)
    return e.A, e.B1, e.last, *jax.tree.leaves(e.layers)
