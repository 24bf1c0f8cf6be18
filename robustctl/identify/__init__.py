"""Linear models and noise models, and the evaluation of fitted models: simulation, prediction, scores, residuals, error over frequency."""

from .auto import AutoFit as AutoFit
from .auto import auto as auto
from .best_linear import BestLinear as BestLinear
from .best_linear import best_linear as best_linear
from .innovation_form import innovation_form as innovation_form
from .model_error import ErrorEstimate as ErrorEstimate
from .model_error import model_error as model_error
from .next_experiment import Candidate as Candidate
from .next_experiment import NextExperiment as NextExperiment
from .next_experiment import next_experiment as next_experiment
from .predict import predict as predict
from .residuals import ResidualCorrelations as ResidualCorrelations
from .residuals import residual_correlations as residual_correlations
from .response_fit import ResponseFit as ResponseFit
from .response_fit import fit_response as fit_response
from .scores import ChannelScores as ChannelScores
from .simulate import Simulation as Simulation
from .simulate import simulate as simulate
from .start import Start as Start
from .start import prior as prior
from .start import start as start
from .subspace import LinearFit as LinearFit
from .subspace import subspace as subspace
from .uncertainty import LinearUncertainty as LinearUncertainty
from .uncertainty import Spread as Spread
from .uncertainty import uncertainty as uncertainty
