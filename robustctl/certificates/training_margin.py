"""The certificate's margin as a metric of training."""

from ..system import Parameterization
from .certifying import certify


def certificate_margin(epoch: int, model: Parameterization) -> float:
    """Return the margin of the model's certificate, below zero where it holds, infinite where it does not.

    Give it to `fit` or `fit_policy` as a metric: the margin is then in progress line, log and history.

    **Raises:** what `certify` raises.
    """
    found = certify(model, prove=False)
    return found.margin if found.holds else float("inf")
