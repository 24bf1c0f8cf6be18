"""Observers: logs rearranged and simulated for them, what bounds their error, and their life beside a running plant."""

from .bound import ErrorBound as ErrorBound
from .bound import error_bound as error_bound
from .exactness import exactness as exactness
from .log import simulate_log as simulate_log
from .prior import kalman_prior as kalman_prior
from .record import for_observer as for_observer
from .record import for_prediction as for_prediction
from .record import with_derivative as with_derivative
from .stream import Estimate as Estimate
from .stream import Stream as Stream
