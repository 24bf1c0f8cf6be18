"""One period of a repeated excitation."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..checks import is_whole
from ..errors import DataError
from .arrays import from_arrays
from .record import MIN_SAMPLES, Experiment, Record


def average_periods(record: Record, period: int, *, skip: int = 1) -> Record:
    """Record whose experiments are one period each, averaged over the periods of a repeated excitation.

    ::

        y[k] = mean over j of  y[k + (skip + j) period],     k = 0, ..., period - 1,     u likewise

    Averaging n periods divides the noise by sqrt(n) and preserves the periodic response, also of a nonlinear plant. Missing
    samples do not count; one that is missing in every period stays missing. Samples after the last whole period are left out.

    **Arguments:**

    - `record`: experiments under a periodic excitation, for example `multisine`, whose period is a whole number
      of samples.
    - `period`: samples per period, >= 2.
    - `skip`: periods at the start that are left out, because the transient has not decayed yet.

    **Raises:** `DataError` for other numbers, and for an experiment without a whole period left.
    """
    for name, value, least in (("period", period, MIN_SAMPLES), ("skip", skip, 0)):
        if not is_whole(value, least):
            raise DataError(f"{name} must be an integer >= {least}, got {value!r}")
    means = [_mean(e, period, skip) for e in record.experiments]
    us, ys = ([m[part].T for m in means] for part in (slice(record.nu), slice(record.nu, None)))
    made = from_arrays(
        us, ys, record.dt, inputs=record.inputs, outputs=record.outputs,
        input_units=record.input_units, output_units=record.output_units,
    )  # fmt: skip
    named = zip(made.experiments, record.experiments, strict=True)
    return dataclasses.replace(
        made, experiments=tuple(dataclasses.replace(new, name=old.name) for new, old in named)
    )


def _mean(experiment: Experiment, period: int, skip: int) -> np.ndarray:
    """Inputs and outputs (nu + ny, period), NaN where no period was measured."""
    count = experiment.samples // period - skip
    if count < 1:
        raise DataError(
            f"experiment {experiment.name!r} must hold {skip + 1} periods of {period} samples, {skip} of them to skip, and has "
            f"{experiment.samples} samples; give the period in samples, or skip fewer"
        )
    part = slice(skip * period, (skip + count) * period)
    values = np.hstack([experiment.u, experiment.y])[part].reshape(count, period, -1)
    seen = np.hstack([experiment.u_mask, experiment.y_mask])[part].reshape(count, period, -1)
    # Each phase is divided by the number of periods in which it was measured, so that gaps do not bias the mean.
    times = seen.sum(axis=0)
    total = np.sum(values, axis=0, where=seen)
    return np.where(times > 0, total / np.maximum(times, 1), np.nan).T
