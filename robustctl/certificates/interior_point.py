"""A structured interior point for the matrix inequalities of certificates, in float64.

::

    min b'y   subject to   Z(y) = C + sum_i y_i F_i >= 0

Primal-dual with the HKM direction and Mehrotra's predictor and corrector, from a start that need not be feasible. Every F_i is
a sum of few rank-two terms of common rows, so that the matrix of the Newton equations, `B_ij = tr(F_i X F_j Z^-1)`, is made of
entries of a few products, and no F_i is built.

Source: K. C. Toh, M. J. Todd, R. H. Tütüncü, "SDPT3", Optimization Methods and Software, 1999, for direction and step lengths.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

_FEASIBLE = 1e-9
"""Residual of `Z = C + sum y F` relative to C from which on Z is computed from y alone."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Terms of m variables, `F_k = sum_t w[t, k] (r_i r_j' + r_j r_i')`, with rows `i[t, k]` and `j[t, k]` of `R`.

    **Arguments:**

    - `R`: rows, (r, N).
    - `i`, `j`: positions of rows, (terms, m); `w`: weights, (terms, m).
    """

    R: np.ndarray
    i: np.ndarray
    j: np.ndarray
    w: np.ndarray

    @property
    def size(self) -> int:
        """Number of variables."""
        return self.w.shape[1]

    def value(self, y: np.ndarray) -> np.ndarray:
        """Return `sum_k y_k F_k`, (N, N)."""
        if self.size <= len(self.R):
            M = sum(
                (self.R[i].T * (w * y)) @ self.R[j] for i, j, w in zip(self.i, self.j, self.w, strict=True)
            )
            return M + M.T  # pyright: ignore[reportAttributeAccessIssue, reportOperatorIssue]
        K = np.zeros((len(self.R),) * 2)
        for i, j, w in zip(self.i, self.j, self.w, strict=True):
            K[i, j] += w * y
        return self.R.T @ (K + K.T) @ self.R

    def inner(self, X: np.ndarray) -> np.ndarray:
        """Return `tr(F_k X)` for symmetric X, (m,)."""
        XR = X @ self.R.T
        if self.size <= len(self.R):
            found = [np.einsum("kn,nk->k", self.R[i], XR[:, j]) for i, j in zip(self.i, self.j, strict=True)]
        else:
            gram = self.R @ XR
            found = [gram[i, j] for i, j in zip(self.i, self.j, strict=True)]
        return 2 * np.sum(self.w * np.asarray(found), axis=0)

    def cross(self, other: "Pairs", X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Return `tr(F_k X F_l Y)` for k of this and l of the other, (m, m').

        ::

            tr((e a' + a e') X (f b' + b f') Y) = aXf eYb + aXb eYf + eXf aYb + eXb aYf
        """
        GX, GY = self.R @ X @ other.R.T, self.R @ Y @ other.R.T
        B = np.zeros((self.size, other.size))
        for i, j, w in zip(self.i, self.j, self.w, strict=True):
            rows = [(GX[k], GY[k]) for k in (i, j)]
            for k, m, v in zip(other.i, other.j, other.w, strict=True):
                (Xik, Yik), (Xim, Yim), (Xjk, Yjk), (Xjm, Yjm) = (
                    (x[:, n], y[:, n]) for x, y in rows for n in (k, m)
                )
                B += w[:, None] * v * (Xjk * Yim + Xjm * Yik + Xik * Yjm + Xim * Yjk)
        return B


def rank_two(E: np.ndarray, A: np.ndarray) -> Pairs:
    """Return the terms `F_k = e_k a_k' + a_k e_k'` of rows e_k of E and a_k of A, (m, N)."""
    k = np.arange(len(E))[None]
    return Pairs(np.vstack([E, A]), k, k + len(E), np.ones((1, len(E))))


def metric(X0: np.ndarray, S: np.ndarray, rate: float) -> Pairs:
    """Return the terms of `rate^2 X0' P X0 - S' P S`; the variables are the upper triangle of P, row by row."""
    nx = len(X0)
    i, j = np.triu_indices(nx)
    once = np.where(i == j, 0.5, 1.0)
    return Pairs(
        np.vstack([X0, S]), np.stack([i, i + nx]), np.stack([j, j + nx]), np.stack([rate**2 * once, -once])
    )


def added(parts: Sequence[Pairs]) -> Pairs:
    """Return the terms of the sums `F_k` over parts with the same variables."""
    offsets = np.cumsum([0, *(len(part.R) for part in parts)])[:-1]
    i, j = (
        np.vstack([columns + at for columns, at in zip(each, offsets, strict=True)])
        for each in ([part.i for part in parts], [part.j for part in parts])
    )
    return Pairs(np.vstack([part.R for part in parts]), i, j, np.vstack([part.w for part in parts]))


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A semidefinite program: `min b'y` subject to `C + sum y F >= 0`.

    **Arguments:**

    - `b`: (m,); `C`: (N, N), symmetric.
    - `fixed`: matrices F of the first variables, (N, N) each; `groups`: terms of the others, in order.
    """

    b: np.ndarray
    C: np.ndarray
    fixed: tuple[np.ndarray, ...]
    groups: tuple[Pairs, ...]

    def split(self, y: np.ndarray) -> list[np.ndarray]:
        """Return the variables of `fixed` and of each group."""
        return np.split(y, np.cumsum([len(self.fixed), *(g.size for g in self.groups)])[:-1])

    def value(self, y: np.ndarray) -> np.ndarray:
        """Return `sum y F`, (N, N)."""
        first, *rest = self.split(y)
        Z = np.zeros_like(self.C)
        for scale, F in zip(first, self.fixed, strict=True):
            Z += scale * F
        for part, group in zip(rest, self.groups, strict=True):
            Z += group.value(part)
        return Z

    def inner(self, X: np.ndarray) -> np.ndarray:
        """Return `tr(F_i X)` for symmetric X, (m,)."""
        return np.concatenate(
            [[np.sum(F * X) for F in self.fixed], *(group.inner(X) for group in self.groups)]
        )

    def newton_matrix(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Return `B_ij = tr(F_i X F_j Y)`, (m, m)."""
        first = len(self.fixed)
        ends = np.cumsum([first, *(g.size for g in self.groups)])
        B = np.empty((ends[-1], ends[-1]))
        for k, F in enumerate(self.fixed):
            B[k] = B[:, k] = self.inner(_symmetric(X @ F @ Y))
        for p, one in enumerate(self.groups):
            for q in range(p, len(self.groups)):
                block = one.cross(self.groups[q], X, Y)
                B[ends[p] : ends[p + 1], ends[q] : ends[q + 1]] = block
                B[ends[q] : ends[q + 1], ends[p] : ends[p + 1]] = block.T
        return _symmetric(B)


@dataclasses.dataclass
class Point:
    """An iterate: the variables y, the matrix Z and the primal matrix X; `residual`: of Z, relative to C."""

    y: np.ndarray
    Z: np.ndarray
    X: np.ndarray
    residual: float = np.inf


def solve(
    program: Program, y: np.ndarray, *, start: float = 1e3, gap: float = 1e-4, iterations: int = 60,
    deadline: float = np.inf, stop: Callable[[Point], bool] = lambda point: False,
) -> list[Point]:  # fmt: skip
    """Return the iterates whose Z is that of their y, in order; the last one has the smallest objective.

    **Arguments:**

    - `program`: the program.
    - `y`: where the variables start; Z and X start as `start` times the identity.
    - `gap`: relative duality gap at which it stops.
    - `iterations`: at most so many.
    - `deadline`: of `time.monotonic()`, in seconds.
    - `stop`: whether an iterate is good enough, or hopeless.
    """
    identity = np.eye(len(program.C))
    point, found = Point(y, start * identity, start * identity), []
    # Of a program without a solution the iterates grow until they leave float64
    with np.errstate(all="ignore"):
        for _ in range(iterations):
            if time.monotonic() > deadline or (following := _next(program, point)) is None:
                break
            point = following
            if point.residual < _FEASIBLE:
                found.append(point)
            if stop(point) or _converged(program, point, gap):
                break
    return found


def _next(program: Program, point: Point) -> Point | None:
    try:
        return _step(program, point)
    except np.linalg.LinAlgError:
        # A matrix that is positive definite in exact arithmetic only: as far as float64 goes
        return None


def _converged(program: Program, point: Point, gap: float) -> bool:
    of_y = program.b @ point.y
    # 1e-8: an objective of zero has no relative gap.
    close = abs(np.sum(point.X * point.Z)) < gap * max(abs(of_y), 1e-8)
    # 1e-4, as the default gap: proofs use Z alone, and X only has to show that the objective is near its least value.
    balance = np.linalg.norm(program.b - program.inner(point.X)) / (1 + np.linalg.norm(program.b))
    return bool(close and balance < 1e-4 and point.residual < _FEASIBLE)


def _step(program: Program, point: Point) -> Point | None:
    """Return the next iterate, None where no step is long enough to matter."""
    import scipy.linalg as sl  # slow to import

    Z, X, N = point.Z, point.X, len(point.Z)
    L, LX = np.linalg.cholesky(Z), np.linalg.cholesky(X)
    inverse = sl.solve_triangular(L, np.eye(N), lower=True, check_finite=False)
    Y = inverse.T @ inverse
    newton, mu = _Newton(program, point, Y), np.sum(X * Z) / N
    dy, dZ, dX = newton.direction(0.0, None)
    # The predictor of Mehrotra: its step to 5 % before the boundary determines how much the corrector centers.
    primal, dual = min(1, 0.95 * _longest(LX, dX)), min(1, 0.95 * _longest(L, dZ))
    predicted = np.sum((X + primal * dX) * (Z + dual * dZ)) / N
    centering = min(max(predicted / mu, 0.0) ** 2, 1.0) if predicted > 0 else 0.1
    # Without a lower limit a start that is not feasible runs into the boundary before it is.
    centering = max(centering, 1e-3 if newton.residual < _FEASIBLE else 0.05)
    dy, dZ, dX = newton.direction(centering * mu, dX @ dZ @ Y)
    # The nearer the predictor came to a whole step, the nearer to the boundary the corrector may go.
    share = 0.9 + 0.08 * min(primal, dual)
    primal, dual = min(1, share * _longest(LX, dX)), min(1, share * _longest(L, dZ))
    # Steps this short change nothing that is left above rounding, and the next ones would be no longer.
    if max(primal, dual) < 1e-7:
        return None
    if not np.isfinite(dy).all():
        return None
    y = point.y + dual * dy
    exact = program.C + program.value(y)
    Z = _symmetric(Z + dual * dZ)
    residual = np.linalg.norm(exact - Z) / (1 + np.linalg.norm(program.C))
    return Point(y, _symmetric(exact) if residual < _FEASIBLE else Z, X + primal * dX, float(residual))


class _Newton:
    """The equations of one iteration, factored once for predictor and corrector."""

    def __init__(self, program: Program, point: Point, Y: np.ndarray):
        import scipy.linalg as sl

        self.program, self.X, self.Y = program, point.X, Y
        self.rest = program.C + program.value(point.y) - point.Z
        self.residual = np.linalg.norm(self.rest) / (1 + np.linalg.norm(program.C))
        self.B = program.newton_matrix(point.X, Y)
        if not np.isfinite(self.B).all():
            raise np.linalg.LinAlgError("entries beyond the range of float64")
        # Scaled by its diagonal; a trace of the identity is added where rounding has made it indefinite.
        self.scale = 1 / np.sqrt(np.maximum(np.diag(self.B), 1e-300))
        scaled, added = self.B * self.scale * self.scale[:, None], 1e-14
        while True:
            try:
                np.fill_diagonal(scaled, 1 + added)
                self.factor = sl.cho_factor(scaled, check_finite=False)
                break
            except np.linalg.LinAlgError:
                added *= 100
                # With 1 % of the diagonal added the direction no longer is that of these equations.
                if added > 1e-2:
                    raise
        self.of_inverse = program.inner(Y)
        self.of_rest = program.inner(_symmetric(self.X @ self.rest @ Y))

    def direction(self, mu: float, corrector: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `(dy, dZ, dX)` towards the central path's point of this mu."""
        right = mu * self.of_inverse - self.program.b - self.of_rest
        if corrector is not None:
            right = right - self.program.inner(_symmetric(corrector))
        dy = self._solved(right)
        dy += self._solved(right - self.B @ dy)
        dZ = _symmetric(self.program.value(dy) + self.rest)
        dX = mu * self.Y - self.X - self.X @ dZ @ self.Y - (0 if corrector is None else corrector)
        return dy, dZ, _symmetric(dX)

    def _solved(self, right: np.ndarray) -> np.ndarray:
        import scipy.linalg as sl

        return self.scale * sl.cho_solve(self.factor, self.scale * right, check_finite=False)


def _longest(L: np.ndarray, D: np.ndarray) -> float:
    """Return the largest t with `L L' + t D >= 0`."""
    import scipy.linalg as sl

    half = sl.solve_triangular(L, D, lower=True, check_finite=False)
    whole = sl.solve_triangular(L, half.T, lower=True, check_finite=False)
    smallest = sl.eigh(_symmetric(whole), eigvals_only=True, subset_by_index=[0, 0], check_finite=False)[0]
    return np.inf if smallest >= 0 else float(-1 / smallest)


def _symmetric(M: np.ndarray) -> np.ndarray:
    return (M + M.T) / 2


def cost(program: Program) -> tuple[float, float]:
    """Return an estimate of the seconds and bytes that `solve` takes on one core."""
    return estimate(program.b.size, len(program.C))


def estimate(m: int, N: int, modes: int = 1) -> tuple[float, float]:
    """Return the estimate of `cost` before a program is built.

    **Arguments:**

    - `m`: number of unknowns.
    - `N`: number of signals.
    - `modes`: of a system that switches.
    """
    # 20 iterations, and a proof in extended precision, but of many neurons, of what they end with; measured for 4 to 40 states
    step = 0.003 + 3e-11 * m**3 + 9e-8 * modes**2 * m**2 + 4e-9 * N**3
    return 20 * step + 1e-7 * min(N, 400) ** 3, 8.0 * (8 * m**2 + 20 * N**2)
