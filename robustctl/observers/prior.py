"""What is known of a plant, in the form that a learned correction adds to."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ..classical import KalmanFilter
from ..data import Record, Scaling
from ..errors import DataError
from ..state_space import StateSpace
from ..trajectory import rollout


def kalman_prior(
    estimator: KalmanFilter,
    record: Record,
    states: Sequence[int] | None = None,
    *,
    scaling: Scaling | None = None,
) -> dict[str, np.ndarray]:
    """Return a Kalman filter as the prior of a `rc.nn.CorrectedR2DN`, on the scaled signals that `fit` works with.

    ::

        CorrectedR2DN(**kalman_prior(rc.classical.kalman(plant, W, V).estimator, record), core=core)

        p+ = (A - A M C) p + A M (y - y0) + B (u - u0),     z = x0 + (I - M C) p + M (y - y0)

    each state of p then divided by its standard deviation along the record, so that the core reads numbers of size one.

    **Arguments:** `record`: of `for_observer`, its inputs the filter's controls and then its measured outputs (flags may follow;
    the prior does not read them), its outputs the estimated states; `states`: which of the filter's states these are,
    default all in order; `scaling`: the one given to `fit`, if any.

    **Raises:** `DataError` for a record with other numbers of channels, and states that the filter does not have.
    """
    A, B, C, M, x0, u0, y0 = (np.asarray(getattr(estimator, k), float) for k in ("A", "B", "C", "M", "x0", "u0", "y0"))  # fmt: skip
    (nx, nu), ny = B.shape, C.shape[0]
    states = range(nx) if states is None else states
    if not all(0 <= k < nx for k in states) or len(states) != record.ny:
        raise DataError(
            f"states must name one of the filter's {nx} for each of the record's outputs {record.outputs}, "
            f"got {list(states)}"
        )
    if record.nu not in (nu + ny, nu + 2 * ny):
        raise DataError(
            f"the record's inputs must be {nu} controls and {ny} measured outputs of the filter, with flags or without, "
            f"got {record.inputs}"
        )
    scaling = Scaling.fit(record) if scaling is None else scaling
    center = scaling.u_mean - np.concatenate([u0, y0, np.zeros(record.nu - nu - ny)])
    blind = np.zeros((nx, record.nu - nu - ny))
    forgets, reads = A - A @ M @ C, np.hstack([B, A @ M, blind])
    at_once = np.hstack([np.zeros((nx, nu)), M, blind])[list(states)]
    sees, shift = (np.eye(nx) - M @ C)[list(states)], x0[list(states)]
    size, out = _sizes(forgets, reads * scaling.u_std, scaling.apply(record)), scaling.y_std[:, None]
    return {
        "A": forgets * size / size[:, None],
        "B": reads * scaling.u_std / size[:, None],
        "C": sees * size / out,
        "D": at_once * scaling.u_std / out,
        "a": reads @ center / size,
        "d": (shift + at_once @ center - scaling.y_mean) / scaling.y_std,
    }


def _sizes(A: np.ndarray, B: np.ndarray, scaled: Record) -> np.ndarray:
    """Each state's standard deviation (nx,) along the record."""
    prior = StateSpace(A, B, np.eye(len(A)), np.zeros_like(B), scaled.dt)
    runs = [rollout(prior, jnp.asarray(e.u, prior.A.dtype)).xs for e in scaled.experiments]
    size = np.std(np.concatenate([np.asarray(x, float) for x in runs]), axis=0)
    return np.where(size > 0, size, 1.0)
