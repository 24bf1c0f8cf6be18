"""A certificate checked again without a search."""

from ..errors import RobustctlError
from ..system import Parameterization, System, explicit_of
from .certificate import Certificate
from .certifying import certify
from .content import fingerprint
from .loop_certificate import LoopCertificate
from .loop_recheck import recheck_loop
from .peak import PeakBounds
from .proof import fits, gain_margin, rate_margin, supply_margin
from .proven import asked_supply, forms_of, smaller
from .recheck_bounds import recheck_peaks, recheck_region
from .region import Region


def recheck(certificate: Certificate | PeakBounds | Region, model: Parameterization | System) -> None:
    """Prove the numbers of a certificate, of peak bounds or of a region again from metrics and multipliers: nothing is solved.

    Each number takes an eigenvalue or two; of a region the plant's Jacobian is bounded on its box again, too.

    **Arguments:**

    - `certificate`: what `certify(model)`, `peak_bounds(model, ...)` or `region(model, ...)` returned, or `from_json` of its text by its
      class: `Certificate`, `LoopCertificate`, `PeakBounds`, `Region`.
    - `model`: the model, system or loop that it was made of.

    **Raises:** `RobustctlError` for a certificate of another model, without proofs, whose multipliers do not fit the model, or whose
    matrices do not prove its numbers.

    **Example:** ::

        model = rc.nn.LipschitzREN(nu=1, nx=2, nv=2, ny=1, gamma=2.0, key=jax.random.key(0))
        certificate = rc.certify(model)
        rc.certificates.recheck(rc.certificates.Certificate.from_json(certificate.to_json()), model)
    """
    system = explicit_of(model)
    match certificate:
        case LoopCertificate():
            return recheck_loop(certificate, system)
        case PeakBounds():
            return recheck_peaks(certificate, system)
        case Region():
            return recheck_region(certificate, system)
    if certificate.fingerprint != fingerprint(system):
        raise RobustctlError(
            f"the certificate must be of this model, got one of {certificate.model} with other weights; certify the model again"
        )
    check_proofs(certificate, system)
    # What the construction promises has a separate matrix, proven without a search too.
    promised = certify(model, prove=False)
    gamma, rate = (promised.gamma, promised.rate_found) if promised.holds else (None, None)
    margin = certificate.supply_proof.value if certificate.supply_proof else None
    numbers = (smaller(gamma, certificate.gain_proof), smaller(rate, certificate.rate_proof), margin)
    given = (certificate.gamma, certificate.rate, certificate.supply_margin)
    if given != numbers:
        raise RobustctlError(
            f"gamma, rate and supply_margin must be what is proven, {numbers}, got {given}; certify the model again"
        )


def check_proofs(certificate: Certificate, system: System) -> None:
    """Prove each number of a certificate again that has a proof.

    **Raises:** `RobustctlError` for a certificate without proofs, one whose multipliers do not fit, and one that proves nothing.
    """
    supply = asked_supply(certificate)
    proofs = [
        ("gain", certificate.gain_proof, gain_margin), ("rate", certificate.rate_proof, rate_margin),
        ("supply rate", certificate.supply_proof, lambda forms, proof: supply_margin(forms, proof, supply) if supply else 1.0),
    ]  # fmt: skip
    given = [(name, proof, margin) for name, proof, margin in proofs if proof is not None]
    if not given:
        raise RobustctlError(
            f"the certificate must have proofs to check, got none of {certificate.model}; certify(model) searches them"
        )
    forms = forms_of(system)
    for name, proof, margin in given:
        if reason := fits(forms, proof):
            raise RobustctlError(reason)
        if not margin(forms, proof) < 0:
            raise RobustctlError(
                f"metric and multipliers must prove the {name} {proof.value:.6g}, got a matrix that is not negative definite; "
                "certify the model again"
            )
