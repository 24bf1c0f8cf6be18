"""The covariance of a linear model of least free-run error, where its residuals are colored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .polish import slopes
from .series import Linear, Series

NOISE_ORDERS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Of the autoregressive model of the residuals; each adds up to a half."""

UNDETERMINED = 1e-12
"""Of the largest eigenvalue of the normalized J'J: a smaller one counts as this, so that its direction gets a variance near infinity."""


REFITS = 10
"""Draws of noise that are fitted to know how much of it a fit takes from the residuals: the mean deviates by a third of one draw's."""


class Noise(NamedTuple):
    """`e[t] = sum_k F[k] e[t - 1 - k] + w[t]` with the covariance `S` of w: F (order, ny, ny), S (ny, ny)."""

    F: np.ndarray
    S: np.ndarray

    def spectrum(self, count: int) -> np.ndarray:
        """Return a square root L of the spectral density `L L*` at the non-negative frequencies of `count` samples, (., ny, ny)."""
        eye = np.eye(len(self.S))
        z = np.exp(-2j * np.pi * np.arange(count // 2 + 1) / count)
        inverse = eye - sum((z ** (k + 1))[:, None, None] * F for k, F in enumerate(self.F))
        return np.linalg.solve(inverse, np.linalg.cholesky(self.S + 1e-300 * eye)[None])

    def drawn(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Return noise (samples, ny) with this spectrum, by the inverse Fourier transform of one of twice the length.

        **Arguments:**

        - `samples`: number of samples
        - `rng`: of the draw
        """
        L, ny = self.spectrum(2 * samples), len(self.S)
        white = np.fft.rfft(rng.normal(size=(2 * samples, ny)), axis=0)
        return np.fft.irfft(np.einsum("fij,fj->fi", L, white), axis=0)[:samples]


def covariance(model: Linear, experiments: Sequence[Series]) -> np.ndarray:
    """Return the covariance of the numbers by which `polish.moved` moves a model, of least squares with colored noise.

    ::

        (J'J)^-1  J' R J  (J'J)^-1,      J' R J = 1/n sum over frequencies of  J(f)* L(f) L(f)* J(f)

    R is the covariance of all residuals, that of an autoregressive model of them. The ny nx directions that only change the state's
    coordinates have no variance.

    **Arguments:**

    - `model`: of least squared error
    - `experiments`: that it was fitted to, in scaled signals

    **Source:** L. Ljung, "System Identification", 2nd ed., section 9.2; H. White, Econometrica 50, 1982, for the form of the covariance.
    """
    nx, ny = len(model.A), len(model.C)
    found, errors, hessian = [], [], np.zeros(())
    for (J, error), e in zip(slopes(model, experiments), experiments, strict=True):
        grid = np.full(e.y_ok.shape, np.nan)
        grid[e.y_ok] = error
        errors.append(grid)
        found.append(J)
        hessian = hessian + J.T @ J
    inverse = determined_inverse(hessian, nx * ny)
    noise, ok = noise_of(errors), [e.y_ok for e in experiments]
    between = _between(found, ok, noise)
    # The fit takes from the residuals what the parameters explain of the noise: more where it is slow, as they are.
    fitted = np.mean(
        [_between(found, ok, _refitted(found, ok, noise, inverse, k)) for k in range(REFITS)], axis=0
    )
    return (
        inverse @ between @ inverse * (np.trace(inverse @ between) / max(np.trace(inverse @ fitted), 1e-300))
    )


def determined_inverse(hessian: np.ndarray, free: int) -> np.ndarray:
    """Return the inverse of J'J off the directions that change no response.

    **Arguments:**

    - `hessian`: J'J
    - `free`: number of those directions
    """
    size = np.sqrt(np.diag(hessian))
    unused = size == 0
    size = np.where(unused, 1.0, size)
    values, vectors = np.linalg.eigh(hessian / size / size[:, None])
    first = free + int(unused.sum())
    kept = vectors[:, first:] / np.maximum(values[first:], UNDETERMINED * values[-1])
    return kept @ vectors[:, first:].T / size / size[:, None]


def _between(found: Sequence[np.ndarray], ok: Sequence[np.ndarray], noise: Noise) -> np.ndarray:
    return np.sum([_weighted(J, where, noise) for J, where in zip(found, ok, strict=True)], axis=0)


def _refitted(
    found: Sequence[np.ndarray], ok: Sequence[np.ndarray], noise: Noise, inverse: np.ndarray, seed: int
) -> Noise:
    """Return the noise that the residuals would show, were the noise that of a model: drawn, fitted, and what is left identified."""
    rng = np.random.default_rng(seed)
    drawn = [noise.drawn(len(where), rng)[where] for where in ok]
    step = inverse @ np.sum([J.T @ w for J, w in zip(found, drawn, strict=True)], axis=0)
    left = []
    for J, w, where in zip(found, drawn, ok, strict=True):
        grid = np.full(where.shape, np.nan)
        grid[where] = w - J @ step
        left.append(grid)
    return noise_of(left)


def _weighted(J: np.ndarray, ok: np.ndarray, noise: Noise) -> np.ndarray:
    """Return `J' R J` of one experiment."""
    T, ny = ok.shape
    grid = np.zeros((T, ny, J.shape[1]))
    grid[ok] = J
    # Twice the length: the product is that of an infinite sequence but for what the noise remembers beyond the record.
    spectra = np.fft.rfft(grid, 2 * T, axis=0)
    shaped = np.conj(noise.spectrum(2 * T)).swapaxes(1, 2) @ spectra
    weight = np.full(len(shaped), 2.0)
    weight[[0, -1]] = 1.0
    shaped = (shaped * np.sqrt(weight)[:, None, None]).reshape(-1, J.shape[1])
    return np.real(shaped.conj().T @ shaped) / (2 * T)


def noise_of(errors: Sequence[np.ndarray]) -> Noise:
    """Return the autoregressive model of residuals whose order Akaike's criterion chooses.

    **Arguments:**

    - `errors`: (T, ny) of each experiment, NaN where not measured
    """
    ny = errors[0].shape[1]
    best, least = None, np.inf
    for order in NOISE_ORDERS:
        past, now = (np.concatenate(parts) for parts in zip(*(_rows(e, order) for e in errors), strict=True))
        if len(now) < 10 * max(ny * order, 1):
            break
        F = np.linalg.lstsq(past, now)[0] if order else np.zeros((0, ny))
        w = now - past @ F
        S = w.T @ w / max(len(now) - ny * order, 1)
        score = float(np.linalg.slogdet(S + 1e-300 * np.eye(ny))[1]) + 2 * order * ny**2 / len(now)
        F = F.reshape(order, ny, ny).swapaxes(1, 2)
        if score < least and _is_stable(F):
            best, least = Noise(F, S), score
    if best is None:
        # Too few samples hold all outputs: white, each with its own variance
        variance = np.nanmean(np.concatenate(errors) ** 2, axis=0)
        best = Noise(np.zeros((0, ny, ny)), np.diag(variance))
    return best


def _rows(e: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the past `order` residuals (rows, order ny), newest first, and the present one, where all were measured."""
    count = max(len(e) - order, 0)
    past = [e[order - 1 - k : order - 1 - k + count] for k in range(order)]
    both = np.concatenate([*past, e[order:]], axis=1)
    used = both[np.isfinite(both).all(axis=1)]
    return used[:, : order * e.shape[1]], used[:, order * e.shape[1] :]


def _is_stable(F: np.ndarray) -> bool:
    order, ny = len(F), F.shape[1]
    if not order:
        return True
    companion = np.eye(order * ny, k=-ny)
    companion[:ny] = F.swapaxes(0, 1).reshape(ny, -1)
    return bool(np.abs(np.linalg.eigvals(companion)).max() < 1)
