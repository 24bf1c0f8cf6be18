"""Logged records: sample time, channels, units and gaps; read, cut, scaled, judged."""

from robustctl.data.advice import Advice
from robustctl.data.advise import advise
from robustctl.data.arrays import from_arrays
from robustctl.data.edit import merge, select, split, windows
from robustctl.data.excitation import chirp, multisine, prbs, random_walk, steps
from robustctl.data.periods import average_periods
from robustctl.data.read import read
from robustctl.data.record import Experiment, Record
from robustctl.data.resample import resample
from robustctl.data.scaling import Scaling
from robustctl.data.trend import Trend, detrend, retrend

__all__ = [
    "Advice",
    "Experiment",
    "Record",
    "Scaling",
    "Trend",
    "advise",
    "average_periods",
    "chirp",
    "detrend",
    "from_arrays",
    "merge",
    "multisine",
    "prbs",
    "random_walk",
    "read",
    "resample",
    "retrend",
    "select",
    "split",
    "steps",
    "windows",
]
