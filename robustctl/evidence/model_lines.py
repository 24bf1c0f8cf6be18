"""Lines about model files and certificates."""

import functools
import json
import shlex
from pathlib import Path
from typing import Any

from ..certificates import Certificate, LoopCertificate, certify, fingerprint, recheck
from ..certificates.certificate import PROOFS
from ..errors import RobustctlError
from ..ports import Loop
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
    stored = loaded.certificate
    of_loop = "gain_proofs" in stored or isinstance(loaded.model, Loop)
    line = functools.partial(Line, "loop" if of_loop else "certificate", files=(loaded.path,))
    if loaded.unknown:
        return line(State.UNCHECKED, loaded.fault, _stated(stored))
    # Loading checks the proofs that are stored; certify would prove a loop without its model errors.
    again = f"python -c \"import robustctl as rc; rc.load('{loaded.path}')\""
    command = again if of_loop else f"robustctl certify {shlex.quote(str(loaded.path))}"
    if loaded.model is None:
        return line(State.FAILS, loaded.fault, _stated(stored), command=command)
    if not stored.get("holds"):
        reason = stored.get("reason") or "it has no certificate"
        text = f"the file is as it was saved; nothing is proven of it: {reason}"
        return line(State.UNCHECKED, text, command=command)
    assumed = tuple(stored.get("assumptions", ()))
    text = "the file is as it was saved, and its certificate holds"
    return line(State.HOLDS, text, _stated(stored), command=command, assumptions=assumed)


def _stated(stored: dict[str, Any]) -> tuple[str, ...]:
    """Return the text of a stored certificate."""
    try:
        return (str(parsed(json.dumps(stored))),) if stored else ()
    except RobustctlError:
        return ()


def certificate_line(path: Path, models: list[Loaded]) -> Line:
    """Return the line of a certificate in a separate file, checked against the model that it is of."""
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
