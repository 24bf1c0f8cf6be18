"""Training: losses, initial states, `fit`, and the simulation that scores it."""

from .fit import Fit as Fit
from .fit import fit as fit
from .health import Trouble as Trouble
from .identified import Identified as Identified
from .imitate import imitate as imitate
from .initial_state import LearnedState as LearnedState
from .initial_state import WarmUp as WarmUp
from .initial_state import ZeroState as ZeroState
from .initial_state import learned_state as learned_state
from .initial_state import warm_up as warm_up
from .initial_state import zero_state as zero_state
from .keeper import Run as Run
from .log import Watcher as Watcher
from .losses import mean_squared_error as mean_squared_error
from .losses import summed_squared_error as summed_squared_error
from .optimizer import clipped_adam as clipped_adam
from .policy import Adversary as Adversary
from .policy import PolicyFit as PolicyFit
from .policy import fit_policy as fit_policy
from .residuals import ResidualCorrelations as ResidualCorrelations
from .residuals import residual_correlations as residual_correlations
from .scores import ChannelScores as ChannelScores
from .simulate import Simulation as Simulation
from .simulate import simulate as simulate
from .watch import certificate_margin as certificate_margin
