"""A record cut into pieces of equal length, which are simulated in parallel."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..data import Record

Span = tuple[float, float]
"""Where a part of each experiment begins and ends, in shares of the samples counted from the end: (0.25, 0) is the last quarter."""


class Pieces(NamedTuple):
    """Pieces of experiments, padded to equal lengths.

    **Arguments:**

    - `u`: inputs, scaled.
    - `y`: outputs, scaled.
    - `fit`: measured outputs that each member is trained on.
    - `held`: measured outputs that are held out of it.
    - `first`: whether a piece starts its experiment.
    - `before`: number of the piece before it.
    - `fit_pieces`: numbers of the pieces with outputs that are trained on.
    - `held_pieces`: numbers of the pieces with outputs that are held out.
    """

    u: Float[Array, "P T nu"]
    y: Float[Array, "P T ny"]
    fit: Bool[Array, "k P T ny"]
    held: Bool[Array, "k P T ny"]
    first: Bool[Array, " P"]
    before: Int[Array, " P"]
    fit_pieces: Int[Array, " F"]
    held_pieces: Int[Array, " H"]


def cut_record(record: Record, held: Sequence[Span], late: int, longest: int, dtype) -> Pieces:
    """Return the pieces of a record in scaled signals.

    **Arguments:**

    - `record`: the experiments.
    - `held`: of each member, the part of each experiment that is held out of it.
    - `late`: samples that each experiment had before its first one here, which count for that share.
    - `longest`: most samples of a piece.
    - `dtype`: of the signals.
    """
    counts = [-(-e.samples // longest) for e in record.experiments]
    length = max(-(-e.samples // n) for e, n in zip(record.experiments, counts, strict=True))
    parts = {name: [] for name in ("u", "y", "fit", "held")}
    first = []
    for e in record.experiments:
        n = -(-e.samples // length)
        out = np.stack([is_held(e.samples + late, span)[late:] for span in held])[:, :, None]
        signals = {"u": e.u, "y": e.y, "fit": e.y_mask & ~out, "held": e.y_mask & out}
        for name, values in signals.items():
            *members, _, width = values.shape
            padded = np.zeros((*members, n * length, width), values.dtype)
            padded[..., : e.samples, :] = values
            parts[name].append(padded.reshape(*members, n, length, width))
        first += [k == 0 for k in range(n)]
    u, y, fit, out = (np.concatenate(parts[name], axis=-3) for name in ("u", "y", "fit", "held"))
    numbers = np.arange(len(first))
    return Pieces(
        jnp.asarray(u, dtype), jnp.asarray(y, dtype), jnp.asarray(fit), jnp.asarray(out), jnp.asarray(first),
        jnp.asarray(np.maximum(numbers - 1, 0)), *(jnp.asarray(numbers[a.any((0, 2, 3))]) for a in (fit, out)),
    )  # fmt: skip


def spans(held: float, members: int) -> tuple[Span, ...]:
    """Return what is held out of each member: the last part of each experiment, the part before it, and so on.

    The first part, which the initial state needs, is held out of none; where there are more members than parts, the parts come again.
    """
    parts = max(int(1 / held + 1e-9) - 1, 1) if held else 1
    return tuple((held * (k % parts + 1), held * (k % parts)) for k in range(members))


def is_held(samples: int, span: Span) -> np.ndarray:
    """Return which samples of an experiment a span holds."""
    at = np.arange(samples)
    return (held_from(samples, span[0]) <= at) & (at < held_from(samples, span[1]))


def held_from(samples: int, held: float) -> int:
    """Return the first sample of the last part of an experiment."""
    # The sum of shares is rounded.
    return samples - int(np.floor(held * samples + 1e-9))
