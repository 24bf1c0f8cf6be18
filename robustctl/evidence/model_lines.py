"""Lines about model files and certificates."""

import json
import shlex
from pathlib import Path
from typing import Any

from ..certificates import Certificate, LoopCertificate, certify, fingerprint, recheck
from ..certificates.certificate import PROOFS
from ..errors import RobustctlError
from ..system import System, explicit_of
from .line import Line, State
from .models import Loaded


def parsed(text: str) -> Certificate:
    """Return a certificate from its JSON, of a loop where it is one.

    **Raises:** `RobustctlError` for text that is none.
    """
    kind = LoopCertificate if "gain_proofs" in json.loads(text) else Certificate
    return kind.from_json(text)


def model_line(loaded: Loaded) -> Line:
    """Return what loading a model file proved again: its sha256, that its parts fit, and its certificate."""
    stored, files = loaded.certificate, (loaded.path,)
    kind, name = "loop" if "gain_proofs" in stored else "certificate", shlex.quote(str(loaded.path))
    command = (
        f"robustctl certify {name}"
        if kind == "certificate"
        else f"python -c \"import robustctl as rc; rc.load('{loaded.path}')\""
    )
    if loaded.unknown:
        return Line(kind, State.UNCHECKED, loaded.fault, _stated(stored), files)
    if loaded.model is None:
        return Line(kind, State.FAILS, loaded.fault, _stated(stored), files, command)
    if not stored.get("holds"):
        reason = stored.get("reason") or "it has no certificate"
        return Line(
            kind,
            State.UNCHECKED,
            f"the file is as it was saved; nothing is proven of it: {reason}",
            (),
            files,
            command,
        )
    text = (
        "the file is as it was saved, and its certificate holds"
        if kind == "certificate"
        else "the loop's proofs hold"
    )
    return Line(
        kind, State.HOLDS, text, _stated(stored), files, command, tuple(stored.get("assumptions", ()))
    )


def _stated(stored: dict[str, Any]) -> tuple[str, ...]:
    """Return the text of a stored certificate."""
    try:
        return (str(parsed(json.dumps(stored))),) if stored else ()
    except RobustctlError:
        return ()


def certificate_line(path: Path, models: list[Loaded]) -> Line:
    """Return the line of a certificate in a file of its own, checked against the model that it is of."""
    files = (path,)
    try:
        certificate = parsed(path.read_text("utf-8"))
    except (RobustctlError, ValueError, OSError) as error:
        return Line("certificate", State.FAILS, f"it cannot be read: {error}", files=files)
    kind, details = "loop" if isinstance(certificate, LoopCertificate) else "certificate", (str(certificate),)
    known = [m for m in models if m.model is not None]
    model = next((m for m in known if _print_of(m) == certificate.fingerprint), None)
    if model is None:
        state = State.FAILS if known else State.UNCHECKED
        text = (
            "none of the models here has its fingerprint"
            if known
            else "there is no model here to check it against"
        )
        return Line(kind, state, text, details, files)
    command = f"robustctl certify {shlex.quote(str(model.path))}"
    if fault := _fault(certificate, model):
        return Line(kind, State.FAILS, fault, details, files, command)
    text = f"its proofs, checked again with the weights in {model.path.name}, hold"
    return Line(kind, State.HOLDS, text, details, (*files, model.path), command, certificate.assumptions)


def _print_of(loaded: Loaded) -> str:
    """Return the fingerprint of a loaded model's system."""
    with loaded.precision():
        system = explicit_of(loaded.model)
    return fingerprint(system) if isinstance(system, System) else ""


def _fault(certificate: Certificate, loaded: Loaded) -> str:
    """Return why a certificate does not hold of a model, else an empty text."""
    if not certificate.holds:
        return f"it does not hold: {certificate.reason}"
    try:
        with loaded.precision():
            if any(getattr(certificate, name) is not None for name in PROOFS):
                recheck(certificate, loaded.model)
                return ""
            promised = certify(loaded.model, prove=False)
    except RobustctlError as error:
        return str(error)
    given, now = ((c.holds, c.rate, c.gamma) for c in (certificate, promised))
    return "" if given == now else f"holds, rate and gamma must be those of the model, {now}, got {given}"
