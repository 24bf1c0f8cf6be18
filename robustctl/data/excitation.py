"""Excitation signals for an identification experiment: time first, one column per channel, in the channels' units."""

from __future__ import annotations

import numpy as np

from ..errors import DataError


def multisine(
    samples: int, *, rms: float = 1.0, channels: int = 1, highest: float = 0.5, seed: int = 0
) -> np.ndarray:
    """Periodic signal with a flat spectrum: sines of equal amplitude and random phase.

    ::

        u[t] = sum over k of  a cos(2 pi k t / samples + phase_k),    0 < k / samples <= highest / 2

    **Arguments:**

    - `samples`: length and period.
    - `rms`: root mean square of each channel.
    - `channels`: number of columns, with independent phases.
    - `highest`: highest frequency as a share of the Nyquist frequency, in (0, 1].
    - `seed`: of the phases.

    **Returns:** Array (samples, channels).

    **Raises:** `DataError` for sizes below 1, a share outside (0, 1] or no frequency within it.

    **Source:** R. Pintelon, J. Schoukens, *System Identification: A Frequency Domain Approach*, 2012, section 5.2.

    **Example:** ::

        u = rc.data.multisine(1000, rms=0.5, highest=0.2)
    """
    _check(samples, channels, rms)
    lines = int(highest * samples / 2) if 0 < highest <= 1 else 0
    if lines < 1:
        raise DataError(
            f"highest must be a share in (0, 1] with a frequency below it, got {highest} for {samples} samples"
        )
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (lines, channels))
    spectrum = np.zeros((samples // 2 + 1, channels), complex)
    spectrum[1 : lines + 1] = np.exp(1j * phases)
    return _sized(np.fft.irfft(spectrum, samples, axis=0), rms)


def chirp(samples: int, *, rms: float = 1.0, lowest: float = 1e-3, highest: float = 0.5) -> np.ndarray:
    """Sine whose frequency rises exponentially from `lowest` to `highest`.

    **Arguments:**

    - `samples`: length.
    - `rms`: root mean square.
    - `lowest`: first frequency as a share of the Nyquist frequency, > 0.
    - `highest`: last frequency as a share of the Nyquist frequency, at most 1.

    **Returns:** Array (samples, 1), by `scipy.signal.chirp`.

    **Raises:** `DataError` for sizes below 1 and shares out of order.
    """
    import scipy.signal  # slow to import

    _check(samples, 1, rms)
    if not 0 < lowest < highest <= 1:
        raise DataError(f"there must be 0 < lowest < highest <= 1, got {lowest} and {highest}")
    t = np.arange(samples)
    # SciPy counts in cycles per sample, where the Nyquist frequency is 1/2; a phase of 90 degrees starts at zero.
    return _sized(
        scipy.signal.chirp(t, lowest / 2, max(samples - 1, 1), highest / 2, "logarithmic", 90)[:, None], rms
    )


def random_walk(
    samples: int, *, step: float = 0.1, low: float = -1.0, high: float = 1.0, channels: int = 1, seed: int = 0
) -> np.ndarray:
    """Sum of normal steps, reflected at its limits.

    **Arguments:**

    - `samples`: length.
    - `step`: standard deviation of one step.
    - `low`: lower limit.
    - `high`: upper limit.
    - `channels`: number of independent columns.
    - `seed`: of the steps.

    **Returns:** Array (samples, channels).

    **Raises:** `DataError` for sizes below 1 and limits out of order.
    """
    _check(samples, channels, step)
    if not low < high:
        raise DataError(f"low must be below high, got {low} and {high}")
    walk = (low + high) / 2 + np.cumsum(
        np.random.default_rng(seed).normal(0, step, (samples, channels)), axis=0
    )
    span = high - low
    # A triangle wave of the free walk: the reflection at both limits, however often it passes them.
    return low + span - np.abs((walk - low) % (2 * span) - span)


def prbs(
    samples: int, *, amplitude: float = 1.0, hold: int = 1, channels: int = 1, seed: int = 0
) -> np.ndarray:
    """Pseudorandom binary signal of maximum length, `-amplitude` or `amplitude`.

    **Arguments:**

    - `samples`: length.
    - `amplitude`: absolute value, > 0.
    - `hold`: samples for which each value is held.
    - `channels`: number of columns, shifted against each other at random.
    - `seed`: of the shifts.

    **Returns:** Array (samples, channels), by `scipy.signal.max_len_seq`.

    **Raises:** `DataError` for sizes below 1.
    """
    import scipy.signal  # slow to import

    _check(samples, channels, amplitude)
    if hold < 1:
        raise DataError(f"hold must be at least 1 sample, got {hold}")
    needed = -(-samples // hold)
    # The sequence repeats after 2^bits - 1 values; below 5 bits (31 values) shifted channels would often coincide.
    bits = int(np.clip(np.ceil(np.log2(needed + 1)), 5, 20))
    sequence, _ = scipy.signal.max_len_seq(bits)
    starts = np.random.default_rng(seed).integers(0, len(sequence), channels)
    columns = [np.take(sequence, np.arange(start, start + needed), mode="wrap") for start in starts]
    return np.repeat(amplitude * (2.0 * np.stack(columns, axis=1) - 1), hold, axis=0)[:samples]


def steps(
    samples: int, *, low: float = -1.0, high: float = 1.0, hold: int = 50, channels: int = 1, seed: int = 0
) -> np.ndarray:
    """Levels drawn uniformly between `low` and `high`, each held for `hold` samples.

    **Arguments:**

    - `samples`: length.
    - `low`: lower limit.
    - `high`: upper limit.
    - `hold`: samples per level.
    - `channels`: number of independent columns.
    - `seed`: of the levels.

    **Returns:** Array (samples, channels).

    **Raises:** `DataError` for sizes below 1 and limits out of order.
    """
    _check(samples, channels, 1.0)
    if hold < 1 or not low < high:
        raise DataError(f"hold must be at least 1 sample and low below high, got {hold}, {low} and {high}")
    levels = np.random.default_rng(seed).uniform(low, high, (-(-samples // hold), channels))
    return np.repeat(levels, hold, axis=0)[:samples]


def _check(samples: int, channels: int, size: float) -> None:
    if samples < 1 or channels < 1:
        raise DataError(f"samples and channels must be at least 1, got {samples} and {channels}")
    if not (np.isfinite(size) and size > 0):
        raise DataError(f"the size of a signal must be positive and finite, got {size}")


def _sized(signal: np.ndarray, rms: float) -> np.ndarray:
    return signal * (rms / np.sqrt(np.mean(signal**2, axis=0)))
