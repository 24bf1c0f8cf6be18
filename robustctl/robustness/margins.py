"""Gain, phase and disk margins, and the peaks of the sensitivities."""

import math
from typing import NamedTuple

import control as ct
import numpy as np

from ..classical.hinf_norm import hinf_norm
from ..classical.response import at_frequencies
from ..classical.types import Realization, typed
from ..linalg import response
from .linear_loop import LinearLoop, complement, frequencies


class Margins(NamedTuple):
    """The stability margins of one channel, with the other channels nominal; infinite or NaN where undefined.

    **Arguments:**

    - `channel`: its name
    - `gain_up`: largest factor on the loop gain, in dB
    - `gain_down`: smallest factor on the loop gain, in dB
    - `phase`: phase margin in degrees
    - `crossover`: frequency of the smallest phase margin, where the loop gain is one, in rad/s
    - `disk`: the disk margin alpha of `(S - T) / 2`: any complex factor in its disk leaves the loop stable, so gain and
      phase may change at once
    - `disk_gain`: the disk's gain in dB, in both directions
    - `disk_phase`: the disk's phase in degrees, in both directions
    """

    channel: str
    gain_up: float
    gain_down: float
    phase: float
    crossover: float
    disk: float
    disk_gain: float
    disk_phase: float


class Peaks(NamedTuple):
    """Peaks over frequency of the largest singular values of S and T at the plant's output, as factors."""

    sensitivity: float
    complementary: float


def channel_margins(loop: LinearLoop, S: Realization, channel: int, name: str) -> Margins:
    """Return the margins of a loop opened at one channel of `S`, which is `S_in` or `S_out`.

    ::

        L_j = 1 / S_jj - 1,     alpha = 1 / |S_jj - 1/2|_inf

    Source: Seiler, Packard, Gahinet, "An introduction to disk margins", IEEE Control Systems, 2020.

    **Arguments:**

    - `loop`: the linearization
    - `S`: its sensitivity at the plant's input or output
    - `channel`: index of the channel
    - `name`: of the channel
    """
    own = S[channel, channel]
    omega = frequencies(loop)
    L = opened(own, omega)
    # 1e-12: an L that is zero up to rounding has no margins, and its phase is noise
    gains, phases, crossing = _crossings(L, omega) if np.abs(L).max() > 1e-12 else ([], [], [])
    gains = [*gains, *_gains_at_the_ends(own)]
    up, down = [g for g in gains if g > 1], [g for g in gains if 0 < g < 1]
    k = int(np.argmin(np.abs(phases))) if len(phases) else None
    alpha = 1 / hinf_norm(_minus_half(own))
    return Margins(
        channel=name,
        gain_up=_db(min(up, default=math.inf)),
        gain_down=_db(max(down, default=0.0)),
        phase=math.inf if k is None else abs(float(phases[k])),
        crossover=math.nan if k is None else float(crossing[k]),
        disk=alpha,
        disk_gain=disk_gain(alpha),
        disk_phase=disk_phase(alpha),
    )


def opened(S: Realization, omega: np.ndarray) -> np.ndarray:
    """Return the loop gain `L = 1/S - 1` of one channel at the frequencies in rad/s."""
    return 1 / at_frequencies(S, omega).ravel() - 1


def _gains_at_the_ends(S: Realization) -> list[float]:
    """Return the factors that make the loop unstable at frequency zero and half the sampling rate, where L is real."""
    ends = [float(s) for s in np.real(response(S.A, S.B, S.C, S.D, np.array([1.0, -1.0 + 0j]))).ravel()]
    # g L = -1 with L = 1/S - 1 gives g = S / (S - 1), positive for S > 1 or S < 0. 1e-9: an integrator has S = 0 up to
    # rounding, and no such factor
    return [s / (s - 1) for s in ends if s > 1 + 1e-9 or s < -1e-9]


def _crossings(L: np.ndarray, omega: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gain margins as factors, phase margins in degrees, and the frequencies of the latter."""
    data = ct.FrequencyResponseData(L[None, None], omega, smooth=True)
    gains, phases, _, _, crossing, _ = ct.stability_margins(data, returnall=True)
    return gains, phases, crossing


def all_channels(loop: LinearLoop, S: Realization) -> float:
    """Return a lower bound on the disk margin with independent perturbations of all channels at once.

    ::

        alpha >= 1 / max over w of  min over diagonal D of  sigma_max(D (S - I/2) D^-1)

    The upper bound on the structured singular value that SLICOT's AB13MD gives, with D by Osborne's scaling: any D gives
    a bound. Source: Osborne, "On pre-conditioning of matrices", J. ACM 7, 1960.

    **Arguments:**

    - `loop`: the linearization
    - `S`: its sensitivity at the plant's input or output
    """
    if S.ninputs == 1:
        return float(1 / hinf_norm(_minus_half(S)))
    omega = frequencies(loop)
    bounds = _structured(S, omega)
    padded = np.concatenate([[-np.inf], bounds, [-np.inf]])
    tops = np.flatnonzero((bounds >= padded[:-2]) & (bounds >= padded[2:]))
    tops = tops[bounds[tops] > 0.9 * bounds.max()]  # a grid this fine misses far less than 10 % of a peak
    ends = [(float(omega[max(k - 1, 0)]), float(omega[min(k + 1, len(omega) - 1)])) for k in tops]
    peak = max(_zoomed(S, low, high) for low, high in ends)
    return float(1 / (peak * (1 + 1e-6)))  # rounded down: a peak is found to 1e-8


def _structured(S: Realization, omega: np.ndarray) -> np.ndarray:
    """Return an upper bound on the structured singular value of S - I/2 at each frequency."""
    M = at_frequencies(S, omega) - np.eye(S.ninputs) / 2
    return np.linalg.norm(_osborne(M), 2, axis=(1, 2))


def _zoomed(S: Realization, low: float, high: float) -> float:
    """Return the largest bound near the top between two frequencies."""
    best = 0.0
    for _ in range(8):  # each pass leaves an eighth of the interval; a top is flat to the second order
        omega = np.linspace(low, high, 17)
        bounds = _structured(S, omega)
        k = int(np.argmax(bounds))
        low, high, best = (
            float(omega[max(k - 1, 0)]),
            float(omega[min(k + 1, 16)]),
            max(best, float(bounds[k])),
        )
    return best


def _osborne(M: np.ndarray, sweeps: int = 20) -> np.ndarray:
    """Scale `D M D^-1` so that each off-diagonal row has the norm of its column, one channel after the other."""
    M = M.copy()
    # 20 converge to the digits of a table; fewer would give a weaker bound, not a wrong one
    for _ in range(sweeps):
        for k in range(M.shape[1]):
            others = np.arange(M.shape[1]) != k
            row = np.linalg.norm(M[:, k, others], axis=1)
            column = np.linalg.norm(M[:, others, k], axis=1)
            usable = (row > 0) & (column > 0)
            d = np.sqrt(np.where(usable, column, 1.0) / np.where(usable, row, 1.0))
            M[:, k, :] *= d[:, None]
            M[:, :, k] /= d[:, None]
    return M


def peaks(loop: LinearLoop) -> Peaks:
    """Return the H-infinity norms of S and T at the plant's output."""
    return Peaks(hinf_norm(loop.S_out), hinf_norm(complement(loop.S_out)))


def disk_gain(alpha: float) -> float:
    """Return the gain change in dB that a balanced disk margin allows in both directions."""
    return math.inf if alpha >= 2 else _db((2 + alpha) / (2 - alpha))


def disk_phase(alpha: float) -> float:
    """Return the phase change in degrees that a balanced disk margin allows in both directions."""
    return math.degrees(2 * math.atan(alpha / 2))


def _minus_half(S: Realization) -> Realization:
    return typed(ct.StateSpace(S.A, S.B, S.C, S.D - np.eye(S.noutputs) / 2, S.dt))


def _db(factor: float) -> float:
    return -math.inf if factor == 0 else 20 * math.log10(factor)
