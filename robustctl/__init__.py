"""Data-driven control with guarantees: certified recurrent networks for models, observers and controllers."""

import importlib

__version__ = "0.2.0"

from . import certify as certify
from . import data as data
from . import errors as errors
from . import nn as nn
from . import parallel as parallel
from . import plot as plot
from . import train as train
from .io import load as load
from .io import save as save
from .report import report as report
from .rollout import Trajectory as Trajectory
from .rollout import rollout as rollout
from .state_space import StateSpace as StateSpace
from .system import Parameterization as Parameterization
from .system import Rescaled as Rescaled
from .system import Scaled as Scaled
from .system import StrictlyProper as StrictlyProper
from .system import System as System

_LAZY = (
    "classical",
    "loops",
    "observers",
    "plants",
    "problems",
)  # they import Diffrax or python-control, which takes seconds


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
