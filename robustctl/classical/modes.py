"""What a design requires of a plant and its weights: controllable modes, ranks, stability, definiteness."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import scipy.linalg

from ..errors import InvalidModelError
from .balance import equilibrated, state_scales
from .types import ArrayLike

_CERTAIN = 1e-12
"""Size of what is left of a rank, relative to the entries, that is rounding for certain: eigenvalues and balanced entries have 1e-15."""

LIKELY = 1e-6
"""The same for a design that failed: an eigenvalue of a nearly defective matrix, which errs by 1e-8, is the cause rather than chance."""


def check_stabilizable(
    A: np.ndarray, B: np.ndarray, discrete: bool, pair: str = "(A, B)", tolerance: float = _CERTAIN
) -> None:
    """Refuse a pair with a mode that is neither stable nor controllable.

    ::

        rank [A - lambda I, B] = nx   for every eigenvalue lambda that is not stable

    Source: the test of Popov, Belevitch and Hautus; Kailath, "Linear Systems", 1980, section 2.4.3.

    **Arguments:**

    - `A`: (nx, nx)
    - `B`: (nx, nu)
    - `discrete`: whether stable means inside the unit circle
    - `pair`: what the message calls them
    - `tolerance`: what counts as rounding, relative to the entries

    **Raises:** `InvalidModelError` with the mode.
    """
    for mode in immovable(A, B, tolerance, discrete):
        raise InvalidModelError(
            f"{pair} must be stabilizable, but the mode {_described(mode, discrete)} is uncontrollable; give the plant an "
            "actuator that moves it, or leave that state out"
        )


def check_detectable(
    A: np.ndarray, C: np.ndarray, discrete: bool, pair: str = "(C, A)", tolerance: float = _CERTAIN
) -> None:
    """Refuse a pair with a mode that is neither stable nor observable; the dual of `check_stabilizable`.

    **Raises:** `InvalidModelError` with the mode.
    """
    for mode in immovable(A.T, C.T, tolerance, discrete):
        raise InvalidModelError(
            f"{pair} must be detectable, but the mode {_described(mode, discrete)} is unobservable; measure an output that "
            "shows it, or leave that state out"
        )


def immovable(
    A: np.ndarray, B: np.ndarray, tolerance: float = _CERTAIN, discrete: bool | None = None
) -> Iterator[complex]:
    """Yield the uncontrollable modes; with `discrete` given, only those that are not stable."""
    t = state_scales(A, B, np.zeros((0, len(A))))
    A, B = A * t / t[:, None], B / t[:, None]
    for mode, error in _eigenvalues(A):
        if discrete is not None and (abs(mode) < 1 - error if discrete else np.real(mode) < -error):
            continue
        test = np.hstack([A - mode * np.eye(len(A)), B])
        size = np.hstack([np.abs(A) + abs(mode) * np.eye(len(A)), np.abs(B)])
        if rank_defect(test, len(A), size, tolerance):
            yield mode


def _eigenvalues(A: np.ndarray) -> Iterator[tuple[complex, float]]:
    """Yield the eigenvalues, and by how much rounding of A's entries may have moved each."""
    if not len(A):
        return
    values, left, right = cast(tuple[np.ndarray, ...], scipy.linalg.eig(A, left=True, right=True))
    for value, v, u in zip(values, left.T, right.T, strict=True):
        # The condition for relative changes of each entry, which no unit of a state changes. 10 eps: what eigenvalue routines leave
        # of a balanced matrix; a defective eigenvalue has the condition 1e8 and more, and errs by eps to a root.
        condition = np.abs(v) @ np.abs(A) @ np.abs(u) / max(abs(v.conj() @ u), np.finfo(float).eps)
        yield complex(value), 10 * np.finfo(float).eps * float(condition)


def rank_defect(
    M: np.ndarray, rank: int, size: np.ndarray | None = None, tolerance: float = _CERTAIN
) -> bool:
    """Return whether a matrix has less than the given rank, that of all its rows or columns, up to rounding.

    **Arguments:**

    - `M`: the matrix
    - `rank`: the smaller of its numbers of rows and columns
    - `size`: sizes of the numbers whose differences its entries are, default those of the entries
    - `tolerance`: what counts as rounding, relative to the entries
    """
    if rank == 0:
        return False
    if size is not None:
        # Before rows are scaled: an entry that is a difference of equal numbers must stay nothing.
        M = np.where(np.abs(M) > 10 * np.finfo(float).eps * size, M, 0)
    values = np.linalg.svd(equilibrated(M), compute_uv=False)
    return values.size < rank or bool(values[rank - 1] <= tolerance * values[0])


def is_stable(poles: np.ndarray, discrete: bool) -> bool:
    """Return whether all poles are inside the stable region."""
    return bool((np.abs(poles) < 1).all() if discrete else (np.real(poles) < 0).all())


def _described(mode: complex, discrete: bool) -> str:
    value = f"{mode.real:.6g}" if abs(mode.imag) < 1e-12 else f"{mode.real:.6g}{mode.imag:+.6g}j"
    size = f"|lambda| = {abs(mode):.6g}" if discrete else f"real part {mode.real:.6g}"
    return f"lambda = {value} ({size})"


def one_each(name: str, value: ArrayLike, n: int) -> np.ndarray:
    """Return a number for each of n signals, or raise `InvalidModelError` for another number of them."""
    try:
        return np.array(np.broadcast_to(np.asarray(value, np.float64), (n,)))
    except ValueError as error:
        raise InvalidModelError(f"{name} must be a number or {n} numbers; {error}") from error
