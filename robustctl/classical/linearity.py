"""Which plants and controllers are certainly linear, so that a result for their matrices holds for themselves."""

from typing import Any

import numpy as np

from ..loops import Alongside, Gain, Youla
from ..plants import LinearPlant, Sampled
from ..scaled import Scaled
from ..state_space import StateSpace
from .kalman import EstimateFeedback, KalmanFilter
from .linear_base import LinearCorrection, LinearLaw
from .lqg import IntegralLQG, WithoutReference
from .pid import PID
from .policies import ErrorFeedback


def is_linear(sampled: Sampled) -> bool:
    """Return whether a sampled plant with its actuators and sensors is linear and time-invariant."""
    imperfections = sampled.imperfections
    limited = imperfections.saturate or imperfections.rate_limit is not None
    return isinstance(sampled.plant, LinearPlant) and not (
        limited or imperfections.resolution or imperfections.jitter
    )


def is_linear_policy(policy: Any) -> bool:
    """Return whether a controller is certainly linear, apart from offsets; False for any class not listed here."""
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
    if isinstance(policy, Alongside):
        return is_linear(policy.model) and all(map(is_linear_policy, (policy.controller, policy.q)))
    if isinstance(policy, Youla):
        base: Any = policy.base
        parts = getattr(base, "correct", None), getattr(base, "law", None), policy.q
        return is_linear(base.model) and all(map(is_linear_policy, parts))
    return False
