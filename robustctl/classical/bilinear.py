"""The bilinear map between discrete and continuous time, which preserves H-infinity norms."""

import numpy as np

from ..errors import InvalidModelError

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def to_continuous(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> Matrices:
    """Map a discrete-time system to continuous time by z = (1 + s) / (1 - s).

    **Raises:** `InvalidModelError` for a pole at -1, which the map sends to infinity.
    """
    I = np.eye(len(A))
    # The distance of the poles from -1, because the condition of I + A would depend on the states' units.
    # 1e-12: closer than that, rounding of the eigenvalues hides the distance.
    if np.abs(1 + np.linalg.eigvals(A)).min(initial=1.0) < 1e-12:
        raise InvalidModelError("the discrete plant must have no pole at -1; change the sample time")
    # (z I - A)^-1 = -M + 2 M (s I - M (A - I))^-1 M  with  M = (I + A)^-1. B and C get sqrt(2) M each, so that the
    # Gramians of both systems are equal.
    M = np.linalg.inv(I + A)
    return M @ (A - I), np.sqrt(2) * M @ B, np.sqrt(2) * C @ M, D - C @ M @ B


def to_discrete(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> Matrices:
    """Map a continuous-time system to discrete time by s = (z - 1) / (z + 1), the inverse of `to_continuous`."""
    I = np.eye(len(A))
    # I - A is regular for a stable A: it is singular for a pole at s = 1 only, which the map sends to infinity.
    N = np.linalg.inv(I - A)
    return N @ (I + A), np.sqrt(2) * N @ B, np.sqrt(2) * C @ N, D + C @ N @ B
