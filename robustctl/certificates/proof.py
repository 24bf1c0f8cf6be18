"""What proves one number of a system: a metric, multipliers, and the sign of one matrix."""

import dataclasses

import numpy as np

from ..lft import LFT, Claim
from ..linalg import PRODUCT_ROUNDINGS
from .congruence import margin_in_metric
from .dissipation import Inequality, blocks_form, margin

_SLOW = 300
"""Neurons beyond which products in extended precision, for which there is no BLAS, take seconds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Proof:
    """One proven number, with what proves it by a single eigenvalue.

    **Arguments:**

    - `value`: the gain, in outputs' units over inputs', or the contraction rate per sample.
    - `P`: the metric, (nx, nx).
    - `multipliers`: one array per block of the form with its networks opened: a number per neuron, one per bounded block.
    """

    value: float
    P: np.ndarray
    multipliers: tuple[np.ndarray, ...]

    def to_fields(self) -> dict:
        """Return its numbers as lists, which JSON can hold."""
        return {
            "value": self.value,
            "P": self.P.tolist(),
            "multipliers": [t.tolist() for t in self.multipliers],
        }

    @classmethod
    def from_fields(cls, fields: dict) -> "Proof":
        """Return the proof that `to_fields` wrote."""
        n = len(fields["P"])
        multipliers = tuple(np.asarray(t, np.float64) for t in fields["multipliers"])
        return cls(float(fields["value"]), np.asarray(fields["P"], np.float64).reshape(n, n), multipliers)


def gain_margin(form: LFT, proof: Proof) -> float:
    """Return an upper bound on the largest relative eigenvalue of the matrix that proves a gain; negative where it does.

    The matrix is computed from the form, the metric and the multipliers alone; `margin` bounds its rounding. `form` is opened.
    """
    supply = (-np.eye(form.ny), np.zeros((form.nu, form.ny)), proof.value**2 * np.eye(form.nu))
    return _margin(form, Claim(1.0, proof.P, supply, proof.multipliers))


def rate_margin(form: LFT, proof: Proof) -> float:
    """Return the same for a contraction rate."""
    return _margin(form, Claim(proof.value, proof.P, None, proof.multipliers))


def _margin(form: LFT, claim: Claim) -> float:
    multipliers = claim.multipliers or ()
    if not all(np.all(t >= 0) and np.isfinite(t).all() for t in multipliers) or claim.P is None:
        return float("inf")
    f = Inequality(form, claim, blocks_form(form, claim))
    # The matrices of a linear system are its data; those of an opened form are products.
    roundings = PRODUCT_ROUNDINGS if form.blocks else 0.0
    found = margin(f, claim.P, max(roundings, 1.0))
    if found < 0 or len(form.C1) > _SLOW:
        return found
    return margin_in_metric(f, claim.P, roundings)


def fits(form: LFT, proof: Proof) -> str:
    """Return why a proof cannot be of an opened form, empty where it can."""
    wanted = [block.multipliers for block in form.blocks]
    given = [t.size for t in proof.multipliers]
    if proof.P.shape != (form.nx, form.nx) or given != wanted:
        return (
            f"a proof of this model has a metric of {form.nx} states and {wanted} multipliers, got {len(proof.P)} and {given}; "
            "certify the model again"
        )
    return ""
