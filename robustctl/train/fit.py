"""The second verb: identify a system from a logged record."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from ..data import Record, Scaling
from ..errors import DataError, RobustctlError, RobustctlWarning
from ..runs.devices import check_same, mesh_of, writes
from ..runs.fingerprint import array_hash, data_hash, identity, model_hash
from ..runs.run_folder import Keeper, Run, keeper_of
from ..runs.watchers import JsonLines, ProgressBar, Watcher
from ..system import Parameterization, dtype_of
from .batches import Batch, pack
from .engine import State
from .engine import run as train
from .fitted_model import FittedModel
from .health import Trouble, diagnosis
from .identification import Identification, Trained, placed
from .initial_state import Builder, InitialState, LearnedState, zero_state
from .losses import Loss, mean_squared_error
from .optimizer import clipped_adam

EARLY, FELL, LATER = 0.1, 0.5, 20  # share of the epochs, ratio of losses and epochs left, of `Fit.caution`


@dataclasses.dataclass(frozen=True)
class Fit:
    """What `fit` returns.

    `model`: the best on the validation record, without one the last good one; `history`: arrays `loss`,
    `validation` (NaN without a validation record) and `gradient_norm`, of scaled signals, `learning_rate` (NaN for an
    optimizer that does not show it, see `clipped_adam`), `skipped` (gradient steps that were not finite) and
    `certificate_margin` (NaN where `inspect` gave none), one entry an epoch; `best_epoch`: counted from 0;
    `stopped`: "finished", "patience", "interrupted", "time budget" or "not finite"; `trouble`: what was not finite,
    None where everything was; `seconds`: wall time of this call, compilation included.
    """

    model: FittedModel
    history: dict[str, np.ndarray]
    best_epoch: int
    stopped: str
    trouble: Trouble | None
    seconds: float

    def __str__(self) -> str:
        """Return a summary for people."""
        epochs = len(self.history["loss"])
        text = f"fit ended ({self.stopped}) after {epochs} epochs in {self.seconds:.1f} s; kept epoch {self.best_epoch}"
        return text if self.trouble is None else f"{text}; {self.trouble}"

    @property
    def caution(self) -> str:
        """That the validation record chose an early epoch while training went on to far less loss, in words, or ""."""
        losses, best = self.history["loss"], self.best_epoch
        later = len(losses) - 1 - best
        if best < 0 or np.isnan(self.history["validation"]).all() or later < LATER:
            return ""
        before, after = losses[best], np.nanmin(losses[best:])
        if best > EARLY * len(losses) or not after < FELL * before:
            return ""
        return (
            f"the validation record chose epoch {best} of {len(losses)}, and in the epochs after it the training loss fell "
            f"from {before:.3g} to {after:.3g}: that record is too short or unlike the one trained on, or the model is "
            "too large; validate on another part, train without validation, or take a smaller model"
        )


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
    regularizer: Callable[[Any], Array] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 500,
    patience: int | None = None,
    devices: int = 1,
    run: Run | str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    inspect: Callable[[int, Parameterization], float | None] | None = None,
    inspect_every: int = 10,
    key: PRNGKeyArray,
) -> Fit:
    """Minimize the free-run simulation error of a parameterization on a record.

    ::

        min over free arrays  sum over segments of  loss(y_hat, y, mask),   y_hat = rollout(explicit(), u, x0)

    Signals are scaled to mean zero and standard deviation one on `record`. Ctrl-C ends the fit and keeps
    the best model. A step whose loss or gradient is not finite is skipped and the learning rate halved, to
    grow back by 2 % a good step; ten in a row end the fit, which keeps the last good model.

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
    - `optimizer`: any Optax transformation, told the loss as `value`; default `clipped_adam()`.
    - `devices`: how many of `jax.devices()` to spread the experiments of a batch over, to the same numbers but
      for rounding; they divide it. After `jax.distributed.initialize` these are the devices of all processes.
    - `run`: folder of the run, which holds what was trained with what, `training.jsonl` with one line an epoch,
      and checkpoints (see `Run`). `resume`: go on from its newest checkpoint, to the same numbers as if it had not
      been interrupted; where there is none yet, begin; where it is finished, return what it found.
    - `watchers`: objects told of every epoch (see `Watcher`), such as `rc.runs.TensorBoard(folder)`.
    - `inspect(epochs done, model)`: called before every epoch that `inspect_every` divides and after the last;
      a float that it returns is the history's `certificate_margin`, as `rc.certificates.certificate_margin` gives it.

    **Raises:** `DataError` for a record that does not fit the model or is too short; `RobustctlError` for
    settings out of range, a watcher that is none, a folder that holds a run while `resume` is False, and a run to
    be resumed that was begun with other data, key, settings or model; all before anything is written. `OSError`
    where the folder cannot be made. Warns of `Fit.trouble` and of `Fit.caution`.
    """
    begin = time.monotonic()
    check_watchers(watchers)
    model, job, trained = prepared(
        parameterization, record, validation=validation, scaling=scaling, initial=initial, washout=washout, segment=segment,
        batch_size=batch_size, loss=loss, regularizer=regularizer, optimizer=optimizer, epochs=epochs, patience=patience, key=key,
    )  # fmt: skip
    settings = {"washout": washout, "segment": segment, "batch_size": batch_size, "patience": patience}
    same = identity(
        key, settings, data=data_hash(record), validation=data_hash(validation), model=model_hash(model)
    )
    mesh = mesh_of(devices, {"batch_size (the number of experiments where it is left out)": job.batch_size})
    check_same(mesh, array_hash(trained), *same.values())
    keeper = keeper_of(run, same, resume, mesh)
    look = None if inspect is None else lambda done, free: inspect(done, eqx.combine(free, job.fixed).model)
    told = everyone(watchers, progress, epochs, keeper, mesh)
    state, history, stopped = train(placed(job, mesh), trained, epochs, told, look, inspect_every, keeper)
    fitted = finished(model, job, state, history, stopped, time.monotonic() - begin)
    warn_of(fitted.trouble, fitted.caution)
    return fitted


def prepared(
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
    regularizer: Callable[[Any], Array] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int,
    patience: int | None = None,
    key: PRNGKeyArray,
) -> tuple[FittedModel, Identification, Trained]:
    """Return the untrained model, what training leaves alone and what it trains; settings and faults as of `fit`."""
    _check_types(parameterization, record, optimizer)
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
    whole = Trained(model.parameterization, model.initial)
    trained, fixed = eqx.partition(whole, eqx.is_inexact_array)
    job = Identification(
        fixed=fixed, data=data, validation=checked, key=order_key, optimizer=optimizer or clipped_adam(), loss=loss,
        regularizer=regularizer, segment=segment or data.u.shape[1],
        batch_size=batch_size or len(record.experiments), patience=patience or 0,
    )  # fmt: skip
    return model, job, trained


def finished(
    model: FittedModel, job: Identification, state: State, history: dict, stopped: str, seconds: float
) -> Fit:
    """Return the result of a training that began with `model` and ended in `state`."""
    best = eqx.tree_at(
        lambda m: (m.parameterization, m.initial), model, tuple(eqx.combine(state.best, job.fixed))
    )
    trouble = diagnosis(state.health, state.trained)
    return Fit(best, history, int(state.best_epoch), stopped, trouble, seconds)


def _untrained(parameterization, record: Record, scaling, initial, key) -> FittedModel:
    system = parameterization.explicit()
    _check_sizes(system, record)
    build = zero_state() if initial is None else initial
    if not isinstance(build, InitialState):
        build = build(system, record.nu, record.ny, len(record.experiments), key)
    return FittedModel(
        parameterization, build, Scaling.fit(record) if scaling is None else scaling,
        record.dt, record.inputs, record.outputs, record.input_units, record.output_units,
    )  # fmt: skip


def _pack(model: FittedModel, record: Record, washout: int, segment: int | None) -> Batch:
    check_channels(model, record)
    scaled = model.scaling.apply(record)
    return pack(
        scaled, window=model.initial.window, washout=washout, multiple=segment or 1, dtype=model.dtype
    )


def check_channels(model: FittedModel, record: Record) -> None:
    """Raise `DataError` unless the record has the model's sample time, channels and units."""
    if not isinstance(model, FittedModel):
        raise RobustctlError(f"the model must be what fit returns as .model, got {type(model).__name__}")
    if not isinstance(record, Record):
        raise RobustctlError(
            f"a record must be a rc.data.Record (read, from_arrays and split make some), got {type(record).__name__}"
        )
    if not np.isclose(record.dt, model.dt, rtol=1e-6):
        raise DataError(
            f"the record must have the model's sample time {model.dt:g} s, got {record.dt:g} s; resample it"
        )
    for what in ("inputs", "outputs", "input_units", "output_units"):
        ours, theirs = getattr(model, what), getattr(record, what)
        if ours != theirs:
            raise DataError(
                f"the record must have the model's {what} {ours}, got {theirs}; rc.data.select picks "
                f"channels, dataclasses.replace(record, {what}=...) renames them"
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


def _check_types(parameterization, record, optimizer) -> None:
    for name, value, kind, hint in (
        ("the model", parameterization, Parameterization, "a Parameterization; give what explicit() is called on"),
        ("the record", record, Record, "a rc.data.Record; read and from_arrays make one"),
        ("optimizer", optimizer or clipped_adam(), optax.GradientTransformation, "an Optax transformation, as rc.train.clipped_adam(1e-3)"),
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise RobustctlError(f"{name} must be {hint}, got {type(value).__name__}")


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


def everyone(
    watchers: Sequence[Watcher], progress: bool, epochs: int, keeper: Keeper | None, mesh: Mesh | None = None
) -> list[Watcher]:
    """Return all that are told of an epoch: the log of the run's folder, the user's and the progress line.

    Of several processes on one `mesh` the first alone has a log and a line.
    """
    if not writes(mesh):
        return list(watchers)
    logs = [] if keeper is None else [JsonLines(keeper.log)]
    lines = [ProgressBar(epochs)] if progress else []
    return [*logs, *watchers, *lines]  # the log first, for a watcher may raise


def check_watchers(watchers: Sequence[Watcher]) -> None:
    """Raise `RobustctlError` for what could not be told of an epoch."""
    if not isinstance(watchers, Sequence):
        raise RobustctlError(f"watchers must be a list, got {watchers!r}; give [{watchers!r}]")
    for watcher in watchers:
        told = (callable(getattr(watcher, name, None)) for name in ("epoch", "close"))
        if isinstance(watcher, type) or not all(told):
            raise RobustctlError(
                f"a watcher must be an object with the methods epoch(number, row) and close(stopped), got {watcher!r}; "
                "wrap what you have in a class that has them"
            )


def warn_of(*said: Trouble | str | None, who: str = "") -> None:
    """Tell the user what there is to say of a training, if anything; `who`: of which of several, "seed 3: " say."""
    for each in filter(None, said):
        warnings.warn(f"{who}{each}", RobustctlWarning, stacklevel=3)
