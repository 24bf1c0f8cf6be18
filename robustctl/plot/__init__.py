"""Figures. Every function returns a new matplotlib `Figure`; it opens no window and changes no global state.

Show it as the last line of a notebook cell, or write it with `figure.savefig("name.png")`.
"""

from .best_linear import best_linear as best_linear
from .correlations import residuals as residuals
from .deviation import deviation as deviation
from .disproof import counterexample as counterexample
from .errors import model_error as model_error
from .histories import training as training
from .models import compare_models as compare_models
from .signals import compare as compare
from .trajectories import contraction as contraction
from .uncertainty import bode as bode
from .uncertainty import pole_zero as pole_zero
from .uncertainty import step_response as step_response
