"""What a design requires of a plant and its weights: controllable modes, ranks, stability, definiteness."""

from collections.abc import Iterator

import numpy as np

from ..errors import ModelError
from .types import ArrayLike


def check_stabilizable(A: np.ndarray, B: np.ndarray, discrete: bool, pair: str = "(A, B)") -> None:
    """Refuse a pair with a mode that is neither stable nor controllable.

    ::

        rank [A - lambda I, B] = nx   for every eigenvalue lambda that is not stable

    Source: the test of Popov, Belevitch and Hautus; Kailath, "Linear Systems", 1980, section 2.4.3.

    **Arguments:**

    - `A`: (nx, nx)
    - `B`: (nx, nu)
    - `discrete`: whether stable means inside the unit circle
    - `pair`: what the message calls them

    **Raises:** `ModelError` with the mode.
    """
    for mode in _uncontrollable(A, B, discrete):
        raise ModelError(
            f"{pair} must be stabilizable, but the mode {_described(mode, discrete)} is uncontrollable; give the plant an "
            "actuator that moves it, or leave that state out"
        )


def check_detectable(A: np.ndarray, C: np.ndarray, discrete: bool, pair: str = "(C, A)") -> None:
    """Refuse a pair with a mode that is neither stable nor observable; the dual of `check_stabilizable`.

    **Raises:** `ModelError` with the mode.
    """
    for mode in _uncontrollable(A.T, C.T, discrete):
        raise ModelError(
            f"{pair} must be detectable, but the mode {_described(mode, discrete)} is unobservable; measure an output that "
            "shows it, or leave that state out"
        )


def _uncontrollable(A: np.ndarray, B: np.ndarray, discrete: bool) -> Iterator[complex]:
    """Yield the modes that are neither stable nor controllable."""
    n = A.shape[0]
    for mode in np.linalg.eigvals(A):
        # 1e-9: an integrator's eigenvalue comes out of rounding on either side of the boundary
        unstable = (
            abs(mode) >= 1 - 1e-9 if discrete else np.real(mode) >= -1e-9 * max(1.0, np.linalg.norm(A, 2))
        )
        if unstable and rank_defect(np.hstack([A - mode * np.eye(n), B]), n):
            yield mode


def rank_defect(M: np.ndarray, rank: int) -> bool:
    """Return whether a matrix has less than the given rank, up to rounding."""
    if rank == 0:
        return False
    # 1e-10 relative: above what rounding leaves of a zero (1e-16 times the size, and the error of a computed mode),
    # below the smallest value of a pair that is only weakly controllable
    values = np.linalg.svd(M, compute_uv=False)
    return values.size < rank or bool(values[rank - 1] <= 1e-10 * values[0])


def is_stable(poles: np.ndarray, discrete: bool) -> bool:
    """Return whether all poles are inside the stable region."""
    return bool((np.abs(poles) < 1).all() if discrete else (np.real(poles) < 0).all())


def _described(mode: complex, discrete: bool) -> str:
    value = f"{mode.real:.6g}" if abs(mode.imag) < 1e-12 else f"{mode.real:.6g}{mode.imag:+.6g}j"
    size = f"|lambda| = {abs(mode):.6g}" if discrete else f"real part {mode.real:.6g}"
    return f"lambda = {value} ({size})"


def weight(M: ArrayLike, n: int, what: str, *, definite: bool) -> np.ndarray:
    """Return a weight as a symmetric (n, n) matrix; a number or a vector is a diagonal.

    **Arguments:**

    - `M`: the matrix, its diagonal, or one number for the whole diagonal
    - `n`: number of rows
    - `what`: its name for messages
    - `definite`: whether it must be positive definite rather than semidefinite

    **Raises:** `ModelError` for another shape, and for a matrix that is not symmetric and positive (semi)definite.
    """
    M = np.asarray(M, float)
    M = M * np.eye(n) if M.ndim == 0 else np.diag(M) if M.ndim == 1 else M
    if M.shape != (n, n):
        raise ModelError(f"{what} must be {n} by {n}, or {n} diagonal entries, got shape {M.shape}")
    if not np.isfinite(M).all() or not np.allclose(M, M.T, rtol=1e-8, atol=1e-12):
        raise ModelError(f"{what} must be finite and symmetric, got {M.tolist()}")
    # A product like C' C has eigenvalues of zero that rounding makes slightly negative: -1e-9 relative is let pass.
    # A definite weight is inverted, so it must be above rounding, 1e-14.
    low = np.linalg.eigvalsh(M).min(initial=np.inf)
    if low < (1e-14 if definite else -1e-9) * np.abs(M).max(initial=0.0) or (definite and low <= 0):
        kind = "definite" if definite else "semidefinite"
        raise ModelError(f"{what} must be positive {kind}, got the eigenvalue {low:.6g}")
    return (M + M.T) / 2
