"""What is proven of a loop's gain, where something is."""

from typing import NamedTuple

from ..certificates import certify
from ..classical.hinf_norm import hinf_norm
from ..classical.linearity import is_linear, is_linear_policy
from ..classical.youla_gain import gain_of
from ..errors import RobustctlError
from ..loops import Alongside, Feedback, Youla
from ..plants import Sampled
from .linear_loop import LinearLoop, Performance


class CertifiedGain(NamedTuple):
    """A gain that no disturbance exceeds in moving the performance output from what it is without, or None; what that means."""

    gain: float | None
    statement: str


def certified_gain(loop: Feedback, linear: LinearLoop | None, performance: Performance) -> CertifiedGain:
    """Return the certified gain of a loop about a `Sampled` plant.

    A linear loop's H-infinity norm is exact. `Youla` or `Alongside` with a certified Q on a linear plant has
    `|T0| + |T1| gamma |T2|`; on others the statement says what is left of it.
    """
    sampled, policy = loop.plant, loop.policy
    assert isinstance(sampled, Sampled)
    if linear is not None and linear.stable and is_linear(sampled) and is_linear_policy(policy):
        return CertifiedGain(
            hinf_norm(linear.disturbance), "The loop is linear, so its H-infinity norm is its gain."
        )
    if not isinstance(policy, Youla | Alongside):
        return CertifiedGain(
            None, "No certificate covers this controller in this loop; what stands here was found by search."
        )
    return _youla(sampled, policy, performance)


def _youla(sampled: Sampled, policy: Youla | Alongside, performance: Performance) -> CertifiedGain:
    try:
        found = certify(policy.q)
    except RobustctlError as error:
        return CertifiedGain(None, f"Q carries no certificate: {error}")
    if not found.holds:
        return CertifiedGain(None, f"Q carries no certificate: {found.reason}")
    if found.gamma is None:
        return CertifiedGain(
            None,
            "Q is certified to be contracting, without a bound on its gain: without disturbances it cannot destabilize what "
            "the base controller stabilizes.",
        )
    try:
        bound = gain_of(sampled, policy, found.gamma, performance)
    except RobustctlError as error:
        return CertifiedGain(None, f"Q is certified, but not the loop: {error}")
    local = "" if bound.certified else f" The linearization's bound: {bound.gain:.4g}."
    return CertifiedGain(bound.gain if bound.certified else None, f"{bound.statement}{local}")
