"""Slopes and Jacobians of a network on boxes of inputs, by linear bounds that are propagated backwards.

The bounds of a step's neurons are a linear function of the inputs on either side: the activations before it are replaced by
lines, one step after the other, from the last to the first. The same propagation bounds the products of slopes that a Jacobian
is made of. Rounding is counted: by the sums of the absolute values of all that is added.

Source: Z. Shi et al., "Efficiently computing local Lipschitz constants of neural networks via bound propagation", NeurIPS 2022.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..lft import BOUND_ROUNDING
from .steps import Chain, Ranges, jacobians, jacobians_of, largest_norm, path_sizes, slopes_everywhere

_FEW = 5
"""Neurons with a range of slopes on a box up to which all their ends are tried."""

Lines = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Box(NamedTuple):
    """Boxes of inputs, (B, ni) each."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """The middle points."""
        return self.lower + (self.upper - self.lower) / 2


def propagated(
    chain: Chain, sizes: Chain, box: Box, lines: Callable, offsets: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return bounds of each step's neurons and of the outputs at last, (B, n) each.

    **Arguments:**

    - `chain`: the network.
    - `sizes`: the same of absolute values.
    - `box`: of the inputs.
    - `lines`: `(k, l, u)` to `(a, b, c, d)`: neurons of step k between l and u return between `a v + b` and `c v + d`.
    - `offsets`: whether the offsets of the steps count.
    """
    found, known = [], []
    z = np.maximum(np.abs(box.lower), np.abs(box.upper))
    for k in range(len(chain.steps) + 1):
        last = k == len(chain.steps)
        F, f = (chain.C, chain.c) if last else chain.steps[k][:2]
        F_size, f_size = (sizes.C, sizes.c) if last else sizes.steps[k][:2]
        l, u = _backwards(chain, box, known, F, f, offsets)
        v = z @ F_size.T + offsets * f_size
        slack = chain.rounding * v + 1e-300
        found.append((l - slack, u + slack))
        if not last:
            known.append(lines(k, *found[-1]))
            z = _size_after(sizes, k, z, v, known[-1], offsets)
    return found


def _size_after(
    sizes: Chain, k: int, z: np.ndarray, v: np.ndarray, lines: Lines, offsets: bool
) -> np.ndarray:
    """Return sums of absolute values behind step k, from those before it and of its neurons' inputs."""
    a, b, c, d = map(np.abs, lines)
    step = sizes.steps[k]
    return z @ step.P.T + offsets * step.p + (np.maximum(a, c) * v + np.maximum(b, d)) @ step.E.T


def _backwards(
    chain: Chain, box: Box, known: list[Lines], F: np.ndarray, f: np.ndarray, offsets: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of `F z + f` behind the steps whose lines are known."""
    B, n = len(box.lower), len(F)
    # Lower bounds of F z and of -F z, (B, 2 n, nz) times z plus a constant.
    K = np.broadcast_to(np.vstack([F, -F]), (B, 2 * n, F.shape[1]))
    constant = np.zeros((B, 2 * n)) + offsets * np.concatenate([f, -f])
    for step, (a, b, c, d) in zip(chain.steps[: len(known)][::-1], known[::-1], strict=True):
        M = K @ step.E
        up, down = np.maximum(M, 0), np.minimum(M, 0)
        constant = constant + (up @ b[..., None])[..., 0] + (down @ d[..., None])[..., 0]
        slopes = up * a[:, None] + down * c[:, None]
        if offsets:
            constant = constant + slopes @ step.f + K @ step.p
        passing = K @ step.P if step.P.any() else 0.0
        K = passing + slopes @ step.F
    half = (box.upper - box.lower) / 2
    least = constant + (K @ box.middle[..., None])[..., 0] - (np.abs(K) @ half[..., None])[..., 0]
    return least[:, :n], -least[:, n:]


def slope_ranges(chain: Chain, sizes: Chain, box: Box) -> Ranges:
    """Return bounds of the neurons' slopes between any two points of a box, (B, n) each."""

    def lines(k, l, u):
        return chain.steps[k].activation.lines(l, u)  # pyright: ignore[reportOptionalMemberAccess]

    return [
        step.activation.slopes(l, u)  # pyright: ignore[reportOptionalMemberAccess]
        for step, (l, u) in zip(chain.steps, propagated(chain, sizes, box, lines)[:-1], strict=True)
    ]


def product_lines(lo: np.ndarray, hi: np.ndarray, l: np.ndarray, u: np.ndarray) -> Lines:
    """Return lines that bound `slope x` for a slope in `[lo, hi]` and x in `[l, u]`: exact where x has one sign, chords elsewhere."""
    mixed = (l < 0) & (u > 0)
    width = np.where(mixed, u - l, 1.0)
    # The larger of lo x and hi x is convex in x, below its chord; the smaller one concave.
    above = np.where(mixed, (hi * u - lo * l) / width, np.where(l >= 0, hi, lo))
    below = np.where(mixed, (lo * u - hi * l) / width, np.where(l >= 0, lo, hi))
    return (
        below, np.where(mixed, (hi - below) * l, 0.0),
        above, np.where(mixed, (lo - above) * l, 0.0),
    )  # fmt: skip


def jacobian_bounds(chain: Chain, sizes: Chain, ranges: Ranges) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of all Jacobians whose slopes are in ranges of shape (B, n), (B, no, ni) each."""
    ni, B = chain.ni, len(ranges[0][0]) if ranges else 1
    # Column j of a Jacobian is what the network of products makes of the unit vector j.
    repeated = [(np.repeat(lo, ni, axis=0), np.repeat(hi, ni, axis=0)) for lo, hi in ranges]
    points = np.tile(np.eye(ni), (B, 1))

    def lines(k, l, u):
        lo, hi = repeated[k]
        return product_lines(lo, hi, l, u)

    found = propagated(chain, sizes, Box(points, points), lines, offsets=False)[-1]
    l, u = (M.reshape(B, ni, -1).transpose(0, 2, 1) for M in found)
    return l, u


def norm_bound(l: np.ndarray, u: np.ndarray, norm: float) -> np.ndarray:
    """Return a bound of the norm of matrices between l and u, (B,)."""
    largest = largest_norm(np.maximum(np.abs(l), np.abs(u)), norm)
    if norm == 2:
        largest = np.minimum(largest, largest_norm((l + u) / 2, norm) + largest_norm((u - l) / 2, norm))
    return largest * (1 + BOUND_ROUNDING)


def vertex_bound(chain: Chain, sizes: Chain, ranges: Ranges, norm: float) -> np.ndarray:
    """Return the largest norm over all slopes at the ends of their ranges (B, n), infinite where too many neurons have ranges.

    A Jacobian is affine in each slope and a norm convex: no slopes between the ends give more. On small boxes around the kinks
    of a piecewise linear network it is exact where intervals of the Jacobian's entries stay apart from what they bound.
    """
    lo, hi = (np.concatenate([pair[side] for pair in ranges], axis=1) for side in (0, 1))
    bent, found = hi > lo, np.full(len(lo), np.inf)
    few = np.flatnonzero(bent.sum(axis=1) <= _FEW)
    if not few.size:
        return found
    lo, hi, bent = lo[few], hi[few], bent[few]
    count = int(bent.sum(axis=1).max())
    ends = np.array(list(itertools.product([False, True], repeat=count)))
    # Neuron k of a box is at the upper end in the patterns in which its number among those with a range is.
    number = np.clip(np.cumsum(bent, axis=1) - 1, 0, max(count - 1, 0))
    high = (
        ends.T[number].transpose(0, 2, 1) & bent[:, None]
        if count
        else np.zeros((len(few), 1, lo.shape[1]), bool)
    )
    slopes = np.where(high, hi[:, None], lo[:, None]).reshape(-1, lo.shape[1])
    parts = np.split(slopes, np.cumsum([len(step.F) for step in chain.steps])[:-1], axis=1)
    norms = largest_norm(jacobians_of(chain, parts, len(slopes)), norm)
    rounding = chain.rounding * largest_norm(path_sizes(sizes, slopes_everywhere(chain)), norm)
    found[few] = np.max(norms.reshape(len(few), -1), axis=1) * (1 + BOUND_ROUNDING) + rounding
    return found


class LocalBound(NamedTuple):
    """Of each box: an upper bound, and the norm of the Jacobian at its middle."""

    upper: np.ndarray
    lower: np.ndarray


def local_bound(chain: Chain, sizes: Chain, box: Box, norm: float) -> LocalBound:
    """Return bounds of the Lipschitz constant on boxes."""
    ranges = slope_ranges(chain, sizes, box)
    l, u = jacobian_bounds(chain, sizes, ranges)
    upper = norm_bound(l, u, norm)
    upper = np.minimum(upper, vertex_bound(chain, sizes, ranges, norm))
    return LocalBound(upper, largest_norm(jacobians(chain, box.middle), norm))
