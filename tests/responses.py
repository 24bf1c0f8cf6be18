"""Frequency responses of state-space systems at many points at once."""

import numpy as np


def largest_gain(system, points) -> float:
    """The largest singular value of `C (z I - A)^-1 B + D` over the given complex points."""
    A, B, C, D = (np.asarray(M) for M in (system.A, system.B, system.C, system.D))
    moved = np.linalg.solve(np.asarray(points)[:, None, None] * np.eye(len(A)) - A, B.astype(complex))
    return float(np.linalg.norm(C @ moved + D, 2, axis=(1, 2)).max())
