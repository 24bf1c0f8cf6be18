"""Systems that are known to be affine, as matrices, and functions that are shown to be."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from .checks import is_whole
from .jaxprs import called, walk
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
    return jnp.zeros(u) if is_whole(u, 0) else to_float64(jax.tree.map(jnp.asarray, u))


def to_float64(tree: PyTree) -> PyTree:
    """Return a pytree with every floating-point array in float64; call it under 64-bit JAX."""

    def cast(leaf):
        real = eqx.is_inexact_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, jnp.float64) if real else leaf

    return jax.tree.map(cast, tree)


_ADDED = frozenset((
    "add", "sub", "neg", "add_any", "reduce_sum", "cumsum", "copy", "copy_p", "concatenate", "pad", "rev", "squeeze", "reshape",
    "broadcast_in_dim", "transpose", "slice", "split", "stack", "optimization_barrier",
))  # fmt: skip
"""Operations that are linear in all their arguments together, and whose derivative in JAX is the true one."""

_FIRST = frozenset(["div", "gather", "dynamic_slice"])
"""Operations that are linear in their first argument while the others are constant."""

_PRODUCTS = frozenset(["mul", "dot_general"])
"""Operations that are linear in either argument while the other is constant."""


def is_affine(function: Callable, *samples: PyTree) -> bool:
    """Return whether a function is shown to be affine in all its arguments together, by the operations that it is made of.

    False means that it was not shown: an operation that is not linear, or is not known to be, depends on an argument.

    **Arguments:**

    - `function`: what JAX can trace.
    - `samples`: an argument each; their shapes and dtypes count.
    """
    try:
        # Plants have float64 arrays also where JAX computes in 32 bits, and which operations there are is the same.
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            traced: Any = jax.make_jaxpr(function)(*samples)
    except Exception:  # whatever tracing raises, nothing is shown
        return False
    try:
        _varying(traced, [True] * len(traced.in_avals))
    except _NotShownError:
        return False
    return True


class _NotShownError(Exception):
    """An output may vary in another way than affinely."""


def _varying(traced: Any, varies: list[bool]) -> list[bool]:
    """Return which outputs vary with the inputs that do."""
    return walk(traced, varies, _outputs, lambda constant: False)


def _outputs(equation: Any, varies: list[bool]) -> list[bool]:
    every = [True] * len(equation.outvars)
    if not any(varies):
        return [False] * len(every)
    if any(not jnp.issubdtype(out.aval.dtype, np.inexact) for out in equation.outvars):
        raise _NotShownError  # rounded to whole numbers, or compared
    name = equation.primitive.name
    if name in ("pjit", "jit", "closed_call"):
        return _varying(called(equation), varies)
    linear = (
        name in _ADDED
        or (name in _FIRST and not any(varies[1:]))
        or (name in _PRODUCTS and sum(varies) == 1)
        or (name == "select_n" and not varies[0])
        or (name in ("scatter", "scatter-add") and not varies[1])
        or (name == "convert_element_type" and _widens(equation))
    )
    if not linear:
        raise _NotShownError
    return every


def _widens(equation: Any) -> bool:
    """To a narrower dtype it would round, which is no linear operation."""
    before, after = (jnp.finfo(atom.aval.dtype) for atom in (equation.invars[0], equation.outvars[0]))
    return after.nmant >= before.nmant and after.maxexp >= before.maxexp
