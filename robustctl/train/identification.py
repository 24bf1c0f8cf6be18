"""Identification from a record: the error of a simulation, segment by segment."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ..checks import check_whole, check_whole_or_none, checked_delays, renamed
from ..data import Record, Scaling
from ..errors import DataError, RobustctlError, RobustctlWarning
from ..runs.devices import for_each, spread
from ..runs.fingerprint import data_hash, model_hash
from ..scaled import check_flags
from ..system import Parameterization, dtype_of
from ..trajectory import rollout
from .batches import Experiments, in_segments, pack
from .fitted_model import fitted_to
from .initial_state import Builder, InitialState, zero_state
from .losses import Loss, mean_squared_error
from .problem import Descend, Objective, Outcome, Problem, State, Steps, check_model
from .record_model import RecordModel, check_channels, check_record

EARLY, FELL, LATER = 0.1, 0.5, 20  # share of the epochs, ratio of losses and epochs left, of `Fit.caution`


@dataclasses.dataclass(frozen=True)
class Fit(Outcome):
    """What identification returns: an `Outcome` whose `model` is a `FittedModel`; losses are those of scaled signals."""

    model: RecordModel

    def __str__(self) -> str:
        """Return a summary for people."""
        epochs = len(self.history["loss"])
        text = f"fit ended ({self.stopped}) after {epochs} epochs in {self.seconds:.1f} s; returned epoch {self.best_epoch}"
        return text if self.trouble is None else f"{text}; {self.trouble}"

    @property
    def caution(self) -> str:
        """A warning, or "": the validation record chose an early epoch, after which the training loss fell far."""
        losses, best = self.history["loss"], self.best_epoch
        later = len(losses) - 1 - best
        if best < 0 or np.isnan(self.history["validation"]).all() or later < LATER:
            return super().caution
        before, after = losses[best], np.nanmin(losses[best:])
        if best > EARLY * len(losses) or not after < FELL * before:
            return ""
        return (
            f"the validation record chose epoch {best} of {len(losses)}, and in the epochs after it the training loss fell "
            f"from {before:.3g} to {after:.3g}: that record is too short or unlike the one trained on, or the model is "
            "too large; validate on another part, train without validation, or take a smaller model"
        )


class Learned(NamedTuple):
    """What identification trains: the model and its rule for the initial state."""

    model: Any
    initial: Any


@renamed()
@dataclasses.dataclass(frozen=True)
class Identification(Problem[Fit]):
    """Minimize the free-run simulation error of a parameterization on a record.

    ::

        min over free arrays  sum over segments of  loss(y_hat, y, mask),   y_hat = rollout(explicit(), u, x0)

    Signals are scaled to mean zero and standard deviation one on `record`.

    **Arguments:**

    - `record`: the experiments to train on.
    - `validation`: a record whose loss selects the epoch that is returned.
    - `scaling`: used in place of the one fitted on `record`.
    - `initial`: `zero_state()` (default), `learned_state()` or `warm_up(window)`, or an `InitialState`.
    - `washout`: samples at the start of each experiment that are simulated but not counted.
    - `segment`: samples between gradient steps (truncated backpropagation): the state is carried from segment to
      segment, the gradient is not. None: the whole experiment.
    - `batch_size`: experiments per gradient step, drawn again for each epoch. None: all.
    - `loss`: `(y_hat, y, mask) -> number`, of a batch of simulations.
    - `delay`: samples by which inputs act late, one number or one for each; `record` holds them undelayed, and the first
      samples of each experiment, at which inputs from before it act, are not used.
    - `regularizer`: a function of the parameterization added to the loss, for example `lambda m: 1e-3 * m.gamma`. Make it and
      `loss` once: a new function compiles again.

    The result is a `Fit`.

    **Raises:** `RobustctlError` for settings out of range; with a model, `DataError` for a record that does not fit it or
    is too short.
    """

    record: Record
    validation: Record | None = None
    scaling: Scaling | None = None
    initial: Builder | InitialState | None = None
    washout: int = 0
    segment: int | None = None
    batch_size: int | None = None
    loss: Loss = mean_squared_error
    regularizer: Callable[[Any], Array] | None = None
    delay: int | Sequence[int] = 0

    def __post_init__(self):
        """Refuse settings out of range."""
        check_record(self.record)
        checked_delays(self.delay, self.record.nu)
        if self.validation is not None:
            check_record(self.validation)
        check_whole(0, washout=self.washout)
        check_whole_or_none(1, segment=self.segment, batch_size=self.batch_size)
        experiments = len(self.record.experiments)
        if self.batch_size is not None and self.batch_size > experiments:
            raise RobustctlError(
                f"batch_size must be at most the number of experiments, {experiments}, got {self.batch_size}; "
                "cut the record with rc.data.windows to have more of them"
            )

    def prepare(self, model: Parameterization, key: PRNGKeyArray) -> tuple[PyTree, "SimulationObjective"]:
        """Return the arrays to train and the objective."""
        check_model(model)
        initial_key, order_key = jr.split(key)
        untrained = self._fitted(Learned(model, self._initial(model, initial_key)))
        if self.validation is not None and untrained.initial.estimated:
            raise RobustctlError(
                "a validation record needs its own initial state, and learned_state() has one for each training "
                "experiment only; use warm_up(window), or zero_state() with a washout"
            )
        data = self._pack(untrained, self.record)
        validation = None if self.validation is None else self._pack(untrained, self.validation)
        _check_measured(self.record, data.mask, "record trained on", every=True)
        if self.validation is not None and validation is not None:
            _check_measured(self.validation, validation.mask, "validation record", every=False)
        trained, fixed = eqx.partition(Learned(model, untrained.initial), eqx.is_inexact_array)
        return trained, SimulationObjective(
            fixed=fixed, data=data, validation=validation, key=order_key, loss=self.loss, regularizer=self.regularizer,
            segment=self.segment or data.u.shape[1], batch_size=self.batch_size or len(self.record.experiments),
        )  # fmt: skip

    def fingerprint(self, whole: Learned) -> dict[str, str]:
        """Return hashes of both records and of the untrained model."""
        model = model_hash(self._fitted(whole))
        return {"data": data_hash(self.record), "validation": data_hash(self.validation), "model": model}

    def settings(self) -> dict[str, Any]:
        """Return how the record is cut."""
        return {"washout": self.washout, "segment": self.segment, "batch_size": self.batch_size}

    def sizes(self, objective: "SimulationObjective") -> dict[str, int]:
        """Return the batch size."""
        return {"batch_size (the number of experiments where it is left out)": objective.batch_size}

    def result(self, outcome: Outcome) -> Fit:
        """Return the fit."""
        values: dict[str, Any] = vars(outcome) | {"model": self._fitted(outcome.model)}
        return Fit(**values)

    def _initial(self, model: Parameterization, key: PRNGKeyArray) -> InitialState:
        system = model.explicit()
        _check_sizes(system, self.record)
        if self.scaling is not None:
            check_flags(system.flags, self.scaling.u_mean, self.scaling.u_std)
        build = zero_state() if self.initial is None else self.initial
        if isinstance(build, InitialState):
            return build
        return build(system, self.record.nu, self.record.ny, len(self.record.experiments), key)

    def _fitted(self, learned: Learned) -> RecordModel:
        record = self.record
        scaling = _scaling(learned.model, record) if self.scaling is None else self.scaling
        return fitted_to(
            record, learned.model, learned.initial, scaling, checked_delays(self.delay, record.nu)
        )

    def _pack(self, model: RecordModel, record: Record) -> Experiments:
        check_channels(model, record)
        scaled = model.prepared(record)
        window, multiple = model.initial.window, self.segment or 1
        return pack(scaled, window=window, washout=self.washout, multiple=multiple, dtype=model.dtype)


class SimulationObjective(Objective):
    """Free-run simulation of a record's experiments: packed data and settings."""

    fixed: PyTree
    data: Experiments
    validation: Experiments | None
    key: PRNGKeyArray
    loss: Loss
    regularizer: Callable[[Any], Array] | None
    segment: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def epoch(self, state: State, descend: Descend) -> tuple[State, Steps]:
        """Draw the order of the experiments and take a gradient step for each segment of each batch."""
        size = self.batch_size
        experiments = self.data.index.size
        order = (
            jr.permutation(jr.fold_in(self.key, state.epoch), experiments)
            if size < experiments
            else self.data.index
        )
        batches = order[: experiments // size * size].reshape(-1, size)
        return lax.scan(lambda s, chosen: self._train_on(s, descend, chosen), state, batches)

    def validate(self, trained: PyTree) -> Array | None:
        """Return the loss on the validation record."""
        v = self.validation
        return None if v is None else self.loss(simulate_batch(trained, self.fixed, v), v.y, v.mask)

    def shown(self, trained: PyTree) -> Any:
        """Return the parameterization."""
        return self.whole(trained).model

    def _train_on(self, state: State, descend: Descend, chosen: Int[Array, " b"]) -> tuple[State, Steps]:
        """Pass over the chosen experiments, a gradient step for each segment, the state carried between."""
        batch = spread(Experiments(*(a[chosen] for a in self.data)), self.mesh)
        segments = jax.tree.map(lambda a: in_segments(a, self.segment), (batch.u, batch.y, batch.mask))
        first = jnp.arange(segments[0].shape[0]) == 0
        states = eqx.filter_eval_shape(_initial_states, state.trained, self.fixed, batch)[1]
        x = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), states)  # the first segment sets it

        def loss(trained, x, segment):
            return self._segment_loss(trained, batch, x, *segment)

        return descend(state, loss, spread(x, self.mesh), (*segments, first))

    def _segment_loss(self, trained, batch: Experiments, x, u, y, mask, first) -> tuple[Array, PyTree]:
        system, x0 = _initial_states(trained, self.fixed, batch)
        x = jax.tree.map(lambda a, b: jnp.where(first, a, b), x0, x)
        run = for_each(rollout, self.mesh, system, u, x)
        loss = self.loss(run.ys, y, mask)
        if self.regularizer is not None:
            loss = loss + self.regularizer(self.shown(trained))
        return loss, run.x_final


def _initial_states(trained, fixed, batch: Experiments):
    parameterization, initial = eqx.combine(trained, fixed)
    system = parameterization.explicit()
    zero = system.init_state()
    return system, jax.vmap(lambda u, y, i: initial(u, y, i, zero))(batch.head_u, batch.head_y, batch.index)


def simulate_batch(trained, fixed, batch: Experiments) -> Array:
    """Return the free-run outputs (B, T, ny) of a whole batch from its initial states."""
    system, x0 = _initial_states(trained, fixed, batch)
    return jax.vmap(lambda u, x: rollout(system, u, x).ys)(batch.u, x0)


def _check_measured(record: Record, mask: Array, what: str, every: bool) -> None:
    """Raise `DataError` unless inputs were measured and an output that counts, for training `every` one; else warn.

    What was not measured has no error, so that a model without any measurement would have the loss zero.
    """
    outputs = np.any(np.asarray(mask), axis=(0, 1)).tolist()
    inputs = np.any(np.concatenate([e.u_mask for e in record.experiments]), axis=0).tolist()
    lost = [name for name, seen in zip(record.outputs, outputs, strict=True) if not seen]
    blind = [name for name, seen in zip(record.inputs, inputs, strict=True) if not seen]
    if blind or len(lost) == record.ny or (lost and every):
        raise DataError(
            f"the {what} must have a measured sample of {', '.join(blind or lost)} that counts, got none: measurements are missing, "
            "or lie in the warm-up window or washout; use another part of the log, or leave the channel out"
        )
    if lost:
        warnings.warn(
            f"the {what} has no measured sample of {', '.join(lost)} that counts, so that output does not select the model",
            RobustctlWarning,
            stacklevel=2,
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


def _scaling(model: Parameterization, record: Record) -> Scaling:
    """The record's moments, and none for inputs that the model must read as 0 and 1."""
    own, flags = Scaling.fit(record), list(eqx.filter_eval_shape(model.explicit).flags)
    u_mean, u_std = own.u_mean.copy(), own.u_std.copy()
    u_mean[flags], u_std[flags] = 0.0, 1.0
    return Scaling(u_mean, u_std, own.y_mean, own.y_std)
