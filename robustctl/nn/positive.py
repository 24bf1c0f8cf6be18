"""Positive linear systems: the gain is that at frequency 0, and a diagonal metric proves it."""

from typing import Any

import numpy as np
from jax.dtypes import canonicalize_dtype

FAINT = 1e-6
"""Of the largest weight, by which every state is driven and seen in the bound, so that its metric is neither 0 nor infinite."""

_ROOM = {4: 2e-5, 8: 1e-9}
"""By bytes of a number: what the bound leaves to rounding, of the rate and of the gain. In float32 170 times the rounding of a product,
for that of the solve behind the bound; in float64 enough for that of the proof, whose matrix has eigenvalues this near to zero."""


def room(dtype: Any) -> float:
    """Return the part of a rate and of a gain that is left to rounding."""
    return _ROOM[canonicalize_dtype(dtype).itemsize]


def static_gain(U: np.ndarray, W: np.ndarray, C: np.ndarray, D: np.ndarray, rate: float) -> np.ndarray | None:
    """Return `C (rate I - U)^-1 W + D` of matrices without negative entries, None where U has an eigenvalue of `rate` or more.

    **Arguments:**

    - `U`: (nx, nx).
    - `W`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: (ny, nu).
    - `rate`: positive.
    """
    R = _resolvent(U, rate)
    return None if R is None else C @ R @ W + D


def _resolvent(U: np.ndarray, rate: float) -> np.ndarray | None:
    """Return `(rate I - U)^-1` of a matrix without negative entries, None where it is not proven to have none itself."""
    if not (np.isfinite(U).all() and np.all(U >= 0)):
        return None
    try:
        R = np.linalg.inv(rate * np.eye(len(U)) - U)
    except np.linalg.LinAlgError:
        return None
    # A positive x with U x < rate x bounds the eigenvalues (Perron, Frobenius); then what is negative in R is rounding.
    x = R.sum(axis=1)
    return np.maximum(R, 0.0) if np.all(x > 0) and np.all(U @ x < rate * x) else None


def positive_metric(
    U: np.ndarray, W: np.ndarray, C: np.ndarray, D: np.ndarray, rate: float, gamma: float
) -> np.ndarray | None:
    """Return the diagonal p (nx,) of a metric that proves a gain below `gamma` at the rate, None where the bound is not below it.

    ::

        x = (rate I - U)^-1 W u,    l = (rate I - U')^-1 C' G u / rate,    u = (gamma^2 I - G'G)^-1 1,    p = l / x

    with all matrices in absolute value and `G = C (rate I - U)^-1 W + D`. With P = diag(p) the symmetric matrix
    `[U W]'P[U W] - diag(rate^2 P, 0) + [C D]'[C D] - diag(0, gamma^2 I)` has no negative entry off its diagonal, and maps the positive
    vector `[x; u]` to `[0; -1]`: such a matrix is negative semidefinite (Berman, Plemmons, "Nonnegative matrices in the
    mathematical sciences", 1994, chapter 6). At a rate that is a little smaller than the one to be proven it is negative definite.
    The metric is ours; that a diagonal one exists: Tanaka, Langbort, IEEE TAC 56(9), 2011.

    **Arguments:**

    - `U`: (nx, nx).
    - `W`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: (ny, nu).
    - `rate`: positive.
    - `gamma`: positive.
    """
    U, W, C, D = (np.abs(M) for M in (U, W, C, D))
    W, C = (M + FAINT * (M.max(initial=0.0) or 1.0) for M in (W, C))
    R = _resolvent(U, rate)
    if R is None or not all(np.isfinite(M).all() for M in (W, C, D)):
        return None
    G = (C @ R @ W + D) / gamma
    if not np.linalg.norm(G, 2) < 1:
        return None
    u = np.linalg.solve(np.eye(G.shape[1]) - G.T @ G, np.ones(G.shape[1])) / gamma**2
    x, later = R @ (W @ u), R.T @ (C.T @ (gamma * G @ u)) / rate
    p = later / x
    return p if np.isfinite(p).all() and np.all(p > 0) and np.all(u > 0) else None
