"""A record as padded arrays on the device."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..data import Record
from ..errors import DataError


class Experiments(NamedTuple):
    """Experiments stacked: `head_*` are the samples of the warm-up window, the rest is simulated.

    Shorter experiments are padded at the end with samples whose mask is False.
    """

    head_u: Float[Array, "B window nu"]
    head_y: Float[Array, "B window ny"]
    u: Float[Array, "B T nu"]
    y: Float[Array, "B T ny"]
    mask: Bool[Array, "B T ny"]
    index: Int[Array, " B"]


def pack(record: Record, *, window: int = 0, washout: int = 0, multiple: int = 1, dtype) -> Experiments:
    """Return the record's experiments as one `Experiments`, padded to a multiple of `multiple` samples.

    The first `washout` samples after the window are simulated but masked.

    **Raises:** `DataError` for an experiment with no sample left after window and washout.
    """
    check_lengths(record, window, washout)
    longest = max(experiment.samples for experiment in record.experiments) - window
    length = -(-longest // multiple) * multiple

    def padded(values, fill_last: bool):
        pad = length - len(values)
        return np.concatenate([values, np.repeat(values[-1:], pad, axis=0) * fill_last])

    u = np.stack([padded(e.u[window:], True) for e in record.experiments])
    y = np.stack([padded(e.y[window:], True) for e in record.experiments])
    mask = np.stack([padded(e.y_mask[window:], False) for e in record.experiments])
    mask[:, :washout] = False
    head_u = np.stack([e.u[:window] for e in record.experiments])
    head_y = np.stack([e.y[:window] for e in record.experiments])
    head_u, head_y, u, y = (jnp.asarray(a, dtype) for a in (head_u, head_y, u, y))
    return Experiments(head_u, head_y, u, y, jnp.asarray(mask, bool), jnp.arange(len(record.experiments)))


def check_lengths(record: Record, window: int, washout: int) -> None:
    """Raise `DataError` for an experiment with no sample left after window and washout."""
    for experiment in record.experiments:
        if experiment.samples <= window + washout:
            raise DataError(
                f"every experiment must be longer than window + washout = {window} + {washout} samples, got "
                f"{experiment.samples} in {experiment.name!r}; shorten them or use a longer record"
            )


def in_segments(a: Array, length: int) -> Array:
    """Return (B, T, ...) as (segments, B, length, ...)."""
    batch, samples, *rest = a.shape
    return jnp.moveaxis(a.reshape(batch, samples // length, length, *rest), 1, 0)
