"""The engine: many epochs in one compiled call, and the loop over those calls."""

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from ..runs.devices import gathered, local, replicate
from ..runs.interrupt import Request, stop_requests
from ..runs.monitor import Callback
from ..runs.run_folder import RunFolder
from ..runs.watchers import Watcher
from .health import healthy, learn
from .problem import Objective, State, StepLoss, Steps
from .settle import settled

_CALL_SECONDS = 0.5  # of epochs in one compiled call: how often the line moves and Ctrl-C is noticed

_ENTRIES = 1024
"""Least length of a history: it is part of the compiled program, which serves trainings of other numbers of epochs, too."""

_REASONS = ("", "time budget", "interrupted", "terminated", "finished", "patience", "not finite")
"""Why training ends, weakest first."""


class Metrics(NamedTuple):
    """What one epoch leaves in the history: means over its gradient steps, then what holds at its end."""

    loss: Float[Array, "..."]
    validation: Float[Array, "..."]
    gradient_norm: Float[Array, "..."]
    learning_rate: Float[Array, "..."]
    skipped: Float[Array, "..."]
    certificate_margin: Float[Array, "..."]


class Training(eqx.Module):
    """What training does not change: the objective, the optimizer, and epochs without improvement to stop after (0: never)."""

    objective: Objective
    patience: Int[Array, ""]
    optimizer: optax.GradientTransformation = eqx.field(static=True)

    def on(self, mesh: Mesh | None) -> "Training":
        """Return the training with its arrays on the devices of a mesh."""
        return dataclasses.replace(
            self, objective=self.objective.on(mesh), patience=replicate(self.patience, mesh)
        )


def start(training: Training, trained: PyTree) -> State:
    """Return the state before the first epoch."""
    dtype, none = jax.tree.leaves(trained)[0].dtype, jnp.full((), -1, jnp.int32)
    with jax.numpy_dtype_promotion("standard"):  # as in `_update`
        opt_state = training.optimizer.init(trained)
    state = State(
        trained=trained, trained_epoch=none, sound=trained, sound_epoch=none, opt_state=opt_state, best=trained,
        best_loss=jnp.full((), jnp.inf, dtype), best_epoch=none, epoch=jnp.zeros((), jnp.int32), step=jnp.zeros((), jnp.int32),
        health=healthy(dtype), stopped=jnp.zeros((), bool),
    )  # fmt: skip
    return jax.tree.map(jnp.copy, state)  # its buffers are donated, each once


def empty_history(epochs: int, state: State) -> Metrics:
    """Return a history with room for so many epochs before the first of them, NaN throughout; stacked as the states are."""
    shape = (*state.epoch.shape, max(_ENTRIES, 1 << (epochs - 1).bit_length()))
    return Metrics(*(jnp.full(shape, jnp.nan, state.best_loss.dtype) for _ in Metrics._fields))


@eqx.filter_jit(donate="all-except-first")
def run_epochs(
    given: tuple[Training, Int[Array, ""]], state: State, history: Metrics
) -> tuple[State, Metrics]:
    """Run up to `count` epochs and write the metrics of each into its entry of `history`; end early where training stops.

    `given`: the training and `count`. The buffers of state and history are donated.
    """
    training, count = given

    def body(carry):
        state, history, left = carry
        epoch = state.epoch
        state, metrics = replicate(one_epoch(training, state), training.objective.mesh)
        history = jax.tree.map(lambda column, new: column.at[epoch].set(new), history, metrics)
        return state, history, left - 1

    def unfinished(carry):
        state, _, left = carry
        return (left > 0) & ~state.stopped

    state, history, _ = lax.while_loop(unfinished, body, (state, history, count))
    return state, history


def one_epoch(training: Training, state: State) -> tuple[State, Metrics]:
    """Run one epoch: gradient steps, validation, selection of the best model."""
    after, steps = training.objective.epoch(state, partial(_descend, training.optimizer))
    validation = training.objective.validate(after.trained)
    selected = _select(after, validation, training.patience)
    return selected, _metrics(state, selected, steps, validation)


def _descend(
    optimizer: optax.GradientTransformation, state: State, loss: StepLoss, carry: PyTree, batches: PyTree
) -> tuple[State, Steps]:
    """Take a gradient step for each batch; what the loss carries to the next one has no gradient."""

    def body(before, batch):
        state, carry = before
        (value, carry), slope = jax.value_and_grad(loss, has_aux=True)(state.trained, carry, batch)
        steps = Steps(value, optax.tree.norm(slope))
        return (_update(optimizer, state, value, slope), lax.stop_gradient(carry)), steps

    (state, _), steps = lax.scan(body, (state, carry), batches)
    return state, steps


def _update(optimizer: optax.GradientTransformation, state: State, loss: Array, slope: PyTree) -> State:
    """Take the step, unless loss, gradient or new arrays are not finite."""
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
        updates, opt_state = optax.with_extra_args_support(optimizer).update(
            slope, state.opt_state, state.trained, value=loss
        )
        trained = optax.apply_updates(state.trained, optax.tree.scale(state.health.scale, updates))
    good, health = learn(state.health, state.step, state.epoch, loss, slope, trained)
    trained, trained_epoch, opt_state = _chosen(
        good, (trained, state.epoch, opt_state), (state.trained, state.trained_epoch, state.opt_state)
    )
    evaluated = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(slope))
    sound, sound_epoch = _chosen(
        evaluated, (state.trained, state.trained_epoch), (state.sound, state.sound_epoch)
    )
    return state._replace(
        trained=trained, trained_epoch=trained_epoch, sound=sound, sound_epoch=sound_epoch, opt_state=opt_state,
        health=health, step=state.step + 1,
    )  # fmt: skip


def _chosen(condition: Array, where_true: PyTree, where_false: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), where_true, where_false)


def _select(state: State, validation: Array | None, patience: Array) -> State:
    """Count the epoch and keep the best model; without a validation loss, the last that may be good."""
    if validation is None:
        better, best_loss = jnp.ones((), bool), state.best_loss
        # After a skipped step the newest arrays may be what it was skipped for.
        found = _chosen(
            state.health.in_a_row == 0, (state.trained, state.trained_epoch), (state.sound, state.sound_epoch)
        )
    else:
        better = validation < state.best_loss
        best_loss = jnp.where(better, validation, state.best_loss)
        found = state.trained, state.epoch
    best, best_epoch = _chosen(better, found, (state.best, state.best_epoch))
    waited = state.epoch - best_epoch
    stopped = state.health.hopeless | ((waited >= patience) & (patience > 0))
    return state._replace(
        best=best, best_loss=best_loss, best_epoch=best_epoch,
        epoch=state.epoch + 1, stopped=stopped,
    )  # fmt: skip


def _metrics(before: State, after: State, steps: Steps, validation: Array | None) -> Metrics:
    """Return the metrics of an epoch; losses and norms of skipped steps do not count."""
    nan = jnp.full((), jnp.nan, steps.losses.dtype)
    finite = jnp.isfinite(steps.losses) & jnp.isfinite(steps.norms)
    skipped = after.health.skipped - before.health.skipped
    return Metrics(
        loss=jnp.mean(steps.losses, where=finite), validation=nan if validation is None else validation,
        gradient_norm=jnp.mean(steps.norms, where=finite), learning_rate=_learning_rate(after),
        skipped=skipped.astype(nan.dtype), certificate_margin=nan,
    )  # fmt: skip


def _learning_rate(state: State) -> Array:
    """The rate that `optax.inject_hyperparams` shows, after the cuts; NaN for an optimizer that shows none."""
    found = optax.tree.get_all_with_path(
        state.opt_state, "learning_rate", filtering=lambda _, value: eqx.is_array(value)
    )
    scale = state.health.scale
    return found[0][1].astype(scale.dtype) * scale if found else jnp.full_like(scale, jnp.nan)


class PeriodicCallback:
    """Calls the user's callback, and puts the margin that it returns into the metrics of the epoch before."""

    def __init__(self, callback: Callback | None, every: int, objective: Objective):
        self.callback, self.every, self.objective = callback, every, objective

    def epochs_left(self, done: int) -> int:
        """Return how many epochs may run until the callback is due."""
        return self.every - done % self.every if self.callback else np.iinfo(np.int32).max

    def __call__(self, state: State, history: Metrics, last: bool = False) -> Metrics:
        """Call it where it is due."""
        done = int(state.epoch)
        if self.callback is None or not (last or done % self.every == 0):
            return history
        own = jax.tree.map(jnp.copy, local(state.trained))  # the state's buffers are donated
        margin = self.callback(done, self.objective.shown(own))
        if not isinstance(margin, float) or done == 0:
            return history
        margins = history.certificate_margin.at[done - 1].set(margin)
        return history._replace(certificate_margin=margins)


def run(
    training: Training,
    trained: PyTree,
    epochs: int,
    watchers: Sequence[Watcher],
    callback: PeriodicCallback,
    folder: RunFolder | None = None,
    mesh: Mesh | None = None,
) -> tuple[State, dict[str, np.ndarray], str]:
    """Train, as many epochs a compiled call as fit in half a second; return state, history and why it ended."""
    state = start(training, trained)
    history = empty_history(epochs, state)
    if folder is not None:
        state, history = folder.resume(state, history, epochs)
    training, state, history = training.on(mesh), *replicate((state, history), mesh)
    stopped = "failed"
    with stop_requests() as asked:
        try:
            state, history, stopped = _loop(
                training, state, history, epochs, watchers, callback, folder, asked
            )
        finally:
            for watcher in watchers:
                watcher.close(stopped)
    state, history = local((state, history))
    return state, history_of(state, history), stopped


def history_of(state: State, history: Metrics) -> dict[str, np.ndarray]:
    """Return the history of the epochs done, by name."""
    return {name: np.asarray(a)[: int(state.epoch)] for name, a in history._asdict().items()}


def _loop(
    training: Training, state: State, history: Metrics, epochs: int, watchers: Sequence[Watcher], callback: PeriodicCallback,
    folder: RunFolder | None, asked: Request,
) -> tuple[State, Metrics, str]:  # fmt: skip
    mesh = training.objective.mesh
    count, last = 1, True
    history = callback(state, history) if int(state.epoch) == 0 else history
    while not (stopped := _agreed(reason(state, epochs, folder, asked), mesh)):
        begin, done = time.monotonic(), int(state.epoch)
        until_save = folder.epochs_left(done) if folder else epochs
        left = min(count, epochs - done, callback.epochs_left(done), until_save)
        given = training, replicate(jnp.asarray(left, jnp.int32), mesh)
        state, history = run_epochs(given, state, history)
        jax.block_until_ready(state)
        count = paced(count, left, time.monotonic() - begin)
        count = gathered(count, mesh)[0]  # clocks differ, and all processes make the same calls
        ended = _agreed(reason(state, epochs, folder, asked), mesh)
        last, state = bool(ended), _settled(training, state, history, ended)
        history = callback(state, history, last)
        notify(watchers, local(history), done, int(state.epoch))
        if folder is not None:
            folder.save(state, history, last)
    if not last:  # a request to stop came since
        state = _settled(training, state, history, stopped)
        if folder is not None:
            folder.save(state, history, True)
    return state, history, stopped


def _settled(training: Training, state: State, history: Metrics, ended: str) -> State:
    if ended in ("", "terminated"):  # when terminated there may be no time for another epoch
        return state
    mesh = training.objective.mesh
    length, one = len(history.loss), jnp.ones((), jnp.int32)

    def losses_again(own: State) -> Array:
        own, blank, once = replicate((own, empty_history(length, own), one), mesh)
        return local(run_epochs((training, once), own, blank)[1].loss)

    found = settled(local(state), np.asarray(local(history.validation)), losses_again)
    return replicate(found, mesh)


def reason(state: State, epochs: int, folder: RunFolder | None, asked: Request) -> str:
    """Return why training is over, "" where it is not."""
    if bool(state.health.hopeless):
        return "not finite"
    if bool(state.stopped):
        return "patience"
    if int(state.epoch) >= epochs:
        return "finished"
    return asked.reason or ("time budget" if folder is not None and folder.out_of_time() else "")


def _agreed(own: str, mesh: Mesh | None) -> str:
    """Return why training is over in any of the processes on one mesh: a request to one stops all."""
    return _REASONS[max(gathered(_REASONS.index(own), mesh))]


def paced(count: int, ran: int, seconds: float) -> int:
    """Return how many epochs the next compiled call may run, after one that was to run up to `count` of them."""
    return max(1, min(int(_CALL_SECONDS * ran / seconds), 10 * count))


def notify(watchers: Sequence[Watcher], history: Metrics, first: int, last: int) -> None:
    """Notify all watchers of the epochs from `first` to the one before `last`."""
    # Cut by NumPy: JAX compiles a slice for each length.
    columns = {name: np.asarray(a)[first:last].astype(float) for name, a in history._asdict().items()}
    for k in range(last - first):
        metrics = {name: float(column[k]) for name, column in columns.items()}
        for watcher in watchers:
            watcher.epoch(first + k, metrics)
