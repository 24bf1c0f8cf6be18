"""Designs in a few lines of text, in place of pages of numbers."""

from typing import Any

import control as ct
import jax
import numpy as np

from ..system import System

_FEW = 16
"""Numbers that are shown; of a larger array the shape is."""


def summary(self: Any) -> str:
    """Return a named tuple of arrays and systems as text, one line a field."""
    width = max(len(name) for name in self._fields)
    lines = [f"  {name:<{width}}  {_shown(value)}" for name, value in self._asdict().items()]
    return "\n".join([type(self).__name__, *lines])


def _shown(value: Any) -> str:
    match value:
        case System():
            return type(value).__name__
        case ct.StateSpace(nstates=nx, ninputs=nu, noutputs=ny, dt=dt):
            time = "continuous time" if dt == 0 else f"dt = {dt:g} s"
            return f"{type(value).__name__} with {nx} states, {nu} inputs, {ny} outputs, {time}"
        case float():
            return f"{value:.6g}"
        case np.ndarray() | jax.Array():
            array = np.asarray(value)
            if array.size > _FEW or array.ndim > 2:
                return f"array of shape {array.shape}"
            return np.array2string(array, precision=5, separator=", ").replace("\n", "")
        case _:
            return str(value).split("\n")[0][:100]
