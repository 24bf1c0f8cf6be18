"""Linear models, and the evaluation of fitted models: simulation, scores, residuals, error over frequency; settings of `robustctl fit`."""

from .model_error import ErrorEstimate as ErrorEstimate
from .model_error import model_error as model_error
from .residuals import ResidualCorrelations as ResidualCorrelations
from .residuals import residual_correlations as residual_correlations
from .scores import ChannelScores as ChannelScores
from .simulate import Simulation as Simulation
from .simulate import simulate as simulate
from .start import Start as Start
from .start import prior as prior
from .start import start as start
from .subspace import LinearFit as LinearFit
from .subspace import subspace as subspace
