"""Certificates with more than the construction promises: the least gain and rate that can be proven."""

import dataclasses

import numpy as np

from ..errors import InvalidModelError, RobustctlError
from ..lft import LFT
from ..scaled import Scaled
from ..system import System
from .certificate import Certificate
from .coordinates import opened
from .counterexample import counterexample
from .dissipation import Inequality, NotDescribedError, described
from .faults import system_fault
from .inequalities import Supply
from .progress import deadline_after
from .proof import Proof
from .prove import Found, largest_margin, least_gain, least_rate


def with_proofs(found: Certificate, system: System, seconds: float) -> Certificate:
    """Return a certificate with the least gain and rate that can be proven of its system within so many seconds.

    What the construction promises is proven as well where the certificate holds, and the smaller of both is reported.

    **Raises:** `RobustctlError` for seconds that are not positive.
    """
    deadline = deadline_after(seconds)
    supply = asked_supply(found)
    try:
        forms = forms_of(system)
    except NotDescribedError as error:
        gain = rate = margin = Found(None, str(error))
        assumed = []
    else:
        gain, rate = least_gain(forms, deadline), least_rate(forms, deadline)
        margin = largest_margin(forms, supply, deadline) if supply else Found(None)
        assumed = [text for form in forms for text in form.assumptions]
    searched = [("gain", gain), ("rate", rate), *([("supply rate", margin)] if supply else [])]
    promised = (found.gamma, found.rate_found) if found.holds else (None, None)
    gamma = smaller(promised[0], gain.proof)
    return dataclasses.replace(
        found, gamma=gamma, rate=smaller(promised[1], rate.proof), gain_proof=gain.proof, rate_proof=rate.proof,
        supply_proof=margin.proof, supply_margin=margin.proof.value if margin.proof else None,
        scaled_gamma=_scaled_gamma(system, gamma, deadline),
        unproven=tuple(f"{name}: {r.reason}" for name, r in searched if r.proof is None),
        disproof="" if found.holds or rate.proof else disproof(system),
        assumptions=tuple(dict.fromkeys((*found.assumptions, *assumed))),
    )  # fmt: skip


def disproof(system: System) -> str:
    """Return in words what a search finds against contraction, empty where it finds nothing or cannot be made."""
    if system_fault(system):
        return ""
    try:
        return str(counterexample(system) or "")
    except InvalidModelError:
        return ""  # no sample of the input is known


def asked_supply(found: Certificate) -> Supply | None:
    """Return the supply rate whose largest margin is searched; None where there is none, or one of a gain alone."""
    if found.supply is None:
        return None
    Q, S, R = (np.asarray(M, np.float64) for M in found.supply)
    return None if _is_gain(Q, S, R) else (Q, S, R)


def _is_gain(Q: np.ndarray, S: np.ndarray, R: np.ndarray) -> bool:
    multiples = (np.array_equal(M, M.flat[0] * np.eye(len(M))) for M in (Q, R))
    return not S.any() and all(multiples)


def forms_of(system: System) -> list[LFT]:
    """Return the forms of a system's modes with their networks opened.

    **Raises:** `NotDescribedError` where there is nothing to prove anything of.
    """
    if reason := system.flag_fault() or system_fault(system):
        raise NotDescribedError(reason)
    try:
        forms = [_form_of(mode, f) for mode, f in described(system)]
    except RobustctlError as error:
        raise NotDescribedError(str(error)) from error
    sizes = {(form.nx, form.nu, form.ny) for form in forms}
    if len(sizes) > 1:
        raise NotDescribedError(
            f"the modes between which a system switches must have the same states, inputs and outputs, got {sorted(sizes)}"
        )
    return forms


def _form_of(mode: System, f: Inequality | None) -> LFT:
    if f is None or f.fault:
        raise NotDescribedError(f.fault if f else f"{type(mode).__name__} has no lft() that describes it")
    return opened(f.form)


def smaller(promised: float | None, proof: Proof | None) -> float | None:
    """Return the smaller of a promised number and a proven one, None where there is neither."""
    return min((v for v in (promised, proof.value if proof else None) if v is not None), default=None)


def _scaled_gamma(system: System, gamma: float | None, deadline: float) -> float | None:
    """Return the gain between scaled signals: the same where all channels have one scale, else one to be found."""
    if gamma is None or not isinstance(system, Scaled):
        return None
    u_std, y_std = (np.asarray(a, np.float64) for a in (system.u_std, system.y_std))
    if len(set(u_std)) == len(set(y_std)) == 1:
        return float(gamma * u_std[0] / y_std[0])
    try:
        proof = least_gain(forms_of(system.system), deadline).proof
    except NotDescribedError:
        return None
    return proof.value if proof else None
