"""The range of a training record, and how far other records leave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..data import Record
from ..data.record_checks import CONSTANT
from ..data.trend import pooled
from ..registry import registered

BAND = (0.005, 0.995)
"""Shares of an input's power below the edges of its band: 99 % are inside."""

MARGIN = 0.1
"""Of the width of a range: Gaussian samples, of which 1,000 span 6.5 deviations, exceed that once in 10,000."""

RARE, FEW, FAR = 0.05, 3, 0.5
"""Share and number of samples outside that are reported, and excess over the width of the range that is reported of one alone."""

OTHER_BAND = 0.1
"""Share of an input's power outside its band that is reported: ten times that of the record trained on."""

Limits = tuple[float, float]


@dataclass(frozen=True)
class Departure:
    """A channel that leaves the range that a model was trained in.

    **Arguments:**

    - `channel`: its name.
    - `kind`: "values", or "band" for frequencies.
    - `share`: of its samples, or of its power, that is outside.
    - `excess`: the farthest distance from the range in the channel's unit; 0 for a band.
    - `text`: the same in words.
    """

    channel: str
    kind: str
    share: float
    excess: float
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


@registered()
@dataclass(frozen=True)
class TrainedRange:
    """Ranges of the channels of a training record, and the bands of its inputs.

    A model interpolates inside of them and extrapolates outside.

    **Arguments:**

    - `u`: smallest and largest value of each input, in its unit.
    - `y`: of each output.
    - `band`: frequencies in Hz between which each input has 99 % of its power, mean removed; None where it is constant.
    """

    u: tuple[Limits, ...]
    y: tuple[Limits, ...]
    band: tuple[Limits | None, ...]

    @classmethod
    def of(cls, record: Record) -> TrainedRange:
        """Return the range of a record, all experiments together; samples that were not measured do not count."""
        return cls(
            _limits(record, "u"), _limits(record, "y"), tuple(_band(record, j) for j in range(record.nu))
        )

    def departures(self, record: Record) -> tuple[Departure, ...]:
        """Return what of a record with the same channels is outside.

        Reported are a channel with more than 5 % of its samples farther outside than 10 % of the width of its range, or one farther
        than 50 %, and an input with more than 10 % of its power outside of its band.
        """
        found = []
        for field, names, units, limits in (
            ("u", record.inputs, record.input_units, self.u),
            ("y", record.outputs, record.output_units, self.y),
        ):
            values, mask = pooled(record, field)
            counts, excess = outside(values, mask, limits)
            samples = mask.sum(axis=0)
            found += departures(names, units, limits, counts, samples, excess)
        return (*found, *self._bands(record))

    def _bands(self, record: Record) -> Iterator[Departure]:
        for j, (name, band) in enumerate(zip(record.inputs, self.band, strict=True)):
            frequency, power = _power(record, j)
            if band is None or not power.sum() > 0:
                continue
            # A shorter record resolves the edges less finely.
            width = 1 / (record.dt * max(e.samples for e in record.experiments))
            beyond = (frequency < band[0] - width) | (frequency > band[1] + width)
            share = float(power[beyond].sum() / power.sum())
            if share > OTHER_BAND:
                text = f"{name!r} has {100 * share:.3g} % of its power outside of the trained band, {band[0]:.3g} to {band[1]:.3g} Hz"
                yield Departure(name, "band", share, 0.0, text)


def outside(values: np.ndarray, mask: np.ndarray, limits: Sequence[Limits]) -> tuple[np.ndarray, np.ndarray]:
    """Return how many measured samples of each channel are outside by more than the margin, and the farthest distance.

    **Arguments:**

    - `values`: (T, n)
    - `mask`: (T, n), False where nothing was measured
    - `limits`: of each channel
    """
    low, high = np.asarray(limits, np.float64).T
    distance = np.where(mask, np.maximum(low - values, values - high), -np.inf)
    counts = (distance > MARGIN * (high - low)).sum(axis=0)
    return counts, np.maximum(distance.max(axis=0, initial=0.0), 0.0)


def departures(
    names: Sequence[str], units: Sequence[str], limits: Sequence[Limits], counts: np.ndarray, samples: np.ndarray, excess: np.ndarray
) -> list[Departure]:  # fmt: skip
    """Return the channels that leave their ranges noticeably.

    **Arguments:**

    - `names`: of the channels
    - `units`: of the channels
    - `limits`: of the channels
    - `counts`: samples outside by more than the margin
    - `samples`: measured samples
    - `excess`: farthest distances
    """
    found = []
    for name, unit, (low, high), count, total, far in zip(
        names, units, limits, counts.tolist(), samples.tolist(), excess.tolist(), strict=True
    ):
        share = count / max(total, 1)
        if (share > RARE and count >= FEW) or (count and far > FAR * (high - low)):
            what = f"{name!r} is outside of the trained range, {low:.4g} to {high:.4g}{unit and f' {unit}'}, "
            text = f"{what}in {100 * share:.3g} % of its samples, by up to {far:.3g}{unit and f' {unit}'}"
            found.append(Departure(name, "values", share, far, text))
    return found


def _limits(record: Record, field: str) -> tuple[Limits, ...]:
    values, mask = pooled(record, field)
    low = np.min(values, axis=0, where=mask, initial=np.inf)
    high = np.max(values, axis=0, where=mask, initial=-np.inf)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def _band(record: Record, channel: int) -> Limits | None:
    frequency, power = _power(record, channel)
    if not power.sum() > 0:
        return None
    order = np.argsort(frequency, kind="stable")
    share = np.cumsum(power[order]) / power.sum()
    low, high = frequency[order][np.minimum(np.searchsorted(share, BAND), len(order) - 1)]
    # Slower ones are part of the experiments' means, as those of windows are: nothing is known of a lower edge there.
    slowest = 1 / (record.dt * max(e.samples for e in record.experiments))
    return float(low) if low > 2 * slowest else 0.0, float(high)


def _power(record: Record, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies in Hz and the powers of an input in all experiments, one after the other; zero where it is constant.

    Windowed, so that a jump from the last sample to the first does not spread over all frequencies.
    """
    found = []
    for e in record.experiments:
        u = e.u[:, channel]
        deviation = np.where(np.ptp(u) > CONSTANT * np.abs(u).max(), u - u.mean(), 0.0)
        power = np.abs(np.fft.rfft(deviation * np.hanning(e.samples)))[1:] ** 2 / e.samples
        found.append((np.fft.rfftfreq(e.samples, record.dt)[1:], power))
    frequency, power = (np.concatenate(part) for part in zip(*found, strict=True))
    return frequency, power
