"""Prediction of a few samples from the outputs measured until then, by a model in innovation form."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import check_whole
from ..data import Record, select
from ..errors import DataError, RobustctlError
from ..system import System
from ..train.batches import Experiments, pack
from ..train.record_model import RecordModel, check_channels, check_fitted, check_record
from .simulate import Simulation, estimated_states, left_range, unscaled, warn_outside


class Corrected(NamedTuple):
    """A record as a predictor reads it, packed, and its states before the first sample.

    **Arguments:**

    - `x0`: initial states, raveled, (B, n).
    - `u`: inputs (B, T, nu).
    - `y`: outputs that correct the state (B, T, ny).
    - `seen`: where they were measured (B, T, ny).
    """

    x0: Array
    u: Array
    y: Array
    seen: Array


def predict(model: RecordModel, record: Record, steps: int = 1) -> Simulation:
    """Predict every output of a record from the outputs up to `steps` samples before it, and from the inputs.

    ::

        y_hat[t] = E(y[t] | y[t - steps], y[t - steps - 1], ...; u[t], u[t - 1], ...)
        x[s+1] = f(x[s], u[s]) + K (y[s] - h(x[s], u[s]))   until s = t - steps,   then without K

    A sample that was not measured corrects nothing. The same scores and residual tests apply as to a simulation: with `steps=1`,
    residuals of a complete model are white (`rc.identify.residual_correlations(...).whiteness()`).

    **Arguments:**

    - `model`: one that has an innovation gain: of `rc.identify.innovation_form`, or an `rc.nn.InnovationR2DN` fitted to a record of
      `rc.observers.for_prediction`
    - `record`: the log, with the model's channels, units and sample time; of an `InnovationR2DN` the one that `for_prediction` was
      given
    - `steps`: samples ahead, at least 1

    **Raises:** `RobustctlError` for steps below 1, and for a model without an innovation gain, which can only be simulated; `DataError`
    if sample time, channels or units differ from the model's, or an experiment is too short.

    **Example:** ::

        record = rc.problems.two_tanks(600, seed=0)
        linear = rc.identify.innovation_form(rc.identify.subspace(record, order=2).model, record)
        predicted = rc.identify.predict(linear, rc.problems.two_tanks(600, seed=1), steps=5)
        print(predicted.scores().fit_percent)
    """
    check_fitted(model)
    check_record(record)
    check_whole(1, steps=steps)
    system = model.parameterization.explicit()
    if system.predictor_sizes is None and model.innovation_gain is None:
        raise RobustctlError(
            f"a model must have an innovation gain to predict from outputs, got {model.parameterization.label} without one, which can "
            "be simulated alone; rc.identify.innovation_form estimates one, and rc.nn.InnovationR2DN is trained with one"
        )
    log, read = _records(model, system, record)
    check_channels(model, read)
    batch, start, how = packed(model, read, steps)
    found = _predicted(system, model.innovation_gain, corrected(model, system, batch), steps)
    skipped = model.late + start
    horizon = f"{steps} sample{'s' * (steps > 1)} ahead, {how}"
    # The first predictions are of sample window + steps - 1.
    first = start - (model.initial.window + steps - 1)
    y_hat = unscaled(model, log, np.asarray(found, np.float64)[:, first:], skipped)
    outside = left_range(model, read)
    warn_outside(outside)
    return Simulation(log, y_hat, skipped, horizon, outside)


def packed(model: RecordModel, read: Record, steps: int) -> tuple[Experiments, int, str]:
    """Return a record packed, the first sample after its delay that is predicted, and what the initial state is, in words."""
    initial = model.initial
    start = max(initial.estimated, initial.window + steps - 1)
    scaled = model.prepared(read)
    for e in scaled.experiments:
        if e.samples <= start:
            raise DataError(
                f"every experiment must be longer than the {start} samples before the first prediction, got {e.samples} in {e.name!r}; "
                "use fewer steps or a longer record"
            )
    how = "the model's own initial state"
    if initial.estimated or initial.window:
        how = f"state fitted to the first {initial.estimated or initial.window} samples"
    return pack(scaled, window=initial.window, dtype=model.dtype), start, how


def corrected(model: RecordModel, system: System, batch: Experiments) -> Corrected:
    """Return what corrects the state of a model in a packed record, and its initial states."""
    if model.initial.estimated:
        x0 = estimated_states(system, batch, model.initial.estimated)
    else:
        x0 = _given_states(model.initial, system, batch)
    if system.predictor_sizes is not None:
        nu, ny = system.predictor_sizes
        u, y, seen = jnp.split(batch.u, [nu, nu + ny], axis=2)
        return Corrected(x0, u, y, seen)
    return Corrected(x0, batch.u, batch.y, batch.mask.astype(batch.y.dtype))


@eqx.filter_jit
def _given_states(initial, system: System, batch: Experiments) -> Array:
    zero = system.init_state()
    states = jax.vmap(lambda u, y, i: initial(u, y, i, zero))
    return jax.vmap(lambda x: ravel_pytree(x)[0])(states(batch.head_u, batch.head_y, batch.index))


def stepper(system: System, K: Float[Array, "nx ny"] | None) -> tuple[Callable, Callable]:
    """Return `corrected(x, u, y, seen) -> (x_next, y_hat)` and `free(x, u) -> (x_next, y_hat)`.

    **Arguments:**

    - `system`: a predictor, or a system whose state is one vector
    - `K`: its innovation gain; None for a predictor
    """
    if system.predictor_sizes is not None:
        predictor: Any = system
        return lambda x, u, y, seen: system.step(x, jnp.concatenate([u, y, seen])), predictor.predict

    def step(x, u, y, seen):
        x_next, y_hat = system.step(x, u)
        return x_next + K @ (seen * (y - y_hat)), y_hat

    return step, system.step


@eqx.filter_jit
def _predicted(system: System, K: Array | None, data: Corrected, steps: int) -> Float[Array, "B n ny"]:
    system = system if system.predictor_sizes is None else system.prepare()
    return ahead(*stepper(system, K), data, steps)


def ahead(step: Callable, free: Callable, data: Corrected, steps: int) -> Float[Array, "B n ny"]:
    """Return the predictions of samples `steps - 1` to the last.

    **Arguments:**

    - `step`: of `stepper`
    - `free`: of `stepper`
    - `data`: the record
    - `steps`: samples ahead
    """
    count = data.u.shape[1] - steps + 1

    def of_one(x0, u, y, seen):
        _, xs = lax.scan(lambda x, now: (step(x, *now)[0], x), x0, (u, y, seen))

        def advance(i, x):
            return jax.vmap(lambda x, u: free(x, u)[0])(x, lax.dynamic_slice_in_dim(u, i, count))

        x = lax.fori_loop(0, steps - 1, advance, xs[:count])
        return jax.vmap(lambda x, u: free(x, u)[1])(x, u[steps - 1 :])

    return jax.vmap(of_one)(*data)


def _records(model: RecordModel, system: System, record: Record) -> tuple[Record, Record]:
    """Return the log with the outputs that are predicted, and the record that the model reads."""
    if system.predictor_sizes is None:
        return record, record
    nu, ny = system.predictor_sizes
    measured, others = model.inputs[nu : nu + ny], model.outputs[ny:]
    log = select(record, model.inputs[:nu], (*measured, *others))
    experiments = tuple(
        dataclasses.replace(
            e,
            u=np.hstack([e.u, e.y[:, :ny], e.y_mask[:, :ny]]),
            u_mask=np.hstack([e.u_mask, np.ones((e.samples, 2 * ny), bool)]),
        )
        for e in log.experiments
    )
    units = (*log.input_units, *log.output_units[:ny], *[""] * ny)
    read = dataclasses.replace(
        log, experiments=experiments, inputs=model.inputs, outputs=model.outputs, input_units=units
    )
    return log, read
