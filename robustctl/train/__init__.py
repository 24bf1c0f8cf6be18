"""Training: losses, initial states, and the short forms that train a model, a policy or many seeds."""

from .fit import Fit as Fit
from .fit import fit as fit
from .fitted_model import FittedModel as FittedModel
from .health import Trouble as Trouble
from .imitate import imitate as imitate
from .initial_state import LearnedState as LearnedState
from .initial_state import WarmUp as WarmUp
from .initial_state import ZeroState as ZeroState
from .initial_state import learned_state as learned_state
from .initial_state import warm_up as warm_up
from .initial_state import zero_state as zero_state
from .losses import mean_squared_error as mean_squared_error
from .losses import summed_squared_error as summed_squared_error
from .optimizer import clipped_adam as clipped_adam
from .policy import Adversary as Adversary
from .policy import PolicyFit as PolicyFit
from .policy import fit_policy as fit_policy
from .seeds import fit_policy_seeds as fit_policy_seeds
from .seeds import fit_seeds as fit_seeds
from .sweep import sweep as sweep
