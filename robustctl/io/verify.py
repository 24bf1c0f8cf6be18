"""What a loaded model must pass: parts that fit together, and a certificate that still holds."""

import json
from typing import Any

import equinox as eqx

from ..certificates import Certificate, LoopCertificate, certify, fingerprint, recheck
from ..certificates.certificate import PROOFS
from ..certificates.recheck import check_proofs
from ..checks import of_type
from ..errors import InvalidModelError, ModelFileError, RobustctlError
from ..store.entries import entry
from ..store.seal import shown
from ..system import Parameterization, System, explicit_of
from .shapes import check_shapes

Model = Parameterization | System


def prove(model: Model) -> Certificate | None:
    """Return a model's certificate; None for a network, which has none."""
    system = _system(explicit_of(model))
    return None if system is None else certify(system, prove=False)


def _system(explicit: Any) -> System | None:
    return explicit if isinstance(explicit, System) else None


def check_origin(certificate: Certificate, model: Model) -> None:
    """Raise `InvalidModelError` unless the certificate was made from this very model: its arrays, classes and static fields."""
    found = fingerprint(explicit_of(model))
    if certificate.fingerprint != found:
        raise InvalidModelError(
            f"certificate must be of this model's weights, classes and settings, fingerprint {found[:16]}..., got "
            f"{certificate.fingerprint[:16] or 'an earlier version'}...; leave it out and it is computed"
        )


def check_certificate(stored: Any, model: Model) -> None:
    """Raise `ModelFileError` where the stored certificate holds and one computed now does not, or a stored proof proves nothing."""
    if stored is None:
        return
    held = entry(stored, "holds", bool)
    if held is None:
        raise ModelFileError(
            f"the certificate must have a boolean `holds`, got {shown(stored)}; save the model again"
        )
    if "gain_proofs" in stored:
        return _check_loop(stored, model)
    _check_proofs(stored, model)
    # What did not hold when it was saved promises nothing that could be broken now.
    if not held:
        return
    try:
        found = prove(model)
    except Exception as error:
        raise ModelFileError(f"the certificate must hold, got a check that fails with: {error}") from error
    if found is None or not found.holds:
        reason = "there is nothing to certify" if found is None else found.reason
        raise ModelFileError(f"the certificate must still hold, got: {reason}; do not rely on this model")


def _check_loop(stored: dict, model: Model) -> None:
    """Check a loop's certificate; one that does not hold promises nothing."""
    if not stored["holds"]:
        return
    try:
        recheck(LoopCertificate.from_json(json.dumps(stored)), model)
    except Exception as error:
        raise ModelFileError(f"the certificate must hold, got a check that fails with: {error}") from error


def _check_proofs(stored: dict, model: Model) -> None:
    """Check stored proofs by an eigenvalue each; nothing is solved."""
    if not any(stored.get(name) for name in PROOFS):
        return
    try:
        certificate, system = Certificate.from_json(json.dumps(stored)), explicit_of(model)
        # Another machine may round the map to the matrices differently, which are then others than those of the proofs.
        if certificate.fingerprint == fingerprint(system):
            check_proofs(certificate, system)
    except Exception as error:
        raise ModelFileError(f"the stored proofs must hold, got a check that fails with: {error}") from error


def check_fit(model: Any, error: type[RobustctlError] = ModelFileError) -> None:
    """Raise `ModelFileError`, or another error, unless the model maps to a system that steps, found from shapes alone."""
    of_type(
        model,
        (Parameterization, System),
        "the model must be a parameterization or a system",
        "save one",
        error,
    )
    try:
        # First, because a class names its own faults: a stack of models has the shapes of none.
        system = _system(eqx.filter_eval_shape(explicit_of, model))
        check_shapes(model)
        _check_call(system)
        model.check_parts()
    except Exception as cause:
        raise error(
            f"the parts must fit together to a {type(model).__name__}, got ones that fail with: "
            f"{str(cause)[:300]}; save the model again"
        ) from cause


def _check_call(system: System | None) -> None:
    if system is None:  # a network alone, whose shapes were compared with its constructor's
        return
    # From shapes alone: a damaged file must not be able to start a computation.
    x = eqx.filter_eval_shape(lambda s: s.init_state(), system)
    u = eqx.filter_eval_shape(lambda s: s.one_sample(), system)
    x_next, y = eqx.filter_eval_shape(lambda s, x, u: s.step(x, u), system, x, u)
    if not eqx.tree_equal(x_next, x):
        raise ValueError(f"the state after a step must be {x}, got {x_next}")
    # A loop's output is a tuple of its signals.
    if not isinstance(y, tuple) and y.ndim != 1:
        raise ValueError(f"an output must be a vector, got shape {y.shape}")
