"""The largest set in which a linear loop keeps limits under bounded disturbances: a polytope by the standard iteration."""

import numpy as np

from ..checks import is_whole
from ..errors import InvalidModelError
from ..linalg import unstable
from .state_sets import StateLimits, columns

REDUNDANT = 1e-9
"""Of a limit, by which a half-space may be exceeded and still count as implied: ten times the tolerance of the linear programs."""


def maximal_invariant_set(
    A, limits: StateLimits, disturbance=None, *, middle=None, steps: int = 500
) -> StateLimits:
    """Return the largest set of states from which a linear loop keeps limits for ever, under every bounded disturbance.

    ::

        x+ = A x + E d,  |d_j| <= 1:     O = {x : C A^k x <= limit - sum_{j<k} |C A^j E| 1,  k = 0, 1, ...}

    in deviations from the equilibrium. O is robustly invariant: `x+` is in O for every x in O. Half-spaces are added until the next ones
    follow from those that stand, by one linear program each; the end proves that all later ones follow too, to 1e-9 of the limits.
    Sources: E. Gilbert, K. Tan, IEEE Trans. Automatic Control 36(9), 1991; I. Kolmanovsky, E. Gilbert, Mathematical Problems in
    Engineering 4, 1998.

    **Arguments:**

    - `A`: of the loop, for example `A - B K` (nx, nx).
    - `limits`: on states, and on controls as rows `-K x <= u_high`.
    - `disturbance`: E (nx, nd); default none.
    - `middle`: the loop's equilibrium (nx,) in the states' units, which the limits are in as well; default the origin.
    - `steps`: largest number of samples k.

    **Raises:** `InvalidModelError` for a loop that is not stable, with its poles, an equilibrium outside the limits, a disturbance that
    alone exceeds one, an iteration that does not end, and shapes that do not fit.

    **Example:** ::

        limits = rc.loops.StateLimits([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0])
        largest = rc.loops.maximal_invariant_set([[0.9, 0.2], [0.0, 0.8]], limits, [0.0, 0.05])
    """
    A = np.asarray(A, np.float64)
    C, limit = np.asarray(limits.C, np.float64), np.asarray(limits.limit, np.float64)
    if A.ndim != 2 or A.shape != (C.shape[1],) * 2:
        raise InvalidModelError(f"A must be (nx, nx) for limits of {C.shape[1]} states, got {A.shape}")
    if poles := unstable(np.linalg.eigvals(A)):
        raise InvalidModelError(
            f"the loop must be stable, got one with the poles {poles} (stable: inside the unit circle); only then does a set exist"
        )
    middle = np.zeros(len(A)) if middle is None else np.asarray(middle, np.float64)
    rows, values = determined(A, C, limit - C @ middle, columns(disturbance, len(A)), steps=steps)
    return StateLimits(rows, values + rows @ middle)


def determined(
    A: np.ndarray, C: np.ndarray, limit: np.ndarray, E: np.ndarray, *, given: tuple | None = None, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and values of the half-spaces, in deviations and without those that follow from others.

    **Arguments:**

    - `A`: of the loop; it need not be stable where `given` has the half-spaces of the steady state.
    - `C`: rows of the limits.
    - `limit`: their values.
    - `E`: columns of the disturbance.
    - `given`: half-spaces `(rows, values)` that hold as well.
    - `steps`: largest number of samples.

    **Raises:** `InvalidModelError` as in `maximal_invariant_set`.
    """
    if not is_whole(steps, 1):
        raise InvalidModelError(f"steps must be a whole number of at least 1, got {steps!r}")
    use = np.isfinite(limit)
    C, left = C[use], limit[use]
    _check_inside(left, C, "the equilibrium must be inside the limits")
    # Rows as the shares of their limits: all values are 1, and tolerances mean the same for all units.
    H = np.zeros((0, C.shape[1])) if given is None else given[0] / given[1][:, None]
    new = C / left[:, None]
    for _ in range(steps):
        added = [row for row in new if not follows(row, H)]
        if not added:
            H = irredundant(H)
            return H, np.ones(len(H))
        H = np.vstack([H, *(row[None] for row in added)])
        left = left - np.abs(C @ E).sum(1)
        _check_inside(left, C, "the disturbance alone must keep the limits")
        C = C @ A
        new = C / left[:, None]
    raise InvalidModelError(
        f"the set must be determined within {steps} samples, and was not: the loop is slow, or the disturbance leaves almost "
        "nothing of the limits; give more steps, smaller disturbances or a faster loop"
    )


def _check_inside(left: np.ndarray, C: np.ndarray, must: str) -> None:
    if not (left > 0).all():
        k = int(np.argmin(left))
        raise InvalidModelError(
            f"{must}, got {left[k]:.4g} left of limit {k}; widen the limits, or assume smaller disturbances: no set is invariant"
        )


def follows(row: np.ndarray, H: np.ndarray) -> bool:
    """Return whether `row x <= 1` for every x with `H x <= 1`."""
    if not row.any():
        return True
    if len(H) == 0:
        return False
    import scipy.optimize  # slow to import

    size = np.abs(row).max()
    found = scipy.optimize.linprog(
        -row / size, H, np.ones(len(H)), bounds=(None, None), method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    # Anything but an optimum, an unbounded program for example, proves nothing: the row stays.
    return found.status == 0 and -found.fun * size <= 1 + REDUNDANT


def irredundant(H: np.ndarray) -> np.ndarray:
    """Return the rows of `H x <= 1` without those that follow from the others."""
    keep = np.ones(len(H), bool)
    for k in reversed(range(len(H))):
        keep[k] = False
        keep[k] = not follows(H[k], H[keep])
    return H[keep]
