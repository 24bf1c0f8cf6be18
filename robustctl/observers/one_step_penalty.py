"""The wish that a plant's own trajectories be solutions of its observer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..data import Record, Scaling
from ..errors import DataError
from ..nn import StateObserver
from ..system import dtype_of


def exactness(
    record: Record, *, weight: float = 1.0, scaling: Scaling | None = None
) -> Callable[[StateObserver], Array]:
    """Return a regularizer for `rc.fit`: the mean one-step error of an observer at the true states.

    ::

        weight * mean over t of |x[t+1] - f(x[t], [u[t], y[t]])|^2       (scaled states)

    Where it is zero the plant's trajectories are solutions, and every estimate converges to the state. The error that stays
    is the `model` share of `error_bound`. Source: [BWM25], Sec. VI, where it is the whole loss.

    **Arguments:** `record`: of `for_observer`, with all states for outputs, the one that is fitted; `scaling`: the one given
    to `fit`, if any.

    **Raises:** `DataError` for a weight that is not positive and a record in which no step is known.
    """
    if not weight > 0:
        raise DataError(f"weight must be positive, got {weight}")
    xs, vs, after = one_steps((Scaling.fit(record) if scaling is None else scaling).apply(record))

    def penalty(observer: StateObserver) -> Array:
        dtype = dtype_of(observer)
        system = observer.explicit()
        predicted = jax.vmap(lambda x, v: system.step(x, v)[0])(
            jnp.asarray(xs, dtype), jnp.asarray(vs, dtype)
        )
        return weight * jnp.mean((jnp.asarray(after, dtype) - predicted) ** 2)

    return penalty


def one_steps(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return states, inputs and next states (n, .) at all samples of a record where they are known.

    **Raises:** `DataError` where there is no such sample.
    """
    parts = []
    for e in record.experiments:
        known = (e.y_mask[:-1] & e.y_mask[1:]).all(axis=1) & e.u_mask[:-1].all(axis=1)
        parts.append((e.y[:-1][known], e.u[:-1][known], e.y[1:][known]))
    xs, vs, after = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(xs):
        raise DataError(
            "the record must have a sample with all states known and the next one too; it has none"
        )
    return xs, vs, after
