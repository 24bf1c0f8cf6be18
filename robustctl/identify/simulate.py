"""Free-run simulation of a fitted model over a record, and its scores."""

import csv
import dataclasses
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..data import Record
from ..errors import RobustctlWarning
from ..system import System
from ..train.batches import Experiments, check_lengths, pack
from ..train.identification import simulate_batch
from ..train.record_model import RecordModel, check_channels
from ..train.trained_range import Departure
from ..trajectory import rollout
from .scores import ChannelScores, channel_scores, residuals


@dataclasses.dataclass(frozen=True)
class Simulation:
    """Simulated outputs of every experiment of a record, in their own units.

    **Arguments:**

    - `record`: the record that was simulated, with the measured outputs
    - `y_hat`: the outputs (T, ny) of each experiment, NaN in its first `skipped` samples
    - `skipped`: number of samples that determine the initial state and are not scored
    - `initial`: the choice of the initial state, in words
    - `outside`: what of the record is outside of the range that the model was trained in; none where that is unknown
    """

    record: Record
    y_hat: tuple[np.ndarray, ...]
    skipped: int
    initial: str
    outside: tuple[Departure, ...] = ()

    def errors(self) -> list[np.ndarray]:
        """Return measured minus simulated (T, ny) of each experiment, NaN where skipped or not measured."""
        return residuals(self.record, self.y_hat, self.skipped)

    def scores(self) -> ChannelScores:
        """Score each output, all experiments pooled.

        **Raises:** `DataError` if no sample is both measured and not skipped.
        """
        return channel_scores(self.record, self.y_hat, self.skipped)

    def to_csv(self, path: str | Path) -> None:
        """Write experiment, time in seconds, and each output as measured and as simulated; a missing value is empty."""
        record = self.record
        names = [f"{name}{kind}" for name in record.outputs for kind in ("", "_simulated")]
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["experiment", "time", *names])
            for k, (experiment, y_hat) in enumerate(zip(record.experiments, self.y_hat, strict=True)):
                measured = np.where(experiment.y_mask, experiment.y, np.nan)
                both = np.stack([measured, y_hat], axis=2).reshape(len(y_hat), -1)
                for t, row in zip(record.time(k), both, strict=True):
                    writer.writerow(
                        [experiment.name, f"{t:.9g}", *("" if np.isnan(v) else f"{v:.9g}" for v in row)]
                    )


def simulate(model: RecordModel, record: Record) -> Simulation:
    """Simulate a fitted model over every experiment of a record, with an infinite prediction horizon.

    The measured outputs determine only the initial state: a model with a warm-up reads its window, for a model with
    learned initial states one is fitted to the first `horizon` samples. These samples are not scored, and those before them, at
    which delayed inputs from before the record act, are not simulated. A RobustctlWarning reports where the record leaves the range
    that the model was trained in.

    **Arguments:**

    - `model`: the fitted model
    - `record`: with the model's channels, units and sample time

    **Raises:** `DataError` if sample time, channels or units differ from the model's, or an experiment is too short.
    """
    found = simulated(model, record)
    warn_outside(found.outside)
    return found


def simulated(model: RecordModel, record: Record) -> Simulation:
    """Return what `simulate` does, without its warning."""
    check_channels(model, record)
    initial = model.initial
    estimate = initial.estimated > 0
    skipped = initial.estimated or initial.window
    scaled = model.prepared(record)
    check_lengths(scaled, initial.window, initial.estimated)
    batch = pack(scaled, window=initial.window, dtype=model.dtype)
    if estimate:
        outputs = _from_estimated_states(model, batch, skipped)
        how = f"state fitted to the first {skipped} samples"
    else:
        trained, fixed = eqx.partition((model.parameterization, model.initial), eqx.is_inexact_array)
        outputs = _simulate_batch(trained, fixed, batch)
        how = f"warm-up window of {skipped} samples" if skipped else "the model's own initial state"
    # A state that was fitted to the skipped samples is the one before them; other runs begin after them.
    scored = np.asarray(outputs, np.float64)[:, skipped if estimate else 0 :]
    skipped += model.late
    how += f", after {model.late} at which earlier inputs act" if model.late else ""
    return Simulation(
        record, unscaled(model, record, scored, skipped), skipped, how, left_range(model, record)
    )


def left_range(model: RecordModel, record: Record) -> tuple[Departure, ...]:
    """Return what of a record is outside of a model's trained range."""
    return () if model.trained is None else model.trained.departures(record)


def warn_outside(found: tuple[Departure, ...]) -> None:
    """Give a RobustctlWarning of what is outside, if anything is, to the caller of the function that calls this."""
    if found:
        warnings.warn(
            f"{'; '.join(map(str, found))}: the model extrapolates there", RobustctlWarning, stacklevel=3
        )


_simulate_batch = eqx.filter_jit(simulate_batch)


def unscaled(model: RecordModel, record: Record, scaled: np.ndarray, skipped: int) -> tuple[np.ndarray, ...]:
    """Return the outputs (T, ny) of each experiment in their units, after NaN in the samples that are skipped."""
    first = np.full((skipped, record.ny), np.nan)
    return tuple(
        np.concatenate([first, model.scaling.undo_y(y[: e.samples - skipped])])
        for e, y in zip(record.experiments, scaled, strict=True)
    )


def _from_estimated_states(model: RecordModel, batch: Experiments, horizon: int):
    system = model.parameterization.explicit()
    return _runs(system, batch.u, estimated_states(system, batch, horizon))


def estimated_states(system: System, batch: Experiments, horizon: int) -> Array:
    """Return the initial states, raveled, (B, n), that fit the first `horizon` outputs of each experiment best."""
    branches = system.branches()
    if len(branches) > 1:
        # Each separately: together they have more states than these samples determine.
        return jnp.concatenate([estimated_states(one, batch, horizon) for one in branches], axis=1)
    import scipy.optimize  # slow to import

    start = ravel_pytree(system.init_state())[0]
    heads = zip(*(np.asarray(a)[:, :horizon] for a in (batch.u, batch.y, batch.mask)), strict=True)

    def estimated(head):
        def evaluated(fn):
            # NumPy casts without another call on the device, and there are dozens of evaluations.
            return lambda x0: np.asarray(fn(x0.astype(start.dtype), system, *head), np.float64)

        first = np.asarray(start, np.float64)
        jac = evaluated(_slope)
        return scipy.optimize.least_squares(evaluated(_residual), first, jac=jac).x  # pyright: ignore

    return jnp.asarray(np.stack([estimated(head) for head in heads]), start.dtype)


@eqx.filter_jit
def _residual(x0, system, u, y, mask):
    return jnp.where(mask, rollout(system, u, _state(system, x0)).ys - y, 0).reshape(-1)


_slope = eqx.filter_jit(jax.jacrev(_residual))


@eqx.filter_jit
def _runs(system, us, x0s):
    return jax.vmap(lambda u, x0: rollout(system, u, _state(system, x0)).ys)(us, x0s)


def _state(system, x0):
    return ravel_pytree(system.init_state())[1](x0)
