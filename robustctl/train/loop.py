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
from jaxtyping import Array, Bool, Float, Int, PyTree

from .log import Watcher

_CALL_SECONDS = 0.5  # of epochs in one compiled call: how often the line moves and Ctrl-C is heard


class State(NamedTuple):
    """Everything that training changes. Epochs and steps count from zero; -1: there was none."""

    trained: PyTree
    opt_state: PyTree
    best: PyTree
    best_loss: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]
    step: Int[Array, ""]
    bad_step: Int[Array, ""]
    stopped: Bool[Array, ""]


class Row(NamedTuple):
    """What one epoch leaves in the history."""

    loss: Float[Array, ""]
    validation: Float[Array, ""]
    gradient_norm: Float[Array, ""]


class Job(eqx.Module):
    """What training leaves alone: data, optimizer, settings, and how one epoch goes."""

    optimizer: eqx.AbstractVar[optax.GradientTransformation]
    patience: eqx.AbstractVar[int]

    @abc.abstractmethod
    def epoch(self, state: State) -> tuple[State, Row]:
        """Run one epoch, built on `update` and `judge`."""


def start(job: Job, trained: PyTree) -> State:
    """Return the state before the first epoch."""
    dtype = jax.tree.leaves(trained)[0].dtype
    zero, none = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
    infinite = jnp.full((), jnp.inf, dtype)
    return State(
        trained, job.optimizer.init(trained), trained, infinite, none, zero, zero, none, jnp.zeros((), bool)
    )


@eqx.filter_jit
def run_epochs(job: Job, state: State, rows: Row, count: Int[Array, ""]) -> tuple[State, Row]:
    """Run up to `count` epochs and write each one's row at its place in `rows`; stop early where told to."""

    def body(carry):
        state, rows, left = carry
        epoch = state.epoch
        state, row = job.epoch(state)
        rows = jax.tree.map(lambda all_rows, new: all_rows.at[epoch].set(new), rows, row)
        return state, rows, left - 1

    def go_on(carry):
        state, _, left = carry
        return (left > 0) & ~state.stopped

    state, rows, _ = lax.while_loop(go_on, body, (state, rows, count))
    return state, rows


def update(job: Job, state: State, loss: Array, slope: PyTree) -> State:
    """Take the step, unless this or an earlier one met something that is not finite."""
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
        updates, opt_state = job.optimizer.update(slope, state.opt_state, state.trained)
        trained = optax.apply_updates(state.trained, updates)
    finite = (
        jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(slope)) & jnp.isfinite(optax.tree.norm(trained))
    )
    good = finite & (state.bad_step < 0)
    bad_step = jnp.where(~finite & (state.bad_step < 0), state.step, state.bad_step)
    trained, opt_state = jax.tree.map(
        lambda new, old: jnp.where(good, new, old), (trained, opt_state), (state.trained, state.opt_state)
    )
    return state._replace(trained=trained, opt_state=opt_state, bad_step=bad_step, step=state.step + 1)


def judge(job: Job, state: State, validation: Array | None) -> State:
    """Count the epoch and keep the best model; without a validation loss, the last good one."""
    better = jnp.ones((), bool) if validation is None else validation < state.best_loss
    best_loss = state.best_loss if validation is None else jnp.where(better, validation, state.best_loss)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.trained, state.best)
    best_epoch = jnp.where(better, state.epoch, state.best_epoch)
    waited = state.epoch - best_epoch
    stopped = (state.bad_step >= 0) | ((waited >= job.patience) & (job.patience > 0))
    return state._replace(
        best=best, best_loss=best_loss, best_epoch=best_epoch,
        epoch=state.epoch + 1, stopped=stopped,
    )  # fmt: skip


def run(
    job: Job,
    trained: PyTree,
    epochs: int,
    watchers: Sequence[Watcher],
    inspect: Callable[[int, PyTree], None] | None = None,
    inspect_every: int = 10,
) -> tuple[State, dict[str, np.ndarray], str]:
    """Train, as many epochs a compiled call as fit in half a second, and return state, history and why it ended.

    `inspect(epoch, trained)` is called before every epoch that `inspect_every` divides, and after the last.
    """
    state = start(job, trained)
    dtype = state.best_loss.dtype
    rows = Row(*(jnp.full(epochs, jnp.nan, dtype) for _ in Row._fields))
    stopped, count = "", 1
    try:
        while (done := int(state.epoch)) < epochs and not bool(state.stopped):
            left = epochs - done
            if inspect is not None:
                if done % inspect_every == 0:
                    inspect(done, state.trained)
                left = min(left, inspect_every - done % inspect_every)
            begin = time.monotonic()
            state, rows = run_epochs(job, state, rows, jnp.asarray(min(count, left), jnp.int32))
            jax.block_until_ready(state)
            _tell(watchers, rows, done, int(state.epoch))
            ran = max(int(state.epoch) - done, 1)
            count = max(1, min(int(_CALL_SECONDS * ran / (time.monotonic() - begin)), 10 * count))
    except KeyboardInterrupt:
        stopped = "interrupted"
    if inspect is not None:
        inspect(int(state.epoch), state.trained)
    stopped = stopped or _why(state)
    for watcher in watchers:
        watcher.close(stopped)
    history = {name: np.asarray(a)[: int(state.epoch)] for name, a in rows._asdict().items()}
    return state, history, stopped


def _why(state: State) -> str:
    if int(state.bad_step) >= 0:
        return "not finite"
    return "patience" if bool(state.stopped) else "finished"


def _tell(watchers: Sequence[Watcher], rows: Row, first: int, last: int) -> None:
    columns = {name: np.asarray(a[first:last], float) for name, a in rows._asdict().items()}
    for k in range(last - first):
        row = {name: float(column[k]) for name, column in columns.items()}
        for watcher in watchers:
            watcher.epoch(first + k, row)
