"""The H-infinity norm of any stable linear system."""

import control as ct
import numpy as np

from ..errors import ModelError
from .bilinear import to_continuous
from .types import Realization

_TOLERANCE = 1e-8
"""Relative, of python-control's bisection; ten times as much is added, so that the result is an upper bound."""


def hinf_norm(system: "ct.StateSpace | Realization") -> float:
    """Return the largest singular value over all frequencies, an upper bound to within 1e-7 relative.

    ::

        |G|_inf = max over w of sigma_max(C (z I - A)^-1 B + D),     z = exp(i w dt), or i w in continuous time

    By python-control's bisection on Hamiltonian eigenvalues (Bruinsma, Steinbuch, Systems & Control Letters 14, 1990).

    **Arguments:**

    - `system`: a `control.StateSpace`, in continuous or discrete time

    **Raises:** `ModelError` for a system with a pole on or outside the stability boundary, whose norm is infinite.

    **Example:** ::

        import control as ct
        gain = rc.classical.hinf_norm(ct.ss(-1.0, 1.0, 1.0, 0.0))   # 1.0
    """
    poles = system.poles()
    worst = np.max(np.abs(poles), initial=0.0) if system.dt else np.max(np.real(poles), initial=-np.inf)
    if poles.size and not worst < (1 if system.dt else 0):
        raise ModelError(f"the system must be stable to have a finite H-infinity norm, got the poles {poles}")
    A, B, C, D = (np.asarray(M, float) for M in (system.A, system.B, system.C, system.D))
    if not (np.any(B) and np.any(C)):
        return float(np.linalg.norm(D, 2)) if D.size else 0.0
    # In continuous time always: python-control's bisection for discrete time inverts A, which fails for the poles at
    # zero that a delay has. Rows or columns of zeros make the system square, as it requires, and leave the norm as it is.
    if system.dt:
        A, B, C, D = to_continuous(A, B, C, D)
    p, m = D.shape
    n = max(p, m)
    B, C, D = (
        np.pad(M, ((0, rows), (0, cols)))
        for M, rows, cols in ((B, 0, n - m), (C, n - p, 0), (D, n - p, n - m))
    )
    # For coupled poles near the boundary, in units far apart, the bisection can end far too low; the response at the
    # poles' frequencies is then the better lower bound.
    square = ct.StateSpace(A, B, C, D, 0)
    norm = ct.system_norm(square, "inf", tol=_TOLERANCE, print_warning=False)  # pyright: ignore[reportArgumentType]
    return max(float(norm), _at_poles(A, B, C, D)) * (1 + 10 * _TOLERANCE)


def _at_poles(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> float:
    """Return the largest singular value at zero and at the frequencies of a continuous-time system's poles."""
    poles = np.linalg.eigvals(A)
    s = 1j * np.unique(np.abs(np.concatenate([[0.0], poles.imag, poles])))[:, None, None]
    response = C @ np.linalg.solve(s * np.eye(len(A)) - A, np.broadcast_to(B, (len(s), *B.shape))) + D
    return float(np.linalg.norm(response, 2, axis=(1, 2)).max())
