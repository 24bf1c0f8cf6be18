"""Which plants and controllers are linear for certain, so that what their matrices say holds of themselves."""

from typing import Any

import numpy as np

from ..loops import Beside, Gain, Youla
from ..plants import LinearPlant, Sampled
from ..state_space import StateSpace
from ..system import Scaled
from .base import LinearCorrection, LinearLaw
from .kalman import EstimateFeedback, KalmanFilter
from .lqg import IntegralLQG, WithoutReference
from .pid import PID
from .policies import ErrorFeedback


def is_linear(sampled: Sampled) -> bool:
    """Return whether a sampled plant, its actuator and its readings are linear, and the same in every sample."""
    details = sampled.details
    limited = details.saturate or details.rate_limit is not None
    return isinstance(sampled.plant, LinearPlant) and not (limited or details.resolution or details.jitter)


def is_linear_policy(policy: Any) -> bool:
    """Return whether a controller is known to be linear, offsets apart; False for one of a class that stands not here."""
    if isinstance(
        policy, StateSpace | Gain | KalmanFilter | LinearLaw | LinearCorrection | ErrorFeedback | IntegralLQG
    ):
        return True
    if isinstance(policy, PID):
        return bool(np.isinf([policy.low, policy.high]).all())
    if isinstance(policy, WithoutReference):
        return is_linear_policy(policy.inner)
    if isinstance(policy, Scaled):
        return is_linear_policy(policy.system)
    if isinstance(policy, EstimateFeedback):
        return is_linear_policy(policy.estimator) and is_linear_policy(policy.law)
    if isinstance(policy, Beside):
        return is_linear(policy.model) and all(map(is_linear_policy, (policy.controller, policy.q)))
    if isinstance(policy, Youla):
        base: Any = policy.base
        parts = getattr(base, "correct", None), getattr(base, "law", None), policy.q
        return is_linear(base.model) and all(map(is_linear_policy, parts))
    return False
