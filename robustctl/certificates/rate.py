"""The smallest contraction rate that a metric proves, rounded up to one whose proof includes rounding."""

import numpy as np

from .dissipation import Inequality, margin


def rate_found(f: Inequality, P: np.ndarray) -> float:
    """Return a rate that `P` proves, rounding included: near the smallest, and at most the claimed one.

    A metric that proves the claim with a supply rate proves its contraction rate alone as well, because Q < 0.
    """
    claimed = f.claim.rate
    smallest = _estimate(f, P)
    alone = f._replace(claim=f.claim._replace(supply=None))
    # The estimate's own rounding grows with the condition number of P, so it is raised until a proof succeeds.
    for raise_by in 10.0 ** np.arange(-13, 0, 0.5):
        rate = smallest * (1 + raise_by)
        if not 0 < rate < claimed:
            break
        if margin(alone._replace(claim=alone.claim._replace(rate=rate)), P) < 0:
            return float(rate)
    return float(claimed)


def _estimate(f: Inequality, P: np.ndarray) -> float:
    """The smallest rate up to rounding: the Schur complement over w of M without its rate term.

    ::

        rate^2 = largest eigenvalue of L^-1 (Mxx - Mxw Mww^-1 Mwx) L'^-1,     P = L L'
    """
    form = f.form
    nx, nw = form.nx, form.B1.shape[1]
    S = np.hstack([form.A, form.B1])
    N = np.vstack([np.hstack([form.C1, form.D11]), np.hstack([np.zeros((nw, nx)), np.eye(nw)])])
    M = S.T @ P @ S + N.T @ f.Pi @ N
    schur = M[:nx, :nx]
    try:
        if nw:
            schur = schur - M[:nx, nx:] @ np.linalg.solve(M[nx:, nx:], M[nx:, :nx])
        L = np.linalg.cholesky(P)
        scaled = np.linalg.solve(L, np.linalg.solve(L, (schur + schur.T) / 2).T)
        largest = np.linalg.eigvalsh((scaled + scaled.T) / 2)[-1]
    except np.linalg.LinAlgError:
        return f.claim.rate
    # A system that forgets everything in one sample has the rate 0, which no strict inequality proves: its square is rounding.
    return float(np.sqrt(max(largest, np.finfo(float).eps ** 2)))
