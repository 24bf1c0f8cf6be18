"""Continuous-time plants, sampled through Diffrax with a zero-order hold; one plant a file."""

from .plant import Plant as Plant
from .plant import Signal as Signal
from .plant import Task as Task
from .plant import limits as limits
from .plant import parameter as parameter
from .plant import randomized as randomized
from .sampled import Details as Details
from .sampled import Exogenous as Exogenous
from .sampled import PlantState as PlantState
from .sampled import Sampled as Sampled
from .sampled import at_rest as at_rest
from .sampled import draw as draw
from .solvers import RK4 as RK4
