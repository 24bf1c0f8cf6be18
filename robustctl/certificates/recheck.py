"""A certificate checked again without a search."""

from ..errors import RobustctlError
from ..system import Parameterization, System, explicit_of
from .certificate import Certificate, certify
from .content import fingerprint
from .loop_certificate import LoopCertificate
from .loop_recheck import recheck_loop
from .proof import fits, gain_margin, rate_margin
from .proven import form_of, smaller


def recheck(certificate: Certificate, model: Parameterization | System) -> None:
    """Prove a certificate's gain and rate again from its metrics and multipliers: one eigenvalue each, nothing is solved.

    **Arguments:**

    - `certificate`: what `certify(model, prove=True)` returned, or `from_json` of its text by `Certificate`, or by `LoopCertificate`.
    - `model`: the model or system that it was made of.

    **Raises:** `RobustctlError` for a certificate of another model, without proofs, whose multipliers do not fit the model, or whose
    matrices do not prove its numbers.

    **Example:** ::

        model = rc.nn.LipschitzREN(nu=1, nx=2, nv=2, ny=1, gamma=2.0, key=jax.random.key(0))
        certificate = rc.certify(model, prove=True)
        rc.certificates.recheck(rc.certificates.Certificate.from_json(certificate.to_json()), model)
    """
    system = explicit_of(model)
    if isinstance(certificate, LoopCertificate):
        return recheck_loop(certificate, system)
    if certificate.fingerprint != fingerprint(system):
        raise RobustctlError(
            f"the certificate must be of this model, got one of {certificate.model} with other weights; certify the model again"
        )
    form = form_of(system)
    proofs = [(gain_margin, "gain", certificate.gain_proof), (rate_margin, "rate", certificate.rate_proof)]
    given = [(margin, name, proof) for margin, name, proof in proofs if proof is not None]
    if isinstance(form, str) or not given:
        raise RobustctlError(
            f"the certificate must have proofs to check, got none of {certificate.model}; certify(model, prove=True) searches them"
        )
    for margin, name, proof in given:
        if reason := fits(form, proof):
            raise RobustctlError(reason)
        if not margin(form, proof) < 0:
            raise RobustctlError(
                f"metric and multipliers must prove the {name} {proof.value:.6g}, got a matrix that is not negative definite; "
                "certify the model again"
            )
    # What the construction promises has a separate matrix, proven without a search too.
    promised = certify(model)
    gamma, rate = (promised.gamma, promised.rate_found) if promised.holds else (None, None)
    numbers = (smaller(gamma, certificate.gain_proof), smaller(rate, certificate.rate_proof))
    if (certificate.gamma, certificate.rate) != numbers:
        raise RobustctlError(
            f"gamma and rate must be what is proven, {numbers}, got {(certificate.gamma, certificate.rate)}; certify the model again"
        )
