"""Limits of the signals of a system, where its class knows them."""

from typing import Any, NamedTuple

import numpy as np

from ..runtime.program import Program


class Range(NamedTuple):
    """What the entries of an array of signals lie between.

    **Arguments:**

    - `low`: the lowest values, (n,).
    - `high`: the highest.
    """

    low: np.ndarray
    high: np.ndarray


def ranges(system: Any, program: Program) -> dict[str, Range]:
    """Return the ranges that are known, by the name of an array among a program's inputs or outputs."""
    from ..classical import PID
    from ..classical.mpc import LinearMPC
    from ..plants import Sampled, limits

    if isinstance(system, Sampled):
        signals, (low, high) = program.inputs[:1], limits(system.plant.controls)
    elif isinstance(system, PID):
        signals, low, high = program.outputs, np.asarray(system.low), np.asarray(system.high)
    elif isinstance(system, LinearMPC):
        signals, low, high = program.outputs, *(np.asarray(system.u0 + a) for a in (system.low, system.high))
    else:
        return {}
    return {s.name: Range(low, high) for s in signals if s.value.size == low.size == high.size}
