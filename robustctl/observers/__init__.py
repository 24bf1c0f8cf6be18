"""Observers: records for training them, simulated logs, error bounds, and their use alongside a running plant."""

from .bound import ErrorBound as ErrorBound
from .bound import error_bound as error_bound
from .observer_record import for_observer as for_observer
from .observer_record import for_prediction as for_prediction
from .observer_record import with_derivative as with_derivative
from .one_step_penalty import one_step_penalty as one_step_penalty
from .prior import kalman_prior as kalman_prior
from .simulated_log import simulate_log as simulate_log
from .stream import Estimate as Estimate
from .stream import Stream as Stream
