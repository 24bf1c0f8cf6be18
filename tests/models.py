"""One list of every model with a guarantee, for the tests that all of them must pass."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import robustctl as rc

SIZES = [dict(nu=1, ny=3), dict(nu=2, ny=2), dict(nu=3, ny=1)]


def contracting(cls, **kw) -> Callable:
    return lambda *, gamma, **rest: cls(**kw, **rest)


def lipschitz(cls, **kw) -> Callable:
    return lambda *, gamma, **rest: cls(gamma=gamma, **kw, **rest)


def dissipative(cls, **kw) -> Callable:
    """A supply rate with all three terms, of size gamma."""

    def make(*, gamma, nu, ny, **rest):
        S = 0.3 * jnp.ones((nu, ny))
        return cls(nu=nu, ny=ny, Q=-jnp.eye(ny) / gamma, S=S, R=gamma * jnp.eye(nu), **kw, **rest)

    return make


R2DN = {"hidden": (5, 6)}
MODELS = {
    "ContractingR2DN": contracting(rc.nn.ContractingR2DN, **R2DN),
    "LipschitzR2DN": lipschitz(rc.nn.LipschitzR2DN, **R2DN),
    "DissipativeR2DN": dissipative(rc.nn.DissipativeR2DN, **R2DN),
    "LongMemoryR2DN": lipschitz(rc.nn.LipschitzR2DN, init=rc.nn.long_memory, **R2DN),
    "ContractingREN": contracting(rc.nn.ContractingREN),
    "LipschitzREN": lipschitz(rc.nn.LipschitzREN),
    "DissipativeREN": dissipative(rc.nn.DissipativeREN),
}


def draw(model, key, scale: float):
    """Replace every free array by normal entries of the given size: a point far from any initial value."""
    leaves, treedef = jax.tree.flatten(eqx.filter(model, eqx.is_inexact_array))
    keys = jr.split(key, len(leaves))
    drawn = [scale * jr.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(treedef, drawn), model)


def draw_of_unlike_sizes(model, key):
    """As `draw`, each free array of a size of its own, from a tenth to ten."""
    draw_key, size_key = jr.split(key)
    leaves, treedef = jax.tree.flatten(draw(model, draw_key, 1.0))
    sizes = 10 ** jr.uniform(size_key, (len(leaves),), minval=-1.0, maxval=1.0)
    return jax.tree.unflatten(
        treedef, [s.astype(leaf.dtype) * leaf for s, leaf in zip(sizes, leaves, strict=True)]
    )
