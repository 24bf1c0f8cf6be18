"""The sign of a dissipation matrix in exact arithmetic, for systems so small and so badly conditioned that no rounding may be lost."""

import numpy as np

from .dissipation import Inequality, quadratic_terms

LARGEST = 40
"""Rows up to which a matrix is decided in about a second: the integers of an elimination grow with each row."""

_SHIFT = 60
"""Binary digits below the diagonal at which the largest eigenvalue must be."""

_Scaled = tuple[np.ndarray, int]
"""Python integers, and the power of two that they are multiplied by."""


def margin_exactly(f: Inequality, P: np.ndarray) -> float:
    """Return an upper bound on the largest eigenvalue of M over its largest entry that proves M < 0 and P > 0; infinite for none.

    It is `-2^-61` where the eigenvalues of M, scaled to a diagonal near 1, are below `-2^-60`.
    """
    S, terms = quadratic_terms(f)
    nx, n = len(P), S.shape[1]
    arrays = [P, S, *(a for term in terms for a in term)]
    if f.form.roundings or n > LARGEST or not all(np.isfinite(a).all() for a in arrays):
        return float("inf")
    if not np.array_equal(P, P.T) or not _positive(_integers(P), 0):
        return float("inf")
    M = _added([_form(N, -Q) for N, Q in [(S, P), (f.claim.rate * np.eye(nx, n), -P), *terms]])
    return -(2.0 ** -(_SHIFT + 1)) if _positive(M, _SHIFT) else float("inf")


def _integers(a: np.ndarray) -> _Scaled:
    mantissas, exponents = np.frexp(a)
    least = int(exponents[a != 0].min(initial=0))
    whole = [
        int(m * 2.0**53) << int(e) - least if m else 0
        for m, e in zip(mantissas.flat, exponents.flat, strict=True)
    ]
    return np.array(whole, object).reshape(a.shape), least - 53


def _form(N: np.ndarray, Q: np.ndarray) -> _Scaled:
    """Return `N'QN`."""
    (n, a), (q, b) = _integers(N), _integers(Q)
    return n.T @ q @ n, 2 * a + b


def _added(parts: list[_Scaled]) -> _Scaled:
    least = min(exponent for _, exponent in parts)
    return sum(M * (1 << exponent - least) for M, exponent in parts), least  # pyright: ignore[reportReturnType]


def _positive(scaled: _Scaled, shift: int) -> bool:
    """Return whether a symmetric matrix is positive definite, for `shift > 0` less its diagonal's powers of two by `2^-shift`.

    By elimination without fractions (E. H. Bareiss, 1968), whose pivots are the leading minors.
    """
    # A copy, which the elimination may overwrite
    M = scaled[0] * (1 << shift)
    if shift:
        for k in range(len(M)):
            # The power of two below an entry of the diagonal, over 2^shift
            M[k, k] -= 1 << max(int(M[k, k]).bit_length() - 1 - shift, 0)
    before = 1
    for k in range(len(M)):
        pivot = M[k, k]
        if pivot <= 0:
            return False
        rest = M[k + 1 :, k + 1 :] * pivot - np.outer(M[k + 1 :, k], M[k, k + 1 :])
        M[k + 1 :, k + 1 :] = rest // before
        before = pivot
    return True
