"""The compiled part of training: many epochs in one call, and the calls themselves."""

import abc
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..runs.devices import gathered, local, replicate
from ..runs.interrupt import Request, stop_requests
from ..runs.run_folder import Keeper
from ..runs.watchers import Watcher
from .health import Health, healthy, learn

_CALL_SECONDS = 0.5  # of epochs in one compiled call: how often the line moves and Ctrl-C is heard

_REASONS = ("", "time budget", "interrupted", "terminated", "finished", "patience", "not finite")
"""Why training ends, weakest first."""

Inspect = Callable[[int, PyTree], float | None]
"""`(epochs done, trained arrays) -> certificate margin`, or None where it computes none."""


class State(NamedTuple):
    """Everything that training changes. Epochs and steps count from zero; -1: there was none."""

    trained: PyTree
    opt_state: PyTree
    best: PyTree
    best_loss: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]
    step: Int[Array, ""]
    health: Health
    stopped: Bool[Array, ""]


class Row(NamedTuple):
    """What one epoch leaves in the history: means over its gradient steps, then what holds at its end."""

    loss: Float[Array, ""]
    validation: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    learning_rate: Float[Array, ""]
    skipped: Float[Array, ""]
    certificate_margin: Float[Array, ""]


class Job(eqx.Module):
    """What training leaves alone: data, optimizer, settings, and how one epoch goes.

    `mesh`: the devices that its arrays are on, None for one.
    """

    optimizer: eqx.AbstractVar[optax.GradientTransformation]
    patience: eqx.AbstractVar[int]
    mesh: eqx.AbstractVar[Mesh | None]

    @abc.abstractmethod
    def epoch(self, state: State) -> tuple[State, Row]:
        """Run one epoch, built on `update`, `judge` and `row`."""


def start(job: Job, trained: PyTree) -> State:
    """Return the state before the first epoch."""
    dtype = jax.tree.leaves(trained)[0].dtype
    with jax.numpy_dtype_promotion("standard"):  # as in `update`
        opt_state = job.optimizer.init(trained)
    state = State(
        trained=trained, opt_state=opt_state, best=trained, best_loss=jnp.full((), jnp.inf, dtype),
        best_epoch=jnp.full((), -1, jnp.int32), epoch=jnp.zeros((), jnp.int32), step=jnp.zeros((), jnp.int32),
        health=healthy(dtype), stopped=jnp.zeros((), bool),
    )  # fmt: skip
    return jax.tree.map(jnp.copy, state)  # its buffers are given away, each once


@eqx.filter_jit(donate="all-except-first")
def run_epochs(given: tuple[Job, Int[Array, ""]], state: State, rows: Row) -> tuple[State, Row]:
    """Run up to `count` epochs and write each one's row at its place in `rows`; stop early where told to.

    `given`: the job and `count`. The buffers of state and rows are given away.
    """
    job, count = given

    def body(carry):
        state, rows, left = carry
        epoch = state.epoch
        state, row = replicate(job.epoch(state), job.mesh)
        rows = jax.tree.map(lambda all_rows, new: all_rows.at[epoch].set(new), rows, row)
        return state, rows, left - 1

    def go_on(carry):
        state, _, left = carry
        return (left > 0) & ~state.stopped

    state, rows, _ = lax.while_loop(go_on, body, (state, rows, count))
    return state, rows


def update(job: Job, state: State, loss: Array, slope: PyTree) -> State:
    """Take the step, unless it would leave or meet something that is not finite."""
    optimizer = optax.with_extra_args_support(job.optimizer)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
        updates, opt_state = optimizer.update(slope, state.opt_state, state.trained, value=loss)
        trained = optax.apply_updates(state.trained, optax.tree.scale(state.health.scale, updates))
    good, health = learn(state.health, state.step, state.epoch, loss, slope, trained)
    trained, opt_state = jax.tree.map(
        lambda new, old: jnp.where(good, new, old), (trained, opt_state), (state.trained, state.opt_state)
    )
    return state._replace(trained=trained, opt_state=opt_state, health=health, step=state.step + 1)


def judge(job: Job, state: State, validation: Array | None) -> State:
    """Count the epoch and keep the best model; without a validation loss, the last good one."""
    better = jnp.ones((), bool) if validation is None else validation < state.best_loss
    best_loss = state.best_loss if validation is None else jnp.where(better, validation, state.best_loss)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.trained, state.best)
    best_epoch = jnp.where(better, state.epoch, state.best_epoch)
    waited = state.epoch - best_epoch
    stopped = state.health.hopeless | ((waited >= job.patience) & (job.patience > 0))
    return state._replace(
        best=best, best_loss=best_loss, best_epoch=best_epoch,
        epoch=state.epoch + 1, stopped=stopped,
    )  # fmt: skip


def row(before: State, after: State, losses: Array, norms: Array, validation: Array | None) -> Row:
    """Return the epoch's row; losses and norms of skipped steps do not count."""
    nan = jnp.full((), jnp.nan, losses.dtype)
    finite = jnp.isfinite(losses) & jnp.isfinite(norms)
    skipped = after.health.skipped - before.health.skipped
    return Row(
        loss=jnp.mean(losses, where=finite), validation=nan if validation is None else validation,
        gradient_norm=jnp.mean(norms, where=finite), learning_rate=_learning_rate(after),
        skipped=skipped.astype(nan.dtype), certificate_margin=nan,
    )  # fmt: skip


def _learning_rate(state: State) -> Array:
    """The rate that `optax.inject_hyperparams` shows, after the cuts; NaN for an optimizer that shows none."""
    found = optax.tree.get_all_with_path(
        state.opt_state, "learning_rate", filtering=lambda _, value: eqx.is_array(value)
    )
    scale = state.health.scale
    return found[0][1].astype(scale.dtype) * scale if found else jnp.full_like(scale, jnp.nan)


class Look:
    """Shows the trained arrays to `inspect`, and puts the margin that it returns into the row of the epoch before."""

    def __init__(self, inspect: Inspect | None, every: int):
        self.inspect, self.every = inspect, every

    def left(self, done: int) -> int:
        """How many epochs may run until it is due."""
        return self.every - done % self.every if self.inspect else np.iinfo(np.int32).max

    def __call__(self, state: State, rows: Row, last: bool = False) -> Row:
        """Look where it is due."""
        done = int(state.epoch)
        if self.inspect is None or not (last or done % self.every == 0):
            return rows
        own = jax.tree.map(jnp.copy, local(state.trained))  # the state's are given away
        margin = self.inspect(done, own)
        if not isinstance(margin, float) or done == 0:
            return rows
        return rows._replace(certificate_margin=rows.certificate_margin.at[done - 1].set(margin))


def run(
    job: Job,
    trained: PyTree,
    epochs: int,
    watchers: Sequence[Watcher],
    inspect: Inspect | None = None,
    inspect_every: int = 10,
    keeper: Keeper | None = None,
) -> tuple[State, dict[str, np.ndarray], str]:
    """Train, as many epochs a compiled call as fit in half a second, and return state, history and why it ended.

    `inspect(epochs done, trained)` is called before every epoch that `inspect_every` divides, and after the last.
    """
    state = start(job, trained)
    rows = Row(*(jnp.full(epochs, jnp.nan, state.best_loss.dtype) for _ in Row._fields))
    if keeper is not None:
        state, rows = keeper.resume(state, rows)
    state, rows = replicate((state, rows), job.mesh)
    stopped = "failed"
    with stop_requests() as asked:
        try:
            state, rows, stopped = _train(
                job, state, rows, watchers, Look(inspect, inspect_every), keeper, asked
            )
        finally:
            for watcher in watchers:
                watcher.close(stopped)
    state, rows = local((state, rows))
    history = {name: np.asarray(a)[: int(state.epoch)] for name, a in rows._asdict().items()}
    return state, history, stopped


def _train(
    job: Job, state: State, rows: Row, watchers: Sequence[Watcher], look: Look, keeper: Keeper | None, asked: Request
) -> tuple[State, Row, str]:  # fmt: skip
    count, epochs, last = 1, len(rows.loss), True
    rows = look(state, rows) if int(state.epoch) == 0 else rows
    while not (stopped := _agreed(why(state, epochs, keeper, asked), job.mesh)):
        begin, done = time.monotonic(), int(state.epoch)
        left = min(count, epochs - done, look.left(done), keeper.left(done) if keeper else epochs)
        state, rows = run_epochs((job, replicate(jnp.asarray(left, jnp.int32), job.mesh)), state, rows)
        jax.block_until_ready(state)
        count = paced(count, left, time.monotonic() - begin)
        count = gathered(count, job.mesh)[0]  # clocks differ, and all make the same calls
        last = bool(_agreed(why(state, epochs, keeper, asked), job.mesh))
        rows = look(state, rows, last)
        tell(watchers, rows, done, int(state.epoch))
        if keeper is not None:
            keeper.save(state, rows, last)
    if keeper is not None and not last:  # asked to stop since
        keeper.save(state, rows, True)
    return state, rows, stopped


def why(state: State, epochs: int, keeper: Keeper | None, asked: Request) -> str:
    """Return why training is over, "" where it is not."""
    if bool(state.health.hopeless):
        return "not finite"
    if bool(state.stopped):
        return "patience"
    if int(state.epoch) >= epochs:
        return "finished"
    return asked.reason or ("time budget" if keeper is not None and keeper.out_of_time() else "")


def _agreed(reason: str, mesh: Mesh | None) -> str:
    """Return why training is over in any of the processes on one mesh: what one is asked to do, all do."""
    return _REASONS[max(gathered(_REASONS.index(reason), mesh))]


def paced(count: int, ran: int, seconds: float) -> int:
    """Return how many epochs the next compiled call may run, after one that was to run up to `count` of them."""
    return max(1, min(int(_CALL_SECONDS * ran / seconds), 10 * count))


def tell(watchers: Sequence[Watcher], rows: Row, first: int, last: int) -> None:
    """Show everyone the epochs from `first` to the one before `last`."""
    columns = {name: np.asarray(a[first:last], float) for name, a in rows._asdict().items()}
    for k in range(last - first):
        row = {name: float(column[k]) for name, column in columns.items()}
        for watcher in watchers:
            watcher.epoch(first + k, row)
