"""A linear model of damped oscillations, fitted to the spectra of one period of a repeated excitation."""

from typing import Any

import numpy as np
import scipy.linalg
from scipy.optimize import least_squares

from ..data import Record
from ..errors import DataError

_RIDGE = 1e-4
"""Ridge penalty on the residues, with each column scaled to one: without excitation in a band its residues are undetermined."""


def modal_prior(
    record: Record, modes: int, band: tuple[float, float], *, rounds: int = 15
) -> dict[str, np.ndarray]:
    """Fit a linear model with a given number of modes, and return its matrices as `rc.nn.CorrectedR2DN` takes them.

    ::

        Y(z) = (D + sum_k (R_k z + S_k) / (z^2 - 2 r_k cos(a_k) z + r_k^2)) U(z),     z = exp(2 pi i f dt)

    The residues `D, R, S` are fitted by linear and the poles `r exp(i a)` by nonlinear least squares (variable projection;
    Golub, Pereyra, SIAM J. Numer. Anal. 10, 1973). Each mode has 2 nu states, scaled so that white inputs of variance one
    give uncorrelated states of variance one.

    **Arguments:**

    - `record`: experiments of one period each, as `rc.data.average_periods` returns them, in the model's scaled signals
    - `modes`: number of modes
    - `band`: lowest and highest frequency in Hz; the initial frequencies are spaced evenly over its logarithm
    - `rounds`: largest number of steps of the nonlinear least squares

    **Raises:** `DataError` for missing samples, periods of several lengths, and unless 0 < band[0] < band[1] < 1 / (2 dt).

    """
    z, U, Y = _spectra(record, band)

    def split(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frequency, damping = np.exp(free.reshape(2, modes))
        a = 2 * np.pi * record.dt * frequency
        return a, np.exp(-damping * a)

    def residual(free: np.ndarray) -> np.ndarray:
        return _residues(*split(free), z, U, Y)[1]

    # Logarithms keep frequency and damping positive. Damping ratios start at 3 %, typical of a structure, and stay between
    # 0.1 % and 100 %; frequencies may leave the band a little, by factors exp(-0.5) and exp(0.2), to fit its edges.
    low, high = np.log(band)
    start = np.concatenate([np.linspace(low, high, modes), np.full(modes, np.log(0.03))])
    bounds = np.repeat([[low - 0.5, np.log(1e-3)], [high + 0.2, 0.0]], modes, axis=1)
    found = least_squares(residual, start, bounds=tuple(bounds), max_nfev=rounds)
    a, r = split(found.x)
    return _realized(a, r, _residues(a, r, z, U, Y)[0], record.nu)


def _spectra(record: Record, band: tuple[float, float]) -> tuple[np.ndarray, ...]:
    """Return z (n,), inputs (n, nu) and outputs (n, ny) at the spectral lines of all experiments, with outputs of norm one."""
    samples = {e.samples for e in record.experiments}
    if len(samples) > 1 or not all(e.u_mask.all() and e.y_mask.all() for e in record.experiments):
        raise DataError(
            f"every experiment must be one period without missing samples, got lengths {sorted(samples)}; make them with "
            "rc.data.average_periods(record, period)"
        )
    if not 0 < band[0] < band[1] < 1 / (2 * record.dt):
        raise DataError(f"the band must satisfy 0 < low < high < {1 / (2 * record.dt):g} Hz, got {band}")
    n = samples.pop()
    f = np.fft.rfftfreq(n, record.dt)
    # From ten times the lowest frequency, where lines are dense on a logarithmic scale, every fourth line is used, with
    # weight 2 = sqrt(4), which leaves the sum of squares as it is.
    near, far = (
        np.flatnonzero((f > 0.5 * band[0]) & (f < 10 * band[0])),
        np.flatnonzero(f >= 10 * band[0])[::4],
    )
    lines = np.concatenate([near, far])
    weight = np.concatenate([np.ones(len(near)), np.full(len(far), 2.0)])[:, None]
    U = np.concatenate([weight * np.fft.rfft(e.u, axis=0)[lines] for e in record.experiments])
    Y = np.concatenate([weight * np.fft.rfft(e.y, axis=0)[lines] for e in record.experiments])
    size = np.linalg.norm(Y)
    return np.tile(np.exp(2j * np.pi * f[lines] * record.dt), len(record.experiments)), U / size, Y / size


def _residues(
    a: np.ndarray, r: np.ndarray, z: np.ndarray, U: np.ndarray, Y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return residues (nu + 2 modes nu, ny) and the residual of Y and of the ridge penalty as one real vector."""
    # (1 - r) makes the peak of each mode, |z^2 - 2 r z cos(a) + r^2| about (1 - r) there, of order one
    inverse = (1 - r) / (z[:, None] ** 2 - 2 * r * np.cos(a) * z[:, None] + r**2)
    columns = [U]
    for g in inverse.T:
        columns += [U * (g * z)[:, None], U * g[:, None]]
    R, T = (np.concatenate([np.real(M), np.imag(M)]) for M in (np.hstack(columns), Y))
    size = np.linalg.norm(R, axis=0)
    Q = R / size
    theta = np.linalg.solve(Q.T @ Q + _RIDGE * np.eye(len(size)), Q.T @ T)
    return theta / size[:, None], np.concatenate([T - Q @ theta, np.sqrt(_RIDGE) * theta]).ravel()


def _realized(a, r, theta: np.ndarray, nu: int) -> dict[str, np.ndarray]:
    """Return the state-space matrices: for each mode and input two states, `(z, 1) / (z^2 - 2 r cos(a) z + r^2)`."""
    pairs = [np.array([[2 * r_ * np.cos(a_), -(r_**2)], [1.0, 0.0]]) for a_, r_ in zip(a, r, strict=True)]
    A: Any = scipy.linalg.block_diag(*(pair for pair in pairs for _ in range(nu)))
    B = np.tile(np.kron(np.eye(nu), [[1.0], [0.0]]), (len(a), 1))
    D, rest = theta[:nu].T, theta[nu:].reshape(len(a), 2, nu, -1)  # mode, z or 1, input, output
    C = ((1 - r)[:, None, None, None] * rest).transpose(3, 0, 2, 1).reshape(D.shape[0], -1)
    # With W = L L' the states' covariance under white inputs, T = L^-1 makes it the identity. 1e-6 of the inputs' power is
    # added because two modes of almost equal poles make W singular.
    size = np.trace(B @ B.T) / len(A)
    W = scipy.linalg.solve_discrete_lyapunov(A, B @ B.T + 1e-6 * size * np.eye(len(A)))
    L = np.linalg.cholesky((W + W.T) / 2)
    T = scipy.linalg.solve_triangular(L, np.eye(len(A)), lower=True)
    return {"A": T @ A @ L, "B": T @ B, "C": C @ L, "D": D, "a": np.zeros(len(A)), "d": np.zeros(len(D))}
