"""Records for training observers: measured channels as inputs, channels to estimate as outputs."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..data import Experiment, Record, Scaling
from ..data.record_checks import MEASURED, as_names
from ..errors import DataError


def for_observer(
    record: Record, measured: Sequence[str] | str, estimated: Sequence[str] | str, *, flags: bool = False
) -> Record:
    """Return a record whose inputs are the channels that an observer reads and whose outputs are those it estimates.

    ::

        inputs: [u, y]  or with flags  [u, y, is y measured],    outputs: the estimated channels

    A missing sample of a measured channel is replaced by the last measured one, as a computer in the loop would do. The
    observer is then fitted like any model: `rc.fit` minimizes the estimation error along the log.

    **Arguments:**

    - `record`: a log with the measured and the estimated channels as outputs
    - `measured`: names of the outputs that the observer reads
    - `estimated`: names of the outputs that it estimates
    - `flags`: whether the observer also reads, for each measured channel, whether the sample was measured

    **Raises:** `DataError` for names that the record does not have, and for flags of channels without missing samples.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        log = rc.observers.simulate_log(sampled, [rc.data.multisine(100, rms=0.1)], key=jax.random.key(0))
        record = rc.observers.for_observer(log, "lower", ("true upper", "true lower"))
    """
    measured, estimated = as_names(measured, "measured"), as_names(estimated, "estimated")
    read, wanted = (_columns(record, names) for names in (measured, estimated))
    if flags and all(e.y_mask[:, read].all() for e in record.experiments):
        raise DataError(
            f"flags must be of channels with missing samples, but {', '.join(measured)} miss none; omit flags"
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
    """Rearrange an experiment; a masked output already has the last measured value, see `Experiment`."""
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
    """Return a record for training a predictor in innovation form (`rc.nn.InnovationR2DN`), and the scaling for `fit`.

    ::

        inputs [u, y, is y measured],    outputs  y, named "level predicted" and so on, then z with its own names

    A sample is predicted before it is read, so `fit` minimizes the one-step prediction error, or the error of several
    steps if samples are missing. y has the same scaling as input and as output, the flags have none.

    **Arguments:**

    - `record`: the log
    - `measured`: names of the outputs y, default all; the other outputs, z, are estimated and never read, for example a
      derivative
    - `hidden`: share of the samples that are withheld from the predictor, in addition to missing ones, so that it learns
      to predict several steps
    - `longest`: largest length of the bursts in which they are withheld
    - `seed`: of the bursts

    **Raises:** `DataError` for names that the record does not have, a share outside [0, 1) and bursts below 1 sample.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        log = rc.observers.simulate_log(sampled, [rc.data.multisine(100, rms=0.1)], key=jax.random.key(0))
        record, scaling = rc.observers.for_prediction(log, "lower", hidden=0.2)   # both for rc.fit
    """
    if not 0 <= hidden < 1 or longest < 1:
        raise DataError(f"hidden must be in [0, 1) and longest at least 1, got {hidden} and {longest}")
    measured = record.outputs if measured is None else as_names(measured, "measured")
    read = _columns(record, measured)
    never = [k for k in range(record.ny) if k not in read]
    order = [*read, *never]
    rng, experiments = np.random.default_rng(seed), []
    for e in record.experiments:
        # Only the flag is cleared: the value remains in the record as the output that the prediction is compared with.
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
    # One scaling for y as input and as output, because the innovation is their difference; mean 0 and scale 1 for flags
    own, flag = Scaling.fit(record), np.zeros(len(read))
    mean = np.concatenate([own.u_mean, own.y_mean[read], flag])
    std = np.concatenate([own.u_std, own.y_std[read], flag + 1])
    return made, Scaling(mean, std, own.y_mean[order], own.y_std[order])


def _bursts(rng: np.random.Generator, samples: int, share: float, longest: int) -> np.ndarray:
    """Return which samples (T,) are withheld in bursts of 1 to `longest`, about the given share on average."""
    starts = rng.random(samples) < share / (
        (longest + 1) / 2
    )  # a burst has (longest + 1) / 2 samples on average
    hidden = np.zeros(samples, bool)
    for k in np.flatnonzero(starts):
        hidden[k : k + rng.integers(1, longest + 1)] = True
    return hidden


def with_derivative(
    record: Record, channel: str, *, half_width: int, order: int = 3, name: str | None = None
) -> Record:
    """Return the record with the time derivative of an output as an additional output, for training an observer.

    ::

        dy/dt[t] = p'(t),    p = argmin over polynomials of `order`  sum over |k| <= half_width of (y[t+k] - p(t+k))^2

    The sum runs over the measured samples before and after t, so it needs future samples, which a log has and a loop does
    not have. If too few were measured, the derivative is missing too. Source: A. Savitzky, M. Golay, Analytical Chemistry,
    1964, here with gaps.

    **Arguments:**

    - `record`: the log
    - `channel`: name of the output
    - `half_width`: samples on each side
    - `order`: of the polynomial
    - `name`: of the derivative, default the channel's name and "rate"

    **Raises:** `DataError` for an unknown channel, and a window with no more samples than the polynomial has coefficients.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        log = rc.observers.simulate_log(sampled, [rc.data.multisine(100, rms=0.1)], key=jax.random.key(0))
        with_rate = rc.observers.with_derivative(log, "lower", half_width=5)
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
    """Return the slope per sample of local polynomials, and where it is known.

    ::

        gram[i, j] = sum over k of m[t+k] (k / h)^(i+j),    right[i] = sum over k of m[t+k] y[t+k] (k / h)^i,    h = half_width

    the normal equations with the mask m as weight: correlations of mask and data with powers.
    """
    import scipy.signal  # slow to import

    t = np.arange(-half_width, half_width + 1) / half_width
    weight = mask.astype(float)
    moments = np.stack([scipy.signal.correlate(weight, t**k, "same") for k in range(2 * order + 1)])
    right = np.stack([scipy.signal.correlate(weight * y, t**k, "same") for k in range(order + 1)])
    gram = moments[np.add.outer(np.arange(order + 1), np.arange(order + 1))].transpose(2, 0, 1)
    # 1e8: the powers of t in [-1, 1] have a condition of 1e3 or so without gaps; half the digits are then still good.
    known = np.linalg.cond(gram) < 1e8
    solved = np.linalg.solve(np.where(known[:, None, None], gram, np.eye(order + 1)), right.T[..., None])
    return np.where(known, solved[:, 1, 0] / half_width, 0.0), known


def _columns(record: Record, names: Sequence[str]) -> list[int]:
    for name in names:
        if name not in record.outputs:
            raise DataError(f"{name!r} must be an output of the record, which has {record.outputs}")
    return [record.outputs.index(name) for name in names]
