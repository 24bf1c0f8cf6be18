"""A box of few inputs divided until its largest and its smallest bound are close."""

import time
from typing import NamedTuple

import numpy as np

from .local import Box, local_bound
from .steps import Chain

_AT_ONCE = 64
"""Boxes divided at a time, so that the products are of matrices large enough for the processor."""

_CLOSE = 5e-3
"""Relative difference to the lower bound below which dividing ends."""


_STALLED = 4096
"""Boxes from which on dividing ends, too, where eight times as many have not lowered the bound by a part in 500."""


class Branched(NamedTuple):
    """An upper bound over the whole box, the largest norm found in it, and the number of boxes."""

    upper: float
    lower: float
    boxes: int


def branched(chain: Chain, sizes: Chain, box: Box, norm: float, deadline: float) -> Branched:
    """Divide a box (1, ni) on the side that is longest relative to the whole, the boxes of the largest bounds first.

    A child's bound is at most its parent's: what holds on a box holds on its parts. `deadline`: of `time.monotonic()`.
    """
    whole = box.upper - box.lower
    first = local_bound(chain, sizes, box, norm)
    bounds, lower, boxes = first.upper, float(first.lower.max()), 1
    earlier = [(1, np.inf)]
    while time.monotonic() < deadline and bounds.max() > (1 + _CLOSE) * lower:
        if boxes > max(_STALLED, 8 * earlier[0][0]):
            if bounds.max() > (1 - 2e-3) * earlier[0][1]:
                break
            earlier = [entry for entry in earlier if 8 * entry[0] >= boxes]
        earlier.append((boxes, float(bounds.max())))
        order = np.argsort(-bounds)
        order, rest = order[:_AT_ONCE], order[_AT_ONCE:]
        parts = _halves(Box(*(a[order] for a in box)), whole)
        found = local_bound(chain, sizes, parts, norm)
        least = np.minimum(found.upper, np.tile(bounds[order], 2))
        box = Box(*(np.concatenate([a[rest], b]) for a, b in zip(box, parts, strict=True)))
        bounds = np.concatenate([bounds[rest], least])
        lower, boxes = max(lower, float(found.lower.max())), boxes + len(order)
    return Branched(float(bounds.max()), lower, boxes)


def _halves(box: Box, whole: np.ndarray) -> Box:
    side = np.argmax((box.upper - box.lower) / whole, axis=1)
    rows, middle = np.arange(len(side)), box.middle
    left, right = box.upper.copy(), box.lower.copy()
    left[rows, side] = right[rows, side] = middle[rows, side]
    return Box(np.concatenate([box.lower, right]), np.concatenate([left, box.upper]))
