"""The least gain, the least contraction rate and the largest margin of a supply rate that multipliers of every neuron prove.

What `inequalities` describes gives `sum |dy|^2 <= g sum |du|^2` from equal starts, and for du = 0 `V(dx+) <= rate^2 V(dx)`.
Without a state it is LipSDP (M. Fazlyab et al., NeurIPS 2019).
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..lft import LFT, Claim
from .coordinates import IDLE, LEAST, Coordinates, at_slopes, balance, has_idle_states, spectral_radius
from .dissipation import Inequality, blocks_form
from .inequalities import Supply, modes_of, program_of, size_of, unknowns
from .interior_point import Point, Program, estimate, solve
from .progress import ProgressLine
from .proof import Forms, Proof, gain_margin, rate_margin, supply_margin
from .rate import rate_found

_CLOSED = 2e-3
"""Relative duality gap of g, twice that of the gain, of a proof that no other start would improve."""

_LARGEST_TRACE = 1e7
"""Of a metric of contraction, per state of balanced coordinates, with `P > I`: beyond it a rate counts as not provable."""

_UNBALANCED = "the states' and neurons' sizes must differ by less than float64 holds, got Gramians that are not finite; scale the signals"

_MEMORY = 8e9
"""Bytes beyond which no solution is tried."""


class Found(NamedTuple):
    """A proof, or the reason why there is none."""

    proof: Proof | None
    reason: str = ""


def fault_of(form: Forms) -> str:
    """Return why nothing can be proven of an opened form, empty where a solution may be tried."""
    return next((reason for reason in map(_fault_of_mode, modes_of(form)) if reason), "")


def _fault_of_mode(form: LFT) -> str:
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


def least_gain(form: Forms, deadline: float = np.inf, whole: LFT | None = None) -> Found:
    """Return the least gain from u to y that can be proven, to a part in 10,000.

    `form`: opened, of a system or of all its modes; `deadline`: of `time.monotonic()`; `whole`: the form with more inputs and outputs,
    which move and see states that u and y do not.
    """
    if reason := fault_of(form):
        return Found(None, reason)
    forms = modes_of(form)
    nu, ny = forms[0].nu, forms[0].ny
    if nu == 0 or ny == 0:
        return Found(None, "a gain needs inputs and outputs")
    if not any(mode.C2.any() or mode.D21.any() or mode.D22.any() for mode in forms):
        return Found(None, "every output is constant: its gain is 0, which no strict inequality proves")

    def proof_of(balanced: Coordinates, program: Program, y: np.ndarray) -> Proof | None:
        return _gain_proof(forms, balanced, program, y)

    supply = (-np.eye(ny), np.zeros((nu, ny)), np.zeros((nu, nu)))
    return _least(forms, lambda size: supply, proof_of, "gain", deadline, whole)


def largest_margin(form: Forms, supply: Supply, deadline: float = np.inf) -> Found:
    """Return the largest m for which the supply rate `(Q, S, R - m I)` can be proven, a passivity index where Q = R = 0.

    `form` and `deadline` as in `least_gain`; `supply`: Q (ny, ny), S (nu, ny), R (nu, nu).
    """
    if reason := fault_of(form):
        return Found(None, reason)
    forms, (Q, S, R) = modes_of(form), supply
    identity = np.eye(len(R))

    def shift(size: float) -> float:
        # No m is above it for outputs of at most twice this size, so that g is positive and its relative gap means something.
        return float(sum(np.linalg.norm(M, 2) * (2 * size) ** k for k, M in enumerate((R, 2 * S, Q))))

    def scaled(size: float) -> Supply:
        # Of outputs in units of `size`, all divided by size^2.
        return Q, S / size, (R - shift(size) * identity) / size**2

    def proof_of(balanced: Coordinates, program: Program, y: np.ndarray) -> Proof | None:
        P, multipliers = unknowns(balanced, program, y, True)
        most = shift(balanced.size)
        for lowered in (1e-9, 1e-6, 1e-5, 1e-4):
            proof = Proof(float(most - balanced.size**2 * y[0] - lowered * most), P, multipliers)
            if supply_margin(forms, proof, supply) < 0:
                return proof
        return None

    return _least(forms, scaled, proof_of, "supply rate", deadline)


def _least(
    forms: Sequence[LFT], supply: Callable[[float], Supply],
    proof_of: Callable[[Coordinates, Program, np.ndarray], Proof | None], what: str, deadline: float,
    whole: LFT | None = None,
) -> Found:  # fmt: skip
    """Return the proof with the least g of three starts; `supply`: for the size of the outputs."""
    if reason := too_large(*size_of(forms, True), deadline, len(forms)):
        return Found(None, reason)
    return _tried(
        forms, deadline, lambda balanced: _least_in(forms, balanced, supply, proof_of, what, deadline), whole
    )


def _least_in(
    forms: Sequence[LFT], balanced: Coordinates, supply: Callable[[float], Supply],
    proof_of: Callable[[Coordinates, Program, np.ndarray], Proof | None], what: str, deadline: float,
) -> Found:  # fmt: skip
    program, y = program_of(balanced.forms, 1.0, supply(balanced.size))
    best, lowest = None, np.inf
    for start in (1e3, 1e1, 1e5):
        points = _solved(program, y, start, deadline, what, len(forms))
        for point in reversed(points):
            if proof := proof_of(balanced, program, point.y):
                if point.y[0] < lowest:
                    best, lowest = proof, point.y[0]
                if time.monotonic() > deadline or np.sum(point.X * point.Z) < _CLOSED * abs(point.y[0]):
                    return Found(best)
                break
    if best is not None:
        return Found(best)
    return Found(None, _unproven(deadline, f"no finite {what} could be proven with constant multipliers"))


def _tried(
    forms: Sequence[LFT], deadline: float, search: Callable[[Coordinates], Found], whole: LFT | None = None
) -> Found:
    """Return what a search finds in balanced coordinates, and in others too where idle states degenerate these."""
    tries: list[tuple[float, LFT | None]] = [(LEAST, None)]
    if has_idle_states(forms):
        tries = [(LEAST, whole), (LEAST, None), (IDLE, None)] if whole else [*tries, (IDLE, None)]
    found = Found(None, _UNBALANCED)
    for least, states_of in tries:
        if (balanced := _balanced(forms, least, states_of)) is not None:
            found = search(balanced)
            if found.proof is not None or time.monotonic() > deadline:
                break
    return found


def _balanced(forms: Sequence[LFT], least: float, states_of: LFT | None = None) -> Coordinates | None:
    """Return the balanced forms, None where they leave float64."""
    try:
        with np.errstate(all="ignore"):
            found = balance(*forms, least=least, states_of=states_of)
    except np.linalg.LinAlgError:
        return None
    arrays = [found.T, *found.d, *(M for form in found.forms for M in form.matrices)]
    return found if all(np.isfinite(M).all() for M in arrays) else None


def _solved(
    program: Program, y: np.ndarray, start: float, deadline: float, what: str, modes: int,
    gap: float = 1e-4, stop: Callable[[Point], bool] = lambda point: False,
) -> list[Point]:  # fmt: skip
    """Return the iterates of `solve`, with a line that shows a long one."""
    line = ProgressLine(what, *estimate(program.b.size, len(program.C), modes))

    def seen(point: Point) -> bool:
        line.step(float(np.sum(point.X * point.Z) / max(abs(program.b @ point.y), 1e-8)))
        return stop(point)

    try:
        return solve(program, y, start=start, gap=gap, deadline=deadline, stop=seen)
    finally:
        line.close()


def too_large(m: int, N: int, deadline: float, modes: int = 1) -> str:
    """Return why a program of m unknowns and N signals is not tried: more time or memory than there is; empty where it is."""
    seconds, size = estimate(m, N, modes)
    left = deadline - time.monotonic()
    if seconds < left and size < _MEMORY:
        return ""
    return (
        f"a proof of {N} signals and {m} unknowns takes about {seconds:.3g} s and {size / 1e9:.2g} GB, "
        f"got {max(left, 0):.3g} s; give more seconds, or a model with fewer states or neurons"
    )


def _unproven(deadline: float, text: str) -> str:
    return "the time given ended first; give more seconds" if time.monotonic() > deadline else text


def _gain_proof(forms: Sequence[LFT], balanced: Coordinates, program: Program, y: np.ndarray) -> Proof | None:
    if not y[0] > 0:
        return None
    P, multipliers = unknowns(balanced, program, y, True)
    # Rounding in returning to the original coordinates costs a little of the gain.
    for raised in (1e-9, 1e-6, 1e-5, 1e-4):
        proof = Proof(float(balanced.size * np.sqrt(y[0]) * (1 + raised)), P, multipliers)
        if gain_margin(forms, proof) < 0:
            return proof
    return None


def least_rate(form: Forms, deadline: float = np.inf, within: float = 5e-3) -> Found:
    """Return the least contraction rate that can be proven, by a search that ends at a part `within` of `1 - rate`.

    `form` and `deadline` as in `least_gain`.

    ::

        f(r) = 1 / (least trace of P),  r = rate^2,     f(least r) = 0,    r - f(r) / f'(r) = r - trace P / tr(X X0'P X0)

    with X of the program's dual: each solution proves a rate and predicts the least one.
    """
    if reason := fault_of(form):
        return Found(None, reason)
    forms = modes_of(form)
    if forms[0].nx == 0:
        return Found(None, "a map without state has nothing to forget")
    low = max(radius for mode in forms for radius in _lower_rates(mode))
    if not low < 1:
        return Found(
            None,
            f"a linear system within the slopes has a spectral radius of {low:.6g}, which must be below 1",
        )
    if reason := too_large(*size_of(forms, False), deadline, len(forms)):
        return Found(None, reason)
    return _tried(forms, deadline, lambda balanced: _least_rate_in(forms, balanced, low, deadline, within))


def _least_rate_in(
    forms: Sequence[LFT], balanced: Coordinates, low: float, deadline: float, within: float
) -> Found:
    best, rate = None, 1.0
    for _ in range(12):
        found, predicted = _rate_proof(forms, balanced, rate, deadline)
        proof, high = found.proof, best.value if best else 1.0
        if proof is None and best is None:
            return found
        if proof is None:
            low = rate
        elif proof.value < high:
            best, high = proof, proof.value
        least = min(max(low, predicted), high)
        if high - least < within * (1 - least) or time.monotonic() > deadline:
            break
        # A prediction falls short of the least rate by little: a tenth of what is left stays above it.
        rate = least + (0.1 if predicted else 0.5) * (high - least)
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


def _rate_proof(
    forms: Sequence[LFT], balanced: Coordinates, rate: float, deadline: float
) -> tuple[Found, float]:
    """Return the best rate that some metric and multipliers prove which prove this one, and a prediction of the least."""
    if reason := too_large(*size_of(forms, False), deadline, len(forms)):
        return Found(None, reason), 0.0
    program, y = program_of(balanced.forms, rate, None)
    nx = forms[0].nx

    def hopeless(point: Point) -> bool:
        # What X pairs with C is a lower bound on the trace of P, once X satisfies its equations.
        missing = np.linalg.norm(program.b - program.inner(point.X)) / (1 + np.linalg.norm(program.b))
        return bool(missing < 1e-4 and -np.sum(program.C * point.X) > _LARGEST_TRACE * nx)

    points = _solved(program, y, 1e3, deadline, "rate", len(forms), 1e-2, hopeless)
    for point in reversed(points):
        P, multipliers = unknowns(balanced, program, point.y, False)
        if rate_margin(forms, Proof(rate, P, multipliers)) < 0:
            return Found(_improved(forms, Proof(rate, P, multipliers))), _predicted(program, point, rate)
    return Found(None, _unproven(deadline, "contraction could not be proven with constant multipliers")), 0.0


def _predicted(program: Program, point: Point, rate: float) -> float:
    """Return the least rate that a solution predicts, see `least_rate`."""
    states, P = program.groups[0], program.split(point.y)[1]
    # The terms with positive weights are those of rate^2 X0'P X0.
    held = dataclasses.replace(states, w=np.maximum(states.w, 0) / rate**2).value(P)
    return float(np.sqrt(max(rate**2 - program.b @ point.y / np.sum(point.X * held), 0.0)))


def _improved(forms: Sequence[LFT], proof: Proof) -> Proof:
    """Return the smallest rate that the same metric and multipliers prove."""
    at, found = 0, 0.0
    for form in forms:
        claim = Claim(proof.value, proof.P, None, proof.multipliers[at : at + len(form.blocks)])
        at += len(form.blocks)
        found = max(found, rate_found(Inequality(form, claim, blocks_form(form, claim)), proof.P))
    # Roundings of opened networks are several times those that `rate_found` allows for.
    for raised in (1e-7, 1e-5):
        better = dataclasses.replace(proof, value=float(found * (1 + raised)))
        if better.value < proof.value and rate_margin(forms, better) < 0:
            return better
    return proof
