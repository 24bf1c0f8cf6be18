"""What is proven of a closed loop, and the numbers that prove it."""

import dataclasses
import json

from ..errors import RobustctlError
from ..pytrees import fields_of
from ..store.json_text import json_text
from .certificate import FORMAT, Certificate
from .model_error import ModelError
from .proof import Proof

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class LoopCertificate(Certificate):
    """A `Certificate` of a closed loop: gains between its named signals, with a plant that differs from its model if one is given.

    ::

        sum |dy|^2 <= gain^2 sum |du|^2     from equal starts, for each (u, y) in gains

    `holds` is about the loop's stability: without errors two trajectories under the same inputs converge, at `rate` per sample; with
    errors the sum of their squared distances is bounded, and no rate is proven, because an unknown error remembers.

    **Arguments:**

    - `gain_proofs`: metric and multipliers that prove each of `gains`.
    - `errors`: the model errors that the proofs cover.
    - `slope_fraction`: of a loop that could not be proven: the largest part of every slope interval about its middle for which it can.
    - `error_fraction`: of a loop that is proven without the errors alone: the factor on their gains up to which it is proven.
    """

    gain_proofs: dict[Pair, Proof] = dataclasses.field(default_factory=dict)
    errors: tuple[ModelError, ...] = ()
    slope_fraction: float | None = None
    error_fraction: float | None = None

    def to_json(self) -> str:
        """Return the certificate as JSON text; numbers keep all their digits."""
        fields = fields_of(self)
        proofs = [
            {"from": a, "to": b, "proof": proof.to_fields()} for (a, b), proof in self.gain_proofs.items()
        ]
        fields |= {
            "gains": [{"from": a, "to": b, "gain": gain} for (a, b), gain in self.gains.items()],
            "rate_proof": self.rate_proof and self.rate_proof.to_fields(),
            "gain_proofs": proofs, "errors": [e.to_fields() for e in self.errors], "format": FORMAT,
        }  # fmt: skip
        return json_text(fields)

    @classmethod
    def from_json(cls, text: str) -> "LoopCertificate":
        """Return the certificate that `to_json` wrote.

        **Raises:** `RobustctlError` for text that is no certificate of a loop or is of another format version.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("format")
            if version != FORMAT:
                raise RobustctlError(
                    f"the certificate must be of format {FORMAT}, got {version}; certify the loop again"
                )
            fields["gains"] = {(g["from"], g["to"]): g["gain"] for g in fields["gains"]}
            fields["gain_proofs"] = {
                (g["from"], g["to"]): Proof.from_fields(g["proof"]) for g in fields["gain_proofs"]
            }
            fields["rate_proof"] = Proof.from_fields(fields["rate_proof"]) if fields["rate_proof"] else None
            fields["errors"] = tuple(ModelError.from_fields(e) for e in fields["errors"])
            fields["margin"] = float("inf") if fields["margin"] is None else fields["margin"]
            for name in ("assumptions", "unproven"):
                fields[name] = tuple(fields[name])
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RobustctlError(
                f"a loop's certificate must be the JSON that to_json writes, got text that fails with: {error}"
            ) from error

    def __str__(self) -> str:
        """Return a text for people."""
        verdict = "HOLDS" if self.holds else "DOES NOT HOLD"
        lines = [f"certificate of {self.model} ({self.dtype}): {verdict}"]
        if self.reason:
            lines.append(f"  reason        {self.reason}")
        lines += [f"  model error   {error}" for error in self.errors]
        if self.rate is not None:
            lines.append(f"  contraction   V(dx+) <= rate^2 V(dx), rate = {self.rate:.6g} per sample")
        lines += [
            f"  gain          |d{b}| <= {gain:.6g} |d{a}|, from {a} to {b}"
            for (a, b), gain in self.gains.items()
        ]
        if self.holds:
            lines.append(
                f"  inequality    largest relative eigenvalue {self.margin:.3g}, rounding included (must be < 0)"
            )
        lines += [f"  unproven      {text}" for text in self.unproven]
        lines += [f"  assumed       {text}" for text in self.assumptions]
        return "\n".join([*lines, f"  weights       sha256 {self.weights_sha256[:16]}..."])
