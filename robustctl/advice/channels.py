"""What each channel of a record holds by itself: excitation, faults of the log, periods that repeat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONSTANT = 1e-12  # spread over largest value below which a channel counts as constant, as in the scores
SHORTEST_RUN, HELD_LONGER = 3, 5
NEAR_END, BINARY = 0.05, 0.95
SPIKE, SPIKE_RANGE, NEAR = 3.0, 0.1, 10
FALLEN, REPEATS = 0.5, 0.98


def is_still(values: np.ndarray) -> bool:
    """True for a channel that never changes: standard deviation at most 1e-12 of the largest value."""
    return not len(values) or bool(np.std(values) <= CONSTANT * np.abs(values).max())


def longest_gap(mask: np.ndarray) -> int:
    """Most missing samples in a row."""
    known = np.flatnonzero(np.concatenate([[True], mask, [True]]))
    return int(np.max(np.diff(known)) - 1)


def at_ends(pieces: Sequence[np.ndarray]) -> tuple[float, float]:
    """Shares of the samples that stand at exactly the lowest and the highest value, 3 or more in a row.

    Zero for two values only, and for an end that is not held 5 times as long as the other values are that are held, for
    steps and coarse rounding stand still everywhere and not at the ends alone.
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
    """Standard deviation and largest absolute value of each piece, (pieces, 2), NaN for one that is still."""
    return np.array([(np.nan, np.nan) if is_still(p) else (np.std(p), np.abs(p).max()) for p in pieces])


def spikes(y: np.ndarray, expected: np.ndarray, ok: np.ndarray, width: float) -> int:
    """Number of single samples that stand out of a log (T,).

    A sample above both its neighbors, or below both, has as height the smaller of the two differences; the least of
    its heights in y and in ``y - expected``, a model's free run, counts. A spike is higher than 10 % of `width`,
    the range of the output, and than 3 times all others within 10 samples and 99 % of the log.
    """
    from scipy.ndimage import maximum_filter  # slow to import

    if len(y) < 3:
        return 0
    height = _heights(y)
    if np.isfinite(expected).all():
        height = np.minimum(height, _heights(y - expected))
    height[~(ok[:-2] & ok[1:-1] & ok[2:])] = 0.0
    others = maximum_filter(height, footprint=np.arange(-NEAR, NEAR + 1) != 0, mode="constant")
    usual = SPIKE * np.maximum(others, np.quantile(height, 0.99))
    return int(np.sum(height > np.maximum(usual, SPIKE_RANGE * width)))


def _heights(y: np.ndarray) -> np.ndarray:
    before, after = np.diff(y)[:-1], np.diff(y)[1:]
    return np.where(before * after < 0, np.minimum(np.abs(before), np.abs(after)), 0.0)


def spectrum(pieces: Sequence[np.ndarray], dt: float) -> tuple[float, float, float]:
    """Lowest and highest frequency (Hz) of the band that holds 90 % of a signal's power, and how many it holds.

    From the periodogram P of the longest piece, mean removed. The band leaves out 5 % of the sum of P below and
    above; the effective number of frequencies is ``(sum P)^2 / sum P^2``: 1 for a sine, n for n equal
    sines, N / 4 for N samples of white noise. A linear model has about two parameters for each of them
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
    """Samples after which inputs (T, nu) repeat, 0 when they do not, and their likeness r.

    ``r(p) = 2 sum_k u[k] u[k+p] / sum_k (u[k]^2 + u[k+p]^2)`` of inputs with mean 0 and deviation 1, all together. The
    period is the first p, up to T / 2 and after r has fallen below 0.5, whose r is 0.98 or more and
    within 0.001 of the largest.
    """
    length, half = len(u), len(u) // 2
    products = np.sum([_autocorrelation(column) for column in u.T], axis=0)
    squares = np.concatenate([[0.0], np.cumsum(np.sum(u**2, axis=1))])
    energy = squares[length - np.arange(half + 1)] + squares[-1] - squares[: half + 1]
    likeness = np.divide(2 * products[: half + 1], energy, out=np.zeros(half + 1), where=energy > 0)
    fallen = np.flatnonzero(likeness < FALLEN)
    likeness[: fallen[0] if len(fallen) else half + 1] = 0.0
    best = float(likeness.max())
    return (int(np.argmax(likeness >= max(REPEATS, best - 1e-3))), best) if best >= REPEATS else (0, best)


def _autocorrelation(x: np.ndarray) -> np.ndarray:
    from scipy.signal import correlate  # slow to import

    return correlate(x, x, "full", "fft")[len(x) - 1 :]


def scatter(y: np.ndarray, ok: np.ndarray, length: int, skipped: int) -> tuple[float, int]:
    """Sum of squares of an output (T,) around its mean over the periods, and its degrees of freedom.

    Periods of `length` samples are laid on each other from sample `skipped` on; every phase that was measured m times adds
    its squared distances from its own mean and m - 1 degrees of freedom.
    """
    phase = (np.arange(len(y)) % length)[skipped:][ok[skipped:]]
    y = y[skipped:][ok[skipped:]]
    count = np.bincount(phase, minlength=length)
    mean = np.bincount(phase, y, length) / np.maximum(count, 1)
    return float(np.sum((y - mean[phase]) ** 2)), int(np.maximum(count - 1, 0).sum())
