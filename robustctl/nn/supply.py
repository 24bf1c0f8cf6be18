"""Supply rates: what a model may give back for what it is given."""

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Float

from ..lft import float64
from ..registry import registered


@registered()
class Supply(eqx.Module):
    """The quadratic supply rate `dy' Q dy + 2 du' S dy + du' R du`, with `Q < 0` and `R - S Q^-1 S' > 0`.

    **Arguments:**

    - `Q`: (ny, ny), symmetric.
    - `S`: (nu, ny).
    - `R`: (nu, nu), symmetric.
    """

    Q: Float[Array, "ny ny"]
    S: Float[Array, "nu ny"]
    R: Float[Array, "nu nu"]


def in_float64(supply: Supply | None) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return `(Q, S, R)` in float64, as a `Claim` has them."""
    if supply is None:
        return None
    Q, S, R = float64(supply.Q, supply.S, supply.R)
    return Q, S, R


def gain_supply(gamma: Float[Array, ""], nu: int, ny: int) -> Supply:
    """Return the supply rate of a gain bound: `gamma |du|^2 - |dy|^2 / gamma`."""
    dtype = gamma.dtype
    return Supply(
        -jnp.eye(ny, dtype=dtype) / gamma, jnp.zeros((nu, ny), dtype), gamma * jnp.eye(nu, dtype=dtype)
    )


def through_ports(supply: Supply, B2, C2, D12, D21, D22):
    """Return `(B2, C2, D12, D21, D22)` that respect `supply`, from ones of gain at most one.

    ::

        LQ' LQ = -Q,  LR' LR = R - S Q^-1 S',   u_core = LR u,   y_core = LQ (y + Q^-1 S' u)

        D12 <- D12 LR,  B2 <- B2 LR,  C2 <- LQ^-1 C2,  D21 <- LQ^-1 D21,  D22 <- LQ^-1 D22 LR - Q^-1 S'

    since then `|u_core|^2 - |y_core|^2` is the supply rate.
    """
    # With y_core and u_core so chosen, |u_core|^2 - |y_core|^2 = y'Qy + 2 u'Sy + u'Ru: complete the square in y.
    LQ = jnp.linalg.cholesky(-supply.Q).T
    QS = jnp.linalg.solve(supply.Q, supply.S.T)
    LR = jnp.linalg.cholesky(supply.R - supply.S @ QS).T

    def out(M):
        return jsl.solve_triangular(LQ, M, lower=False)

    return B2 @ LR, out(C2), D12 @ LR, out(D21), out(D22) @ LR - QS
