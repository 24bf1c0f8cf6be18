"""Data-driven control with guarantees: certified recurrent networks for models, observers and controllers."""

from . import certify as certify
from . import data as data
from . import errors as errors
from . import nn as nn
from . import plot as plot
from . import train as train
from .io import load as load
from .io import save as save
from .report import report as report
from .rollout import Trajectory as Trajectory
from .rollout import rollout as rollout
from .system import Parameterization as Parameterization
from .system import Scaled as Scaled
from .system import System as System
