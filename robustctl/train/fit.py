"""The second verb: identify a system from a logged record."""

from pathlib import Path

import optax
from jaxtyping import PRNGKeyArray

from ..checks import renamed
from ..data import Record
from ..runs.monitor import SHOWN, Monitor
from ..runs.run_folder import Run
from ..system import Parameterization
from .identification import Fit, Identification
from .initial_state import Builder, InitialState
from .training import MOVED, RENAMED, train

IDENTIFICATION = MOVED | {
    name: f"it to rc.train.Identification(record, {name}=...), and that to rc.train.train or rc.train.train_seeds"
    for name in ("scaling", "segment", "batch_size", "loss", "regularizer")
}


@renamed(**RENAMED, **IDENTIFICATION)
def fit(
    parameterization: Parameterization,
    record: Record,
    *,
    validation: Record | None = None,
    initial: Builder | InitialState | None = None,
    washout: int = 0,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 500,
    run: Run | str | Path | None = None,
    monitor: Monitor | None = SHOWN,
    key: PRNGKeyArray,
) -> Fit:
    """Minimize the free-run simulation error of a parameterization on a record.

    ::

        fitted = rc.fit(model, record, initial=rc.train.learned_state(horizon=20), epochs=300, key=jr.key(0))

    The short form of::

        rc.train.train(rc.train.Identification(record, ...), model, ...)

    which has all settings and describes each in detail.

    **Arguments:**

    - `parameterization`: the untrained model.
    - `record`: the experiments to train on.
    - `validation`: a record whose loss selects the epoch that is returned.
    - `initial`: `zero_state()` (default), `learned_state()` or `warm_up(window)`, or an `InitialState`.
    - `washout`: samples at the start of each experiment that are simulated but not counted.
    - `optimizer`: any Optax transformation; None: `clipped_adam()`.
    - `epochs`: passes over the record.
    - `run`: run folder, or a `Run`.
    - `monitor`: what is shown; None: nothing.
    - `key`: for all random draws.

    **Raises:** as `Identification` and `train`.
    """
    problem = Identification(record, validation=validation, initial=initial, washout=washout)
    return train(
        problem, parameterization, epochs=epochs, optimizer=optimizer, run=run, monitor=monitor, key=key
    )
