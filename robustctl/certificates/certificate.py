"""A certificate: what is proven of a model, and the numbers that prove it."""

import dataclasses
from typing import Any

import numpy as np

from ..pytrees import fields_of
from .certificate_text import text_of
from .proof import Proof
from .stored import from_text, infinite, to_text

PROOFS = ("gain_proof", "rate_proof", "supply_proof")


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is proven of a model, and the numbers that prove it.

    **Arguments:**

    - `holds`: whether the claim is proven.
    - `margin`: an upper bound, rounding included, on the largest eigenvalue of the dissipation matrix over its largest
      entry; negative where `holds`.
    - `rate`: the certified contraction rate per sample.
    - `rate_found`: a smaller one that `P` proves, near its smallest, rounding included.
    - `gamma`: the certified gain from input to output, None without a claim on it; of a fitted model in its outputs'
      unit over its inputs'.
    - `supply`: `(Q, S, R)` or None.
    - `phi_bound`: the Lipschitz bound of the network inside.
    - `P`: the metric (nx, nx).
    - `reason`: why it does not hold, else empty.
    - `model`: name of the class.
    - `dtype`: of its arrays.
    - `weights_sha256`: hash of all its arrays.
    - `fingerprint`: hash of all that decides what it computes: `weights_sha256` leaves classes, static fields and functions out.
    - `assumptions`: what the proof assumes and does not check, in words.
    - `promised_gamma`: the gain that the construction promises. `gamma` and `rate` are the smallest that could be
      proven, and None where nothing could; with `prove=False` they are the promised ones.
    - `promised_rate`: the contraction rate that the construction promises.
    - `gain_proof`: metric and multipliers that prove `gamma`, a `Proof`; None where none was searched or found.
    - `rate_proof`: those that prove `rate`.
    - `scaled_gamma`: the proven gain between the scaled signals of a fitted model.
    - `unproven`: why a search found nothing, in words.
    - `gains`: of a loop the proven gains between its signals, `gains["d", "y"]`.
    - `supply_margin`: of a dissipative model, the largest m for which the supply rate `(Q, S, R - m I)` could be proven with rate 1:
      more than 0 where it dissipates more than was promised, the passivity index where Q and R are 0.
    - `supply_proof`: metric and multipliers that prove `supply_margin`.
    - `lower_bound`: a gain that a search found between some inputs, so that no gamma is below it; None unless searched.
    - `disproof`: where contraction could not be proven, the `counterexample` that a search found, in words; empty where it found none.
    """

    holds: bool
    margin: float
    rate: float | None
    rate_found: float | None
    gamma: float | None
    supply: tuple[list, list, list] | None
    phi_bound: float | None
    P: np.ndarray | None
    reason: str
    model: str
    dtype: str
    weights_sha256: str
    assumptions: tuple[str, ...] = ()
    fingerprint: str = ""
    promised_gamma: float | None = None
    promised_rate: float | None = None
    gain_proof: Proof | None = None
    rate_proof: Proof | None = None
    scaled_gamma: float | None = None
    unproven: tuple[str, ...] = ()
    gains: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    supply_margin: float | None = None
    supply_proof: Proof | None = None
    lower_bound: float | None = None
    disproof: str = ""

    def to_json(self) -> str:
        """Return the certificate as JSON text; numbers keep all their digits."""
        return to_text(self._to_fields())

    @classmethod
    def from_json(cls, text: str) -> "Certificate":
        """Return the certificate that `to_json` wrote.

        **Raises:** `RobustctlError` for text that is no certificate of this kind or is of another format version.
        """
        return from_text(text, cls._of_fields)

    @classmethod
    def _of_fields(cls, fields: dict[str, Any]) -> "Certificate":
        fields["margin"] = infinite(fields["margin"])
        for name in ("assumptions", "unproven"):
            fields[name] = tuple(fields.get(name, ()))
        return cls(**cls._from_fields(fields))

    def _to_fields(self) -> dict[str, Any]:
        """Return the fields as what JSON can hold."""
        fields: dict[str, Any] = fields_of(self) | {"P": None if self.P is None else self.P.tolist()}
        return fields | {name: fields[name] and fields[name].to_fields() for name in PROOFS}

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the constructor's arguments from the fields of JSON."""
        fields["P"] = None if fields["P"] is None else np.asarray(fields["P"], np.float64)
        fields["supply"] = None if fields["supply"] is None else tuple(fields["supply"])
        return fields | {
            name: Proof.from_fields(fields[name]) if fields.get(name) else None for name in PROOFS
        }

    def __str__(self) -> str:
        """Return a text for people."""
        return text_of(self)
