"""One epoch of identification: free-run simulation of a record, segment by segment."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ..runs.devices import for_each, replicate, spread
from ..trajectory import rollout
from .batches import Batch, in_segments
from .engine import Job, Row, State, judge, row, update
from .losses import Loss


class Trained(NamedTuple):
    """What identification trains."""

    model: Any
    initial: Any


class Identification(Job):
    """Free-run simulation of a record's experiments: data, optimizer and settings."""

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
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def epoch(self, state: State) -> tuple[State, Row]:
        """Draw the order, take a gradient step a segment of each batch, and judge."""
        size = self.batch_size
        experiments = self.data.index.size
        order = (
            jr.permutation(jr.fold_in(self.key, state.epoch), experiments)
            if size < experiments
            else self.data.index
        )
        batches = order[: experiments // size * size].reshape(-1, size)
        after, (losses, norms) = lax.scan(lambda s, chosen: _train_on(self, s, chosen), state, batches)
        validation = None if self.validation is None else _validate(self, after.trained)
        return judge(self, after, validation), row(state, after, losses, norms, validation)


def _train_on(
    job: Identification, state: State, chosen: Int[Array, " b"]
) -> tuple[State, tuple[Array, Array]]:
    """One pass over the chosen experiments, a gradient step for each segment, the state carried between."""
    batch = spread(Batch(*(a[chosen] for a in job.data)), job.mesh)
    segments = jax.tree.map(lambda a: in_segments(a, job.segment), (batch.u, batch.y, batch.mask))
    first = jnp.arange(segments[0].shape[0]) == 0
    states = eqx.filter_eval_shape(_initial_states, state.trained, job.fixed, batch)[1]
    x = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), states)  # the first segment sets it
    x = spread(x, job.mesh)

    def body(carry, segment):
        state, x = carry
        (loss, x_next), slope = jax.value_and_grad(_segment_loss, has_aux=True)(
            state.trained, job, batch, x, *segment
        )
        return (update(job, state, loss, slope), lax.stop_gradient(x_next)), (loss, optax.tree.norm(slope))

    (state, _), (losses, norms) = lax.scan(body, (state, x), (*segments, first))
    return state, (losses, norms)


def placed(job: Identification, mesh: Mesh | None) -> Identification:
    """Return the job on a mesh: its data whole on every device, of which each takes its part of a batch."""
    return replicate(dataclasses.replace(job, mesh=mesh), mesh)


def _initial_states(trained, fixed, batch: Batch):
    parameterization, initial = eqx.combine(trained, fixed)
    system = parameterization.explicit()
    zero = system.init_state()
    return system, jax.vmap(lambda u, y, i: initial(u, y, i, zero))(batch.head_u, batch.head_y, batch.index)


def simulate_batch(trained, fixed, batch: Batch) -> Array:
    """Return the free-run outputs (B, T, ny) of a whole batch from its initial states."""
    system, x0 = _initial_states(trained, fixed, batch)
    return jax.vmap(lambda u, x: rollout(system, u, x).ys)(batch.u, x0)


def _segment_loss(trained, job: Identification, batch: Batch, x, u, y, mask, first):
    system, x0 = _initial_states(trained, job.fixed, batch)
    x = jax.tree.map(lambda a, b: jnp.where(first, a, b), x0, x)
    run = for_each(rollout, job.mesh, system, u, x)
    loss = job.loss(run.ys, y, mask)
    if job.regularizer is not None:
        loss = loss + job.regularizer(eqx.combine(trained, job.fixed)[0])
    return loss, run.x_final


def _validate(job: Identification, trained) -> Array:
    v = job.validation
    assert v is not None
    return job.loss(simulate_batch(trained, job.fixed, v), v.y, v.mask)
