"""Certificates with more than the construction promises: the least gain and rate that can be proven."""

import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RobustctlError
from ..lft import LFT
from ..scaled import Scaled
from ..system import System
from .coordinates import opened
from .dissipation import described
from .faults import array_fault, complex_fault, flag_fault, step_fault
from .proof import Proof
from .prove import Found, least_gain, least_rate

if TYPE_CHECKING:
    from .certificate import Certificate


def with_proofs(found: "Certificate", system: System, seconds: float) -> "Certificate":
    """Return a certificate with the least gain and rate that can be proven of its system within so many seconds.

    What the construction promises is proven as well where the certificate holds, and the smaller of both is reported.

    **Raises:** `RobustctlError` for seconds that are not positive.
    """
    if not seconds > 0:
        raise RobustctlError(f"seconds must be positive, got {seconds}")
    deadline = time.monotonic() + seconds
    form = form_of(system)
    if isinstance(form, str):
        gain, rate, assumed = Found(None, form), Found(None, form), ()
    else:
        gain, rate, assumed = least_gain(form, deadline), least_rate(form, deadline), form.assumptions
    reasons = [f"{name}: {r.reason}" for name, r in (("gain", gain), ("rate", rate)) if r.proof is None]
    gamma, contraction = found.gamma, found.rate_found
    if not found.holds:
        gamma = contraction = None
    return dataclasses.replace(
        found, gamma=smaller(gamma, gain.proof), rate=smaller(contraction, rate.proof), gain_proof=gain.proof,
        rate_proof=rate.proof, scaled_gamma=_scaled_gamma(system, smaller(gamma, gain.proof), deadline),
        unproven=tuple(reasons), assumptions=tuple(dict.fromkeys((*found.assumptions, *assumed))),
    )  # fmt: skip


def is_loop(system: System) -> bool:
    """Return whether a system has named signals to prove gains between."""
    return callable(getattr(system, "ports", None))


def form_of(system: System) -> LFT | str:
    """Return the form of a system with its networks opened, or in words why there is none to prove anything of."""
    if reason := complex_fault(system) or flag_fault(system) or array_fault(system) or step_fault(system):
        return reason
    try:
        found = described(system)
        if isinstance(found, str):
            return found
        if len(found) != 1:
            return f"it switches between {len(found)} modes, of which no common metric is searched"
        f = found[0][1]
        if f is None or f.fault:
            return f.fault if f else f"{type(system).__name__} has no lft() that describes it"
        return opened(f.form)
    except RobustctlError as error:
        return str(error)


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
    form = form_of(system.system)
    proof = None if isinstance(form, str) else least_gain(form, deadline).proof
    return proof.value if proof else None
