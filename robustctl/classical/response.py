"""Frequency responses, by NumPy alone: python-control's own change with an installed Slycot."""

import numpy as np

from .types import Realization

_AT_ONCE = 64
"""Frequencies solved for together, which bounds the memory of a system with many states."""


def at_frequencies(system: Realization, omega: np.ndarray) -> np.ndarray:
    """Return the responses (F, ny, nu) of a discrete-time system at frequencies (F,) in rad/s."""
    return response(system.A, system.B, system.C, system.D, np.exp(1j * omega * system.dt))


def response(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return `C (z I - A)^-1 B + D` at complex points (F,), as (F, ny, nu)."""
    if not len(A):
        return np.broadcast_to(D + 0j, (len(points), *D.shape))
    parts = [points[k : k + _AT_ONCE, None, None] for k in range(0, len(points), _AT_ONCE)]
    solved = [np.linalg.solve(z * np.eye(len(A)) - A, np.broadcast_to(B, (len(z), *B.shape))) for z in parts]
    return np.concatenate([C @ states + D for states in solved])
