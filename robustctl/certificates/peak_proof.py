"""What proves that bounded disturbances cannot move an output further: a metric, weights and multipliers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..lft import LFT
from ..pytrees import fields_of
from .invariant import bounds, keeps, seen


@dataclasses.dataclass(frozen=True, eq=False)
class PeakProof:
    """Two inequalities that prove a peak bound, of inputs over their own bounds.

    ::

        V+ <= rate^2 V + sum mu_k d_k^2,    y^2 <= (1 + raised) V + sum b_k d_k^2,     V = dx' P dx

    **Arguments:**

    - `rate`: per sample.
    - `P`: the metric, (nx, nx).
    - `mu`, `b`: a weight for each group of inputs that share a bound.
    - `raised`: what the metric is raised by for the output.
    - `multipliers`: of the first inequality, an array per block.
    - `output_multipliers`: of the second.
    """

    rate: float
    P: np.ndarray
    mu: np.ndarray
    b: np.ndarray
    raised: float
    multipliers: tuple[np.ndarray, ...]
    output_multipliers: tuple[np.ndarray, ...]

    @property
    def value(self) -> float:
        """The bound that it proves, `sqrt((1 + raised) sum mu / (1 - rate^2) + sum b)`, rounded up."""
        # 1 - rate is exact where it is small, and the last factor is the rounding of all the rest.
        room = (1 - self.rate) * (1 + self.rate)
        return float(np.sqrt((1 + self.raised) * self.mu.sum() / room + self.b.sum()) * (1 + 1e-9))

    def holds(self, form: LFT, groups: Sequence[Sequence[int]]) -> bool:
        """Return whether both inequalities are true of a form of one output, rounding included."""
        view = seen(form, 0)
        fitting = [
            [t.size for t in given] == [block.multipliers for block in one.blocks]
            for one, given in ((form, self.multipliers), (view, self.output_multipliers))
        ]
        sizes = self.P.shape == form.A.shape and self.mu.shape == self.b.shape == (len(groups),)
        if not (all(fitting) and sizes and 0 < self.rate < 1 and self.raised >= 0):
            return False
        mu, b = (_spread(each, groups, form.nu) for each in (self.mu, self.b))
        return keeps(form, self.P, self.rate, mu, self.multipliers) and bounds(
            view, self.P * (1 + self.raised), b, self.output_multipliers
        )

    def to_fields(self) -> dict:
        """Return its numbers as lists, which JSON can hold."""
        own = fields_of(self)
        lists = {name: own[name].tolist() for name in ("P", "mu", "b")}
        each = {name: [t.tolist() for t in own[name]] for name in ("multipliers", "output_multipliers")}
        return own | lists | each

    @classmethod
    def from_fields(cls, fields: dict) -> "PeakProof":
        """Return the proof that `to_fields` wrote."""

        def arrays(name: str) -> tuple[np.ndarray, ...]:
            return tuple(np.asarray(t, np.float64) for t in fields[name])

        P, mu, b = (np.asarray(fields[name], np.float64) for name in ("P", "mu", "b"))
        n = len(P)
        return cls(
            float(fields["rate"]), P.reshape(n, n), mu, b, float(fields["raised"]), arrays("multipliers"), arrays("output_multipliers")
        )  # fmt: skip


def _spread(weights: np.ndarray, groups: Sequence[Sequence[int]], nu: int) -> np.ndarray:
    each = np.zeros(nu)
    for weight, group in zip(weights, groups, strict=True):
        each[list(group)] = weight
    return each
