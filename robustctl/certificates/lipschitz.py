"""Lipschitz bounds of feed-forward networks from both sides, for all inputs or on a box of them."""

import time
from typing import Any, NamedTuple

import numpy as np

from ..errors import RobustctlError
from ..lft import BOUND_ROUNDING, LFT
from .branching import branched
from .infinity import infinity_bound
from .local import Box, jacobian_bounds, norm_bound, slope_ranges
from .networks import Network, described
from .progress import deadline_after
from .proof import Proof, gain_margin
from .prove import least_gain
from .recursion import chain_multipliers
from .steps import (
    Chain,
    Ranges,
    centered,
    form_of,
    jacobians,
    largest_norm,
    path_sizes,
    slopes_everywhere,
    unit_ranges,
)

_BRANCHED = 4
"""Inputs up to which a box is divided: with more its parts are too many."""

_COMPILING = 3.0
"""Seconds that the recursion takes before it improves anything."""


class LipschitzBound(NamedTuple):
    """Bounds of a network's Lipschitz constant, printed as a table.

    **Arguments:**

    - `upper`: proven, rounding included; in outputs' units over inputs'.
    - `lower`: searched: the largest norm of a Jacobian that was found; of a network without biases with biases of zero.
    - `seconds`: what both took.
    - `uppers`: every upper bound that was computed, by method; `upper` is the smallest.
    - `norm`: of inputs and outputs, 2 or infinity.
    - `assumptions`: what was assumed and not checked, in words.
    """

    upper: float
    lower: float
    seconds: float
    uppers: dict[str, float]
    norm: float
    assumptions: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The upper bound over the lower one; 1 where both are 0."""
        if self.lower == 0:
            return 1.0 if self.upper == 0 else np.inf
        return self.upper / self.lower

    def __str__(self) -> str:
        name = "infinity norm" if self.norm != 2 else "2-norm"
        head = f"{'Lipschitz constant, ' + name:<36}{'upper':>12}{'lower':>12}{'ratio':>9}{'seconds':>9}"
        row = f"{'proven, searched':<36}{self.upper:>12.6g}{self.lower:>12.6g}{self.ratio:>9.4g}{self.seconds:>9.3g}"
        others = [
            f"  {method:<34}{value:>12.6g}"
            for method, value in sorted(self.uppers.items(), key=lambda m: m[1])
        ]
        return "\n".join([head, row, *others, *(f"assumed: {text}" for text in self.assumptions)])


def lipschitz(network: Any, box: Any = None, norm: Any = 2, *, seconds: float = 60.0) -> LipschitzBound:
    """Bound a network's Lipschitz constant in the 2-norm or the infinity norm, for all inputs or on a box of them.

    ::

        |f(a) - f(b)| <= upper |a - b|   for all a and b in the box,      lower = |Jacobian of f at some point of it|

    For all inputs and all biases, the upper bound is the smallest of: LipSDP with a multiplier per neuron, by the interior point,
    where that is estimated to fit into the time; else multipliers of the layers' recursion, improved by L-BFGS; and the product
    of the layers' norms. On a box it is the smallest of these, of LipSDP with the slopes that the neurons have there, and of a
    bound of all Jacobians there; with up to four inputs the box is divided until upper and lower are within half a percent of each
    other or the time ends. Whatever found the multipliers, the bound is what their matrix proves, rounding included.

    Source: M. Fazlyab et al., "Efficient and accurate estimation of Lipschitz constants for deep neural networks", NeurIPS 2019;
    for sorting activations P. Pauli et al., "Novel quadratic constraints for extending LipSDP beyond slope-restricted
    activations", ICLR 2024; for boxes Z. Shi et al., "Efficiently computing local Lipschitz constants of neural networks via bound
    propagation", NeurIPS 2022.

    **Arguments:**

    - `network`: an `LBDN`, a `LipschitzStatic`, an `equinox.nn.MLP`, `Linear` or `Sequential`, or a list of layers in the order in
      which they act, for example `[W1, "relu", (W2, b2)]`. A layer is a matrix, a pair of a matrix and a bias, a name (relu,
      leaky_relu, tanh, hard_tanh, sigmoid, softplus, silu, abs, maxmin, identity), a JAX function with slopes in [0, 1],
      `GroupSort`, `Householder`, a `Residual`, or another network.
    - `box`: `(lower, upper)`, a number per input each; default all inputs.
    - `norm`: 2 or infinity (`jnp.inf` or `"inf"`), of inputs and outputs both.
    - `seconds`: time limit.

    **Raises:** `RobustctlError` for another network, one with state or too large, an activation without known slopes, weights that
    are not finite or do not fit each other, a box that is not finite, of another size or reversed, another norm, and seconds that
    are not positive.

    **Example:** ::

        W1, W2 = np.random.default_rng(0).normal(size=(2, 4, 4))
        network = [W1, "relu", W2]
        print(rc.certificates.lipschitz(network))
        print(rc.certificates.lipschitz(network, box=([0.0] * 4, [0.1] * 4), norm=jnp.inf, seconds=2.0))
    """
    begin, end = time.monotonic(), deadline_after(seconds)
    norm, known = _norm(norm), described(network)
    inside = None if box is None else _box(box, known.ni)
    # Half of the time is for the box, but for what takes a moment.
    share = seconds if inside is None else max(seconds / 2, min(seconds, 2.0))
    uppers = _everywhere(known, norm, begin + share)
    lower = _searched(known.chain, norm, inside)
    if inside is not None and min(uppers.values()) > 0:
        found, in_parts = _on_box(known, norm, inside, end)
        uppers, lower = uppers | found, max(lower, in_parts)
    return LipschitzBound(
        min(uppers.values()), lower, time.monotonic() - begin, uppers, norm, known.assumptions
    )


def _norm(norm: Any) -> float:
    known = {"2": 2.0, "2.0": 2.0, "inf": np.inf}
    if (name := str(norm).lower()) not in known:
        raise RobustctlError(f"norm must be 2 or infinity (jnp.inf or 'inf'), got {norm!r}")
    return known[name]


def _box(box: Any, ni: int) -> Box:
    try:
        lower, upper = (np.asarray(side, np.float64) for side in box)
    except (TypeError, ValueError) as error:
        raise RobustctlError(
            f"box must be a pair (lower, upper) of {ni} numbers each, got {box!r}"
        ) from error
    if lower.shape != (ni,) or upper.shape != (ni,):
        raise RobustctlError(
            f"box must have a lower and an upper number for each of {ni} inputs, got shapes {lower.shape} and {upper.shape}"
        )
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise RobustctlError(
            f"box must be bounded, got {lower} to {upper}; leave box out for a bound over all inputs, or give the limits of the signals"
        )
    if not np.all(lower < upper):
        wrong = int(np.argmin(upper - lower))
        raise RobustctlError(
            f"box must have lower < upper for every input, got {lower[wrong]:.6g} and {upper[wrong]:.6g} for input {wrong}; swap them, "
            "or multiply an input that is constant into the biases"
        )
    return Box(lower[None], upper[None])


def _everywhere(known: Network, norm: float, deadline: float) -> dict[str, float]:
    """Return upper bounds for all inputs, by method."""
    product = known.product(norm) * (1 + BOUND_ROUNDING)
    found = {"product of norms": product}
    if not np.isfinite(product):
        raise RobustctlError(
            f"the product of the layers' norms must be finite, got {product}; divide the weights by a constant"
        )
    if product == 0:
        return found
    grouped = known.grouped
    return found | _by_multipliers(
        known, grouped, slopes_everywhere(grouped), slopes_everywhere(known.chain), norm, deadline
    )


def _by_multipliers(
    known: Network,
    chain: Chain,
    ranges: Ranges,
    opened: Ranges,
    norm: float,
    deadline: float,
    name: str = "LipSDP",
) -> dict[str, float]:
    """Return bounds of a chain with known slopes: that of its matrix inequality, or of the recursion where it is too large.

    `opened`: the slopes of the chain with every neuron of one signal, whose paths bound the rounding of the form's products.
    """
    sizes = known.sizes
    paths = path_sizes(sizes, opened)
    rounding = known.chain.rounding * float(largest_norm(paths, norm))
    form = form_of(chain, ranges)
    if not form.blocks:
        return {"linear": float(largest_norm(form.D22, norm)) * (1 + BOUND_ROUNDING) + rounding}
    middles = centered(chain, ranges)
    if norm == 2:
        proof = least_gain(form, deadline).proof
        two = proof.value if proof else by_recursion(middles, deadline)
        return {name if proof else f"recursion of {name}": two + rounding}
    rows = paths.sum(axis=1) * (1 + BOUND_ROUNDING)
    found = {"sums over paths": float(rows.max()), name: infinity_bound(form, rows, deadline) + rounding}
    if found[name] < found["sums over paths"]:
        return found
    # |dy|_inf <= |dy|_2 <= gain |du|_2 <= gain sqrt(ni) |du|_inf
    two = by_recursion(middles, deadline) * np.sqrt(known.ni) * (1 + BOUND_ROUNDING)
    return {**found, f"recursion of {name}": float(two) + rounding}


def by_recursion(chain: Chain, deadline: float) -> float:
    """Return the gain that the recursion's multipliers prove of a chain with slopes in [-1, 1].

    Infinite where rounding prevents it, or where too little time is left to compile it.
    """
    if deadline - time.monotonic() < _COMPILING:
        return np.inf
    gain, D = chain_multipliers(chain, deadline)
    form: LFT = form_of(chain, unit_ranges(chain))
    for raised in (1e-7, 1e-5, 1e-3):
        value = gain * (1 + raised)
        # 2 T (v^2 - q^2) of a neuron, T (|v|^2 - |q|^2) of a group, with 1 / D in units of the squared bound.
        each = [
            part
            for step, d in zip(chain.steps, D, strict=True)
            for part in ([value**2 / (2 * d)] if step.size == 1 else list(value**2 / d[:, None]))
        ]
        if gain_margin(form, Proof(value, np.zeros((0, 0)), tuple(each))) < 0:
            return value
    return np.inf


def _on_box(known: Network, norm: float, box: Box, deadline: float) -> tuple[dict[str, float], float]:
    """Return upper bounds on a box, by method, and the largest norm of a Jacobian that dividing the box found."""
    chain, sizes = known.chain, known.sizes
    ranges = slope_ranges(chain, sizes, box)
    l, u = jacobian_bounds(chain, sizes, ranges)
    found = {"Jacobians on the box": float(norm_bound(l, u, norm)[0])}
    here: Ranges = [(lo[0], hi[0]) for lo, hi in ranges]
    inside, half = centered(chain, here), time.monotonic() + (deadline - time.monotonic()) / 2
    found |= _by_multipliers(known, inside, unit_ranges(inside), here, norm, half, "local LipSDP")
    if known.ni > _BRANCHED or not ranges:
        return found, 0.0
    parts = branched(chain, sizes, box, norm, deadline)
    return found | {"Jacobians on parts of the box": parts.upper}, parts.lower


def _searched(chain: Chain, norm: float, box: Box | None, rounds: int = 8) -> float:
    """Return the largest norm of a Jacobian among random points and ones around the best of these."""
    rng, ni, best = np.random.default_rng(0), chain.ni, 0.0
    work = ni * (chain.C.size + sum(step.F.size + step.E.size for step in chain.steps))
    count = int(np.clip(3e7 / work, 64, 1024))
    if box is None:
        points = rng.normal(size=(count, ni)) * np.logspace(-2, 1, count)[:, None]
    else:
        points = rng.uniform(box.lower, box.upper, (count, ni))
    for _ in range(rounds):
        norms = largest_norm(jacobians(chain, points), norm)
        order = np.argsort(-norms)[:8]
        best = max(best, float(norms[order[0]]))
        around = points[order].repeat(count // 8, axis=0)
        share = 10 ** rng.uniform(-2, 0, (len(around), 1)) * rng.normal(size=around.shape)
        if box is None:
            points = around + share * np.linalg.norm(around, axis=1, keepdims=True) / np.sqrt(ni)
            points[:8] = points[:8] * 2
        else:
            points = np.clip(around + share * (box.upper - box.lower) / 2, box.lower, box.upper)
    return best
