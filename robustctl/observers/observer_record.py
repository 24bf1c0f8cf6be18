"""A log rearranged for an observer: what it may read on one side, what it is to estimate on the other."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..data import Experiment, Record, Scaling
from ..data.record_checks import as_names
from ..errors import DataError

MEASURED = " is measured"
"""What a channel's flag is called after the channel's name: 1 where the sample was measured, 0 where it is held."""


def for_observer(
    record: Record, measured: Sequence[str] | str, estimated: Sequence[str] | str, *, flags: bool = False
) -> Record:
    """Return a record whose inputs are what an observer reads and whose outputs are what it is to estimate.

    ::

        inputs: [u, y]  or with flags  [u, y, is y measured],    outputs: the estimated channels

    A missing sample of a measured channel is the last one measured, as a computer in the loop would hold it; a flag tells the
    observer so. It is then identified like any model: `rc.fit` minimizes the error of the estimate along the log,
    from any initial state, so what it learns does not lean on knowing the start.

    **Raises:** `DataError` for names that the record does not have, and for flags of channels that miss nothing.
    """
    measured, estimated = as_names(measured, "measured"), as_names(estimated, "estimated")
    read, wanted = (_columns(record, names) for names in (measured, estimated))
    if flags and all(e.y_mask[:, read].all() for e in record.experiments):
        raise DataError(
            f"flags must be of channels that miss samples, but {', '.join(measured)} miss none; leave them out"
        )
    experiments = tuple(_rearranged(e, read, wanted, flags) for e in record.experiments)
    units = tuple(record.output_units[k] for k in read)
    return dataclasses.replace(
        record,
        experiments=experiments,
        inputs=(*record.inputs, *measured, *([f"{name}{MEASURED}" for name in measured] if flags else ())),
        outputs=estimated,
        input_units=(*record.input_units, *units, *([""] * len(measured) if flags else ())),
        output_units=tuple(record.output_units[k] for k in wanted),
    )


def _rearranged(e: Experiment, read: list[int], wanted: list[int], flags: bool) -> Experiment:
    """A masked output already holds the last value measured, see `Experiment`."""
    extra = [e.y_mask[:, read].astype(float)] if flags else []
    u = np.hstack([e.u, e.y[:, read], *extra])
    known = np.ones((e.samples, u.shape[1] - e.u.shape[1]), bool)
    return dataclasses.replace(
        e, u=u, y=e.y[:, wanted], u_mask=np.hstack([e.u_mask, known]), y_mask=e.y_mask[:, wanted]
    )


def for_prediction(
    record: Record,
    measured: Sequence[str] | str | None = None,
    *,
    hidden: float = 0.0,
    longest: int = 10,
    seed: int = 0,
) -> tuple[Record, Scaling]:
    """Return a record to train a predictor in innovation form on (`rc.nn.InnovationR2DN`), and the scaling that `fit` needs.

    ::

        inputs [u, y, is y measured],    outputs  y, called "level predicted" and so on, then z by its own names

    The prediction of a sample is made before it is read, so `fit` minimizes the one-step prediction error; where samples are lost,
    the error of several steps. `measured`: the y, default all outputs; the others, z, are estimated and never read: a
    derivative say. `hidden`: share of the samples that is kept from the predictor in bursts of up to `longest`,
    on top of those that are lost, so that it learns to predict further. The scaling is the same for y as input
    and as output, and none for the flags.

    **Raises:** `DataError` for names that the record does not have, a share outside [0, 1) and bursts below 1 sample.
    """
    if not 0 <= hidden < 1 or longest < 1:
        raise DataError(f"hidden must be in [0, 1) and longest at least 1, got {hidden} and {longest}")
    measured = record.outputs if measured is None else as_names(measured, "measured")
    read = _columns(record, measured)
    never = [k for k in range(record.ny) if k not in read]
    order = [*read, *never]
    rng, experiments = np.random.default_rng(seed), []
    for e in record.experiments:
        flags = (e.y_mask[:, read] & ~_bursts(rng, e.samples, hidden, longest)[:, None]).astype(float)
        u_mask = np.hstack([e.u_mask, np.ones((e.samples, 2 * len(read)), bool)])
        u = np.hstack([e.u, e.y[:, read], flags])
        experiments.append(
            dataclasses.replace(e, u=u, u_mask=u_mask, y=e.y[:, order], y_mask=e.y_mask[:, order])
        )
    made = dataclasses.replace(
        record,
        experiments=tuple(experiments),
        inputs=(*record.inputs, *measured, *(f"{name}{MEASURED}" for name in measured)),
        outputs=(*(f"{name} predicted" for name in measured), *(record.outputs[k] for k in never)),
        input_units=(*record.input_units, *(record.output_units[k] for k in read), *[""] * len(read)),
        output_units=tuple(record.output_units[k] for k in order),
    )
    own, flag = Scaling.fit(record), np.zeros(len(read))
    mean = np.concatenate([own.u_mean, own.y_mean[read], flag])
    std = np.concatenate([own.u_std, own.y_std[read], flag + 1])
    return made, Scaling(mean, std, own.y_mean[order], own.y_std[order])


def _bursts(rng: np.random.Generator, samples: int, share: float, longest: int) -> np.ndarray:
    """Samples (T,) hidden in bursts of 1 to `longest`, as many as make up the share on average."""
    starts = rng.random(samples) < share / ((longest + 1) / 2)
    hidden = np.zeros(samples, bool)
    for k in np.flatnonzero(starts):
        hidden[k : k + rng.integers(1, longest + 1)] = True
    return hidden


def with_derivative(
    record: Record, channel: str, *, half_width: int, order: int = 3, name: str | None = None
) -> Record:
    """Return the record with the time derivative of an output as one more output, for an observer to learn.

    ::

        at each sample the slope of the polynomial of `order` that fits the 2 half_width + 1 samples about it best

    The fit is least squares over the samples that were measured, before and after: it needs the future, which a log has
    and a loop has not. Where too few were measured the derivative is missing too. Source: A. Savitzky, M. Golay, Analytical
    Chemistry, 1964, here with gaps.

    **Raises:** `DataError` for an unknown channel, and a window with no more samples than the polynomial has coefficients.
    """
    (column,) = _columns(record, (channel,))
    if not 1 <= order <= 2 * half_width:
        raise DataError(f"order must be from 1 to {2 * half_width} for half_width {half_width}, got {order}")
    unit = record.output_units[column]
    return dataclasses.replace(
        record,
        experiments=tuple(
            _differentiated(e, column, half_width, order, record.dt) for e in record.experiments
        ),
        outputs=(*record.outputs, name or f"{channel} rate"),
        output_units=(*record.output_units, f"{unit}/s" if unit else ""),
    )


def _differentiated(e: Experiment, column: int, half_width: int, order: int, dt: float) -> Experiment:
    slope, known = _local_slopes(e.y[:, column], e.y_mask[:, column], half_width, order)
    return dataclasses.replace(
        e, y=np.hstack([e.y, slope[:, None] / dt]), y_mask=np.hstack([e.y_mask, known[:, None]])
    )


def _local_slopes(
    y: np.ndarray, mask: np.ndarray, half_width: int, order: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes a sample of weighted local polynomials: the normal equations are convolutions of mask and data."""
    import scipy.signal  # slow to import

    t = np.arange(-half_width, half_width + 1) / half_width
    weight = mask.astype(float)
    moments = np.stack([scipy.signal.correlate(weight, t**k, "same") for k in range(2 * order + 1)])
    right = np.stack([scipy.signal.correlate(weight * y, t**k, "same") for k in range(order + 1)])
    gram = moments[np.add.outer(np.arange(order + 1), np.arange(order + 1))].transpose(2, 0, 1)
    known = np.linalg.cond(gram) < 1e8
    solved = np.linalg.solve(np.where(known[:, None, None], gram, np.eye(order + 1)), right.T[..., None])
    return np.where(known, solved[:, 1, 0] / half_width, 0.0), known


def _columns(record: Record, names: Sequence[str]) -> list[int]:
    for name in names:
        if name not in record.outputs:
            raise DataError(f"{name!r} must be an output of the record, which has {record.outputs}")
    return [record.outputs.index(name) for name in names]
