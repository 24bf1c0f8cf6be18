"""A penalty on the one-step error of an observer, which is zero if the plant's trajectories are its solutions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..data import Record, Scaling
from ..errors import DataError
from ..nn import StateObserver
from ..system import dtype_of


def one_step_penalty(
    record: Record, *, weight: float = 1.0, scaling: Scaling | None = None
) -> Callable[[StateObserver], Array]:
    """Return a regularizer for `rc.fit`: the mean squared one-step error of an observer at the true states.

    ::

        weight * mean over t of |x[t+1] - f(x[t], [u[t], y[t]])|^2       (scaled states)

    If it is zero, the plant's trajectories are solutions of the observer, and every estimate converges to the state. The
    remaining error is the `model` term of `error_bound`. Source: [BWM25], Sec. VI, where it is the whole loss.

    **Arguments:**

    - `record`: the record of `for_observer` that is fitted, with all states as outputs
    - `weight`: of the penalty relative to the loss of `fit`
    - `scaling`: the one given to `fit`, if any

    **Raises:** `DataError` for a weight that is not positive, and a record without two known samples in succession.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        log = rc.observers.simulate_log(sampled, [rc.data.multisine(100, rms=0.1)], key=jax.random.key(0))
        record = rc.observers.for_observer(log, "lower", ("true upper", "true lower"))
        penalty = rc.observers.one_step_penalty(record, weight=10.0)   # rc.train.Identification(..., regularizer=penalty)
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
    """Return states, inputs and next states (n, .) at all samples of a record at which all three are known.

    **Raises:** `DataError` if there is no such sample.
    """
    parts = []
    for e in record.experiments:
        # A held value in place of a missing one would count as an error of the model.
        known = (e.y_mask[:-1] & e.y_mask[1:]).all(axis=1) & e.u_mask[:-1].all(axis=1)
        parts.append((e.y[:-1][known], e.u[:-1][known], e.y[1:][known]))
    xs, vs, after = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(xs):
        raise DataError(
            "the record must have a sample with all states known and the next one too, but it has none; measure or simulate "
            "all states"
        )
    return xs, vs, after
