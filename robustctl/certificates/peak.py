"""How far bounded disturbances can move the signals of a system: a tube about the undisturbed trajectory.

::

    V+ <= rate^2 V + sum mu_k d_k^2,    y^2 <= V + sum b_k d_k^2,     V = dx' P dx
    |d_k| <= 1:     V <= sum mu / (1 - rate^2),     |y|^2 <= sum mu / (1 - rate^2) + sum b

of differences between the disturbed and the undisturbed trajectory from one state. For each output P, mu, b and the multipliers of
every neuron minimize the right side, and a line search finds the rate.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..checks import is_real
from ..errors import RobustctlError
from ..lft import LFT, rescaled
from ..pytrees import fields_of
from ..system import Parameterization, System, explicit_of
from .content import fingerprint
from .coordinates import Coordinates, at_slopes, balance, opened, spectral_radius
from .inequalities import rows_of, split_multipliers
from .interior_point import cost, solve
from .invariant import Part, Solution, assemble, known_of_blocks, seen, solution
from .named_signals import Signals, signals_of
from .peak_proof import PeakProof
from .progress import deadline_after
from .prove import fault_of
from .stored import from_text, infinite, to_text

_GAP = 1e-3
"""Relative duality gap of the squared bound; half of it is lost of the bound."""

TOGETHER = "2-norm of inputs"
"""Name of the bound on all inputs together."""

_SEARCHES = 9
"""Rates that are tried for an output: of a range of shares of 200 the golden section leaves a tenth around the optimum, which is flat."""


@dataclasses.dataclass(frozen=True)
class PeakBounds:
    """How far each output can be from that of the undisturbed system, at every sample.

    **Arguments:**

    - `bounds`: `|y - y undisturbed| <=` this, by the output's name, in its unit; infinite where nothing could be proven.
    - `units`: of the outputs, empty where unknown.
    - `disturbance`: the bound on each input that the proof is for; under the name `2-norm of inputs` one on all inputs together.
    - `rates`: the rate per sample at which each bound was proven.
    - `assumptions`: what the proof assumes, in words.
    - `unproven`: why an output has no bound, in words.
    - `proofs`: what proves each bound that is neither 0 nor infinite.
    - `fingerprint`: of the system, see `rc.certificates.fingerprint`.
    """

    bounds: dict[str, float]
    units: dict[str, str]
    disturbance: dict[str, float]
    rates: dict[str, float]
    assumptions: tuple[str, ...] = ()
    unproven: str = ""
    proofs: dict[str, PeakProof] = dataclasses.field(default_factory=dict)
    fingerprint: str = ""

    def to_json(self) -> str:
        """Return the bounds and their proofs as JSON text, which `rc.certificates.recheck` takes back; numbers keep all their digits."""
        return to_text(
            fields_of(self) | {"proofs": {name: proof.to_fields() for name, proof in self.proofs.items()}}
        )

    @classmethod
    def from_json(cls, text: str) -> "PeakBounds":
        """Return the bounds that `to_json` wrote.

        **Raises:** `RobustctlError` for text that it did not write or of another format version.
        """
        return from_text(text, cls._of_fields)

    @classmethod
    def _of_fields(cls, fields: dict) -> "PeakBounds":
        bounds = {name: infinite(value) for name, value in fields.pop("bounds").items()}
        proofs = {name: PeakProof.from_fields(proof) for name, proof in fields.pop("proofs").items()}
        return cls(bounds=bounds, proofs=proofs, assumptions=tuple(fields.pop("assumptions")), **fields)

    def tube(self, nominal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest outputs about a nominal trajectory (T, ny) that was simulated without disturbance."""
        reach = np.array(list(self.bounds.values()))
        nominal = np.asarray(nominal)
        if nominal.shape[-1:] != reach.shape:
            raise RobustctlError(
                f"the nominal trajectory must have the {reach.size} outputs {list(self.bounds)}, got shape {nominal.shape}"
            )
        return nominal - reach, nominal + reach

    def __str__(self) -> str:
        """Return a table: one line an output."""
        given = ", ".join(f"{name} up to {size:.6g}" for name, size in self.disturbance.items())
        lines = [f"peak bounds, proven for {given}, from one initial state:"]
        lines += [
            f"  |{name} - nominal| at most {bound:.6g} {self.units[name]}".rstrip()
            for name, bound in self.bounds.items()
        ]
        lines += [f"  assumed: {text}" for text in self.assumptions]
        return "\n".join([*lines, f"  {self.unproven}"] if self.unproven else lines)


def peak_bounds(
    model: Parameterization | System,
    disturbance: float | Mapping[str, float] | Sequence[float] | np.ndarray,
    *,
    outputs: Sequence[str] | None = None,
    seconds: float = 60.0,
) -> PeakBounds:
    """Prove how far bounded disturbances can move each output of a contracting system or loop from the undisturbed trajectory.

    ::

        |y[t] - y_undisturbed[t]| <= bound   at every sample t,     from one initial state, for all |d[t]| <= disturbance

    The undisturbed trajectory, or any other input that both share, is arbitrary: simulate it, and the bound is the tube about it. With
    limits on states and controls less the bound, the disturbed loop keeps the limits.

    **Arguments:**

    - `model`: a system, a parameterization, or a feedback loop about a linear or identified plant.
    - `disturbance`: a bound on each input by name (inputs not named are not disturbed), or one number an input, in their units; one
      number bounds the 2-norm of all inputs together. A loop's inputs are the plant's disturbances and, as `noise of ...`, what is added
      to its readings.
    - `outputs`: names of those to bound, default all. A loop has the plant's outputs, its controls, and its states.
    - `seconds`: time limit.

    **Raises:** `RobustctlError` for a system that does not describe itself, names that it does not have, and bounds that are not
    finite and positive.

    **Example:** ::

        system = rc.StateSpace([[0.9]], [[1.0]], [[1.0]], [[0.0]], dt=1.0)
        print(rc.certificates.peak_bounds(system, [0.1]).bounds)     # near 1
    """
    deadline = deadline_after(seconds)
    system = explicit_of(model)
    case = disturbed(system, disturbance)
    chosen = _chosen(outputs, case.signals)
    reason = fault_of(case.form)
    found: dict[str, PeakProof | None] = {}
    for left, name in zip(range(len(chosen), 0, -1), chosen, strict=True):
        share = time.monotonic() + (deadline - time.monotonic()) / left
        form = case.of(name)
        if not constant(form):
            found[name] = None if reason else _least_peak(form, case.groups, share)
    missing = [name for name, proof in found.items() if proof is None]
    if missing and not reason:
        reason = f"no bound could be proven of {', '.join(missing)} with constant multipliers in the time given; give more seconds"
    units = dict(zip(case.signals.outputs, case.signals.units, strict=True))
    proofs = {name: proof for name, proof in found.items() if proof is not None}
    proven = {name: proof.value for name, proof in proofs.items()}
    return PeakBounds(
        {name: proven.get(name, np.inf if name in found else 0.0) for name in chosen},
        {name: units[name] for name in chosen}, case.given, {name: proof.rate for name, proof in proofs.items()},
        case.form.assumptions, reason if missing else "", proofs, fingerprint(system),
    )  # fmt: skip


class Disturbed(NamedTuple):
    """A system whose inputs are those that are disturbed, over their bounds.

    **Arguments:**

    - `form`: opened.
    - `groups`: the inputs that share a bound.
    - `given`: the bounds by name.
    - `signals`: of the system.
    """

    form: LFT
    groups: list[list[int]]
    given: dict[str, float]
    signals: Signals

    def of(self, output: str) -> LFT:
        """Return the form of one output."""
        k, form = self.signals.outputs.index(output), self.form
        return form._replace(C2=form.C2[k : k + 1], D21=form.D21[k : k + 1], D22=form.D22[k : k + 1])


def disturbed(
    system: System, disturbance: float | Mapping[str, float] | Sequence[float] | np.ndarray
) -> Disturbed:
    """Return a system with the disturbances of `peak_bounds`.

    **Raises:** as `peak_bounds`.
    """
    signals = signals_of(system)
    sizes, groups, given = _disturbance(disturbance, signals)
    form = opened(signals.form)
    acting = sizes > 0
    return Disturbed(
        rescaled(_only_inputs(form, acting), sizes[acting], np.ones(form.ny)), groups, given, signals
    )


def constant(form: LFT) -> bool:
    """Return whether nothing moves the form's outputs."""
    return not (form.C2.any() or form.D21.any() or form.D22.any())


def _only_inputs(form: LFT, which: np.ndarray) -> LFT:
    return form._replace(B2=form.B2[:, which], D12=form.D12[:, which], D22=form.D22[:, which])


def _disturbance(given, signals: Signals) -> tuple[np.ndarray, list[list[int]], dict[str, float]]:
    """Return the size of each input (0: not disturbed), the inputs that share a bound, and the bounds by name."""
    names, n = signals.inputs, signals.form.nu
    match given:
        case Mapping():
            if unknown := [name for name in given if name not in names]:
                raise RobustctlError(
                    f"a disturbance must be an input of the system, {list(names)}, got {unknown[0]!r}"
                )
            sizes = np.array([float(given.get(name, 0.0)) for name in names])
            bounded = [given[name] for name in given]
        case _:
            sizes = np.asarray(given, float)
            sizes = np.full(n, sizes) if sizes.ndim == 0 else sizes
            bounded = sizes
    if sizes.shape != (n,):
        raise RobustctlError(
            f"there must be one bound for each of {n} inputs, {list(names)}, got {sizes.shape[0]}"
        )
    if not (np.isfinite(sizes).all() and np.all(np.asarray(bounded) > 0) and sizes.any()):
        raise RobustctlError(
            f"the bounds of disturbances must be positive and finite, got {given}; leave out the name of an input that is not disturbed"
        )
    count = int(np.count_nonzero(sizes))
    if is_real(given):
        return sizes, [list(range(count))], {TOGETHER: float(sizes[0])}
    return sizes, [[k] for k in range(count)], {n: float(s) for n, s in zip(names, sizes, strict=True) if s}


def _chosen(outputs: Sequence[str] | None, signals: Signals) -> list[str]:
    if unknown := [name for name in outputs or () if name not in signals.outputs]:
        raise RobustctlError(
            f"an output must be one of the system's, {list(signals.outputs)}, got {unknown[0]!r}"
        )
    return list(signals.outputs if outputs is None else outputs)


def _least_peak(form: LFT, groups: list[list[int]], deadline: float) -> PeakProof | None:
    """Return the least bound of a form's output over metrics and rates, by a golden section over `1 - rate^2`."""
    balanced = balance(form)
    slowest = spectral_radius(at_slopes(form)[0])
    tried: dict[float, PeakProof | None] = {}

    def at(exponent: float) -> float:
        share = float(np.exp(exponent))
        if share not in tried and time.monotonic() < deadline:
            rate = float(np.sqrt(1 - share * (1 - slowest**2)))
            tried[share] = _peak(form, balanced, groups, rate, deadline)
        peak = tried.get(share)
        return np.inf if peak is None else peak.value

    # A scalar system is best at about a half; up to which share a proof is possible is found by trying.
    _golden(at, float(np.log(0.004)), float(np.log(0.95)))
    return min((p for p in tried.values() if p is not None), key=lambda p: p.value, default=None)


def _golden(of, low: float, high: float) -> None:
    """Evaluate a function near its minimum; where it is infinite, the minimum is below."""
    ratio = (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    for _ in range(_SEARCHES - 1):
        if of(a) <= of(b):
            high, b = b, a
            a = high - ratio * (high - low)
        elif of(a) == np.inf:
            high = a
            a, b = high - ratio * (high - low), low + ratio * (high - low)
        else:
            low, a = a, b
            b = low + ratio * (high - low)


def _peak(
    form: LFT, balanced: Coordinates, groups: list[list[int]], rate: float, deadline: float
) -> PeakProof | None:
    """Return the proof that a metric for this rate gives."""
    inside, view = balanced.form, seen(balanced.form, 0)
    parts = [_dynamics(inside, groups, rate), _output(view, groups)]
    program, y = assemble(form.nx, parts, np.zeros((form.nx, form.nx)))
    if cost(program)[0] > deadline - time.monotonic():
        return None
    for start in (1e3, 1e5):
        for point in reversed(solve(program, y, start=start, gap=_GAP, deadline=deadline)):
            if peak := _proven(form, balanced, groups, rate, solution(program, parts, form.nx, point.y)):
                return peak
    return None


def _dynamics(form: LFT, groups: list[list[int]], rate: float) -> Part:
    """`rate^2 V - V+ + mu |d|^2 + blocks > 0`."""
    rows = rows_of(form)
    blocks, neurons = known_of_blocks(form, rows)
    inputs = [rows.U[g].T @ rows.U[g] for g in groups]
    n = rows.X0.shape[1]
    costs = [1 / (1 - rate**2)] * len(groups) + [0.0] * len(blocks)
    return Part(
        ((rows.X0, rate**2), (rows.S, -1.0)), np.zeros((n, n)), (*inputs, *blocks), tuple(costs), neurons
    )


def _output(form: LFT, groups: list[list[int]]) -> Part:
    """`V + b |d|^2 - y^2 + blocks > 0`."""
    rows = rows_of(form)
    blocks, neurons = known_of_blocks(form, rows)
    inputs = [rows.U[g].T @ rows.U[g] for g in groups]
    costs = [1.0] * len(groups) + [0.0] * len(blocks)
    return Part(((rows.X0, 1.0),), -rows.Y.T @ rows.Y, (*inputs, *blocks), tuple(costs), neurons)


def _proven(
    form: LFT, balanced: Coordinates, groups: list[list[int]], rate: float, found: Solution
) -> PeakProof | None:
    """Return what the unknowns prove in the original coordinates, rounding included."""
    P, view, n = balanced.metric(found.P), seen(form, 0), len(groups)
    mu, b = (each[:n] * balanced.size**2 for each in found.fixed)
    own = [
        split_multipliers(each.blocks, found.fixed[k][n:], found.neurons[k])
        for k, each in enumerate((form, view))
    ]
    T0, T1 = balanced.multipliers(own[0]), balanced.multipliers(own[1]) if view.blocks else ()
    # Rounding in returning to the original coordinates costs a little of the bound: a slower rate, and P a little larger for the output.
    for raised in (1e-9, 1e-6, 1e-4, 1e-3, 1e-2):
        slower = float(np.sqrt(1 - (1 - rate**2) * (1 - raised)))
        proof = PeakProof(slower, P, mu * (1 + raised), b * (1 + raised), raised, T0, T1)
        if proof.holds(form, groups):
            return proof
    return None
