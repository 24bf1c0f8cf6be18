"""The least gain and the least contraction rate that multipliers of every neuron prove.

::

    Z = rate^2 X0'P X0 - S'P S + g U'U - Y'Y + sum_k T_k [(e - lo v)(e - hi v)' + (e - hi v)(e - lo v)'] + ... > 0

with the rows `S = [A B1 B2]`, `Y = [C2 D21 D22]`, v of a neuron's input, e of its output: `sum |dy|^2 <= g sum |du|^2` from
equal starts, and for du = 0 `V(dx+) <= rate^2 V(dx)`. Without a state it is LipSDP (M. Fazlyab et al., NeurIPS 2019).
"""

import dataclasses
import time
from typing import NamedTuple

import numpy as np

from ..lft import LFT, Bounded, Claim
from .coordinates import Coordinates, at_slopes, balance, spectral_radius
from .dissipation import Inequality, blocks_form
from .interior_point import Pairs, Point, Program, cost, metric, rank_two, solve
from .proof import Proof, gain_margin, rate_margin
from .rate import rate_found

_CLOSED = 2e-3
"""Relative duality gap of g, twice that of the gain, of a proof that no other start would improve."""

_LARGEST_TRACE = 1e7
"""Of a metric of contraction, per state of balanced coordinates, with `P > I`: beyond it a rate counts as not provable."""

_MEMORY = 8e9
"""Bytes beyond which no solution is tried."""


class Found(NamedTuple):
    """A proof, or the reason why there is none."""

    proof: Proof | None
    reason: str = ""


def fault_of(form: LFT) -> str:
    """Return why nothing can be proven of an opened form, empty where a solution may be tried."""
    if not all(np.isfinite(M).all() for M in form.matrices):
        return "the model has weights that are not finite; train again with a smaller step"
    unbounded = [b for b in form.blocks if not np.isfinite(b.gain)]
    if unbounded:
        return (
            unbounded[0].reason
            or "every nonlinearity must have known slopes or a finite bound, got one without"
        )
    try:
        A = at_slopes(form)[0]
    except np.linalg.LinAlgError:
        return "the neurons with all slopes at their lower ends must have a solution, got a singular loop"
    if not spectral_radius(A) < 1:
        poles = np.linalg.eigvals(A)
        largest = ", ".join(f"{p:.4g}" for p in poles[np.argsort(-np.abs(poles))][:4])
        return f"the system with all slopes at their lower ends must be stable, got poles {largest}: no inequality can hold"
    return ""


def least_gain(form: LFT, deadline: float = np.inf) -> Found:
    """Return the least gain from u to y that can be proven, to a part in 10,000.

    `form`: opened; `deadline`: of `time.monotonic()`.
    """
    if reason := fault_of(form):
        return Found(None, reason)
    if form.nu == 0 or form.ny == 0:
        return Found(None, "a gain needs inputs and outputs")
    if not (form.C2.any() or form.D21.any() or form.D22.any()):
        return Found(None, "every output is constant: its gain is 0, which no strict inequality proves")
    balanced = balance(form)
    program, y = _gain_program(balanced.form)
    if reason := too_large(program, deadline):
        return Found(None, reason)
    best = None
    for start in (1e3, 1e1, 1e5):
        proof, last = _from_start(form, balanced, program, y, start, deadline)
        best = min((p for p in (best, proof) if p), key=lambda p: p.value, default=None)
        if best is not None and (last or time.monotonic() > deadline):
            return Found(best)
    if best is not None:
        return Found(best)
    return Found(None, _unproven(deadline, "no finite gain could be proven with constant multipliers"))


def _from_start(
    form: LFT, balanced: Coordinates, program: Program, y: np.ndarray, start: float, deadline: float
) -> tuple[Proof | None, bool]:
    """Return the best proof among the iterates, and whether its gap is closed."""
    for point in reversed(solve(program, y, start=start, deadline=deadline)):
        if proof := _gain_proof(form, balanced, program, point.y):
            return proof, bool(np.sum(point.X * point.Z) < _CLOSED * point.y[0])
    return None, False


def too_large(program: Program, deadline: float) -> str:
    """Return why a program is not tried: more time or memory than there is; empty where it is."""
    seconds, size = cost(program)
    left = deadline - time.monotonic()
    if seconds < left and size < _MEMORY:
        return ""
    return (
        f"a proof of {len(program.C)} signals and {program.b.size} unknowns takes about {seconds:.3g} s and {size / 1e9:.2g} GB, "
        f"got {max(left, 0):.3g} s; give more seconds, or a model with fewer states or neurons"
    )


def _unproven(deadline: float, text: str) -> str:
    return "the time given ended first; give more seconds" if time.monotonic() > deadline else text


def _rows(form: LFT, inputs: bool) -> dict[str, np.ndarray]:
    """Return each signal as rows of `zeta = [x; w; u]`; u is left out where both trajectories share it."""
    nx, nw, nu = form.nx, form.B1.shape[1], form.nu if inputs else 0
    X0, W, U = np.split(np.eye(nx + nw + nu), [nx, nx + nw])
    S, V, Y = (
        np.hstack([a, b, c[:, :nu]])
        for a, b, c in (
            (form.A, form.B1, form.B2),
            (form.C1, form.D11, form.D12),
            (form.C2, form.D21, form.D22),
        )
    )
    return {"X0": X0, "W": W, "U": U, "S": S, "V": V, "Y": Y}


def block_terms(form: LFT, V: np.ndarray, W: np.ndarray) -> tuple[list[np.ndarray], list[Pairs]]:
    """Return one matrix per bounded block and the terms of all neurons, in the order of the blocks."""
    fixed, E, A, v, w = [], [], [], 0, 0
    for block in form.blocks:
        dv, dw = V[v : v + block.nv], W[w : w + block.nw]
        v, w = v + block.nv, w + block.nw
        if isinstance(block, Bounded):
            both = np.vstack([dv, dw])
            fixed.append(-both.T @ block.form(np.ones(1)) @ both)
        else:
            E.append(dw - block.lo[:, None] * dv)
            A.append(dw - block.hi[:, None] * dv)
    return fixed, [rank_two(np.vstack(E), np.vstack(A))] if E else []


def split_multipliers(form: LFT, fixed: np.ndarray, neurons: np.ndarray) -> list[np.ndarray]:
    """Return the unknowns of the blocks as one array per block."""
    found, k, n = [], 0, 0
    for block in form.blocks:
        if isinstance(block, Bounded):
            found.append(fixed[k : k + 1])
            k += 1
        else:
            found.append(neurons[n : n + block.nv])
            n += block.nv
    return found


def _program(form: LFT, rate: float, gain: bool) -> tuple[Program, np.ndarray]:
    rows = _rows(form, gain)
    fixed, groups = block_terms(form, rows["V"], rows["W"])
    if gain:
        fixed = [rows["U"].T @ rows["U"], *fixed]
    states = [metric(rows["X0"], rows["S"], rate)] if form.nx else []
    diagonal = np.eye(form.nx)[np.triu_indices(form.nx)]
    neurons = sum(group.size for group in groups)
    y = np.concatenate([np.ones(len(fixed)), diagonal, np.ones(neurons)])
    b = np.zeros_like(y)
    if gain:
        b[0], C = 1.0, -rows["Y"].T @ rows["Y"]
    else:
        b[len(fixed) : len(fixed) + diagonal.size], C = diagonal, -rows["X0"].T @ rows["X0"]
    return Program(b, C, tuple(fixed), tuple([*states, *groups])), y


def _gain_program(form: LFT) -> tuple[Program, np.ndarray]:
    return _program(form, 1.0, True)


def _unknowns(balanced: Coordinates, program: Program, y: np.ndarray, gain: bool):
    """Return metric and multipliers in the original coordinates."""
    form = balanced.form
    fixed, *rest = program.split(y)
    P, neurons = np.zeros((form.nx, form.nx)), np.zeros(0)
    if form.nx:
        P[np.triu_indices(form.nx)] = rest.pop(0)
        P = P + np.triu(P, 1).T
    if rest:
        neurons = rest.pop(0)
    multipliers = split_multipliers(form, fixed[1:] if gain else fixed, neurons)
    return balanced.metric(P), balanced.multipliers(multipliers)


def _gain_proof(form: LFT, balanced: Coordinates, program: Program, y: np.ndarray) -> Proof | None:
    if not y[0] > 0:
        return None
    P, multipliers = _unknowns(balanced, program, y, True)
    # Rounding in returning to the original coordinates costs a little of the gain.
    for raised in (1e-9, 1e-6, 1e-5, 1e-4):
        proof = Proof(float(balanced.size * np.sqrt(y[0]) * (1 + raised)), P, multipliers)
        if gain_margin(form, proof) < 0:
            return proof
    return None


def least_rate(form: LFT, deadline: float = np.inf, within: float = 5e-3) -> Found:
    """Return the least contraction rate that can be proven, by bisection of `1 - rate` to a part `within` of it.

    `form`: opened; `deadline`: of `time.monotonic()`.
    """
    if reason := fault_of(form):
        return Found(None, reason)
    if form.nx == 0:
        return Found(None, "a map without state has nothing to forget")
    balanced = balance(form)
    low = max(_lower_rates(form))
    if not low < 1:
        return Found(
            None,
            f"a linear system within the slopes has a spectral radius of {low:.6g}, which must be below 1",
        )
    best, high, rate = None, 1.0, 1.0
    for _ in range(12):
        proof, reason = _rate_proof(form, balanced, rate, deadline)
        if proof is not None and (best is None or proof.value < best.value):
            best, high = proof, proof.value
        elif proof is None and best is None:
            return Found(None, reason)
        elif proof is None:
            low = rate
        if high - low < within * (1 - low) or time.monotonic() > deadline:
            break
        rate = 1 - np.sqrt((1 - low) * (1 - high)) if high < 1 else (low + high) / 2
    return Found(best)


def _lower_rates(form: LFT) -> list[float]:
    """Return spectral radii of linear systems within the slopes: no rate is below them."""
    radii = []
    for fraction in (0.0, 0.5, 1.0):
        try:
            radii.append(spectral_radius(at_slopes(form, fraction)[0]))
        except np.linalg.LinAlgError:
            continue
    return radii


def _rate_proof(form: LFT, balanced: Coordinates, rate: float, deadline: float) -> Found:
    """Return the best rate that some metric and multipliers prove which prove this one."""
    program, y = _program(balanced.form, rate, False)
    if reason := too_large(program, deadline):
        return Found(None, reason)

    def enough(point: Point) -> bool:
        # What X pairs with C is a lower bound on the trace of P, once X satisfies its equations.
        missing = np.linalg.norm(program.b - program.inner(point.X)) / (1 + np.linalg.norm(program.b))
        hopeless = missing < 1e-4 and -np.sum(program.C * point.X) > _LARGEST_TRACE * form.nx
        return bool(point.residual < 1e-9 or hopeless)

    for point in reversed(solve(program, y, start=1e3, deadline=deadline, stop=enough)):
        P, multipliers = _unknowns(balanced, program, point.y, False)
        if rate_margin(form, Proof(rate, P, multipliers)) < 0:
            return Found(_improved(form, Proof(rate, P, multipliers)))
    return Found(None, _unproven(deadline, "contraction could not be proven with constant multipliers"))


def _improved(form: LFT, proof: Proof) -> Proof:
    """Return the smallest rate that the same metric and multipliers prove."""
    claim = Claim(proof.value, proof.P, None, proof.multipliers)
    found = rate_found(Inequality(form, claim, blocks_form(form, claim)), proof.P)
    for raised in (0.0, 1e-9, 1e-6):
        better = dataclasses.replace(proof, value=float(found * (1 + raised)))
        if better.value < proof.value and rate_margin(form, better) < 0:
            return better
    return proof
