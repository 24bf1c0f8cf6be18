"""Rows of a log to runs of evenly spaced samples: gaps, other sample times, values held between changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...checks import is_real
from ...errors import DataError
from ..record import MIN_SAMPLES
from ..record_checks import check_dt
from ..resample import clock_drift, held, to_grid
from .stamps import check_step, check_unit

# A log with more than half of its samples missing is rather two logs, or one with another sample time.
MOSTLY = 0.5


@dataclass(frozen=True)
class Timing:
    """Times of the rows of a log; the arguments of `read` of these names."""

    dt: float | None
    split_gaps: float | None
    time_unit: str | None

    def __post_init__(self):
        if self.dt is not None:
            object.__setattr__(self, "dt", check_dt(self.dt))
        check_unit(self.time_unit)
        gap: Any = self.split_gaps
        if gap is not None and not (is_real(gap) and gap > 0):
            raise DataError(f"split_gaps must be seconds > 0, got {gap!r}")


@dataclass
class Runs:
    """Evenly spaced samples.

    **Arguments:**

    - `dt`: sample time, seconds.
    - `starts`: time of the first sample of each run, seconds.
    - `values`: samples (T, n) of each run.
    - `guesses`: what was left out.
    - `doubts`: what to warn of.
    """

    dt: float
    starts: list[float]
    values: list[np.ndarray]
    guesses: list[str] = dataclasses.field(default_factory=list)
    doubts: list[str] = dataclasses.field(default_factory=list)


def to_runs(stamps: np.ndarray | None, values: np.ndarray, timing: Timing, hold: Sequence[int]) -> Runs:
    """Rows of samples (T, n) as runs of evenly spaced samples, with NaN where one is missing.

    **Arguments:**

    - `stamps`: seconds (T,); None for rows that are `timing.dt` apart.
    - `values`: the rows.
    - `timing`: as the user gave it.
    - `hold`: columns that keep each value until the next.
    """
    rows = timing.dt * np.arange(len(values)) if stamps is None and timing.dt is not None else stamps
    assert rows is not None
    pieces = [slice(None)] if timing.split_gaps is None else _pieces(rows, values, timing.split_gaps)
    if stamps is None:
        cut = [values[piece] for piece in pieces]
        for run in cut:
            run[:, list(hold)] = held(run[:, list(hold)], np.arange(len(run)), len(run))
        return _long(Runs(check_dt(timing.dt), [float(rows[piece][0]) for piece in pieces], cut))
    if timing.dt is not None:
        check_step(stamps, timing.dt)
    longest = max(pieces, key=lambda piece: len(stamps[piece]))
    # Alone, the longest run's stamps are placed by their own step, which has more digits than dt.
    first = None if timing.dt is not None else to_grid(stamps[longest], values[longest], hold=hold)
    dt = first[0] if first else timing.dt
    assert dt is not None
    runs = Runs(dt, [], [])
    for piece in pieces:
        if len(stamps[piece]) < MIN_SAMPLES and len(pieces) > 1:
            runs.values.append(values[piece])
            runs.starts.append(float(stamps[piece][0]))
            continue
        _, start, grid = (
            first
            if first and piece is longest
            else to_grid(stamps[piece], values[piece], dt, hold=hold, exact=first is not None)
        )
        runs.starts.append(start)
        runs.values.append(grid)
        runs.doubts += _doubts(stamps[piece], grid, dt, timing)
    return _long(runs)


def _pieces(stamps: np.ndarray, values: np.ndarray, gap: float) -> list[slice]:
    """Rows of each run; a row without any value counts as part of a gap."""
    known = np.flatnonzero(~np.isnan(values).all(axis=1))
    if not len(known):
        return [slice(None)]
    after = np.flatnonzero(np.diff(stamps[known]) > gap)
    starts, stops = known[[0, *(after + 1)]], known[[*after, len(known) - 1]]
    return [slice(int(start), int(stop) + 1) for start, stop in zip(starts, stops, strict=True)]


def _long(runs: Runs) -> Runs:
    """Runs without those that are too short for an experiment."""
    kept = [index for index, values in enumerate(runs.values) if len(values) >= MIN_SAMPLES]
    short = len(runs.values) - len(kept)
    if not kept or not short:
        return runs
    runs.guesses.append(f"{short} run{'s' * (short > 1)} of one sample left out")
    return dataclasses.replace(
        runs, starts=[runs.starts[k] for k in kept], values=[runs.values[k] for k in kept]
    )


def _doubts(stamps: np.ndarray, grid: np.ndarray, dt: float, timing: Timing) -> list[str]:
    found = []
    drift = "" if timing.dt is None else clock_drift(stamps, dt)
    if drift:
        found.append(
            f"the stamps drift: {drift}; the log is resampled as if the stamps were correct. If the rows were sampled "
            "evenly and the clock is wrong, give dt= without time="
        )
    lost = float(np.isnan(grid).all(axis=1).mean())
    if lost > MOSTLY:
        row = int(np.argmax(np.diff(stamps)))
        found.append(
            f"{100 * lost:.3g} % of {len(grid)} samples at dt = {dt:g} s have no row; the longest gap is "
            f"{stamps[row + 1] - stamps[row]:g} s, from {stamps[row]:.10g} s on. If the file holds several runs, give "
            f"split_gaps= (seconds) for an experiment each; if rows are rarer than dt, give the dt between them"
        )
    return found
