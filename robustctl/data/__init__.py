"""Logged records: sample time, channels, units and gaps; read, cut, scaled."""

from robustctl.data.arrays import from_arrays
from robustctl.data.edit import merge, select, split, windows
from robustctl.data.read import read
from robustctl.data.record import Experiment, Record
from robustctl.data.resample import resample
from robustctl.data.scaling import Scaling
from robustctl.data.trend import Trend, detrend, retrend

__all__ = [
    "Experiment",
    "Record",
    "Scaling",
    "Trend",
    "detrend",
    "from_arrays",
    "merge",
    "read",
    "resample",
    "retrend",
    "select",
    "split",
    "windows",
]
