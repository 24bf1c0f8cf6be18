"""What proves one number of a system: a metric, multipliers, and the sign of one matrix."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..lft import LFT, Claim
from ..linalg import PRODUCT_ROUNDINGS
from .congruence import margin_in_metric
from .dissipation import Inequality, blocks_form, margin
from .inequalities import Supply, blocks_of, modes_of

_SLOW = 300
"""Neurons beyond which products in extended precision, for which there is no BLAS, take seconds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Proof:
    """One proven number, with what proves it by a single eigenvalue.

    **Arguments:**

    - `value`: the gain, in outputs' units over inputs', the contraction rate per sample, or the margin of a supply rate.
    - `P`: the metric, (nx, nx).
    - `multipliers`: one array per block of the form with its networks opened: a number per neuron, one per bounded block. Of a
      system that switches, those of each mode in turn.
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


Forms = LFT | Sequence[LFT]
"""An opened form, or those of all modes between which a system switches."""


def gain_margin(form: Forms, proof: Proof) -> float:
    """Return an upper bound on the largest relative eigenvalue of the matrix that proves a gain; negative where it does.

    The matrix is computed from the form, the metric and the multipliers alone; `margin` bounds its rounding. Of modes it is
    the largest.
    """
    first = modes_of(form)[0]
    supply = (-np.eye(first.ny), np.zeros((first.nu, first.ny)), proof.value**2 * np.eye(first.nu))
    return _largest_margin(form, proof, 1.0, supply)


def rate_margin(form: Forms, proof: Proof) -> float:
    """Return the same for a contraction rate."""
    return _largest_margin(form, proof, proof.value, None)


def supply_margin(form: Forms, proof: Proof, supply: Supply) -> float:
    """Return the same for the supply rate `(Q, S, R - value I)`."""
    Q, S, R = supply
    return _largest_margin(form, proof, 1.0, (Q, S, R - proof.value * np.eye(len(R))))


def _largest_margin(form: Forms, proof: Proof, rate: float, supply: Supply | None) -> float:
    forms, at, found = modes_of(form), 0, []
    for one in forms:
        multipliers = proof.multipliers[at : at + len(one.blocks)]
        at += len(one.blocks)
        found.append(_margin(one, Claim(rate, proof.P, supply, multipliers)))
    return max(found)


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


def fits(form: Forms, proof: Proof) -> str:
    """Return why a proof cannot be of an opened form, empty where it can."""
    forms = modes_of(form)
    nx = forms[0].nx
    wanted = [block.multipliers for block in blocks_of(forms)]
    given = [t.size for t in proof.multipliers]
    if proof.P.shape != (nx, nx) or given != wanted:
        return (
            f"a proof of this model has a metric of {nx} states and {wanted} multipliers, got {len(proof.P)} and {given}; "
            "certify the model again"
        )
    return ""
