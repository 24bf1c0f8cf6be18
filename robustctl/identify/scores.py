"""Scores of a free-run simulation, one an output."""

import dataclasses

import numpy as np

from ..data import Record
from ..errors import DataError

FLAT = 1e-12  # spread over largest value below which a channel counts as constant


@dataclasses.dataclass(frozen=True)
class ChannelScores:
    """Scores of each output, arrays (ny,), over the samples that were measured and not skipped, experiments pooled.

    ::

        nrmse = sqrt(mean (y - y_hat)^2 / mean (y - mean y)^2),   fit_percent = 100 (1 - nrmse)

    `samples`: how many; `rmse` and `mean_error` (measured minus simulated) in the output's unit; `nrmse` and
    `fit_percent` as follows, the latter as MATLAB's `compare` gives it. NaN is what is not defined, infinite the error of a simulation
    that is not finite; `notes` says so in words for each output, and is "" elsewhere.
    """

    samples: np.ndarray
    rmse: np.ndarray
    mean_error: np.ndarray
    nrmse: np.ndarray
    fit_percent: np.ndarray
    notes: tuple[str, ...]

    def pooled_nrmse(self) -> float:
        """Root of the mean square of `nrmse` over the outputs that have one, NaN where none has."""
        defined = self.nrmse[~np.isnan(self.nrmse)]
        return float(np.sqrt(np.mean(defined**2))) if defined.size else float("nan")


def channel_scores(record: Record, y_hat: tuple[np.ndarray, ...], skipped: int) -> ChannelScores:
    """Score simulated outputs `y_hat`, one array (T, ny) an experiment, the first `skipped` samples left out.

    **Raises:** `DataError` where no sample is both measured and not skipped, or shapes do not fit the record.
    """
    errors = np.concatenate(residuals(record, y_hat, skipped))
    measured = np.concatenate([e.y for e in record.experiments])
    notes = divergence(record, y_hat, skipped)
    columns = [_score(*column) for column in zip(errors.T, measured.T, notes, strict=True)]
    *numbers, notes = zip(*columns, strict=True)
    return ChannelScores(*(np.asarray(n) for n in numbers), notes=notes)


def residuals(record: Record, y_hat: tuple[np.ndarray, ...], skipped: int) -> list[np.ndarray]:
    """Return measured minus simulated (T, ny) of each experiment, NaN where skipped or not measured.

    **Raises:** as `channel_scores`.
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
    """Return for each output where its simulation first is not finite, in words, else ""."""
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
    with np.errstate(over="ignore", invalid="ignore"):
        rmse, mean, spread = float(np.sqrt(np.mean(error**2))), float(np.mean(error)), float(np.std(y))
    if spread <= FLAT * float(np.max(np.abs(y))):
        return error.size, rmse, mean, nan, nan, "NRMSE and fit are undefined: the measurement is constant"
    return error.size, rmse, mean, rmse / spread, 100 * (1 - rmse / spread), ""
