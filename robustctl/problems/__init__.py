"""Benchmark problems: data, scenarios, and reference scores."""

import importlib

from .heat_exchanger import heat_exchanger as heat_exchanger
from .records import cascaded_tanks as cascaded_tanks
from .records import silverbox as silverbox
from .two_tanks import two_tanks as two_tanks

_LAZY = ("f16", "f16_download", "pde_observer", "unstable", "youla_feedback")


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
