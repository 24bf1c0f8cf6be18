"""A Kalman filter as the prior model to which a learned correction is added."""

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
    """Return a Kalman filter as the prior of a `rc.nn.CorrectedR2DN`, in the scaled signals of `fit`.

    ::

        p+ = (A - A M C) p + A M (y - y0) + B (u - u0),     z = x0 + (I - M C) p + M (y - y0)

    Each state of p is divided by its standard deviation along the record, so that the core reads numbers of order one.

    **Arguments:**

    - `estimator`: the filter, from `rc.classical.kalman`
    - `record`: of `for_observer`; its inputs are the filter's controls and then its measured outputs (flags may follow,
      which the prior does not read), its outputs are the estimated states
    - `states`: which of the filter's states these are, default all in order
    - `scaling`: the one given to `fit`, if any

    **Raises:** `DataError` for a record with other numbers of channels, and states that the filter does not have.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        log = rc.observers.simulate_log(sampled, [rc.data.multisine(100, rms=0.1)], key=jax.random.key(0))
        record = rc.observers.for_observer(log, "lower", ("true upper", "true lower"))
        prior = rc.observers.kalman_prior(rc.classical.kalman(sampled, 0.1, 0.1).estimator, record)
        # model = rc.nn.CorrectedR2DN(**prior, core=core)
    """
    e = estimator
    A, B, C, M, x0, u0, y0 = (np.asarray(a, float) for a in (e.A, e.B, e.C, e.M, e.x0, e.u0, e.y0))
    (nx, nu), ny = B.shape, C.shape[0]
    states = range(nx) if states is None else states
    if not all(0 <= k < nx for k in states) or len(states) != record.ny:
        raise DataError(
            f"states must name one of the filter's {nx} for each of the record's outputs {record.outputs}, "
            f"got {list(states)}"
        )
    # with flags there is one a measured output
    if record.nu not in (nu + ny, nu + 2 * ny):
        raise DataError(
            f"the record's inputs must be {nu} controls and {ny} measured outputs of the filter, with flags or without, "
            f"got {record.inputs}"
        )
    scaling = Scaling.fit(record) if scaling is None else scaling
    # The filter on [u, y, flags] in their units, p+ = F p + G v, z = H p + J v with v about the operating point ...
    center = scaling.u_mean - np.concatenate([u0, y0, np.zeros(record.nu - nu - ny)])
    flags = np.zeros((nx, record.nu - nu - ny))
    F, G = A - A @ M @ C, np.hstack([B, A @ M, flags])
    J = np.hstack([np.zeros((nx, nu)), M, flags])[list(states)]
    H, shift = (np.eye(nx) - M @ C)[list(states)], x0[list(states)]
    # ... then with v = u_std v_scaled + center, z = y_std z_scaled + y_mean and p = size p_scaled put in
    size, out = _sizes(F, G * scaling.u_std, scaling.apply(record)), scaling.y_std[:, None]
    return {
        "A": F * size / size[:, None],
        "B": G * scaling.u_std / size[:, None],
        "C": H * size / out,
        "D": J * scaling.u_std / out,
        "a": G @ center / size,
        "d": (shift + J @ center - scaling.y_mean) / scaling.y_std,
    }


def _sizes(A: np.ndarray, B: np.ndarray, scaled: Record) -> np.ndarray:
    """Return each state's standard deviation (nx,) along the record, 1 for a state that is constant."""
    prior = StateSpace(A, B, np.eye(len(A)), np.zeros_like(B), scaled.dt)
    runs = [rollout(prior, jnp.asarray(e.u, prior.A.dtype)).xs for e in scaled.experiments]
    size = np.std(np.concatenate([np.asarray(x, float) for x in runs]), axis=0)
    return np.where(size > 0, size, 1.0)
