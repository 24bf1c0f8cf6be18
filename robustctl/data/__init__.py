"""Logged records: sample time, channels, units and gaps; read, cut, scaled.

What reads files is imported at its first use: a training needs none of it.
"""

import importlib
from typing import TYPE_CHECKING

from .arrays import from_arrays as from_arrays
from .edit import delay as delay
from .edit import merge as merge
from .edit import select as select
from .edit import split as split
from .edit import windows as windows
from .excitation import chirp as chirp
from .excitation import multisine as multisine
from .excitation import prbs as prbs
from .excitation import random_walk as random_walk
from .excitation import steps as steps
from .periods import average_periods as average_periods
from .record import Experiment as Experiment
from .record import Record as Record
from .resample import resample as resample
from .scaling import Scaling as Scaling
from .trend import Trend as Trend
from .trend import detrend as detrend
from .trend import retrend as retrend

if TYPE_CHECKING:
    from .readers.read import read as read
    from .readers.request import Format as Format

_LAZY = {"read": "read", "Format": "request"}


def __getattr__(name: str):
    if name in _LAZY:
        value = vars(importlib.import_module(f".readers.{_LAZY[name]}", __name__))[name]
        globals()[name] = value  # the next use finds it without this function
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
