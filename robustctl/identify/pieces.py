"""A record cut into pieces of equal length, which are simulated in parallel."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..data import Record


class Pieces(NamedTuple):
    """Pieces of experiments, padded to equal lengths.

    **Arguments:**

    - `u`: inputs, scaled.
    - `y`: outputs, scaled.
    - `fit`: measured outputs that are trained on.
    - `held`: measured outputs that are held out.
    - `first`: whether a piece starts its experiment.
    - `before`: number of the piece before it.
    - `fit_pieces`: numbers of the pieces with outputs that are trained on.
    - `held_pieces`: numbers of the pieces with outputs that are held out.
    """

    u: Float[Array, "P T nu"]
    y: Float[Array, "P T ny"]
    fit: Bool[Array, "P T ny"]
    held: Bool[Array, "P T ny"]
    first: Bool[Array, " P"]
    before: Int[Array, " P"]
    fit_pieces: Int[Array, " F"]
    held_pieces: Int[Array, " H"]


def cut_record(record: Record, held: float, late: int, longest: int, dtype) -> Pieces:
    """Return the pieces of a record in scaled signals.

    **Arguments:**

    - `record`: the experiments.
    - `held`: share of each experiment, its last part, that is held out.
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
        trained = np.arange(late, e.samples + late) < held_from(e.samples + late, held)
        signals = {
            "u": e.u,
            "y": e.y,
            "fit": e.y_mask & trained[:, None],
            "held": e.y_mask & ~trained[:, None],
        }
        for name, values in signals.items():
            padded = np.concatenate(
                [values, np.zeros((n * length - e.samples, values.shape[1]), values.dtype)]
            )
            parts[name].append(padded.reshape(n, length, -1))
        first += [k == 0 for k in range(n)]
    u, y, fit, out = (np.concatenate(parts[name]) for name in ("u", "y", "fit", "held"))
    numbers = np.arange(len(first))
    return Pieces(
        jnp.asarray(u, dtype), jnp.asarray(y, dtype), jnp.asarray(fit), jnp.asarray(out), jnp.asarray(first),
        jnp.asarray(np.maximum(numbers - 1, 0)), *(jnp.asarray(numbers[a.any((1, 2))]) for a in (fit, out)),
    )  # fmt: skip


def held_from(samples: int, held: float) -> int:
    """Return the first sample of an experiment's part that is held out."""
    return samples - int(np.floor(held * samples))
