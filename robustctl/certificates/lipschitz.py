"""Lipschitz bounds of feed-forward networks in the 2-norm, from both sides."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import RobustctlError
from ..lft import BOUND_ROUNDING, LFT
from .networks import Network, described
from .proof import Proof, gain_margin
from .prove import least_gain
from .recursion import chain_multipliers


class LipschitzBound(NamedTuple):
    """Bounds of a network's Lipschitz constant in the 2-norm.

    **Arguments:**

    - `upper`: proven, rounding included.
    - `lower`: the largest norm of a Jacobian that was found; of a list of matrices with biases of zero.
    - `seconds`: what both took.
    """

    upper: float
    lower: float
    seconds: float


def lipschitz(network: Any, *, seconds: float = 60.0) -> LipschitzBound:
    """Bound a network's Lipschitz constant in the 2-norm, for all inputs and all biases.

    ::

        |f(a) - f(b)| <= upper |a - b|,      lower = |Jacobian of f at some point|

    The upper bound is the smallest of: LipSDP with a multiplier per neuron, by the interior point, where that is estimated to fit
    into the time; else multipliers of the layers' recursion, improved by L-BFGS; and the product of the layers' norms. Whatever
    found the multipliers, the bound is what their matrix proves, rounding included.

    Source: M. Fazlyab et al., "Efficient and accurate estimation of Lipschitz constants for deep neural networks", NeurIPS 2019.

    **Arguments:**

    - `network`: an `LBDN`, an `equinox.nn.MLP` or `Linear`, or a list of matrices and activation names in the order in which they
      act, for example `[W1, "relu", W2]`; names: relu, leaky_relu, tanh, hard_tanh, sigmoid, softplus, silu, abs, maxmin, identity.
    - `seconds`: time limit.

    **Raises:** `RobustctlError` for another network, an activation without known slopes, matrices that do not fit each other, and
    seconds that are not positive.

    **Example:** ::

        W1, W2 = np.random.default_rng(0).normal(size=(2, 4, 4))
        bound = rc.certificates.lipschitz([W1, "relu", W2])
        print(bound.lower, bound.upper)
    """
    if not seconds > 0:
        raise RobustctlError(f"seconds must be positive, got {seconds}")
    begin = time.monotonic()
    known = described(network)
    upper = _upper(known, begin + seconds)
    lower = _lower(known.function, known.form.nu)
    return LipschitzBound(upper, lower, time.monotonic() - begin)


def _upper(known: Network, deadline: float) -> float:
    product = known.product * (1 + BOUND_ROUNDING)
    if not np.isfinite(product) or not known.form.blocks:
        return product
    proof = least_gain(known.form, deadline).proof
    found = proof.value if proof else by_recursion(known.form, known.matrices, deadline)
    return min(found, product)


def by_recursion(form: LFT, matrices: tuple[np.ndarray, ...], deadline: float) -> float:
    """Return the gain that the recursion's multipliers prove, infinite for a network that it does not describe."""
    if not matrices:
        return np.inf
    gain, D = chain_multipliers(matrices, deadline)
    for raised in (1e-7, 1e-5, 1e-3):
        value = gain * (1 + raised)
        proof = Proof(value, np.zeros((0, 0)), tuple(value**2 / d for d in D))
        if gain_margin(form, proof) < 0:
            return value
    return np.inf


def _lower(function: Callable, ni: int, rounds: int = 6) -> float:
    """Return the largest norm of a Jacobian among random points and ones around the best of these, in float64."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(64, ni)) * np.logspace(-2, 1, 64)[:, None]
    best = 0.0
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        arrays, rest = eqx.partition(function, eqx.is_array_like)
        for _ in range(rounds):
            norms = np.linalg.norm(np.asarray(_jacobians(arrays, rest, jnp.asarray(points))), 2, axis=(1, 2))
            order = np.argsort(-norms)[:8]
            best = max(best, float(norms[order[0]]))
            around = points[order].repeat(8, axis=0)
            sizes = 10 ** rng.uniform(-2, 0, (64, 1)) * np.linalg.norm(around, axis=1, keepdims=True)
            points = around + sizes * rng.normal(size=around.shape) / np.sqrt(ni)
            points[:8] = points[:8] * 2
    return best


@eqx.filter_jit
def _jacobians(arrays, rest, points):
    function = eqx.combine(arrays, rest)
    return jax.vmap(jax.jacfwd(function))(points)
