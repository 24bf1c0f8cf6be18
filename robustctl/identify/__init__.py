"""Evaluation of fitted models: free-run simulation, scores, residuals; and the settings behind `robustctl fit`."""

from .residuals import ResidualCorrelations as ResidualCorrelations
from .residuals import residual_correlations as residual_correlations
from .scores import ChannelScores as ChannelScores
from .simulate import Simulation as Simulation
from .simulate import simulate as simulate
