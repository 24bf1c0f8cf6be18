"""What is looked at while training goes on: the certificate."""

from ..system import Parameterization
from .certificate import certify


def certificate_margin(epoch: int, model: Parameterization) -> float:
    """Return the margin of the model's certificate, below zero where it holds, infinite where it does not.

    Give it to `fit` or `fit_policy` as `inspect`: the margin is then in progress line, log and history.

    **Raises:** what `certificate` raises for a model that claims no guarantee.
    """
    found = certify(model)
    return found.margin if found.holds else float("inf")
