"""The second verb: identify a system from a logged record."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from ..data import Record, Scaling
from ..errors import DataError, RobustctlError, RobustctlWarning
from ..system import Parameterization, dtype_of
from .batches import Batch, pack
from .identification import Identification
from .identified import Identified
from .initial_state import Builder, InitialState, LearnedState, zero_state
from .log import JsonLines, ProgressBar, Watcher
from .loop import run
from .losses import Loss, mean_squared_error


@dataclasses.dataclass(frozen=True)
class Fit:
    """What `fit` returns.

    `model`: the best on the validation record, without one the last good one; `history`: arrays `loss`,
    `validation` (NaN without a validation record) and `gradient_norm`, one entry an epoch, of scaled signals;
    `best_epoch`: counted from 0; `stopped`: "finished", "patience", "interrupted" or "not finite";
    `bad_step`: the gradient step (counted from 0 over the whole fit) that met a number that is not finite,
    else None; `seconds`: wall time, compilation included.
    """

    model: Identified
    history: dict[str, np.ndarray]
    best_epoch: int
    stopped: str
    bad_step: int | None
    seconds: float

    def __str__(self) -> str:
        """Return a summary for people."""
        epochs = len(self.history["loss"])
        text = f"fit ended ({self.stopped}) after {epochs} epochs in {self.seconds:.1f} s; kept epoch {self.best_epoch}"
        if self.bad_step is not None:
            text += f"; gradient step {self.bad_step} was not finite, the model before it was kept"
        return text


def fit(
    parameterization: Parameterization,
    record: Record,
    *,
    validation: Record | None = None,
    scaling: Scaling | None = None,
    initial: Builder | InitialState | None = None,
    washout: int = 0,
    segment: int | None = None,
    batch_size: int | None = None,
    loss: Loss = mean_squared_error,
    regularizer: Callable[[Parameterization], Array] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 500,
    patience: int | None = None,
    log: str | Path | None = None,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    key: PRNGKeyArray,
) -> Fit:
    """Minimise the free-run simulation error of a parameterization on a record.

    ::

        min over free arrays  sum over segments of  loss(y_hat, y, mask),   y_hat = rollout(explicit(), u, x0)

    Signals are scaled to mean zero and standard deviation one on `record`. Ctrl-C ends the fit and keeps
    the best model; a loss or gradient that is not finite ends it and keeps the last good one.

    **Arguments:**

    - `validation`: a record to judge each epoch by; the best model is kept. `patience`: epochs without
      improvement after which to stop.
    - `scaling`: used in place of the one fitted on `record`.
    - `initial`: `zero_state()` (default), `learned_state()` or `warm_up(window)`, or an `InitialState`.
    - `washout`: samples at the start of each experiment that are simulated but not counted.
    - `segment`: samples between gradient steps (truncated backpropagation): the state is carried from
      segment to segment, the gradient is not. None: the whole experiment.
    - `batch_size`: experiments a gradient step, drawn anew each epoch. None: all.
    - `regularizer`: a function of the parameterization added to the loss, such as `lambda m: 1e-3 * m.gamma`.
    - `optimizer`: any Optax transformation; default Adam at 1e-3 with elements of the gradient clipped at 10.
    - `log`: a file for one JSON line an epoch. `watchers`: objects told of every epoch (see `Watcher`).

    **Raises:** `DataError` for a record that does not fit the model or is too short; `RobustctlError` for
    settings out of range; both before anything is written.
    """
    begin = time.monotonic()
    _check_settings(washout, segment, batch_size, epochs, patience, validation, record)
    initial_key, order_key = jr.split(key)
    model = _untrained(parameterization, record, scaling, initial, initial_key)
    if validation is not None and isinstance(model.initial, LearnedState):
        raise RobustctlError(
            "a validation record needs an initial state of its own, and learned_state() has one for each training "
            "experiment only; use warm_up(window), or zero_state() with a washout"
        )
    data = _pack(model, record, washout, segment)
    checked = None if validation is None else _pack(model, validation, washout, segment)
    trained, fixed = eqx.partition((model.parameterization, model.initial), eqx.is_inexact_array)
    if optimizer is None:
        optimizer = optax.chain(optax.clip(10.0), optax.adam(1e-3))
    job = Identification(
        fixed=fixed, data=data, validation=checked, key=order_key, optimizer=optimizer, loss=loss,
        regularizer=regularizer, segment=segment or data.u.shape[1],
        batch_size=batch_size or len(record.experiments), patience=patience or 0,
    )  # fmt: skip
    everyone = [*watchers, *([ProgressBar(epochs)] if progress else []), *([JsonLines(log)] if log else [])]
    state, history, stopped = run(job, trained, epochs, everyone)
    best = eqx.tree_at(lambda m: (m.parameterization, m.initial), model, eqx.combine(state.best, fixed))
    bad_step = int(state.bad_step) if int(state.bad_step) >= 0 else None
    if bad_step is not None:
        warn_of(bad_step)
    return Fit(best, history, int(state.best_epoch), stopped, bad_step, time.monotonic() - begin)


def _untrained(parameterization, record: Record, scaling, initial, key) -> Identified:
    system = parameterization.explicit()
    _check_sizes(system, record)
    build = zero_state() if initial is None else initial
    if not isinstance(build, InitialState):
        build = build(system, record.nu, record.ny, len(record.experiments), key)
    return Identified(
        parameterization, build, Scaling.fit(record) if scaling is None else scaling,
        record.dt, record.inputs, record.outputs, record.input_units, record.output_units,
    )  # fmt: skip


def _pack(model: Identified, record: Record, washout: int, segment: int | None) -> Batch:
    check_channels(model, record)
    scaled = model.scaling.apply(record)
    return pack(
        scaled, window=model.initial.window, washout=washout, multiple=segment or 1, dtype=model.dtype
    )


def check_channels(model: Identified, record: Record) -> None:
    """Raise `DataError` unless the record has the model's sample time, channels and units."""
    if not np.isclose(record.dt, model.dt, rtol=1e-6):
        raise DataError(
            f"the record must have the model's sample time {model.dt:g} s, got {record.dt:g} s; resample it"
        )
    for what in ("inputs", "outputs", "input_units", "output_units"):
        ours, theirs = getattr(model, what), getattr(record, what)
        if ours != theirs:
            raise DataError(
                f"the record must have the model's {what} {ours}, got {theirs}; rename or select them"
            )


def _check_sizes(system, record: Record) -> None:
    u = jax.ShapeDtypeStruct((record.nu,), dtype_of(system))
    try:
        _, y = eqx.filter_eval_shape(system.step, system.init_state(), u)
        got = y.shape
    except Exception as error:
        raise DataError(
            f"the model must take the record's {record.nu} inputs {record.inputs}, but a step with them raised: {error}; "
            f"build it with nu={record.nu}, ny={record.ny}"
        ) from error
    if got != (record.ny,):
        raise DataError(
            f"the model must give the record's {record.ny} outputs {record.outputs}, got {got}; build it with ny={record.ny}"
        )


def _check_settings(washout, segment, batch_size, epochs, patience, validation, record) -> None:
    for name, value, least in (
        ("washout", washout, 0), ("segment", segment, 1), ("batch_size", batch_size, 1), ("epochs", epochs, 1), ("patience", patience, 1)
    ):  # fmt: skip
        if value is not None and (not isinstance(value, int) or value < least):
            raise RobustctlError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if batch_size is not None and batch_size > len(record.experiments):
        raise RobustctlError(
            f"batch_size must be at most the number of experiments, {len(record.experiments)}, got {batch_size}; "
            "cut the record with rc.data.windows to have more of them"
        )
    if patience is not None and validation is None:
        raise RobustctlError("patience needs a validation record to judge by, got none")


def warn_of(bad_step: int) -> None:
    """Tell the user at which gradient step training met something that is not finite."""
    warnings.warn(
        f"the loss or its gradient was not finite at gradient step {bad_step}; the model before it was kept. "
        "Use a smaller learning rate or a shorter segment",
        RobustctlWarning,
        stacklevel=3,
    )
