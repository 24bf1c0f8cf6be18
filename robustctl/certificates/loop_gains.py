"""Gains of closed loops between named signals, by one matrix inequality each, and why there are none."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from ..checks import of_type
from ..lft import LFT
from ..ports import Loop, Ports
from ..system import System
from .content import dtypes, fingerprint, own_descriptions, weights_sha256
from .coordinates import opened
from .dissipation import NotDescribedError
from .gain_of_stability import gain_of_stability
from .loop_certificate import LoopCertificate, Pair
from .model_error import ModelError, as_errors, with_errors
from .progress import deadline_after
from .proof import Proof, gain_margin, rate_margin
from .prove import Found, fault_of, least_gain, least_rate
from .proven import disproof, forms_of

USUAL: tuple[Pair, ...] = (("d", "y"), ("d", "z"), ("d", "u"), ("n", "u"), ("r", "e"))
"""The gains that are proven where none are named, of those whose signals the loop has."""


def certify_loop(
    loop: System, *, gains: Sequence[Pair] | None = None, error: ModelError | Sequence[ModelError] | None = None,
    seconds: float = 60.0,
) -> LoopCertificate:  # fmt: skip
    """Prove a closed loop's stability and the least gains between its named signals, with an imperfect model of its plant if given.

    The same as `rc.certify` of a loop.

    **Arguments:**

    - `loop`: of `rc.loops.feedback`, or a `YoulaMap`.
    - `gains`: pairs of an input and an output, `[("d", "y"), ("r", "e")]`; default the usual ones that the loop has. Of `feedback`:
      inputs d disturbance, r reference, n added to the measured output, v added to the control; outputs y measured output, u control,
      e = r - y. `y[0]` is a channel, and so is the name of an output or control.
    - `error`: by what the plant differs from its model, a `ModelError` or several.
    - `seconds`: time limit of the search.

    **Raises:** `RobustctlError` for something without named signals, a signal that the loop does not have, an error that does not fit
    it, and seconds that are not positive.

    **Example:** ::

        lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1)
        loop = rc.loops.feedback(rc.loops.ModelPlant(lag), rc.classical.PID(2.0, 1.0, dt=0.1))
        print(rc.certificates.certify_loop(loop, gains=[("d", "y")]).gains["d", "y"])
    """
    deadline = deadline_after(seconds)
    errors = as_errors(error)
    for one in errors:
        one.check_sample_time(loop.dt)
    try:
        ports = ports_of(loop)
    except NotDescribedError as fault:
        return void(loop, errors, str(fault))
    pairs = [tuple(p) for p in gains] if gains is not None else _usual(ports)
    whole = with_errors(ports, errors)
    forms = {(a, b): opened(whole.between(a, b)) for a, b in pairs}
    stability = stable(whole_form(whole), deadline, any(e.gain > 0 for e in errors))
    if stability.proof is None and errors and forms:
        stability = _stable_by_gain(next(iter(forms.values())), whole, deadline) or stability
    if stability.proof is None:
        found = explained(void(loop, errors, stability.reason), ports, errors, deadline)
        return found if found.error_fraction else dataclasses.replace(found, disproof=disproof(loop))
    form = whole_form(whole)
    found = {pair: _gain(one, form, stability.proof, deadline) for pair, one in forms.items()}
    return _proven(loop, errors, whole, stability.proof, found)


def _gain(form: LFT, whole: LFT, stability: Proof, deadline: float) -> Found:
    """Return the least gain that is found, or one that what proves stability proves, which always is finite."""
    least = least_gain(form, deadline, whole)
    if least.proof is not None or fault_of(form):
        return least
    other = gain_of_stability(form, stability).proof
    if other is None:
        return least
    return Found(other, f"{least.reason}; the gain given is one that the proof of stability implies")


def ports_of(loop: System) -> Ports:
    """Return a loop's named signals.

    **Raises:** `NotDescribedError` where nothing can be proven of it; `RobustctlError` for something without named signals.
    """
    must = "a loop must have named signals, as that of rc.loops.feedback does"
    named = of_type(loop, Loop, must, "make the class a rc.loops.Loop with a method ports()")
    forms_of(named)
    if (ports := named.ports()) is None:
        raise NotDescribedError(f"{type(loop).__name__} has no ports() that describe it")
    return ports


def _usual(ports: Ports) -> list[Pair]:
    return [(a, b) for a, b in USUAL if a in ports.inputs and b in ports.outputs]


def whole_form(ports: Ports) -> LFT:
    """Return the opened form of which stability is proven: signals that enter and leave decide its balanced coordinates alone."""
    return opened(ports.form)


def stable(form: LFT, deadline: float, errors: bool) -> Found:
    """Return a proof of contraction, at the least rate; with unknown errors, which remember, of stability alone, at rate 1."""
    if form.nx == 0:
        reason = fault_of(form)
        return Found(None if reason else Proof(1.0, np.zeros((0, 0)), _ones(form)), reason)
    if not errors:
        return least_rate(form, deadline)
    found = least_rate(form, deadline, within=np.inf)
    return found._replace(proof=found.proof and dataclasses.replace(found.proof, value=1.0))


def _ones(form: LFT) -> tuple[np.ndarray, ...]:
    return tuple(np.ones(block.multipliers) for block in form.blocks)


def _stable_by_gain(form: LFT, whole: Ports, deadline: float) -> Found | None:
    """Return a gain's proof as one of stability, whose matrix is a part of the gain's: near the largest error it may be found alone."""
    proof = least_gain(form, deadline).proof
    proof = proof and dataclasses.replace(proof, value=1.0)
    return Found(proof) if proof and stability_margin(whole, proof) < 0 else None


def _proven(
    loop: System, errors: tuple[ModelError, ...], ports: Ports, stability: Proof, found: dict[Pair, Found]
) -> LoopCertificate:
    proofs = {pair: one.proof for pair, one in found.items() if one.proof is not None}
    return dataclasses.replace(
        void(loop, errors, ""), holds=True, rate=None if any(e.gain > 0 for e in errors) else stability.value, rate_proof=stability,
        margin=max([stability_margin(ports, stability), *(margin_of(ports, pair, p) for pair, p in proofs.items())]),
        gains={pair: proof.value for pair, proof in proofs.items()}, gain_proofs=proofs,
        unproven=tuple(f"gain from {a} to {b}: {one.reason}" for (a, b), one in found.items() if one.reason),
        assumptions=(*assumed(loop, errors), *whole_form(ports).assumptions),
    )  # fmt: skip


def stability_margin(ports: Ports, proof: Proof) -> float:
    """Return the bound on the largest relative eigenvalue of the matrix that proves stability; negative where it does."""
    return rate_margin(whole_form(ports), proof)


def margin_of(ports: Ports, pair: Pair, proof: Proof) -> float:
    """Return the same of the matrix that proves a gain."""
    return gain_margin(opened(ports.between(*pair)), proof)


def assumed(loop: System, errors: Sequence[ModelError]) -> tuple[str, ...]:
    """Return what no matrix proves of this loop, in words."""
    own = [f"lft() of {name} describes its step: sizes were compared" for name in own_descriptions(loop)]
    bounded = ["the plant differs from its model by no more than the model error"] if errors else []
    return (*own, *bounded)


def void(loop: System, errors: tuple[ModelError, ...], reason: str) -> LoopCertificate:
    """Return the certificate of a loop of which nothing is proven."""
    return LoopCertificate(
        holds=False, margin=float("inf"), rate=None, rate_found=None, gamma=None, supply=None, phi_bound=None, P=None,
        reason=reason, model=type(loop).__name__, dtype=dtypes(loop), weights_sha256=weights_sha256(loop),
        fingerprint=fingerprint(loop), errors=errors,
    )  # fmt: skip


def explained(
    found: LoopCertificate, ports: Ports, errors: Sequence[ModelError], deadline: float
) -> LoopCertificate:
    """Return a certificate that does not hold, with how far the errors, or else the slopes, must shrink for one that does."""
    if fault_of(whole_form(ports)) or time.monotonic() > deadline:
        return found

    def provable(form: LFT) -> bool:
        return stable(form, deadline, True).proof is not None

    if errors and provable(whole_form(ports)):
        factor = _largest(lambda t: provable(whole_form(with_errors(ports, _scaled(errors, t)))))
        reason = f"{found.reason}; it is proven without the model error, and with {factor:.3g} times its gain"
        return dataclasses.replace(found, error_fraction=factor, reason=reason)
    form = whole_form(ports)
    if all(block.shrunk(0.0) is block for block in form.blocks) or not provable(shrunk(form, 0.0)):
        return found
    fraction = _largest(lambda t: provable(shrunk(form, t)))
    reason = f"{found.reason}; it can be with every interval of slopes shrunk about its middle to {fraction:.3g} of its length"
    return dataclasses.replace(found, slope_fraction=fraction, reason=reason)


def _scaled(errors: Sequence[ModelError], factor: float) -> list[ModelError]:
    return [ModelError(factor * e.gain, e.at, e.weight) for e in errors]


def shrunk(form: LFT, fraction: float) -> LFT:
    """Return a form whose intervals of slopes have that part of their length, about their middle."""
    return form._replace(blocks=tuple(block.shrunk(fraction) for block in form.blocks))


def _largest(holds: Callable[[float], bool], within: float = 0.01) -> float:
    """Return the largest number in [0, 1] for which something that holds at 0 still does, by bisection."""
    low, high = 0.0, 1.0
    while high - low > within:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
