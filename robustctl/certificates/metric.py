"""A metric from the explicit matrices alone, where the one that came with them does not do."""

import numpy as np

from .congruence import margin_in_metric
from .dissipation import Inequality, margin, quadratic_terms, sum_of_products
from .exactly import margin_exactly

_UNDECIDED = 1e-9
"""Of what is added up, by which an eigenvalue may be positive and still be nothing but rounding."""


def find_metric(f: Inequality) -> tuple[np.ndarray | None, float]:
    """Return the metric P with the smallest `margin`: the system's own, or the Riccati equation's.

    ::

        A'PA - rate^2 P + Q - (A'PB + S) (R + B'PB)^-1 (A'PB + S)' = 0,   R + B'PB < 0

    where `[Q S; S' R]` is the part of M without P, its diagonal raised a little, each entry by its own size, so that M
    comes out strictly negative.
    It has a solution where the inequality has one (Kalman-Yakubovich-Popov lemma), for a given multiplier.
    """
    carried = f.claim.P
    best = carried, float("inf") if carried is None else _margin(f, carried)
    if best[1] < 0 or not np.isfinite(f.form.A).all():
        return best
    for raise_by in (1e-3, 1e-5, 1e-7, 1e-9):
        P = _riccati(f, raise_by)
        if P is not None and (found := _margin(f, P)) < best[1]:
            best = P, found
        if best[1] < 0:
            break
    return best


def _margin(f: Inequality, P: np.ndarray) -> float:
    """Return `margin`, or of a badly conditioned metric that in its own coordinates, or in exact arithmetic: whichever proves first."""
    found = margin(f, P)
    # A system's matrices are its data, so that the form's own entries are off by its joins alone.
    for closer in (lambda: margin_in_metric(f, P, 0.0), lambda: margin_exactly(f, P)):
        if found < 0 or not found < _UNDECIDED:
            break
        found = min(found, closer())
    return found


def _riccati(f: Inequality, raise_by: float) -> np.ndarray | None:
    import scipy.linalg as sl  # slow to import

    S, terms = quadratic_terms(f)
    nx = f.form.nx
    with np.errstate(over="ignore", invalid="ignore"):
        constant, size = (total / f.claim.rate**2 for total in sum_of_products(terms))
        diagonal = np.diag(size)
        largest = (
            diagonal.max(initial=0.0) or 1.0
        )  # a linear system without a supply rate: any size of P will do
        constant += raise_by * np.diag(np.where(diagonal > 0, diagonal, largest))
        A, B = S[:, :nx] / f.claim.rate, S[:, nx:] / f.claim.rate
    try:
        if B.shape[1] == 0:
            P = sl.solve_discrete_lyapunov(A.T, constant)
        else:
            P = sl.solve_discrete_are(A, B, constant[:nx, :nx], constant[nx:, nx:], s=constant[:nx, nx:])
    except (np.linalg.LinAlgError, ValueError):
        return None
    if not np.isfinite(P).all():
        return None
    # Where any size will do, one near 1, by a power of two that changes no digit.
    size = 1.0 if diagonal.any() else np.exp2(np.round(np.log2(np.abs(P).max(initial=1e-300))))
    return (P + P.T) / 2 / size
