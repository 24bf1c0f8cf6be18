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
        cast = jax.tree.map(_to_float64, system)
        u = jnp.zeros(nu) if isinstance(nu, int) else jax.tree.map(_to_float64, nu)
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


def _to_float64(leaf):
    return jnp.asarray(leaf, jnp.float64) if eqx.is_inexact_array(leaf) else leaf
