"""One list of every model with a guarantee, for the tests that all of them must pass."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.pytrees import traced

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


def average(make: Callable) -> Callable:
    """The mean of two models that have nx states and nv neurons or features together."""

    def both(*, nx, nv, key, **rest):
        one, other = jr.split(key)
        sizes = [(nx // 2, nv // 2), (nx - nx // 2, nv - nv // 2)]
        return rc.nn.Average(
            [make(nx=n, nv=v, key=k, **rest) for (n, v), k in zip(sizes, (one, other), strict=True)]
        )

    return both


R2DN = {"hidden": (5, 6)}


def with_phi(make: Callable, network: Callable, hidden: tuple, **settings) -> Callable:
    """An R2DN with another network for phi."""

    def build(*, nv, key, dtype=None, **rest):
        # The activation of models is that of the usual network.
        given = {name: rest.pop(name) for name in ("activation",) if name in rest}
        phi = network(nv, nv, hidden, key=key, dtype=dtype, **(given | settings))
        return make(nv=nv, key=key, dtype=dtype, phi=phi, **rest)

    return build


def stack(*layers: int) -> Callable:
    """A stack with nx states in all, of the first of these numbers of layers that divides them."""

    def build(*, nx, hidden=(5,), **rest):
        count = next(n for n in layers if nx % n == 0)
        return rc.nn.Stack(states=nx // count, layers=count, hidden=hidden, **rest)

    return build


def input_convex(**kw) -> Callable:
    """An input-convex network, whose neurons are its states; of its inputs the first acts upward."""

    def build(*, nu, nv, **rest):
        return rc.nn.InputConvexRNN(nu=nu, directions=(1,) + (0,) * (nu - 1), **kw, **rest)

    return build


class AtASchedule(rc.Parameterization):
    """An LPV model from its other inputs to its outputs; it steps at one schedule, and claims for all."""

    model: rc.nn.LPV

    def explicit(self):
        system = self.model.explicit()
        return system.at(jnp.full(len(system.schedule), 0.3, system.E.dtype))


def lpv(guarantee: Callable, **settings) -> Callable:
    """A model with one input more, its schedule."""

    def build(*, nu, gamma, rate=1.0, **rest):
        given = guarantee(gamma, rate)
        return AtASchedule(rc.nn.LPV(given, nu=nu + 1, schedule=(nu,), hidden=3, **settings, **rest))

    return build


CONTRACTING, LIPSCHITZ = contracting(rc.nn.ContractingR2DN), lipschitz(rc.nn.LipschitzR2DN)
MODELS = {
    "ContractingR2DN": contracting(rc.nn.ContractingR2DN, **R2DN),
    "LipschitzR2DN": lipschitz(rc.nn.LipschitzR2DN, **R2DN),
    "DissipativeR2DN": dissipative(rc.nn.DissipativeR2DN, **R2DN),
    "LongMemoryR2DN": lipschitz(rc.nn.LipschitzR2DN, init=rc.nn.long_memory, **R2DN),
    "R2DN with a bypass": with_phi(LIPSCHITZ, rc.nn.BypassLBDN, (5, 6)),
    "R2DN with MaxMin": with_phi(LIPSCHITZ, rc.nn.Orthogonal, (6, 4), activation=rc.nn.max_min),
    "R2DN with GroupSort": with_phi(CONTRACTING, rc.nn.Orthogonal, (6,), activation=rc.nn.GroupSort(3)),
    "R2DN with Householder": with_phi(
        CONTRACTING, rc.nn.Orthogonal, (6, 3), activation=rc.nn.Householder((1, 2, -1))
    ),
    "ContractingREN": contracting(rc.nn.ContractingREN),
    "LipschitzREN": lipschitz(rc.nn.LipschitzREN),
    "DissipativeREN": dissipative(rc.nn.DissipativeREN),
    "Stack": stack(2, 3, 1),
    "Stack of one recurrence": stack(1),
    "InputConvexRNN": input_convex(),
    "InputConvexRNN of softplus": input_convex(activation=jax.nn.softplus),
    "Contracting LPV": lpv(lambda gamma, rate: rc.nn.Contracting(rate)),
    "Lipschitz LPV": lpv(rc.nn.Lipschitz, factors=3),
}
AVERAGES = {f"Average of two {name}s": average(MODELS[name]) for name in MODELS if " " not in name}
EVERY = MODELS | AVERAGES


def rounded_down(number: float, dtype) -> float:
    """The largest number of a dtype that is not above a positive one."""
    nearest = np.asarray(number, dtype)
    return float(nearest if float(nearest) <= number else np.nextafter(nearest, np.asarray(0, dtype)))


def draw(model, key, scale: float):
    """Replace every free array by normal entries of the given size: a point far from any initial value."""
    leaves, treedef = jax.tree.flatten(eqx.filter(model, eqx.is_inexact_array))
    keys = jr.split(key, len(leaves))
    drawn = [scale * _normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(treedef, drawn), model)


def _normal(key, shape, dtype):
    """`jr.normal(key, shape, dtype)`, number by number, from a program for all shapes of at most as many numbers."""
    size = math.prod(shape)
    most = 4 ** max(3, math.ceil(math.log(max(size, 1), 4)))
    numbers = jr.normal(key, (most,), dtype)
    if traced(numbers):
        return numbers[:size].reshape(shape)
    return jnp.asarray(np.asarray(numbers)[:size].reshape(shape))


@eqx.filter_jit
def stepped(system, x, u):
    """`system.step(x, u)` as one program, in place of one an operation."""
    return system.step(x, u)


@eqx.filter_jit
def _explicit(arrays, rest):
    return eqx.filter_vmap(lambda drawn: eqx.combine(drawn, rest).explicit())(arrays)


def drawn_systems(model, scales, seed: int = 0) -> list:
    """Return a system for each scale, at normal free arrays of that size, all from one compiled program.

    A scale is a number, or a pair of bounds: then every array has a size of its own between them.
    """
    rng = np.random.default_rng(seed)
    free, rest = eqx.partition(model, eqx.is_inexact_array)

    def drawn(leaf):
        sizes = [10 ** rng.uniform(*np.log10(np.broadcast_to(scale, 2))) for scale in scales]
        values = [size * rng.normal(size=leaf.shape) for size in sizes]
        return jnp.asarray(np.stack(values).astype(leaf.dtype))

    leaves, treedef = jax.tree.flatten(_explicit(jax.tree.map(drawn, free), rest))
    host = [np.asarray(leaf) for leaf in leaves]  # whose slices compile nothing
    return [
        jax.device_put(jax.tree.unflatten(treedef, [leaf[k] for leaf in host])) for k in range(len(scales))
    ]
