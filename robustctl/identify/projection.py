"""Steps of subspace identification: the extended observability matrix, the rest by least squares, a free run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError

CHUNK = 20_000
"""Columns of the data matrix that are in memory at once."""

COLUMNS_PER_ROW = 2
"""Columns of the data matrix for each of its rows: with fewer, the projection fits the noise."""

DEPENDENT = 1e-9
"""Of the largest singular value: coefficients that the record determines only by rounding become zero."""


class Series(NamedTuple):
    """One experiment in scaled signals: inputs (T, nu), outputs (T, ny), and where all of a sample's outputs, and inputs, count, (T,)."""

    u: np.ndarray
    y: np.ndarray
    u_ok: np.ndarray
    y_ok: np.ndarray

    def part(self, first: int, last: int | None) -> Series:
        """Return samples `first` to `last`."""
        return Series(*(a[first:last] for a in self))


class Linear(NamedTuple):
    """`x+ = A x + B u`, `y = C x + D u + d`."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    d: np.ndarray


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
    missing = np.concatenate([[0], np.cumsum(~(e.u_ok & e.y_ok))])
    starts = np.arange(max(len(e.u) - 2 * rows + 1, 0))
    return starts[missing[starts + 2 * rows] == missing[starts]]


def _data(e: Series, columns: np.ndarray, rows: int) -> np.ndarray:
    past, future = (columns[:, None] + np.arange(first, first + rows) for first in (0, rows))
    blocks = (e.u[future], e.u[past], e.y[past], e.y[future])
    return np.hstack([np.ones((len(columns), 1)), *(b.reshape(len(columns), -1) for b in blocks)])


def state_matrices(
    vectors: np.ndarray, values: np.ndarray, order: int, ny: int, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return A and C of an order from the extended observability matrix, with poles moved to within a radius.

    **Arguments:**

    - `vectors`: left singular vectors
    - `values`: singular values
    - `order`: number of states
    - `ny`: number of outputs
    - `radius`: of the circle outside of which poles are moved onto it
    """
    G = vectors[:, :order] * np.sqrt(values[:order])
    A = np.linalg.lstsq(G[:-ny], G[ny:])[0]
    poles, V = np.linalg.eig(A)
    if np.abs(poles).max() > radius:
        inside = poles * np.minimum(1, radius / np.maximum(np.abs(poles), radius))
        A = np.real(V @ np.diag(inside) @ np.linalg.inv(V))
    return A, G[:ny]


def with_inputs(
    A: np.ndarray, C: np.ndarray, experiments: Sequence[Series]
) -> tuple[Linear, list[np.ndarray]]:
    """Return the model with B, D and offset d, and an initial state for each experiment, from least squares of the free run.

    ::

        y[t] = C A^t x0 + sum_(s < t) C A^(t - 1 - s) B u[s] + D u[t] + d

    which is linear in all of them; missing outputs do not count.

    **Arguments:**

    - `A`: (nx, nx)
    - `C`: (ny, nx)
    - `experiments`: in scaled signals
    """
    nx, nu, ny = len(A), experiments[0].u.shape[1], len(C)
    blocks = []
    for k, e in enumerate(experiments):
        rows = np.concatenate([slopes(A, C, e.u), starts(A, C, experiments, k)], axis=2)[e.y_ok]
        blocks.append(rows.reshape(-1, rows.shape[2]))
    phi = np.concatenate(blocks)
    target = np.concatenate([e.y[e.y_ok].ravel() for e in experiments])
    size = np.maximum(np.linalg.norm(phi, axis=0), 1e-300)
    theta = np.linalg.lstsq(phi / size, target, rcond=DEPENDENT)[0] / size
    B, D, d, x0 = np.split(theta, np.cumsum([nx * nu, nu * ny, ny]))
    return Linear(A, B.reshape(nu, nx).T, C, D.reshape(nu, ny).T, d), np.split(x0, len(experiments))


def slopes(A: np.ndarray, C: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the derivatives (T, ny, .) of the outputs to the columns of B and of D, and to the offset.

    **Arguments:**

    - `A`: (nx, nx)
    - `C`: (ny, nx)
    - `u`: inputs (T, nu)
    """
    return np.concatenate(
        [_forced(A, C, u), _direct(u, len(C)), np.tile(np.eye(len(C)), (len(u), 1, 1))], axis=2
    )


def starts(A: np.ndarray, C: np.ndarray, experiments: Sequence[Series], k: int) -> np.ndarray:
    """Return the derivatives (T, ny, .) of the outputs of experiment `k` to the initial states of all.

    **Arguments:**

    - `A`: (nx, nx)
    - `C`: (ny, nx)
    - `experiments`: in scaled signals
    - `k`: the number of one
    """
    zero, nx = np.zeros((len(experiments[k].u), len(C), len(A) * len(experiments))), len(A)
    zero[:, :, k * nx : (k + 1) * nx] = _free(A, C, len(zero))
    return zero


def state_slopes(A: np.ndarray, C: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the derivatives (T, ny, .) of the outputs to the columns of A and of C, for states x (T, nx).

    **Arguments:**

    - `A`: (nx, nx)
    - `C`: (ny, nx)
    - `x`: the states (T, nx)
    """
    return np.concatenate([_forced(A, C, x), _direct(x, len(C))], axis=2)


def _direct(u: np.ndarray, ny: int) -> np.ndarray:
    return np.kron(u[:, None, :], np.eye(ny)).reshape(len(u), ny, u.shape[1] * ny)


def _forced(A: np.ndarray, C: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the outputs (T, ny, nu nx) for each entry of B."""
    nx, nu = len(A), u.shape[1]
    out, Z, eye = np.empty((len(u), len(C), nu * nx)), np.zeros((nx, nu * nx)), np.eye(nx)[:, None, :]
    for t, now in enumerate(u):
        out[t] = C @ Z
        Z = A @ Z + (now[:, None] * eye).reshape(nx, -1)
    return out


def _free(A: np.ndarray, C: np.ndarray, count: int) -> np.ndarray:
    """Return `C A^t`, (T, ny, nx)."""
    out, power = np.empty((count, *C.shape)), C
    for t in range(count):
        out[t] = power
        power = power @ A
    return out


def free_run(model: Linear, e: Series, head: int) -> np.ndarray:
    """Return the outputs (T, ny) from the state that fits the first `head` samples best.

    **Arguments:**

    - `model`: the model
    - `e`: the experiment
    - `head`: samples of the least squares
    """
    y = run(model, e.u, np.zeros(len(model.A)))[0]
    used = np.flatnonzero(e.y_ok[:head])
    free = _free(model.A, model.C, head)[used].reshape(-1, len(model.A))
    x0 = np.linalg.lstsq(free, (e.y - y)[used].ravel(), rcond=1e-3)[0]
    return y + np.einsum("toj,j->to", _free(model.A, model.C, len(y)), x0)


def run(model: Linear, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs (T, ny) and states (T, nx) of a free run.

    **Arguments:**

    - `model`: the model
    - `u`: inputs (T, nu)
    - `x`: initial state (nx,)
    """
    states, driven = np.empty((len(u), len(x))), u @ model.B.T
    for t in range(len(u)):
        states[t] = x
        x = model.A @ x + driven[t]
    return states @ model.C.T + u @ model.D.T + model.d, states
