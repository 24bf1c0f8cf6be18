"""Steps of subspace identification: the extended observability matrix, A and C from it, the rest by least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .series import DEPENDENT, Linear, Series, direct, filtered, free, offset_slopes, start_of

CHUNK = 20_000
"""Columns of the data matrix that are in memory at once."""

COLUMNS_PER_ROW = 2
"""Columns of the data matrix for each of its rows: with fewer, the projection fits the noise."""


def observability(experiments: Sequence[Series], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return left singular vectors and singular values of the projection that holds the extended observability matrix.

    ::

        [1; U_f; U_p; Y_p; Y_f] = L Q,     L32 = [C; C A; ...; C A^(rows - 1)] (state)

    The past inputs and outputs are instruments, so that noise on the outputs does not bias the column space; the row of ones
    removes offsets. Columns with a missing sample are left out, and no column spans two experiments.

    **Arguments:**

    - `experiments`: in scaled signals
    - `rows`: block rows, of the past and of the future

    **Raises:** `DataError` for too few columns without missing samples.

    **Source:** M. Verhaegen, "Identification of the deterministic part of MIMO state space models given in innovations form from
    input-output data", Automatica 30, 1994 (PO-MOESP).
    """
    nu, ny = experiments[0].u.shape[1], experiments[0].y.shape[1]
    width = 1 + 2 * rows * (nu + ny)
    R, count = np.zeros((0, width)), 0
    for e in experiments:
        columns = _columns(e, rows)
        count += len(columns)
        for first in range(0, len(columns), CHUNK):
            R = np.asarray(
                np.linalg.qr(np.vstack([R, _data(e, columns[first : first + CHUNK], rows)]), mode="r")
            )
    if count < COLUMNS_PER_ROW * width:
        raise DataError(
            f"a subspace estimate with {rows} block rows needs {COLUMNS_PER_ROW * width} windows of {2 * rows} samples without "
            f"gaps, got {count}; use a longer record or a lower order"
        )
    a = 1 + rows * nu
    b = a + rows * (nu + ny)
    vectors, values, _ = np.linalg.svd(R.T[b:, a:b], full_matrices=False)
    return vectors, values


def windows_without_gaps(experiments: Sequence[Series], rows: int) -> int:
    """Return the number of columns of the data matrix with `rows` block rows."""
    return sum(len(_columns(e, rows)) for e in experiments)


def _columns(e: Series, rows: int) -> np.ndarray:
    """Return the first samples of the windows of 2 `rows` samples that were all measured."""
    missing = np.concatenate([[0], np.cumsum(~(e.u_ok & e.y_ok.all(axis=1)))])
    starts = np.arange(max(len(e.u) - 2 * rows + 1, 0))
    return starts[missing[starts + 2 * rows] == missing[starts]]


def _data(e: Series, columns: np.ndarray, rows: int) -> np.ndarray:
    past, future = (columns[:, None] + np.arange(first, first + rows) for first in (0, rows))
    blocks = (e.u[future], e.u[past], e.y[past], e.y[future])
    return np.hstack([np.ones((len(columns), 1)), *(b.reshape(len(columns), -1) for b in blocks)])


def state_matrices(
    vectors: np.ndarray, values: np.ndarray, order: int, ny: int, kept: float, moved: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return A and C of an order from the extended observability matrix, with unstable poles moved inside, and the largest before.

    **Arguments:**

    - `vectors`: left singular vectors
    - `values`: singular values
    - `order`: number of states
    - `ny`: number of outputs
    - `kept`: largest magnitude of a pole that is not moved
    - `moved`: magnitude that a larger one gets
    """
    G = vectors[:, :order] * np.sqrt(values[:order])
    A = np.linalg.lstsq(G[:-ny], G[ny:])[0]
    poles, V = np.linalg.eig(A)
    largest = float(np.abs(poles).max())
    if largest > kept:
        inside = np.where(np.abs(poles) > kept, poles * (moved / np.maximum(np.abs(poles), moved)), poles)
        A = np.real(V @ np.diag(inside) @ np.linalg.inv(V))
    return A, G[:ny], largest


def with_inputs(A: np.ndarray, C: np.ndarray, experiments: Sequence[Series]) -> Linear:
    """Return the model with B, D and offset d from least squares of the free run, each experiment from its own initial state.

    ::

        y[t] = C A^t x0 + sum_(s < t) C A^(t - 1 - s) B u[s] + D u[t] + d

    which is linear in all of them; missing outputs do not count.

    **Arguments:**

    - `A`: (nx, nx)
    - `C`: (ny, nx)
    - `experiments`: in scaled signals
    """
    nx, nu, ny = len(A), experiments[0].u.shape[1], len(C)
    R, size = np.zeros((0, nx * nu + ny * nu + ny + 1)), 0.0
    for e in experiments:
        parts = (filtered(A, C, e.u), direct(e.u, ny), offset_slopes(e), e.y[:, :, None])
        rows = np.concatenate(parts, axis=2)[e.y_ok]
        size = size + np.sum(rows**2, axis=0)
        start = start_of(free(A, len(e.u)), C, e.y_ok)
        R = np.asarray(np.linalg.qr(np.vstack([R, start.without(rows)]), mode="r"))
    # A column of zeros, that of a constant input, gets the coefficient zero rather than one of rounding.
    size = np.sqrt(np.where(size > 0, size, np.inf))[:-1]
    theta = np.linalg.lstsq(R[:, :-1] / size, R[:, -1], rcond=DEPENDENT)[0] / size
    B, D, d = np.split(theta, np.cumsum([nx * nu, nu * ny]))
    return Linear(A, B.reshape(nu, nx).T, C, D.reshape(nu, ny).T, d)
