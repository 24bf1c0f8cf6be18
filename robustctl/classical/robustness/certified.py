"""What is proven of a loop's gain, where something is."""

from typing import Any, NamedTuple

from ...certify import certificate
from ...errors import RobustctlError
from ...loops import Feedback, Gain, Youla
from ...plants import Sampled
from ...state_space import StateSpace
from ...system import Scaled
from ..base import LinearCorrection, LinearLaw
from ..hinf_norm import hinf_norm
from ..kalman import EstimateFeedback, KalmanFilter
from ..lqg import IntegralLQG, WithoutReference
from ..policies import ErrorFeedback
from ..youla_gain import is_linear, youla_gain
from .linear_loop import LinearLoop, Performance


class CertifiedGain(NamedTuple):
    """A gain from disturbance to performance output that no disturbance exceeds, or None; and what that means."""

    gain: float | None
    statement: str


def certified_gain(loop: Feedback, linear: LinearLoop | None, performance: Performance) -> CertifiedGain:
    """Return the certified gain of a loop about a `Sampled` plant.

    A linear loop's H-infinity norm is exact. A Youla loop with a certified Q on a linear plant has
    `|T0| + |T1| gamma |T2|`; on others the statement says what is left of it.
    """
    sampled, policy = loop.plant, loop.policy
    assert isinstance(sampled, Sampled)
    if linear is not None and linear.stable and is_linear(sampled) and _is_linear_policy(policy):
        return CertifiedGain(
            hinf_norm(linear.disturbance), "The loop is linear, so its H-infinity norm is its gain."
        )
    if not isinstance(policy, Youla):
        return CertifiedGain(
            None, "No certificate covers this controller in this loop; what stands here was found by search."
        )
    return _youla(sampled, policy, performance)


def _youla(sampled: Sampled, policy: Youla, performance: Performance) -> CertifiedGain:
    try:
        found = certificate(policy.q)
    except RobustctlError as error:
        return CertifiedGain(None, f"Q carries no certificate: {error}")
    if not found.holds:
        return CertifiedGain(None, f"Q carries no certificate: {found.reason}")
    if found.gamma is None:
        return CertifiedGain(
            None,
            "Q is certified to be contracting, without a bound on its gain: without disturbances it cannot destabilise what "
            "the base controller stabilises.",
        )
    try:
        bound = youla_gain(sampled, policy.base, found.gamma, performance=performance)
    except RobustctlError as error:
        return CertifiedGain(None, f"Q is certified, but not the loop: {error}")
    local = "" if bound.certified else f" The linearisation's bound: {bound.gain:.4g}."
    return CertifiedGain(bound.gain if bound.certified else None, f"{bound.statement}{local}")


def _is_linear_policy(policy: Any) -> bool:
    if isinstance(
        policy, StateSpace | Gain | KalmanFilter | LinearLaw | LinearCorrection | ErrorFeedback | IntegralLQG
    ):
        return True
    if isinstance(policy, WithoutReference):
        return _is_linear_policy(policy.inner)
    if isinstance(policy, Scaled):
        return _is_linear_policy(policy.system)
    if isinstance(policy, EstimateFeedback):
        return _is_linear_policy(policy.estimator) and _is_linear_policy(policy.law)
    if isinstance(policy, Youla):
        base: Any = policy.base
        parts = getattr(base, "correct", None), getattr(base, "law", None), policy.q
        return is_linear(base.model) and all(map(_is_linear_policy, parts))
    return False
