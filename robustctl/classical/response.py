"""Frequency responses, by NumPy alone: python-control's own change with an installed Slycot."""

import numpy as np

from ..linalg import response
from .types import Realization


def at_frequencies(system: Realization, omega: np.ndarray) -> np.ndarray:
    """Return the responses (F, ny, nu) of a discrete-time system at frequencies (F,) in rad/s."""
    return response(system.A, system.B, system.C, system.D, np.exp(1j * omega * system.dt))
