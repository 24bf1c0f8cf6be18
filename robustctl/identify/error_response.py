"""Frequency response from the inputs to a model's residual, with confidence: from periods, or from a model of the error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..advice.arx import regression
from ..advice.series import OutputSeries
from ..errors import DataError

ORDERS = (2, 4, 6, 8, 12, 16, 24, 32, 48)
"""Of the model of the error; each adds a third to a half of the one before."""

BEYOND = 3
"""Steps in `ORDERS` beyond the choice of Akaike's criterion, about three times the order, up to which the bound is the largest: the
covariance of an order that is just enough does not include its bias."""

ROWS_PER_PARAMETER = 10
"""Rows of the regression for each of its parameters: with fewer, their covariance is itself uncertain by a third."""

POINTS = 150
"""Frequencies of a response that is not bound to the lines of a period."""

NEIGHBORS = 8
"""Excited lines to either side over which the noise's variance is averaged: the noise's spectrum is smoother than that."""

SEGMENTS = 8
"""Segments of the longest experiment from which the input's spectrum is averaged: a compromise of resolution and variance."""


@dataclass(frozen=True, eq=False)
class Response:
    """What a record shows of the residual of a model over frequency, in the units of `Residual`.

    **Arguments:**

    - `omega`: frequencies (n,), rad/s.
    - `gain`: largest singular value of the estimated response, with the systematic rest that the input does not explain linearly
      where periods show it, (n,).
    - `radius`: what the confidence adds, (n,).
    - `power`: smallest power of a direction of the inputs over the largest of all frequencies, (n,).
    - `how`: the estimate in words.
    """

    omega: np.ndarray
    gain: np.ndarray
    radius: np.ndarray
    power: np.ndarray
    how: str


@dataclass(frozen=True, eq=False)
class Residual:
    """The inputs of one experiment in their standard deviations, and the residual of a model in one unit for all outputs.

    **Arguments:**

    - `u`: inputs (T, nu).
    - `e`: residual (T, ny).
    - `u_ok`: (T,), False where a sample does not count.
    - `e_ok`: (T, ny), likewise.
    """

    u: np.ndarray
    e: np.ndarray
    u_ok: np.ndarray
    e_ok: np.ndarray


def from_periods(residuals: Sequence[Residual], period: int, skip: int, dt: float, share: float) -> Response:
    """Estimate the response at the excited lines of a periodic input; the scatter of the periods is the noise.

    ::

        E[k] = mean over the periods = G(k) U[k] + S[k] + noise,     radius^2 = F_q(2 n, 2 dof) n var / |U|^2

    `E` and `U` hold an experiment per column, n = ny times their number. The systematic rest S, a nonlinear distortion, enters
    the gain; it shows where there are more experiments than inputs, and is part of G otherwise.

    **Arguments:**

    - `residuals`: the experiments.
    - `period`: samples.
    - `skip`: periods at the start that are left out.
    - `dt`: sample time, seconds.
    - `share`: of the probability that each frequency may fail.

    **Raises:** `DataError` for fewer than two periods, a missing sample, and fewer experiments than inputs.
    """
    spectra = [period_spectra(r, period, skip) for r in residuals]
    U = np.stack([u.mean(axis=0) for u, _ in spectra], axis=2)[1:]
    E = np.stack([e.mean(axis=0) for _, e in spectra], axis=2)[1:]
    if U.shape[2] < U.shape[1]:
        raise DataError(
            f"there must be an experiment of other phases for each of {U.shape[1]} inputs, got {U.shape[2]}; leave period at None"
        )
    size = np.linalg.svd(U, compute_uv=False)[:, -1]
    # 1e-6: lines without excitation contain rounding alone, about 1e-16 of the largest; weak ones determine no response.
    lines = np.flatnonzero(size > 1e-6 * size.max())
    U, E, size = U[lines], E[lines], size[lines]
    scatter, dof = _scatter(spectra, lines + 1)
    G = E @ np.linalg.pinv(U)
    rest = np.linalg.norm(E - G @ U, axis=(1, 2)) / size
    count = E.shape[1] * E.shape[2]
    from scipy.stats import f as f_distribution  # slow to import

    periods = min(len(u) for u, _ in spectra)
    radius = (
        np.sqrt(count * scatter / periods * f_distribution.isf(share / len(lines), 2 * count, 2 * dof)) / size
    )
    omega = 2 * np.pi * (lines + 1) / (period * dt)
    gain = np.hypot(np.linalg.norm(G, 2, axis=(1, 2)), rest)
    how = f"the mean of {periods} periods at {len(lines)} excited frequencies; their scatter is the noise"
    return Response(omega, gain, radius, (size / size.max()) ** 2, how)


def period_spectra(residual: Residual, period: int, skip: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the spectra of input and residual, (periods, lines, n) each."""
    count = len(residual.u) // period - skip
    part = slice(skip * period, (skip + count) * period)
    if count < 2:
        raise DataError(
            f"two periods of {period} samples must follow the {skip} that are left out, got {max(count, 0)} in {len(residual.u)} samples; "
            "leave period at None"
        )
    if not (residual.u_ok[part].all() and residual.e_ok[part].all()):
        raise DataError(
            "no sample of a period may be missing or before the model's initial state is known; skip more, or leave period at None"
        )
    u, e = (values[part].reshape(count, period, -1) for values in (residual.u, residual.e))
    return np.fft.rfft(u, axis=1), np.fft.rfft(e, axis=1)


def _scatter(
    spectra: Sequence[tuple[np.ndarray, np.ndarray]], lines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of one period's spectrum at the lines, the largest of the outputs, and its degrees of freedom."""
    squares = np.sum([np.sum(np.abs(e - e.mean(axis=0)) ** 2, axis=0) for _, e in spectra], axis=0)
    degrees = sum(len(e) - 1 for _, e in spectra)
    first, last = np.maximum(lines - NEIGHBORS, 1), np.minimum(lines + NEIGHBORS + 1, len(squares))
    sums = np.concatenate([np.zeros((1, squares.shape[1])), np.cumsum(squares, axis=0)])
    dof = degrees * (last - first)
    return (sums[last] - sums[first]).max(axis=1) / dof, dof


def from_error_model(residuals: Sequence[Residual], dt: float, share: float) -> Response:
    """Estimate the response by ARX models from the inputs to each residual, of the order that Akaike's criterion chooses and higher.

    ::

        e[t] = sum_k a_k e[t-k] + sum_k b_k u[t-k] + c + v[t],     G(z) = B(z) / A(z)
        radius^2 = -2 log(q) sum over inputs and outputs of the largest eigenvalue of the covariance of (Re G, Im G)

    The covariance of the coefficients, that of least squares with white v, becomes that of G by linearization. A sum of the squares
    bounds the largest singular value, and the distribution of a sum of independent ones has no heavier tail than that of its largest.

    **Arguments:**

    - `residuals`: the experiments.
    - `dt`: sample time, seconds.
    - `share`: of the probability that each frequency may fail.

    **Raises:** `DataError` for too few samples.

    **Source:** L. Ljung, "Model validation and model error modeling", in: The Astrom Symposium on Control, 1999.
    """
    longest = max(len(r.u) for r in residuals)
    omega = np.geomspace(2 * np.pi / longest, np.pi, POINTS)
    outputs = range(residuals[0].e.shape[1])
    series = [[OutputSeries("", r.u, r.e[:, i], r.u_ok, r.e_ok[:, i]) for r in residuals] for i in outputs]
    models = _models(series)
    gains, radii = [], []
    for fits in models:
        found = [_response(fit, omega) for fit in fits]
        gains.append(np.linalg.norm(np.stack([G for G, _ in found], axis=1), 2, axis=(1, 2)))
        radii.append(np.sqrt(-2 * math.log(share / POINTS) * sum(variance for _, variance in found)))
    upper = np.max(np.add(gains, radii), axis=0)
    how = f"linear models from the inputs to the residual, of orders {models[0][0].order} to {models[-1][0].order}"
    return Response(omega / dt, gains[-1], upper - gains[-1], input_power(residuals, omega), how)


class Regression(NamedTuple):
    """An ARX model of one output's residual: order, coefficients, their covariance before the variance, and that; rows."""

    order: int
    theta: np.ndarray
    inverse: np.ndarray
    variance: float
    rows: int


def _fit(series: Sequence[OutputSeries], order: int) -> Regression | None:
    """Return the model of an order, None where there are too few rows."""
    phi, e, _ = regression(series, order, 0, 1.0)
    rows, parameters = phi.shape
    if rows < ROWS_PER_PARAMETER * parameters:
        return None
    # Columns of an input that barely varies are nearly dependent; their coefficients get a large variance, not an infinite one.
    inverse = np.linalg.pinv(phi.T @ phi, rcond=1e-12, hermitian=True)
    theta = inverse @ (phi.T @ e)
    return Regression(
        order, theta, inverse, float(np.sum((e - phi @ theta) ** 2)) / (rows - parameters), rows
    )


def _models(series: Sequence[Sequence[OutputSeries]]) -> list[list[Regression]]:
    """Return the models of all outputs of the order that Akaike's criterion chooses for them together, and of those beyond it."""
    models, scores = [], []
    for order in ORDERS:
        fits = [fit for s in series if (fit := _fit(s, order)) is not None]
        if len(fits) < len(series):
            break
        models.append(fits)
        scores.append(sum(math.log(max(f.variance, 1e-300)) + 2 * len(f.theta) / f.rows for f in fits))
    if not scores:
        needed = ROWS_PER_PARAMETER * (ORDERS[0] + (ORDERS[0] + 1) * series[0][0].u.shape[1] + 1)
        raise DataError(
            f"a model of the error needs {needed} samples whose {ORDERS[0]} predecessors were measured, too, and the record has fewer; "
            "use a longer record"
        )
    first = int(np.argmin(scores))
    return models[first : first + BEYOND + 1]


def _response(model: Regression, omega: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the response (n, nu) and, summed over the inputs, the largest variance of its parts (n,)."""
    order, theta = model.order, model.theta
    powers = np.exp(-1j * np.outer(omega, np.arange(order + 1)))
    A = 1 - powers[:, 1:] @ theta[:order]
    inputs = theta[order:-1].reshape(-1, order + 1)
    G, variance = np.empty((len(omega), len(inputs)), complex), np.zeros(len(omega))
    for j, b in enumerate(inputs):
        G[:, j] = powers @ b / A
        slope = np.zeros((len(omega), len(theta)), complex)
        slope[:, :order] = powers[:, 1:] * (G[:, j] / A)[:, None]
        first = order + j * (order + 1)
        slope[:, first : first + order + 1] = powers / A[:, None]
        parts = np.stack([np.real(slope), np.imag(slope)], axis=1)
        variance += model.variance * np.linalg.norm(
            parts @ model.inverse @ parts.transpose(0, 2, 1), 2, axis=(1, 2)
        )
    return G, variance


def input_power(residuals: Sequence[Residual], omega: np.ndarray) -> np.ndarray:
    """Return the smallest power of a direction of the inputs at some frequencies over the largest of all.

    **Arguments:**

    - `residuals`: the experiments.
    - `omega`: frequencies (n,), rad per sample.
    """
    length = max(min(max(len(r.u) for r in residuals) // SEGMENTS, 4096), 16)
    window = np.hanning(length + 2)[1:-1]
    total = 0
    for r in residuals:
        u = r.u - r.u.mean(axis=0)
        padded = np.pad(u, ((0, max(length - len(u), 0)), (0, 0)))
        starts = range(0, len(padded) - length + 1, max(length // 2, 1))
        spectra = [np.fft.rfft(window[:, None] * padded[s : s + length], axis=0) for s in starts]
        total = total + sum(X[:, :, None].conj() * X[:, None, :] for X in spectra)
    power = np.linalg.eigvalsh(total)[:, 0]
    at = np.interp(omega, 2 * np.pi * np.arange(len(power)) / length, power)
    return at / max(float(power.max()), 1e-300)
