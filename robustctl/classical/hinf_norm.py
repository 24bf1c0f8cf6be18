"""The H-infinity norm of any stable linear system."""

from typing import Any

import control as ct
import numpy as np

from ..errors import ModelError
from .bilinear import to_continuous

_TOLERANCE = 1e-8


def hinf_norm(system: Any) -> float:
    """Return the largest singular value over all frequencies, an upper bound to within 1e-7 relative.

    By python-control's bisection on Hamiltonian eigenvalues, in continuous time (its own way there fails for poles at
    zero, a delay's) and with as many inputs as outputs: rows or columns of zeros are added, and change nothing. It is never
    below the response at the poles' frequencies: for strongly coupled poles near the boundary, in unlike units, the bisection
    may end far below it.

    **Raises:** `ModelError` for a system with a pole on or outside the stability boundary, whose norm is infinite.
    """
    poles = system.poles()
    worst = np.max(np.abs(poles), initial=0.0) if system.dt else np.max(np.real(poles), initial=-np.inf)
    if poles.size and not worst < (1 if system.dt else 0):
        raise ModelError(f"the system must be stable to have a finite H-infinity norm, got the poles {poles}")
    A, B, C, D = (np.asarray(M, float) for M in (system.A, system.B, system.C, system.D))
    if not (np.any(B) and np.any(C)):
        return float(np.linalg.norm(D, 2)) if D.size else 0.0
    if system.dt:
        A, B, C, D = to_continuous(A, B, C, D)
    p, m = D.shape
    n = max(p, m)
    B, C, D = (
        np.pad(M, ((0, rows), (0, cols)))
        for M, rows, cols in ((B, 0, n - m), (C, n - p, 0), (D, n - p, n - m))
    )
    square = ct.StateSpace(A, B, C, D, 0)
    norm = ct.system_norm(square, "inf", tol=_TOLERANCE, print_warning=False)  # pyright: ignore[reportArgumentType]
    return max(float(norm), _at_poles(A, B, C, D)) * (1 + 10 * _TOLERANCE)


def _at_poles(A, B, C, D) -> float:
    """The largest singular value at zero and at the frequencies of a continuous system's poles."""
    poles = np.linalg.eigvals(A)
    s = 1j * np.unique(np.abs(np.concatenate([[0.0], poles.imag, poles])))[:, None, None]
    response = C @ np.linalg.solve(s * np.eye(len(A)) - A, np.broadcast_to(B, (len(s), *B.shape))) + D
    return float(np.linalg.norm(response, 2, axis=(1, 2)).max())
