"""Lipschitz bounds in the infinity norm: one matrix inequality per output.

::

    dy_c^2 <= sum_j tau_j du_j^2 <= (sum_j tau_j) |du|_inf^2

The smallest sum of tau that multipliers prove; the inequality's other terms are those of `inequalities`.
"""

import time

import numpy as np

from ..lft import LFT, Claim
from .coordinates import Coordinates, balance
from .dissipation import Inequality, blocks_form, margin
from .inequalities import block_terms, split_multipliers
from .interior_point import Pairs, Program, solve
from .prove import too_large


def infinity_bound(form: LFT, least: np.ndarray, deadline: float) -> float:
    """Return a proven bound of a form without state in the infinity norm; of an output not tried its bound in `least` (ny,).

    The outputs of the largest bounds come first: once one is proven to be above what is known of the others, these do not matter.
    """
    found, order = 0.0, np.argsort(-least)
    for k, c in enumerate(order):
        if least[c] <= found:
            break
        row = form._replace(C2=form.C2[[c]], D21=form.D21[[c]], D22=form.D22[[c]])
        now = time.monotonic()
        # Small programs take a moment, and often most outputs do not matter after the first.
        share = min(deadline, now + max((deadline - now) / (len(order) - k), 1.0))
        found = max(found, min(least[c], _row_bound(row, share)))
    return float(found)


def _row_bound(form: LFT, deadline: float) -> float:
    if not (form.D21.any() or form.D22.any()):
        return 0.0
    balanced = balance(form)
    program, y = _program(balanced.form)
    if too_large(program.b.size, len(program.C), deadline):
        return np.inf
    for start in (1e3, 1e1):
        for point in reversed(solve(program, y, start=start, deadline=deadline)):
            found = _proven(form, balanced, program, point.y)
            if found is not None:
                return found
    return np.inf


def _program(form: LFT) -> tuple[Program, np.ndarray]:
    """The unknowns are those of groups, then tau, then those of neurons."""
    nw, nu = form.D21.shape[1], form.nu
    W, U = np.split(np.eye(nw + nu), [nw])
    V, Y = np.hstack([form.D11, form.D12]), np.hstack([form.D21, form.D22])
    fixed, neurons = block_terms(form.blocks, V, W)
    k = np.arange(nu)[None]
    # r r' = 0.5 (r r' + r r')
    weights = Pairs(U, k, k, np.full((1, nu), 0.5))
    count = sum(group.size for group in neurons)
    b = np.concatenate([np.zeros(len(fixed)), np.ones(nu), np.zeros(count)])
    return Program(b, -Y.T @ Y, tuple(fixed), (weights, *neurons)), np.ones(b.size)


def _proven(form: LFT, balanced: Coordinates, program: Program, y: np.ndarray) -> float | None:
    fixed, tau, *neurons = program.split(y)
    multipliers = balanced.multipliers(
        split_multipliers(form.blocks, fixed, neurons[0] if neurons else np.zeros(0))
    )
    if not np.all(tau > 0) or not all(np.all(t >= 0) for t in multipliers):
        return None
    P, zero = np.zeros((0, 0)), np.zeros((form.nu, 1))
    for raised in (1e-9, 1e-6, 1e-5, 1e-4):
        R = np.diag(balanced.size**2 * tau * (1 + raised))
        claim = Claim(1.0, P, (-np.eye(1), zero, R), multipliers)
        if margin(Inequality(form, claim, blocks_form(form, claim)), P) < 0:
            return float(np.sqrt(np.trace(R) * (1 + 1e-12)))
    return None
