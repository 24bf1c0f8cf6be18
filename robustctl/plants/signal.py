"""The signals of a plant, with names, units and limits."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..registry import registered


@registered(name="plants.Signal", null={"low": -math.inf, "high": math.inf})
class Signal(NamedTuple):
    """A channel of a plant.

    **Arguments:**

    - `name`: of the channel.
    - `unit`: of its values.
    - `low`: the lowest value that it can have, the limit of a control.
    - `high`: the highest value.
    """

    name: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf


def limits(signals: Sequence[Signal]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest values of the signals, two arrays (n,)."""
    return np.asarray([s.low for s in signals], float), np.asarray([s.high for s in signals], float)
