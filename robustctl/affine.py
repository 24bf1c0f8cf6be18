"""Systems that are known to be affine, as matrices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .lft import LFT, linear
from .system import System


def affine_form(system: System, nu: int | PyTree) -> LFT:
    """Return the form of a system that is affine in state and input, from its derivative, which is the same everywhere.

    The caller vouches that it is affine: a class calls this in its own `lft()`, where its equations are.

    **Arguments:**

    - `system`: any system; its state and signals are laid out in one vector each.
    - `nu`: number of inputs, or one sample of the input where that is a pytree.
    """
    with jax.enable_x64(True):
        cast, u = to_float64(system), input_sample(nu)
        x, _ = ravel_pytree(cast.init_state())
        whole = np.asarray(_derivative(cast, u), np.float64)
    nx = x.size
    return linear(whole[:nx, :nx], whole[:nx, nx:], whole[nx:, :nx], whole[nx:, nx:])


@eqx.filter_jit
def _derivative(system: System, u: PyTree):
    """The matrix [A B; C D] of one step."""
    x, x_unravel = ravel_pytree(system.init_state())
    u, u_unravel = ravel_pytree(u)

    def step(xu):
        x_next, y = system.step(x_unravel(xu[: x.size]), u_unravel(xu[x.size :]))
        return jnp.concatenate([ravel_pytree(x_next)[0], ravel_pytree(y)[0]])

    return jax.jacfwd(step)(jnp.concatenate([x, u]))


def input_sample(u: int | PyTree) -> PyTree:
    """Return one sample of an input in float64: zeros where `u` is its width, else `u` itself."""
    return jnp.zeros(u) if isinstance(u, int) else to_float64(jax.tree.map(jnp.asarray, u))


def to_float64(tree: PyTree) -> PyTree:
    """Return a pytree with every floating-point array in float64; call it under 64-bit JAX."""

    def cast(leaf):
        real = eqx.is_inexact_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, jnp.float64) if real else leaf

    return jax.tree.map(cast, tree)
