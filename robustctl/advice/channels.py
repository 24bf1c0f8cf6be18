"""Properties of single channels of a record: excitation, faults of the log, repeated periods."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..data.record_checks import CONSTANT

# What programs write for a lost sample: nines (-9999, 999.9), eights and sevens of codes, -999.25 of well logs, the limits of
# integers, and 1e30 and above.
MARK = re.compile(r"-?(9{2,}(\.9+|\.25)?|8{3,}|7{3,}|3276[78]|65535|2147483648|2147483647)(\.0)?")
HUGE_MARK = 1e29
# Levels closer than 1 % of the range hide in the noise of most sensors. They need not be exact: printing rounds them.
COARSE, MOST_LEVELS, OFF_LEVEL = 0.01, 100, 0.05
# A run of 3 equal samples at an extreme; two occur by chance at a peak of a coarsely rounded signal. Steps and rounding hold
# every level about equally long, so 5 times the usual level is a clip; a lower factor takes a step signal's extreme for one.
SHORTEST_RUN, HELD_LONGER = 3, 5
# Shares of the range and of the samples: noise and ringing up to 5 % around the two levels of a switched input.
NEAR_END, BINARY = 0.05, 0.95
# Height over the largest other height nearby, height over the range, and samples nearby. In 50 logs of 1,200 samples of white
# noise the largest of the first ratios was 1.7: a factor of 3 misses spikes in heavy noise and does not flag noise.
SPIKE, SPIKE_RANGE, NEAR = 3.0, 0.1, 10
# The correlation must fall below 0.5 first, or a slow signal repeats after one sample. Noise of a share s in a repeated
# input gives a likeness of 1 / (1 + s^2): 0.98 accepts 14 % and refuses signals that only look alike.
FALLEN, REPEATS = 0.5, 0.98


def is_constant(values: np.ndarray) -> bool:
    """True for a channel that never changes: standard deviation at most 1e-12 of the largest value."""
    return not len(values) or bool(np.std(values) <= CONSTANT * np.abs(values).max())


def lost_mark(values: np.ndarray) -> float:
    """The number that stands for lost samples, farther from all others than their range; NaN where there is none."""
    for value in {float(values.min()), float(values.max())} if len(values) else ():
        others = values[values != value]
        if len(others) and (MARK.fullmatch(repr(value)) or abs(value) >= HUGE_MARK):
            nearest = max(value - others.max(), others.min() - value)
            if nearest > max(others.max() - others.min(), np.abs(others).max() * CONSTANT):
                return value
    return np.nan


def resolution(values: np.ndarray) -> tuple[int, float]:
    """Number of evenly spaced levels that a channel takes, and their distance over its range; (0, 0) for finer ones."""
    levels = np.unique(values)
    if not 2 <= len(levels) <= MOST_LEVELS or len(values) < 3 * len(levels):
        return 0, 0.0
    steps = np.diff(levels)
    step, width = steps.min(), levels[-1] - levels[0]
    even = np.abs(steps / step - np.rint(steps / step)).max() <= OFF_LEVEL
    return (len(levels), float(step / width)) if even and step >= COARSE * width else (0, 0.0)


def longest_gap(mask: np.ndarray) -> int:
    """Most missing samples in a row."""
    known = np.flatnonzero(np.concatenate([[True], mask, [True]]))
    return int(np.max(np.diff(known)) - 1)


def at_ends(pieces: Sequence[np.ndarray]) -> tuple[float, float]:
    """Shares of the samples at exactly the lowest and the highest value, 3 or more in a row.

    Zero for a signal with two values, and for an extreme that is not held 5 times as long as the mean of the other held
    values, because steps and coarse rounding hold every value and not the extremes alone.
    """
    pieces = [p for p in pieces if len(p)]
    ends = [np.flatnonzero(np.append(np.diff(p) != 0, True)) for p in pieces]
    lengths = np.concatenate([np.diff(end, prepend=-1) for end in ends])
    levels = np.concatenate([p[end] for p, end in zip(pieces, ends, strict=True)])
    low, high, count = levels.min(), levels.max(), sum(map(len, pieces))
    if len(np.unique(levels)) <= 2:
        return 0.0, 0.0
    held = lengths >= SHORTEST_RUN
    between = held & (levels > low) & (levels < high)
    usual = lengths[between].sum() / max(len(np.unique(levels[between])), 1)
    totals = [float(lengths[held & (levels == level)].sum()) for level in (low, high)]
    low_share, high_share = (total / count if total >= HELD_LONGER * usual else 0.0 for total in totals)
    return low_share, high_share


def sizes(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Standard deviation and largest absolute value of each piece, (pieces, 2), NaN for a constant one."""
    return np.array([(np.nan, np.nan) if is_constant(p) else (np.std(p), np.abs(p).max()) for p in pieces])


def spikes(y: np.ndarray, expected: np.ndarray, ok: np.ndarray, width: float) -> int:
    """Number of single outliers in a log (T,).

    The height of a sample above both its neighbors, or below both, is the smaller of the two differences, in y or in
    ``y - expected``, whichever is smaller. A spike is higher than 10 % of `width`, than 3 times all other heights within
    10 samples, and than 3 times 99 % of the heights of the log.

    **Arguments:**

    - `y`: the log (T,).
    - `expected`: free run of a model (T,).
    - `ok`: True where y was measured.
    - `width`: range of the output.
    """
    from scipy.ndimage import maximum_filter  # slow to import

    if len(y) < 3:
        return 0
    height = _heights(y)
    if np.isfinite(expected).all():
        height = np.minimum(height, _heights(y - expected))
    # Filled samples make peaks too.
    height[~(ok[:-2] & ok[1:-1] & ok[2:])] = 0.0
    others = maximum_filter(height, footprint=np.arange(-NEAR, NEAR + 1) != 0, mode="constant")
    usual = SPIKE * np.maximum(others, np.quantile(height, 0.99))
    return int(np.sum(height > np.maximum(usual, SPIKE_RANGE * width)))


def _heights(y: np.ndarray) -> np.ndarray:
    before, after = np.diff(y)[:-1], np.diff(y)[1:]
    return np.where(before * after < 0, np.minimum(np.abs(before), np.abs(after)), 0.0)


def spectrum(pieces: Sequence[np.ndarray], dt: float) -> tuple[float, float, float]:
    """Lowest and highest frequency (Hz) of the band with 90 % of a signal's power, and the effective number of frequencies.

    From the periodogram P of the longest piece, mean removed. The band leaves out 5 % of the sum of P below and
    above; the effective number of frequencies is ``(sum P)^2 / sum P^2``: 1 for a sine, n for n equal
    sines, N / 4 for N samples of white noise. Each of them determines about two parameters of a linear model
    (persistent excitation: Ljung, System Identification, 2nd ed., section 13.2).
    """
    signal = max(pieces, key=len)
    power = np.abs(np.fft.rfft(signal - signal.mean()))[1:] ** 2
    if not power.sum() > 0:
        return np.nan, np.nan, 0.0
    share = np.cumsum(power) / power.sum()
    low, high = np.searchsorted(share, (0.05, 0.95)) + 1
    return (
        float(low / (len(signal) * dt)),
        float(high / (len(signal) * dt)),
        float(power.sum() ** 2 / np.sum(power**2)),
    )


def is_binary(values: np.ndarray) -> bool:
    """True when 95 % of the samples lie within 5 % of the range from one of its ends."""
    low, high = values.min(), values.max()
    near = np.minimum(values - low, high - values) <= NEAR_END * (high - low)
    return bool(near.mean() >= BINARY)


def explained(u: np.ndarray) -> np.ndarray:
    """R^2 of each input of (T, nu) as a linear function of the others at the same sample; 0 for one input."""
    u = u - u.mean(axis=0)
    result = np.zeros(u.shape[1])
    for j in range(u.shape[1]) if u.shape[1] > 1 else ():
        others = np.delete(u, j, axis=1)
        left = u[:, j] - others @ np.linalg.lstsq(others, u[:, j])[0]
        result[j] = 1 - np.sum(left**2) / np.sum(u[:, j] ** 2)
    return result


def period(u: np.ndarray) -> tuple[int, float]:
    """Samples after which inputs (T, nu) repeat, 0 when they do not, and their correlation r.

    ``r(p) = 2 sum_k u[k] u[k+p] / sum_k (u[k]^2 + u[k+p]^2)`` of inputs with mean 0 and deviation 1, all together. The
    period is the first p, up to T / 2 and after r has fallen below 0.5, whose r is 0.98 or more and
    within 0.001 of the largest.
    """
    length, half = len(u), len(u) // 2
    products = np.sum([_autocorrelation(column) for column in u.T], axis=0)
    squares = np.concatenate([[0.0], np.cumsum(np.sum(u**2, axis=1))])
    # sum_k u[k]^2 over k < T - p, and u[k+p]^2 over the same k, from cumulated squares.
    energy = squares[length - np.arange(half + 1)] + squares[-1] - squares[: half + 1]
    likeness = np.divide(2 * products[: half + 1], energy, out=np.zeros(half + 1), where=energy > 0)
    fallen = np.flatnonzero(likeness < FALLEN)
    likeness[: fallen[0] if len(fallen) else half + 1] = 0.0
    best = float(likeness.max())
    # Multiples of the period match as well as the period: the first within 0.001, not the largest by rounding.
    return (int(np.argmax(likeness >= max(REPEATS, best - 1e-3))), best) if best >= REPEATS else (0, best)


def _autocorrelation(x: np.ndarray) -> np.ndarray:
    from scipy.signal import correlate  # slow to import

    return correlate(x, x, "full", "fft")[len(x) - 1 :]


def scatter(y: np.ndarray, ok: np.ndarray, length: int, skipped: int) -> tuple[float, int]:
    """Sum of squares of an output (T,) around its mean over the periods, and its degrees of freedom.

    Every phase of the period that was measured m times adds its squared distances from its own mean, and m - 1 degrees of
    freedom.

    **Arguments:**

    - `y`: the output (T,).
    - `ok`: True where it was measured.
    - `length`: samples per period.
    - `skipped`: samples at the start that are left out.
    """
    phase = (np.arange(len(y)) % length)[skipped:][ok[skipped:]]
    y = y[skipped:][ok[skipped:]]
    count = np.bincount(phase, minlength=length)
    mean = np.bincount(phase, y, length) / np.maximum(count, 1)
    return float(np.sum((y - mean[phase]) ** 2)), int(np.maximum(count - 1, 0).sum())
