"""Data-driven control with guarantees: certified recurrent networks for models, observers and controllers."""

import importlib

__version__ = "0.2.0"

from . import certificates as certificates
from . import data as data
from . import errors as errors
from . import identify as identify
from . import nn as nn
from . import parallel as parallel
from . import plot as plot
from . import runs as runs
from . import train as train
from .certificates import certify as certify
from .identify import simulate as simulate
from .io import load as load
from .io import save as save
from .registry import registered as registered
from .reports import fit_report as fit_report
from .scaled import Rescaled as Rescaled
from .scaled import Scaled as Scaled
from .state_space import StateSpace as StateSpace
from .system import Parameterization as Parameterization
from .system import StrictlyProper as StrictlyProper
from .system import System as System
from .train import fit as fit
from .train import fit_policy as fit_policy
from .trajectory import Trajectory as Trajectory
from .trajectory import rollout as rollout

_LAZY = (
    "advice",
    "classical",
    "loops",
    "observers",
    "plants",
    "problems",
    "robustness",
)  # they import SciPy, Diffrax or python-control, which takes seconds


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
