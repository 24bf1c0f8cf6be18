"""Data-driven control with guarantees: certified recurrent networks for models, observers and controllers.

Importing it imports no room: each is imported at the first use of its name, so that the command line prints its help at once.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:  # for editors and type checkers, the same names as in the tables below
    from . import advice as advice
    from . import certificates as certificates
    from . import classical as classical
    from . import data as data
    from . import errors as errors
    from . import export as export
    from . import identify as identify
    from . import lft as lft
    from . import loops as loops
    from . import nn as nn
    from . import observers as observers
    from . import parallel as parallel
    from . import plants as plants
    from . import plot as plot
    from . import problems as problems
    from . import robustness as robustness
    from . import runs as runs
    from . import runtime as runtime
    from . import train as train
    from .certificates import certify as certify
    from .delayed import Delayed as Delayed
    from .identify import simulate as simulate
    from .io import load as load
    from .io import save as save
    from .registry import registered as registered
    from .reports import compare_models as compare_models
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

_ROOMS = (
    "advice", "certificates", "classical", "data", "errors", "export", "identify", "lft", "loops", "nn", "observers", "parallel",
    "plants", "plot", "problems", "robustness", "runs", "runtime", "train",
)  # fmt: skip
_NAMES = {
    "certify": "certificates", "simulate": "identify", "load": "io", "save": "io", "registered": "registry", "fit_report": "reports",
    "compare_models": "reports", "Delayed": "delayed",
    "Rescaled": "scaled", "Scaled": "scaled", "StateSpace": "state_space", "Parameterization": "system", "StrictlyProper": "system",
    "System": "system", "fit": "train", "fit_policy": "train", "Trajectory": "trajectory", "rollout": "trajectory",
}  # fmt: skip
__all__ = [*_ROOMS, *_NAMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
        globals()[name] = value  # the next use finds it without this function
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
