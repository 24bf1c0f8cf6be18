"""Scores of a free-run simulation, per output."""

import dataclasses

import numpy as np

from ..data import Record
from ..errors import DataError

FLAT = 1e-12
"""Standard deviation over largest absolute value below which a channel counts as constant: rounding of an offset."""


@dataclasses.dataclass(frozen=True)
class ChannelScores:
    """Scores of each output, arrays (ny,), over the samples that were measured and not skipped, experiments pooled.

    ::

        nrmse = sqrt(mean (y - y_hat)^2 / mean (y - mean y)^2),   fit_percent = 100 (1 - nrmse)

    An undefined score is NaN; the errors of a simulation that is not finite are infinite.

    **Arguments:**

    - `samples`: number of samples
    - `rmse`: root mean square error, in the output's unit
    - `mean_error`: mean of measured minus simulated, in the output's unit
    - `nrmse`: normalized root mean square error
    - `fit_percent`: as in MATLAB's `compare`
    - `notes`: why a score is undefined or infinite, otherwise ""
    """

    samples: np.ndarray
    rmse: np.ndarray
    mean_error: np.ndarray
    nrmse: np.ndarray
    fit_percent: np.ndarray
    notes: tuple[str, ...]

    def pooled_nrmse(self) -> float:
        """Return the root mean square of `nrmse` over the outputs for which it is defined, NaN if there is none."""
        defined = self.nrmse[~np.isnan(self.nrmse)]
        return float(np.sqrt(np.mean(defined**2))) if defined.size else float("nan")


def channel_scores(record: Record, y_hat: tuple[np.ndarray, ...], skipped: int) -> ChannelScores:
    """Score simulated outputs against a record.

    **Arguments:**

    - `record`: the measured outputs
    - `y_hat`: the simulated outputs, one array (T, ny) per experiment
    - `skipped`: number of first samples of each experiment that do not count

    **Raises:** `DataError` if no sample is both measured and not skipped, or shapes do not fit the record.
    """
    errors = np.concatenate(residuals(record, y_hat, skipped))
    measured = np.concatenate([e.y for e in record.experiments])
    notes = divergence(record, y_hat, skipped)
    columns = [_score(*column) for column in zip(errors.T, measured.T, notes, strict=True)]
    *numbers, notes = zip(*columns, strict=True)
    return ChannelScores(*(np.asarray(n) for n in numbers), notes=notes)


def residuals(record: Record, y_hat: tuple[np.ndarray, ...], skipped: int) -> list[np.ndarray]:
    """Return measured minus simulated (T, ny) of each experiment, NaN where skipped or not measured.

    **Raises:** `DataError`, same errors as `channel_scores`.
    """
    given, needed = [np.shape(y) for y in y_hat], [e.y.shape for e in record.experiments]
    if given != needed:
        raise DataError(f"y_hat must have the shapes of the measured outputs, {needed}, got {given}")
    errors = [np.where(e.y_mask, e.y - y, np.nan) for e, y in zip(record.experiments, y_hat, strict=True)]
    for error in errors:
        error[:skipped] = np.nan
    if not any(e.y_mask[skipped:].any() for e in record.experiments):
        raise DataError(
            f"a simulation must have a measured output after its {skipped} skipped samples, got none; "
            "skip fewer samples or use a longer record"
        )
    return errors


def divergence(record: Record, y_hat: tuple[np.ndarray, ...], skipped: int) -> list[str]:
    """Return for each output, as text, the first sample at which its simulation is not finite, otherwise ""."""
    notes = [""] * record.ny
    for experiment, y in zip(record.experiments, y_hat, strict=True):
        bad = ~np.isfinite(y)
        bad[:skipped] = False
        for channel in np.flatnonzero(bad.any(axis=0)):
            where = f"sample {int(np.argmax(bad[:, channel]))} of {experiment.name!r}"
            notes[channel] = notes[channel] or f"the simulation is not finite from {where} on"
    return notes


def _score(error: np.ndarray, y: np.ndarray, diverged: str) -> tuple[int, float, float, float, float, str]:
    """Return the fields of `ChannelScores` for one output, `error` NaN where it does not count."""
    scored = ~np.isnan(error)
    error, y = error[scored], y[scored]
    nan, inf = float("nan"), float("inf")
    if diverged:
        return error.size, inf, nan, inf, -inf, diverged
    if not error.size:
        return 0, nan, nan, nan, nan, "no measured sample to score"
    with np.errstate(over="ignore", invalid="ignore"):  # a finite error can have an infinite square
        rmse, mean, spread = float(np.sqrt(np.mean(error**2))), float(np.mean(error)), float(np.std(y))
    if spread <= FLAT * float(np.max(np.abs(y))):
        return error.size, rmse, mean, nan, nan, "NRMSE and fit are undefined: the measurement is constant"
    return error.size, rmse, mean, rmse / spread, 100 * (1 - rmse / spread), ""
