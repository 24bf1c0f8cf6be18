"""A linear model, the experiments that it is fitted to, and its responses and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DEPENDENT = 1e-9
"""Of the largest singular value: coefficients that the record determines only by rounding become zero."""

HEAD = 30
"""Samples that determine the initial state of a run that is scored."""


class Series(NamedTuple):
    """One experiment in scaled signals: inputs (T, nu), outputs (T, ny), where all inputs count (T,), and which outputs do (T, ny)."""

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


def states(A: np.ndarray, v: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """Return the states (T, k, nx) of k systems `x+ = A x + v[t]` from `x0`, without a step in Python for each sample.

    The samples are cut into about sqrt(T) blocks. All blocks run at once from zero; the state at the start of each follows from the one
    before by A^length, and its free response is added.

    **Arguments:**

    - `A`: (nx, nx)
    - `v`: (T, k, nx)
    - `x0`: (k, nx)
    """
    T, k, nx = v.shape
    length = max(math.isqrt(T), 1)
    count = -(-T // length)
    driven = np.zeros((count * length, k, nx))
    driven[:T] = v
    driven = driven.reshape(count, length, k, nx).swapaxes(0, 1).reshape(length, count * k, nx)
    x, power = np.zeros((length, count * k, nx)), np.empty((length, nx, nx))
    power[0] = np.eye(nx)
    for t in range(1, length):
        np.matmul(x[t - 1], A.T, out=x[t])
        x[t] += driven[t - 1]
        power[t] = power[t - 1] @ A.T
    ends, whole = (x[-1] @ A.T + driven[-1]).reshape(count, k, nx), power[-1] @ A.T
    starts = np.empty((count, k, nx))
    now = x0
    for b in range(count):
        starts[b] = now
        now = now @ whole + ends[b]
    x += starts.reshape(count * k, nx) @ power
    return x.reshape(length, count, k, nx).swapaxes(0, 1).reshape(count * length, k, nx)[:T]


def run(model: Linear, u: np.ndarray, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs (T, ny) and states (T, nx) of a free run.

    **Arguments:**

    - `model`: the model
    - `u`: inputs (T, nu)
    - `x0`: initial state (nx,)
    """
    x = states(model.A, (u @ model.B.T)[:, None], x0[None])[:, 0]
    return x @ model.C.T + u @ model.D.T + model.d, x


def free(A: np.ndarray, samples: int) -> np.ndarray:
    """Return `A^t`, (samples, nx, nx).

    **Arguments:**

    - `A`: (nx, nx)
    - `samples`: number of t
    """
    eye = np.eye(len(A))
    return states(A.T, np.zeros((samples, *eye.shape)), eye)


def filtered(A: np.ndarray, C: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the derivatives (T, ny, nw nx) of the outputs to the columns of G in `x+ = A x + G w`.

    That to G[i, j] of output o is entry i of `z+ = A' z + C[o]' w[j]`: a system for each output and input, rather than for each entry.

    **Arguments:**

    - `A`: (nx, nx)
    - `C`: (ny, nx)
    - `w`: signals (T, nw)
    """
    (ny, nx), (T, nw) = C.shape, w.shape
    v = w[:, None, :, None] * C[None, :, None, :]
    return states(A.T, v.reshape(T, ny * nw, nx), np.zeros((ny * nw, nx))).reshape(T, ny, nw * nx)


def direct(w: np.ndarray, ny: int) -> np.ndarray:
    """Return the derivatives (T, ny, nw ny) of `G w` to the columns of G, for signals w (T, nw).

    **Arguments:**

    - `w`: signals (T, nw)
    - `ny`: rows of G
    """
    return (w[:, None, :, None] * np.eye(ny)[None, :, None, :]).reshape(len(w), ny, -1)


def offset_slopes(e: Series) -> np.ndarray:
    """Return the derivatives (T, ny, ny) of the outputs of an experiment to the offset."""
    ny = e.y.shape[1]
    return np.broadcast_to(np.eye(ny), (len(e.y), ny, ny))


class Start(NamedTuple):
    """The measured part of the free response of an experiment: orthonormal columns of its range, and the map from them to the state."""

    range: np.ndarray
    state: np.ndarray

    def without(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of the measured outputs without what an initial state explains."""
        return rows - self.range @ (self.range.T @ rows)


def start_of(response: np.ndarray, C: np.ndarray, ok: np.ndarray, rcond: float = DEPENDENT) -> Start:
    """Return what the initial state explains of the outputs that count.

    **Arguments:**

    - `response`: states from each unit initial state (T, nx, nx), as columns
    - `C`: (ny, nx)
    - `ok`: which outputs count, (T, ny)
    - `rcond`: of the largest singular value; combinations of states below it stay zero
    """
    Q, R = np.linalg.qr((C @ response)[ok])
    U, s, Vt = np.linalg.svd(R, full_matrices=False)
    kept = s > rcond * s.max(initial=0.0)
    return Start(Q @ U[:, kept], Vt[kept].T / s[kept])


def free_run(model: Linear, e: Series, head: int) -> np.ndarray:
    """Return the outputs (T, ny) from the state that fits the first `head` samples best.

    **Arguments:**

    - `model`: the model
    - `e`: the experiment
    - `head`: samples of the least squares
    """
    forced, _ = run(model, e.u, np.zeros(len(model.A)))
    response, begin = free(model.A, len(e.u)), e.part(0, head)
    # 1e-3: directions of the state that its first outputs hardly show would be fitted to noise; they start at zero.
    start = start_of(response[:head], model.C, begin.y_ok, rcond=1e-3)
    x0 = start.state @ (start.range.T @ (begin.y - forced[:head])[begin.y_ok])
    return forced + response @ x0 @ model.C.T


def output_nrmse(model: Linear, experiments: Sequence[Series], head: int = HEAD) -> np.ndarray:
    """Return the root mean square error of each output over its spread (ny,), free runs after the first `head` samples.

    NaN for an output that is constant there, infinite for one that diverges.

    **Arguments:**

    - `model`: the model
    - `experiments`: in scaled signals
    - `head`: samples that determine each initial state
    """
    errors = np.concatenate([(e.y - free_run(model, e, head))[head:] for e in experiments])
    ok = np.concatenate([e.y_ok[head:] for e in experiments])
    y = np.concatenate([e.y[head:] for e in experiments])
    scores = np.full(y.shape[1], np.nan)
    for i, (values, wrong, used) in enumerate(zip(y.T, errors.T, ok.T, strict=True)):
        spread = values[used].std() if used.any() else 0.0
        # A constant output, up to rounding, has no scale to score in.
        if spread > 1e-12:
            score = np.sqrt(np.mean((wrong[used] / spread) ** 2))
            scores[i] = score if np.isfinite(score) else np.inf
    return scores


def pooled(scores: np.ndarray) -> float:
    """Return the root mean square of the outputs' scores; an output that is constant does not count.

    **Arguments:**

    - `scores`: of `output_nrmse`
    """
    counted = scores[~np.isnan(scores)]
    return float(np.sqrt(np.mean(counted**2))) if counted.size else np.inf
