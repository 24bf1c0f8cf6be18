"""The compiled part of `fit`: many epochs in one call."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..rollout import rollout
from .batches import Batch
from .losses import Loss


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


class Task(eqx.Module):
    """What training leaves alone: data, optimizer and settings."""

    fixed: PyTree
    data: Batch
    validation: Batch | None
    key: PRNGKeyArray
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    loss: Loss = eqx.field(static=True)
    regularizer: Any = eqx.field(static=True)
    segment: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    patience: int = eqx.field(static=True)


def start(task: Task, trained: PyTree) -> State:
    """Return the state before the first epoch."""
    dtype = jax.tree.leaves(trained)[0].dtype
    zero, none = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
    infinite = jnp.full((), jnp.inf, dtype)
    return State(
        trained, task.optimizer.init(trained), trained, infinite, none, zero, zero, none, jnp.zeros((), bool)
    )


@eqx.filter_jit
def run_epochs(task: Task, state: State, rows: Row, count: Int[Array, ""]) -> tuple[State, Row]:
    """Run up to `count` epochs and write each one's row at its place in `rows`; stop early where told to."""

    def body(carry):
        state, rows, left = carry
        epoch = state.epoch
        state, row = _epoch(task, state)
        rows = jax.tree.map(lambda all_rows, new: all_rows.at[epoch].set(new), rows, row)
        return state, rows, left - 1

    def go_on(carry):
        state, _, left = carry
        return (left > 0) & ~state.stopped

    state, rows, _ = lax.while_loop(go_on, body, (state, rows, count))
    return state, rows


def _epoch(task: Task, state: State) -> tuple[State, Row]:
    size = task.batch_size
    experiments = task.data.index.size
    order = (
        jr.permutation(jr.fold_in(task.key, state.epoch), experiments)
        if size < experiments
        else task.data.index
    )
    batches = order[: experiments // size * size].reshape(-1, size)
    state, (losses, norms) = lax.scan(lambda s, chosen: _train_on(task, s, chosen), state, batches)
    validation = _validate(task, state.trained, losses.dtype)
    row = Row(jnp.mean(losses), validation, jnp.mean(norms))
    return _judge(task, state, validation), row


def _train_on(task: Task, state: State, chosen: Int[Array, " b"]) -> tuple[State, tuple[Array, Array]]:
    """One pass over the chosen experiments, a gradient step for each segment, the state carried between."""
    batch = Batch(*(a[chosen] for a in task.data))
    segments = jax.tree.map(lambda a: _in_segments(a, task.segment), (batch.u, batch.y, batch.mask))
    first = jnp.arange(segments[0].shape[0]) == 0
    states = eqx.filter_eval_shape(_initial_states, state.trained, task.fixed, batch)[1]
    x = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), states)  # the first segment sets it

    def body(carry, segment):
        state, x = carry
        (loss, x_next), slope = jax.value_and_grad(_segment_loss, has_aux=True)(
            state.trained, task, batch, x, *segment
        )
        return (_update(task, state, loss, slope), lax.stop_gradient(x_next)), (loss, optax.tree.norm(slope))

    (state, _), (losses, norms) = lax.scan(body, (state, x), (*segments, first))
    return state, (jnp.mean(losses), jnp.mean(norms))


def _in_segments(a: Array, length: int) -> Array:
    """(B, T, n) to (segments, B, length, n)."""
    return jnp.moveaxis(a.reshape(a.shape[0], -1, length, a.shape[2]), 1, 0)


def _initial_states(trained, fixed, batch: Batch):
    parameterization, initial = eqx.combine(trained, fixed)
    system = parameterization.explicit()
    zero = system.init_state()
    return system, jax.vmap(lambda u, y, i: initial(u, y, i, zero))(batch.head_u, batch.head_y, batch.index)


def simulate_batch(trained, fixed, batch: Batch) -> Array:
    """Return the free-run outputs (B, T, ny) of a whole batch from its initial states."""
    system, x0 = _initial_states(trained, fixed, batch)
    return jax.vmap(lambda u, x: rollout(system, u, x).ys)(batch.u, x0)


def _segment_loss(trained, task: Task, batch: Batch, x, u, y, mask, first):
    system, x0 = _initial_states(trained, task.fixed, batch)
    x = jax.tree.map(lambda a, b: jnp.where(first, a, b), x0, x)
    run = jax.vmap(lambda u, x: rollout(system, u, x))(u, x)
    loss = task.loss(run.ys, y, mask)
    if task.regularizer is not None:
        loss = loss + task.regularizer(eqx.combine(trained, task.fixed)[0])
    return loss, run.x_final


def _update(task: Task, state: State, loss: Array, slope: PyTree) -> State:
    """Take the step, unless this or an earlier one met something that is not finite."""
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
        updates, opt_state = task.optimizer.update(slope, state.opt_state, state.trained)
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


def _validate(task: Task, trained, dtype) -> Array:
    if task.validation is None:
        return jnp.full((), jnp.nan, dtype)
    v = task.validation
    return task.loss(simulate_batch(trained, task.fixed, v), v.y, v.mask)


def _judge(task: Task, state: State, validation: Array) -> State:
    """Keep the best model; without validation data, the last good one."""
    better = (validation < state.best_loss) if task.validation is not None else jnp.ones((), bool)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.trained, state.best)
    best_epoch = jnp.where(better, state.epoch, state.best_epoch)
    waited = state.epoch - best_epoch
    stopped = (state.bad_step >= 0) | ((waited >= task.patience) & (task.patience > 0))
    return state._replace(
        best=best, best_loss=jnp.where(better, validation, state.best_loss), best_epoch=best_epoch,
        epoch=state.epoch + 1, stopped=stopped,
    )  # fmt: skip
