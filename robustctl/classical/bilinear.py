"""Between discrete and continuous time by the bilinear map, which keeps H-infinity norms."""

import numpy as np

from ..errors import ModelError

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def to_continuous(A, B, C, D) -> Matrices:
    """Map a discrete system by z = (1 + s) / (1 - s).

    **Raises:** `ModelError` for a pole at -1, which would go to infinity.
    """
    I = np.eye(len(A))
    if (
        np.abs(1 + np.linalg.eigvals(A)).min(initial=1.0) < 1e-12
    ):  # a condition number would depend on the states' units
        raise ModelError("the discrete plant must have no pole at -1; change the sample time")
    M = np.linalg.inv(I + A)
    return M @ (A - I), np.sqrt(2) * M @ B, np.sqrt(2) * C @ M, D - C @ M @ B


def to_discrete(A, B, C, D) -> Matrices:
    """Map a continuous-time system by s = (z - 1) / (z + 1)."""
    I = np.eye(len(A))
    N = np.linalg.inv(I - A)
    return N @ (I + A), np.sqrt(2) * N @ B, np.sqrt(2) * C @ N, D + C @ N @ B
