"""Records of an expert that cannot be asked: an operator's measurements and actions."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from ..certificates import certify
from ..checks import is_positive, is_real, of_type, renamed
from ..data import Experiment, Record, Scaling
from ..data.record import MIN_SAMPLES
from ..data.record_checks import as_names
from ..errors import DataError, RobustctlError
from ..pytrees import fields_of
from ..system import Parameterization, System, explicit_of

_PARALLEL = 256
"""Experiments that a log is cut into where the policy has no state."""

_COMPARED = 4000
"""Samples that are compared with each other: their pairs take a second."""


@renamed()
@dataclasses.dataclass(frozen=True)
class Demonstrations:
    """What `imitate` learns from where the expert cannot be asked: a log of what it measured and did.

    The log of a plant, with actions as inputs and measurements as outputs, needs no more than itself. An action answers the
    measurements of the same sample. Samples at which one of both was not measured do not count.

    **Arguments:**

    - `record`: the log.
    - `measurements`: names of the channels that the expert acted on, default the record's outputs.
    - `actions`: names of the channels that it set, default the record's inputs.
    - `tolerance`: the largest error of an action, over the actions' standard deviations, that the Lipschitz constant of a policy without
      state may force; infinity accepts all.

    **Raises:** `DataError` for names that the record does not have, a channel that is both, no sample with measurements and actions, and
    a tolerance that is not positive.

    **Example:** ::

        level = np.sin(0.1 * np.arange(100.0))
        log = rc.data.from_arrays(-2.0 * level, level, 1.0, inputs="valve", outputs="level")
        print(rc.train.Demonstrations(log).as_record())
    """

    record: Record
    measurements: Sequence[str] | str | None = None
    actions: Sequence[str] | str | None = None
    tolerance: float = 0.75

    def __post_init__(self):
        """Refuse names that do not fit the record, and a log without actions."""
        record = of_type(self.record, Record, "demonstrations must be a record", "rc.data.read makes one")
        for name in ("measurements", "actions"):
            default = record.outputs if name == "measurements" else record.inputs
            given = fields_of(self)[name]
            object.__setattr__(self, name, default if given is None else as_names(given, name))
            self._check_names(name)
        if both := set(self.measurements or ()) & set(self.actions or ()):
            raise DataError(f"a channel must be a measurement or an action, got {sorted(both)} as both")
        if not is_real(self.tolerance) or not self.tolerance > 0:
            raise DataError(f"tolerance must be a positive number, got {self.tolerance!r}")
        if not any(e.y_mask.any() for e in self.as_record().experiments):
            raise DataError(
                f"the record must have a sample with all of {list(self.measurements or ())} and one of {list(self.actions or ())} "
                "measured, got none; without the expert's action there is nothing to imitate"
            )

    def _check_names(self, name: str) -> None:
        given, known = fields_of(self)[name], (*self.record.inputs, *self.record.outputs)
        unknown = [one for one in given if one not in known]
        if not given or unknown:
            raise DataError(
                f"{name} must name channels of the record, {list(known)}, got {unknown if given else 'none'}; a log without the expert's "
                "actions cannot be imitated"
            )

    def as_record(self) -> Record:
        """Return the record from measurements to actions, as a policy reads it."""
        experiments = []
        for e in self.record.experiments:
            (y, y_mask), (u, u_mask) = (
                self._signals(e, names) for names in (self.measurements, self.actions)
            )
            # A measurement that was filled in is one the expert did not see.
            seen = u_mask & y_mask.all(axis=1, keepdims=True)
            experiments.append(dataclasses.replace(e, u=y, y=u, u_mask=y_mask, y_mask=seen))
        units = [self._units(names) for names in (self.measurements, self.actions)]
        return Record(tuple(experiments), self.record.dt, self.measurements, self.actions, *units)  # pyright: ignore

    def _signals(self, experiment, names) -> tuple[np.ndarray, np.ndarray]:
        known = (*self.record.inputs, *self.record.outputs)
        columns = [known.index(name) for name in names]
        both = (np.hstack([experiment.u, experiment.y]), np.hstack([experiment.u_mask, experiment.y_mask]))
        return both[0][:, columns], both[1][:, columns]

    def _units(self, names) -> tuple[str, ...]:
        record = self.record
        known = dict(
            zip((*record.inputs, *record.outputs), (*record.input_units, *record.output_units), strict=True)
        )
        return tuple(known[name] for name in names)


class Contradiction(NamedTuple):
    """Two demonstrations of which a Lipschitz policy without state must miss one.

    **Arguments:**

    - `first`: the experiment's name and the sample.
    - `second`: those of the other.
    - `distance`: between the measurements, over their standard deviations.
    - `actions`: the two actions, in their units.
    - `error`: the smallest error that the policy makes at one of the two, over the actions' standard deviations.
    """

    first: tuple[str, int]
    second: tuple[str, int]
    distance: float
    actions: tuple[list[float], list[float]]
    error: float


def contradiction(demonstrations: Demonstrations, gamma: float) -> Contradiction | None:
    """Return the pair of demonstrations that contradict each other most beyond a Lipschitz constant, None where no pair does.

    ::

        error = max over pairs  (|u_i - u_j| - gamma |y_i - y_j|) / 2        y, u over their standard deviations

    No policy without state of that Lipschitz constant has a smaller largest error. Of more than 4,000 samples as many are compared,
    evenly spaced.

    **Arguments:**

    - `demonstrations`: of an expert.
    - `gamma`: the constant, between signals over their standard deviations, as a policy is trained with it.

    **Raises:** `RobustctlError` for a gamma that is not positive.
    """
    if not is_positive(gamma):
        raise RobustctlError(f"gamma must be a positive, finite Lipschitz constant, got {gamma!r}")
    record = demonstrations.as_record()
    counted = [(e, np.flatnonzero(e.y_mask.all(axis=1))) for e in record.experiments]
    where = [(e.name, int(k)) for e, at in counted for k in at]
    if len(where) < 2:
        return None
    chosen = np.unique(np.linspace(0, len(where) - 1, min(len(where), _COMPARED)).astype(int))
    y, u = (
        np.concatenate(parts)[chosen]
        for parts in zip(*((e.u[at], e.y[at]) for e, at in counted), strict=True)
    )
    scaling = Scaling.fit(record)
    i, j, error, distance = _worst(y / scaling.u_std, u / scaling.y_std, gamma)
    if not error > 0:
        return None
    return Contradiction(where[chosen[i]], where[chosen[j]], distance, (u[i].tolist(), u[j].tolist()), error)


def _worst(y: np.ndarray, u: np.ndarray, gamma: float) -> tuple[int, int, float, float]:
    """Return the pair that is worst, its least error and its distance."""
    best = (0, 0, -np.inf, 0.0)
    for start in range(0, len(y), 500):
        rows = slice(start, start + 500)
        distance, apart = (np.sqrt(_squared(values, values[rows])) for values in (y, u))
        error = (apart - gamma * distance) / 2
        i, j = np.unravel_index(np.argmax(error), error.shape)
        if error[i, j] > best[2]:
            best = (start + int(i), int(j), float(error[i, j]), float(distance[i, j]))
    return best


def _squared(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    total = np.zeros((len(rows), len(values)))
    for k in range(values.shape[1]):
        total += (rows[:, k, None] - values[None, :, k]) ** 2
    return total


def in_parallel(record: Record) -> Record:
    """Return a record of as many short experiments as are simulated fast together, for a policy without state: the order is lost."""
    u, y, u_mask, y_mask = (
        np.concatenate([fields_of(e)[name] for e in record.experiments])
        for name in ("u", "y", "u_mask", "y_mask")
    )
    length = max(MIN_SAMPLES, -(-len(u) // _PARALLEL))
    count = -(-len(u) // length)
    # The last experiment is filled up with samples that do not count.
    at = np.minimum(np.arange(count * length), len(u) - 1).reshape(count, length)
    new = (np.arange(count * length) < len(u)).reshape(count, length, 1)
    experiments = tuple(
        Experiment(u[k], y[k], u_mask[k] & n, y_mask[k] & n, name=f"part[{i}]")
        for i, (k, n) in enumerate(zip(at, new, strict=True))
    )
    return dataclasses.replace(record, experiments=experiments)


def stateless(policy: Parameterization | System) -> bool:
    """Return whether a policy has no state."""
    return not jax.tree.leaves(eqx.filter_eval_shape(lambda p: explicit_of(p).init_state(), policy))


def check_consistent(demonstrations: Demonstrations, parameterization: Parameterization) -> None:
    """Raise `RobustctlError` where a policy without state must miss demonstrations by more than they tolerate."""
    gamma = certify(parameterization, prove=False).promised_gamma
    if gamma is None or demonstrations.tolerance == np.inf:
        return
    found = contradiction(demonstrations, gamma)
    if found is None or found.error <= demonstrations.tolerance:
        return
    (a, k), (b, l) = found.first, found.second
    raise RobustctlError(
        f"demonstrations must not contradict each other beyond the policy's Lipschitz constant of {gamma:.4g}, got sample {k} of {a!r} and "
        f"sample {l} of {b!r}: their measurements are {found.distance:.3g} standard deviations apart and their actions {found.actions[0]} "
        f"and {found.actions[1]}, so that every such policy misses one by {found.error:.3g} standard deviations or more; give a "
        "larger gamma, a measurement that distinguishes them, a policy with state, or a larger tolerance"
    )
