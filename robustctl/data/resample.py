"""Time stamps: checked, rounded to a uniform grid, or resampled to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from .record_checks import as_floats, check_dt, refuse_infinite

# Share of a step. Stamps printed with three digits per step pass; a real jitter is larger and is resampled.
STAMP_TOLERANCE = 1e-3
# A million float64 samples take 8 MB per channel; more only where at least every hundredth sample was measured, since
# stamps in milliseconds with dt in seconds ask for a thousand times as many.
LEAST_GRID_LIMIT = 1_000_000
GRID_PER_STAMP = 100
# Shares of a step. A rate off by more than SAME_RATE is another sample time, not a clock that drifts. DRIFT is 50 times the
# error of an ordinary crystal (100 ppm). Steps that scatter by more than MOST_JITTER come from events, not from a clock.
SAME_RATE, DRIFT, MOST_JITTER = 0.05, 0.005, 0.2
FEWEST_STEPS = 20  # so that a quarter of the log has five steps to average over


def resample(
    t: Any, values: Any, dt: float, *, max_gap: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Samples at non-uniform times, resampled to a uniform grid by linear interpolation.

    Each channel is interpolated between its own measured samples. There is no anti-aliasing filter:
    filter first when `dt` is much longer than the logged steps.

    **Arguments:**

    - `t`: time stamps (T,), seconds, strictly increasing.
    - `values`: samples (T,) or (T, n), NaN where missing.
    - `dt`: sample time of the grid ``t[0] + k dt``, seconds.
    - `max_gap`: a grid sample farther than this from every measured sample of its channel is missing,
      seconds; 1.5 times the longer of `dt` and the median logged step when None.

    **Returns:** Times (N,) and samples (N,) or (N, n), NaN where missing.

    **Raises:** `DataError` for repeated or decreasing stamps (with their rows), infinite samples, or a grid of over
    a million samples and 100 per stamp.

    **Example:** ::

        t, y = rc.data.resample([0.0, 0.09, 0.21, 0.3], [0.0, 0.9, 2.1, 3.0], dt=0.1)
    """
    stamps, dt = check_stamps(t), check_dt(dt)
    samples = as_floats(values, "values")
    if samples.ndim not in (1, 2) or len(samples) != len(stamps) or not samples.size:
        raise DataError(
            f"values must be (T,) or (T, n) with one row per stamp, T = {len(stamps)}, got shape {samples.shape}"
        )
    columns = samples.reshape(len(stamps), -1)
    refuse_infinite(columns, [str(index) for index in range(columns.shape[1])])
    # Half a step beyond the nearest sample of a log without gaps, so that jitter alone makes no gap.
    gap = 1.5 * max(dt, float(np.median(np.diff(stamps)))) if max_gap is None else max_gap
    if not gap > 0:
        raise DataError(f"max_gap must be > 0 seconds, got {max_gap!r}")
    count = _grid_size(stamps[0], stamps[-1], dt, len(stamps))
    grid = stamps[0] + dt * np.arange(count)
    new = np.column_stack([_channel(grid, stamps, column, gap) for column in columns.T])
    return grid, new.reshape(count, *samples.shape[1:])


def _channel(grid: np.ndarray, t: np.ndarray, values: np.ndarray, max_gap: float) -> np.ndarray:
    known = ~np.isnan(values)
    if not known.any():
        return np.full(len(grid), np.nan)
    t = t[known]
    right = np.searchsorted(t, grid)
    after, before = t[np.minimum(right, len(t) - 1)], t[np.maximum(right - 1, 0)]
    distance = np.minimum(np.abs(after - grid), np.abs(grid - before))
    # The margin of 1e-9 covers rounding of the grid's times: a sample exactly max_gap away counts as measured.
    return np.where(distance <= max_gap * (1 + 1e-9), np.interp(grid, t, values[known]), np.nan)


def check_stamps(t: Any) -> np.ndarray:
    """Time stamps as float64 (T,); DataError with the row unless finite and strictly increasing."""
    stamps = as_floats(t, "time stamps")
    if stamps.ndim != 1 or len(stamps) < 2:
        raise DataError(f"time stamps must be one row or column of at least 2, got shape {stamps.shape}")
    lost = np.flatnonzero(~np.isfinite(stamps))
    if len(lost):
        raise DataError(f"time stamps must be finite, row {lost[0]} (counted from 0) holds {stamps[lost[0]]}")
    wrong = np.flatnonzero(stamps[1:] <= stamps[:-1])
    if len(wrong):
        row = int(wrong[0]) + 1
        what = "repeats" if stamps[row] == stamps[row - 1] else "goes back from"
        raise DataError(
            f"time stamps must increase: row {row} (counted from 0) at {stamps[row]} {what} row {row - 1} "
            f"at {stamps[row - 1]}; drop or sort such rows, or read the parts as separate experiments"
        )
    # Differences of larger stamps, and their products with counts, would overflow.
    if not np.abs(stamps).max() < 1e300:
        raise DataError("time stamps must be seconds, got one above 1e300")
    return stamps


def to_grid(
    t: Any, values: np.ndarray, dt: float | None = None, *, hold: Sequence[int] = (), exact: bool = False
) -> tuple[float, float, np.ndarray]:
    """Sample time, first time and samples on a uniform grid, from stamped samples (T, n).

    Stamps within 1e-3 of a step of a uniform grid are rounded to it, with NaN rows where the log skips whole
    steps. Other stamps are resampled to `dt` where it is given, unless `exact`. The columns `hold` keep each value until
    the next.

    **Raises:** `DataError` for stamps that `check_stamps` refuses, or stamps that are not uniform when `dt`
    is None, or with `exact`.
    """
    stamps = check_stamps(t)
    given = None if dt is None else check_dt(dt)
    step = _step(stamps) if given is None else given
    count = _grid_size(stamps[0], stamps[-1], step, len(stamps))
    index = np.rint((stamps - stamps[0]) / step)
    off = np.abs(stamps - stamps[0] - index * step).max()
    if off <= STAMP_TOLERANCE * step and not (np.diff(index) < 1).any():
        full = _placed(values, index, count)
    elif given is None or exact:
        steps = np.diff(stamps)
        raise DataError(
            f"time stamps must be uniform for dt to be found from them: steps run from {steps.min():g} "
            f"to {steps.max():g} s, up to {off:g} s off a uniform grid; give dt= as well to resample"
        )
    else:
        full = resample(stamps, values, given)[1]
    columns = list(hold)
    full[:, columns] = held(values[:, columns], (stamps - stamps[0]) / step, len(full))
    rounding = 2 * float(np.spacing(np.abs(stamps).max())) / max(len(full) - 1, 1)
    return (_plain(step, rounding) if given is None else given), float(stamps[0]), full


def _placed(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Rows (T, n) at the increasing positions `index` of `count` rows, NaN elsewhere."""
    if count == len(values):
        return values.copy()
    full = np.full((count, values.shape[1]), np.nan)
    full[index.astype(int)] = values
    return full


def _plain(step: float, rounding: float) -> float:
    """The shortest number within the rounding of the stamps: 0.1 s, not 0.10000000000000009 s; of nine digits at most."""
    shorter = (float(f"{step:.{digits}g}") for digits in range(1, 9))
    return next((number for number in shorter if abs(number - step) <= rounding), float(f"{step:.9g}"))


def held(values: np.ndarray, positions: np.ndarray, count: int) -> np.ndarray:
    """Last known value of each column at the samples 0, 1, ..., count - 1; NaN before the first.

    **Arguments:**

    - `values`: (T, n), NaN where a row holds none.
    - `positions`: of the rows on the grid, samples, increasing.
    - `count`: samples.
    """
    new = np.full((count, values.shape[1]), np.nan)
    for column, known in enumerate(~np.isnan(values).T):
        at = np.searchsorted(positions[known], np.arange(count) + STAMP_TOLERANCE, side="right") - 1
        new[at >= 0, column] = values[known, column][at[at >= 0]]
    return new


def clock_drift(t: Any, dt: float) -> str:
    """Description of stamps that drift against `dt` or whose steps grow or shrink; empty where they do neither.

    With whole steps m between stamps and the mean step ``s = (t[-1] - t[0]) / sum m``: the stamps differ from `dt` when s is
    within 5 % of it and half a sample or more is gained or lost in all; they drift when s of the last quarter differs from
    that of the first by 0.5 % and 4 standard errors. Fewer than 21 stamps, and steps that scatter by over 20 % around s,
    are not tested.
    """
    stamps, dt = check_stamps(t), check_dt(dt)
    step, steps = _step(stamps), np.diff(stamps)
    with np.errstate(all="ignore"):
        jitter = float(np.std(steps / step - np.rint(steps / step)))
    if len(steps) < FEWEST_STEPS or not jitter <= MOST_JITTER:
        return ""
    quarter, found = len(steps) // 4, []
    first, last = _step(stamps[: quarter + 1]), _step(stamps[-quarter - 1 :])
    # The mean step of a quarter has the error jitter / sqrt(quarter) or less; of the difference of two, sqrt(2) times that.
    if abs(last / first - 1) > max(DRIFT, 4 * jitter * np.sqrt(2 / quarter)):
        change = f"{100 * (last / first - 1):+.2g} %"
        found.append(f"their steps go from {first:.6g} s at the start to {last:.6g} s at the end ({change})")
    lost = (stamps[-1] - stamps[0]) * abs(1 / step - 1 / dt)
    if abs(step / dt - 1) < SAME_RATE and lost > 0.5:
        found.append(
            f"they run at {step:.6g} s per step, not at dt = {dt:.6g} s, {lost:.3g} samples off in all"
        )
    return " and ".join(found)


def _step(stamps: np.ndarray) -> float:
    # The median step is one sample in any log with fewer gaps than samples; the mean of all then averages the jitter out.
    steps = np.diff(stamps)
    with np.errstate(over="ignore"):
        multiples = np.rint(steps / np.median(steps)).sum()
    return float((stamps[-1] - stamps[0]) / max(multiples, 1.0))


def _grid_size(start: float, stop: float, dt: float, stamps: int) -> int:
    most = max(LEAST_GRID_LIMIT, GRID_PER_STAMP * stamps)
    # A product rather than a quotient: dt may be small enough for the quotient to overflow.
    if not stop - start < dt * most:
        raise DataError(
            f"{stamps} time stamps from {start:g} to {stop:g} s at dt = {dt:g} s would make over {most} "
            "samples, nearly all missing; check that dt and the stamps are both in seconds, and that dt is the time between two rows"
        )
    return int(np.floor((stop - start) / dt + 2 * STAMP_TOLERANCE)) + 1
