"""Matrix inequalities that share a metric, as one program: a set that a system does not leave, and what its signals are in it.

::

    Z = sum_a c_a G_a' P G_a + C + sum_k m_k F_k + sum_k T_k [(e - lo v)(e - hi v)' + (e - hi v)(e - lo v)'] + ...  >  0

for each part, with its own multipliers. `rate^2 V - V+ + mu |d|^2 > 0` keeps `V <= mu |d|^2 / (1 - rate^2)`, and
`V + b |d|^2 - y^2 > 0` bounds an output there. Source: S. Boyd, L. El Ghaoui, E. Feron, V. Balakrishnan, "Linear Matrix
Inequalities in System and Control Theory", 1994, section 6.1, with multipliers of slopes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..lft import LFT, Claim
from ..linalg import PRODUCT_ROUNDINGS
from .congruence import margin_in_metric
from .dissipation import Inequality, blocks_form, margin
from .inequalities import Rows, block_terms, symmetric
from .interior_point import Pairs, Program


class Part(NamedTuple):
    """One inequality of a program.

    **Arguments:**

    - `metric`: pairs `(G, c)` of the terms `c G'P G`.
    - `C`: the part without unknowns, (n, n).
    - `fixed`: matrices of unknowns of this part alone, (n, n) each; `costs`: what each costs.
    - `neurons`: terms of its multipliers of slopes, None for none.
    """

    metric: tuple[tuple[np.ndarray, float], ...]
    C: np.ndarray
    fixed: tuple[np.ndarray, ...]
    costs: tuple[float, ...]
    neurons: Pairs | None


def assemble(nx: int, parts: Sequence[Part], cost: np.ndarray) -> tuple[Program, np.ndarray]:
    """Return the program that minimizes `tr(cost P)` and the costs of all parts, and where its unknowns start.

    Unknowns: the fixed ones of all parts, the upper triangle of P, the multipliers of slopes of all parts.
    """
    sizes = [len(part.C) for part in parts]
    N, starts = sum(sizes), np.cumsum([0, *sizes[:-1]])

    def placed(M: np.ndarray, k: int) -> np.ndarray:
        """Rows of a part as rows of the whole."""
        return np.pad(M, ((0, 0), (starts[k], N - starts[k] - M.shape[1])))

    def block(M: np.ndarray, k: int) -> np.ndarray:
        return placed(placed(M, k).T, k)

    terms = [(placed(G, k), c) for k, part in enumerate(parts) for G, c in part.metric]
    i, j = np.triu_indices(nx)
    once = np.where(i == j, 0.5, 1.0)
    offsets = nx * np.arange(len(terms))[:, None]
    states = Pairs(
        np.vstack([G for G, _ in terms]), i + offsets, j + offsets, np.stack([c * once for _, c in terms])
    )
    neurons = [
        Pairs(placed(part.neurons.R, k), part.neurons.i, part.neurons.j, part.neurons.w)
        for k, part in enumerate(parts)
        if part.neurons is not None
    ]
    fixed = tuple(block(F, k) for k, part in enumerate(parts) for F in part.fixed)
    costs = np.array([c for part in parts for c in part.costs])
    b = np.concatenate([costs, 2 * once * cost[i, j], np.zeros(sum(p.size for p in neurons))])
    start = np.concatenate([np.ones(len(fixed)), np.eye(nx)[i, j], np.ones(b.size - len(fixed) - i.size)])
    C = np.sum([block(part.C, k) for k, part in enumerate(parts)], axis=0)
    return Program(b, C, fixed, (states, *neurons)), start


class Solution(NamedTuple):
    """The unknowns of a program: the metric, and of each part its fixed unknowns and its multipliers of slopes."""

    P: np.ndarray
    fixed: list[np.ndarray]
    neurons: list[np.ndarray]


def solution(program: Program, parts: Sequence[Part], nx: int, y: np.ndarray) -> Solution:
    """Return the unknowns of an iterate, part by part."""
    fixed, upper, *rest = program.split(y)
    P = symmetric(upper, nx)
    counts = [len(part.fixed) for part in parts]
    each = np.split(fixed, np.cumsum(counts)[:-1])
    left = iter(rest)
    return Solution(P, each, [next(left) if part.neurons is not None else np.zeros(0) for part in parts])


def known_of_blocks(form: LFT, rows: Rows) -> tuple[list[np.ndarray], Pairs | None]:
    """Return what is known of the blocks: a matrix for each bounded one, the terms of all slopes."""
    fixed, neurons = block_terms(form.blocks, rows.V, rows.W)
    return fixed, neurons[0] if neurons else None


def seen(form: LFT, row: int) -> LFT:
    """Return the form without dynamics and with one output: what `V + b |u|^2 - y^2 > 0` is about.

    Where the output does not depend on the blocks they are left out.
    """
    still = form._replace(
        A=np.zeros_like(form.A), B1=np.zeros_like(form.B1), B2=np.zeros_like(form.B2),
        C2=form.C2[row : row + 1], D21=form.D21[row : row + 1], D22=form.D22[row : row + 1],
    )  # fmt: skip
    if still.D21.any():
        return still
    nx, nu = form.nx, form.nu
    return still._replace(
        B1=np.zeros((nx, 0)), C1=np.zeros((0, nx)), D11=np.zeros((0, 0)), D12=np.zeros((0, nu)), D21=np.zeros((1, 0)),
        blocks=(),
    )  # fmt: skip


def keeps(form: LFT, P: np.ndarray, rate: float, mu: np.ndarray, multipliers: Sequence[np.ndarray]) -> bool:
    """Return whether `V(dx+) <= rate^2 V(dx) + sum mu du^2` is proven, rounding included.

    **Arguments:**

    - `form`: opened.
    - `P`: the metric, (nx, nx).
    - `rate`: per sample.
    - `mu`: weight of each input, (nu,).
    - `multipliers`: one array per block.
    """
    return _proven(form, Claim(rate, P, _supply(form, 0.0, mu), tuple(multipliers)))


def bounds(form: LFT, P: np.ndarray, b: np.ndarray, multipliers: Sequence[np.ndarray]) -> bool:
    """Return whether `dy^2 <= V(dx) + sum b du^2` is proven for a form of `seen`; same arguments as `keeps`."""
    return _proven(form, Claim(1.0, P, _supply(form, 1.0, b), tuple(multipliers)))


def _supply(form: LFT, output: float, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return -output * np.eye(form.ny), np.zeros((form.nu, form.ny)), np.diag(weights)


def _proven(form: LFT, claim: Claim) -> bool:
    assert claim.P is not None and claim.supply is not None
    numbers = (*(claim.multipliers or ()), np.diag(claim.supply[2]))
    if not all(np.all(t >= 0) and np.isfinite(t).all() for t in numbers):
        return False
    f = Inequality(form, claim, blocks_form(form, claim))
    # A loop's matrices are products of its parts' matrices, blocks or not
    return margin(f, claim.P, PRODUCT_ROUNDINGS) < 0 or margin_in_metric(f, claim.P, PRODUCT_ROUNDINGS) < 0
