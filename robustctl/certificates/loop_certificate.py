"""What is proven of a closed loop, and the numbers that prove it."""

import dataclasses
from typing import Any

from typing_extensions import override

from .certificate import Certificate
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

    @override
    def _to_fields(self) -> dict[str, Any]:
        return super()._to_fields() | {
            "gains": [{"from": a, "to": b, "gain": gain} for (a, b), gain in self.gains.items()],
            "gain_proofs": [
                {"from": a, "to": b, "proof": proof.to_fields()} for (a, b), proof in self.gain_proofs.items()
            ],
            "errors": [e.to_fields() for e in self.errors],
        }

    @classmethod
    @override
    def _from_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        gains, proofs = fields["gains"], fields["gain_proofs"]
        return super()._from_fields(fields) | {
            "gains": {(g["from"], g["to"]): g["gain"] for g in gains},
            "gain_proofs": {(g["from"], g["to"]): Proof.from_fields(g["proof"]) for g in proofs},
            "errors": tuple(ModelError.from_fields(e) for e in fields["errors"]),
        }

    @override
    def __str__(self) -> str:
        """Return a text for people."""
        verdict = "HOLDS" if self.holds else "DOES NOT HOLD"
        lines = [f"certificate of {self.model} ({self.dtype}): {verdict}"]
        if self.reason:
            lines.append(f"  reason        {self.reason}")
        lines += [f"  disproved     {self.disproof}"] if self.disproof else []
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
