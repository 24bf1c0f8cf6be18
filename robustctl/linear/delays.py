"""The delay of each input, from the first certain coefficients of impulse responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .series import Series

LATEST = 60
"""Longest delay that is searched, samples."""

CERTAIN = 5.0
"""Standard deviations of an impulse response's coefficient that end the delay: among 60 zeros, chance exceeds it once in 30,000 records."""

ENOUGH = 20_000
"""Samples of an experiment that are used."""


def delayed(e: Series, delays: Sequence[int]) -> Series:
    """Return an experiment with its inputs delayed, the first values held before the start.

    **Arguments:**

    - `e`: the experiment
    - `delays`: of each input, samples
    """
    columns = [
        np.concatenate([np.full(min(d, len(u)), u[0]), u[: max(len(u) - d, 0)]])
        for u, d in zip(e.u.T, delays, strict=True)
    ]
    measured = np.concatenate([np.zeros(max(delays), bool), e.u_ok])[: len(e.u)]
    return e._replace(u=np.stack(columns, axis=1), u_ok=measured)


def lags(x: np.ndarray, first: int, last: int) -> np.ndarray:
    """Columns x[k-first], ..., x[k-last] of a signal (T,); False, or the first value, before the start."""
    before = np.zeros(last, bool) if x.dtype == bool else np.full(last, x[0])
    padded = np.concatenate([before, x])
    return np.column_stack([padded[last - i : last - i + len(x)] for i in range(first, last + 1)])


def found_delays(experiments: Sequence[Series]) -> tuple[int, ...]:
    """Return for each input the lag of the first coefficient of the impulse responses that is certainly not zero, the least of all outputs.

    The coefficients are those of an ARX model with two past outputs, whose covariance least squares give.
    """
    nu = experiments[0].u.shape[1]
    most = min(LATEST, max(len(e.u) for e in experiments) // (10 * nu))
    found = np.full(nu, most + 1)
    for i in range(experiments[0].y.shape[1]):
        blocks = [_lagged(e.part(0, ENOUGH), i, most) for e in experiments]
        phi, y = (np.concatenate(b) for b in zip(*blocks, strict=True))
        if len(y) < 2 * phi.shape[1]:
            return (0,) * nu
        # 1e-10 of the squares, 1e-5 of the columns: one that is nearer than this to a combination of the others is not
        # distinguished from it.
        inverse = np.linalg.pinv(phi.T @ phi, rcond=1e-10, hermitian=True)
        theta = inverse @ (phi.T @ y)
        deviation = np.sqrt(np.diag(inverse) * np.sum((y - phi @ theta) ** 2) / (len(y) - len(theta)))
        certain = (np.abs(theta) > CERTAIN * deviation)[2:-1].reshape(nu, most + 1)
        found = np.minimum(found, np.where(certain.any(axis=1), certain.argmax(axis=1), most + 1))
    # The first coefficient of a delayed system without direct path is that of one sample more, which D = 0 describes without a state.
    return tuple(max(int(d) - 1, 0) if d <= most else 0 for d in found)


def _lagged(e: Series, output: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    y = e.y[:, output]
    inputs = [lags(u, 0, most) for u in e.u.T]
    used = lags(e.y_ok[:, output], 0, 2).all(axis=1) & lags(e.u_ok, 0, most).all(axis=1)
    return np.column_stack([lags(y, 1, 2), *inputs, np.ones(len(y))])[used], y[used]
