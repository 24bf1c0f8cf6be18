"""The dissipation matrix in the metric's own coordinates, in which lightly damped systems and unlike units keep their digits."""

import numpy as np

from .dissipation import ROUNDING, Inequality, in_range, quadratic_terms

_LARGEST, _SMALLEST = 1e50, 1e-150
"""Of the entries that M is made of, and of its diagonal: an underflow loses at most 5e-324, which two factors make 5e-224."""

EXTENDED = float(np.finfo(np.longdouble).eps)
"""Rounding of NumPy's longest floating-point numbers: 1e-19 on x86, that of float64 where there are none."""


def margin_in_metric(f: Inequality, P: np.ndarray, roundings: float = 1.0) -> float:
    """Return an upper bound on the largest eigenvalue of `K' M K` over its largest entry; negative proves M < 0 and P > 0.

    ::

        K = blkdiag(T, I, I),     T'P T = I   up to rounding

    Whatever T is, `K' M K < 0` implies that K is nonsingular and M negative definite. The products are computed in extended
    precision, each with a bound on its rounding.

    **Arguments:**

    - `f`: the inequality; `P`: its metric (nx, nx), symmetric.
    - `roundings`: how many times the rounding of float64 the form's own entries may be off.
    """
    S, terms = quadratic_terms(f)
    if P.shape != f.form.A.shape or not all(
        in_range(a) for a in (P, S, *(a for term in terms for a in term))
    ):
        return float("inf")
    T = _whitening(P)
    if T is None or not np.array_equal(P, P.T):
        return float("inf")
    nx, n = len(P), S.shape[1]
    K, X0 = np.eye(n), np.eye(nx, n)
    K[:nx, :nx] = T
    rate2, roundings = np.longdouble(f.claim.rate) ** 2, max(roundings, f.form.roundings)
    with np.errstate(all="ignore"):
        smallest = -_largest([(X0, -P)], K[:, :nx], roundings)[0]
        largest, size = _largest([(S, P), (X0, -rate2 * P), *terms], K, roundings)
    return largest / size if smallest > 0 and size > 0 else float("inf")


class _Product:
    """A matrix in extended precision, and a bound on the error of each of its entries."""

    def __init__(self, value: np.ndarray, error: np.ndarray | float = 0.0):
        self.value = np.asarray(value, np.longdouble)
        self.error = np.asarray(error, np.longdouble) + np.zeros_like(self.value)

    def __matmul__(self, other: "_Product") -> "_Product":
        a, b = np.abs(self.value), np.abs(other.value)
        own = (a.shape[1] + 2) * EXTENDED * (a @ b)
        error = a @ other.error + self.error @ (b + other.error) + own
        return _Product(self.value @ other.value, 2 * error)  # twice, for the rounding of the bound

    @property
    def T(self) -> "_Product":
        """The transpose."""
        return _Product(self.value.T, self.error.T)


def _largest(terms: list, K: np.ndarray, roundings: float) -> tuple[float, float]:
    """Return an upper bound on the largest eigenvalue of `sum (N K)' Q (N K)`, scaled, and the size of its entries."""
    n = K.shape[1]
    if not n:
        return -1.0, 1.0  # of no state: negative definite, as it has no eigenvalue
    M, error = np.zeros((n, n), np.longdouble), np.zeros((n, n), np.longdouble)
    for N, Q in terms:
        seen = _Product(N, roundings * ROUNDING * np.abs(N)) @ _Product(K)
        term = seen.T @ (_Product(Q, EXTENDED * np.abs(Q)) @ seen)
        M, error = M + term.value, error + term.error + (len(terms) + 2) * EXTENDED * np.abs(term.value)
    used = max(np.abs(a).max(initial=0.0) for a in (K, *(a for term in terms for a in term)))
    if not used < _LARGEST or not np.abs(np.diag(M)).min(initial=1.0) > _SMALLEST:
        return float("inf"), 1.0
    # By powers of two, which is exact, to a diagonal of one.
    scale = np.exp2(-np.round(np.log2(np.abs(np.diag(M))) / 2))
    M, error = scale[:, None] * M * scale, scale[:, None] * error * scale
    plain = np.asarray((M + M.T) / 2, np.float64)
    rounding = 2 * float(np.sqrt(np.sum(error**2))) + 4 * (n + 10) * ROUNDING * float(np.linalg.norm(plain))
    if not np.isfinite(plain).all() or not np.isfinite(rounding):
        return float("inf"), 1.0
    return float(np.linalg.eigvalsh(plain)[-1] + rounding), float(np.abs(plain).max())


def _whitening(P: np.ndarray) -> np.ndarray | None:
    """Return T with `T'P T = I` up to rounding, None where P is far from positive definite."""
    diagonal = np.diag(P)
    if not np.all(diagonal > 0):
        return None
    d = 1 / np.sqrt(diagonal)
    try:
        return d[:, None] * np.linalg.inv(np.linalg.cholesky(d[:, None] * P * d)).T
    except np.linalg.LinAlgError:
        return None
