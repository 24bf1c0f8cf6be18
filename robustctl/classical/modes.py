"""What a design needs of a plant and its weights: reachable modes, ranks, stability, definiteness."""

from typing import Any

import numpy as np

from ..errors import ModelError


def check_stabilizable(A: np.ndarray, B: np.ndarray, discrete: bool, pair: str = "(A, B)") -> None:
    """Refuse a pair with a mode that is neither stable nor controllable.

    ::

        rank [A - lambda I, B] = nx   for every eigenvalue lambda that is not stable

    Source: the test of Popov, Belevitch and Hautus; Kailath, "Linear Systems", 1980, section 2.4.3.

    **Raises:** `ModelError` with the mode.
    """
    for mode in _stuck(A, B, discrete):
        raise ModelError(
            f"{pair} must be stabilizable, but the mode {_said(mode, discrete)} is uncontrollable; give the plant an "
            "actuator that moves it, or leave that state out"
        )


def check_detectable(A: np.ndarray, C: np.ndarray, discrete: bool, pair: str = "(C, A)") -> None:
    """Refuse a pair with a mode that is neither stable nor observable.

    **Raises:** `ModelError` with the mode.
    """
    for mode in _stuck(A.T, C.T, discrete):
        raise ModelError(
            f"{pair} must be detectable, but the mode {_said(mode, discrete)} is unobservable; measure an output that "
            "shows it, or leave that state out"
        )


def _stuck(A: np.ndarray, B: np.ndarray, discrete: bool):
    """Yield the modes that are not stable and that B does not reach."""
    n = A.shape[0]
    for mode in np.linalg.eigvals(A):
        growing = (
            abs(mode) >= 1 - 1e-9 if discrete else np.real(mode) >= -1e-9 * max(1.0, np.linalg.norm(A, 2))
        )
        if growing and rank_defect(np.hstack([A - mode * np.eye(n), B]), n):
            yield mode


def rank_defect(M: np.ndarray, rank: int) -> bool:
    """Return whether a matrix has less than the given rank, to rounding."""
    if rank == 0:
        return False
    values = np.linalg.svd(M, compute_uv=False)
    return values.size < rank or bool(values[rank - 1] <= 1e-10 * values[0])


def is_stable(poles: np.ndarray, discrete: bool) -> bool:
    """Return whether all poles are inside the stable region."""
    return bool((np.abs(poles) < 1).all() if discrete else (np.real(poles) < 0).all())


def _said(mode: complex, discrete: bool) -> str:
    value = f"{mode.real:.6g}" if abs(mode.imag) < 1e-12 else f"{mode.real:.6g}{mode.imag:+.6g}j"
    size = f"|lambda| = {abs(mode):.6g}" if discrete else f"real part {mode.real:.6g}"
    return f"lambda = {value} ({size})"


def weight(M: Any, n: int, what: str, *, definite: bool) -> np.ndarray:
    """Return a weight as a symmetric (n, n) matrix; a number or a vector stands for a diagonal.

    **Raises:** `ModelError` for another shape, and where it is not symmetric and positive (semi)definite.
    """
    M = np.asarray(M, float)
    M = M * np.eye(n) if M.ndim == 0 else np.diag(M) if M.ndim == 1 else M
    if M.shape != (n, n):
        raise ModelError(f"{what} must be {n} by {n}, or {n} diagonal entries, got shape {M.shape}")
    if not np.isfinite(M).all() or not np.allclose(M, M.T, rtol=1e-8, atol=1e-12):
        raise ModelError(f"{what} must be finite and symmetric, got {M.tolist()}")
    low = np.linalg.eigvalsh(M).min(initial=np.inf)
    if low < (1e-14 if definite else -1e-9) * np.abs(M).max(initial=0.0) or (definite and low <= 0):
        kind = "definite" if definite else "semidefinite"
        raise ModelError(f"{what} must be positive {kind}, got the eigenvalue {low:.6g}")
    return (M + M.T) / 2
