"""A loop's certificate checked again without a search."""

from ..errors import RobustctlError
from ..system import System
from .content import fingerprint
from .coordinates import opened
from .loop_certificate import LoopCertificate
from .loop_gains import margin_of, ports_of, stability_margin, whole_form
from .model_error import with_errors
from .proof import fits


def recheck_loop(certificate: LoopCertificate, loop: System) -> None:
    """Prove a loop's stability and gains again from metrics and multipliers, as `recheck` does."""
    if certificate.fingerprint != fingerprint(loop):
        raise RobustctlError(
            f"the certificate must be of this loop, got one of a {certificate.model} with other parts or weights; certify the loop again"
        )
    stability = certificate.rate_proof
    if stability is None:
        raise RobustctlError("the certificate must have proofs to check, got none; certify the loop again")
    ports = with_errors(ports_of(loop), certificate.errors)
    checks = [("stability", whole_form(ports), stability, lambda p: stability_margin(ports, p))]
    for (a, b), proof in certificate.gain_proofs.items():
        form = opened(ports.between(a, b))
        checks.append(
            (f"the gain from {a} to {b}", form, proof, lambda p, a=a, b=b: margin_of(ports, (a, b), p))
        )
    for name, form, proof, margin in checks:
        if reason := fits(form, proof):
            raise RobustctlError(reason)
        if not margin(proof) < 0:
            raise RobustctlError(
                f"metric and multipliers must prove {name}, {proof.value:.6g}, got a matrix that is not negative definite; certify the "
                "loop again"
            )
    _check_numbers(certificate, stability.value)


def _check_numbers(certificate: LoopCertificate, rate: float) -> None:
    """Refuse numbers that are not those of the proofs; with errors stability alone is proven, at rate 1."""
    gains = {pair: proof.value for pair, proof in certificate.gain_proofs.items()}
    known = None if any(e.gain > 0 for e in certificate.errors) else rate
    found, wanted = (certificate.holds, certificate.rate, certificate.gains), (True, known, gains)
    if found != wanted or rate > 1:
        raise RobustctlError(
            f"holds, rate and gains must be what is proven, {wanted}, got {found}; certify the loop again"
        )
