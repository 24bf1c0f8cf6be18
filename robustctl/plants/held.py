"""The exact step of a linear plant whose inputs are held: the matrix exponential."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_TERMS = 11
"""Of the exponential's series: for a norm of 1/4 the first one left out is 1e-16 of the first."""

_DOUBLINGS = 48
"""The most: for a plant whose fastest rate is 1e14 over the step."""


def held(
    A: Float[Array, "nx nx"], B: Float[Array, "nx nv"], length: Float[Array, ""]
) -> tuple[Float[Array, "nx nx"], Float[Array, "nx nv"]]:
    """Return the change of a linear plant over a step with its inputs held, `x+ = x + F x + G v`.

    ::

        F = e^(A h) - I,    G = (integral of e^(A s) over 0 <= s <= h) B,    h = length

    By series for a part of the step and doubling. The identity is left out, so that slow modes keep their digits next to fast ones, in
    float32 too. Source: Moler, Van Loan, "Nineteen dubious ways to compute the exponential of a matrix", SIAM Review 45, 2003, method 3.

    **Arguments:**

    - `A`: of dx/dt = A x + B v
    - `B`: of all inputs
    - `length`: seconds
    """
    nx = A.shape[0]
    if nx == 0:
        return A, B
    # Only A decides how small the part must be: G is linear in B. The larger of the two norms would count units twice.
    size = jnp.minimum(jnp.abs(A).sum(0).max(), jnp.abs(A).sum(1).max()) * length
    count = jnp.ceil(jnp.log2(jnp.maximum(lax.stop_gradient(size), 0.25) * 4))
    part = length * jnp.exp2(-count)
    once = jnp.concatenate([A, B], axis=1) * part
    Ah, change = once[:, :nx], once / _TERMS
    for k in range(_TERMS - 1, 0, -1):
        change = (once + Ah @ change) / k

    def double(change, k):
        doubled = lax.cond(k < count, lambda c: 2 * c + c[:, :nx] @ c, lambda c: c, change)
        return doubled, None

    change, _ = lax.scan(double, change, jnp.arange(_DOUBLINGS, dtype=count.dtype))
    return change[:, :nx], change[:, nx:]
