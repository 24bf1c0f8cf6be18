"""Training: a problem, a model and an optimizer; short forms for each problem stand in the other files."""

import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray, PyTree

from ..checks import check_whole, check_whole_or_none, of_type, renamed
from ..errors import RobustctlError, RobustctlWarning
from ..runs.devices import check_same, mesh_of
from ..runs.fingerprint import array_hash, fingerprint
from ..runs.monitor import SHOWN, SILENT, Monitor
from ..runs.run_folder import Run, RunFolder, as_run
from .engine import PeriodicCallback, State, Training
from .engine import run as run_engine
from .health import diagnosis
from .optimizer import clipped_adam
from .problem import Objective, Outcome, Problem, Result

MOST_EPOCHS = 10_000_000
"""The history of so many, six floats an epoch, takes 240 MB."""

RENAMED = {
    "resume": "run=rc.runs.Run(folder, resume=True)",
    "progress": "monitor=None for none, or monitor=rc.runs.Monitor(progress=False)",
    "watchers": "monitor=rc.runs.Monitor(watchers=[...])",
    "inspect": "monitor=rc.runs.Monitor(callback=...)",
    "inspect_every": "monitor=rc.runs.Monitor(callback=..., every=...)",
}
"""By old keyword of all training functions, what is given today."""

MOVED = {
    name: f"{name} to rc.train.train or rc.train.train_seeds, which have all settings"
    for name in ("patience", "devices")
}
"""Settings that `train` has and its short forms have not."""


@renamed(**RENAMED)
def train(
    problem: Problem[Result],
    model: Any,
    *,
    epochs: int,
    optimizer: optax.GradientTransformation | None = None,
    patience: int | None = None,
    devices: int = 1,
    run: Run | str | Path | None = None,
    monitor: Monitor | None = SHOWN,
    key: PRNGKeyArray,
) -> Result:
    """Train a model on a problem; return the problem's result, a `Fit` for `Identification` and so on.

    ::

        problem = rc.train.Identification(record, validation=other, segment=200)
        fitted = rc.train.train(problem, model, epochs=300, patience=50, key=jr.key(0))

    Ctrl-C ends the training and keeps the best model. A step whose loss or gradient is not finite is skipped and the
    learning rate halved, to grow back by 2 % each good step; ten in a row end the training, which returns the last model with
    finite loss and gradient. A second call with equal shapes and settings compiles nothing.

    **Arguments:**

    - `problem`: what is minimized: `Identification`, `PolicyGradient`, `OneStep`, or a `Problem` of your own.
    - `model`: the untrained model, which is not changed.
    - `epochs`: passes over the data, or batches of new episodes.
    - `optimizer`: any Optax transformation; it is given the loss as `value`. None: `clipped_adam()`.
    - `patience`: epochs without a better validation loss after which training stops; None: it does not.
    - `devices`: how many of `jax.devices()` to spread a batch over, to the same numbers up to rounding; they divide it.
      After `jax.distributed.initialize` these are the devices of all processes.
    - `run`: folder of the run, or a `Run`: what was trained with what, a log with one line an epoch, and checkpoints.
    - `monitor`: progress line, watchers and a callback (see `rc.runs.Monitor`); None: nothing is shown.
    - `key`: for all random draws.

    **Raises:** `RobustctlError` for settings out of range, for a folder that holds a run which is not to be resumed,
    and for a run to be resumed that has other data, key, settings or model; what the problem raises; all before anything
    is written. `OSError` where the folder cannot be made. Warns of the result's `trouble` and `caution`.
    """
    begin, monitor = time.monotonic(), monitor or SILENT
    trained, objective, training = prepare(problem, model, epochs, optimizer, patience, key)
    settings = {**problem.settings(), "patience": patience, **({} if run is None else as_run(run).settings)}
    same = fingerprint(key, settings, **problem.fingerprint(objective.whole(trained)))
    mesh = mesh_of(devices, problem.sizes(objective))
    check_same(mesh, array_hash(trained), *same.values())
    with nullcontext() if run is None else RunFolder(as_run(run), same, mesh) as folder:
        watchers = monitor.open(epochs, folder and folder.log, mesh)
        callback = PeriodicCallback(monitor.callback, monitor.every, objective)
        end = run_engine(training, trained, epochs, watchers, callback, folder, mesh)
    return finish(problem, objective, *end, time.monotonic() - begin)


def prepare(
    problem: Problem, model: Any, epochs: int, optimizer: optax.GradientTransformation | None, patience: int | None,
    key: PRNGKeyArray,
) -> tuple[PyTree, Objective, Training]:  # fmt: skip
    """Return the arrays to train, the objective and the training; **Raises:** as `train`."""
    optimizer = clipped_adam() if optimizer is None else optimizer
    of_type(
        problem,
        Problem,
        "the problem must be a rc.train.Problem, for example rc.train.Identification(record)",
    )
    must = "optimizer must be an Optax transformation, as rc.train.clipped_adam(1e-3)"
    of_type(optimizer, optax.GradientTransformation, must)
    check_whole(1, epochs=epochs)
    check_whole_or_none(1, patience=patience)
    if epochs > MOST_EPOCHS:
        raise RobustctlError(
            f"epochs must be at most {MOST_EPOCHS:,}, got {epochs:,}; train in several calls, each from the model before"
        )
    trained, objective = problem.prepare(model, key)
    if patience is not None and eqx.filter_eval_shape(objective.validate, trained) is None:
        raise RobustctlError(
            "patience needs a validation loss, got none; give the problem a validation record"
        )
    return trained, objective, Training(objective, jnp.asarray(patience or 0, jnp.int32), optimizer)


def finish(
    problem: Problem[Result], objective: Objective, state: State, history: dict, stopped: str, seconds: float, who: str = ""
) -> Result:  # fmt: skip
    """Return the result of a training that ended in `state`, and warn; `who`: which of several, for example "seed 3: "."""
    trouble = diagnosis(state.health, state.trained)
    best = objective.whole(state.best)
    outcome = Outcome(best, history, int(state.best_epoch), stopped, trouble, seconds, state.opt_state)
    result = problem.result(outcome)
    texts = [str(text) for text in (result.trouble, result.caution) if text]
    for text in texts:
        warnings.warn(f"{who}{text}", RobustctlWarning, stacklevel=4)
    return result
