"""Logged experiments on a uniform time grid, with missing samples marked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..checks import is_real
from ..errors import DataError
from .record_checks import as_floats, as_names, check_dt, check_names

MIN_SAMPLES = 2  # an input acts on the next sample: one alone shows nothing of the dynamics


def _frozen(values: np.ndarray) -> np.ndarray:
    # Views of a read-only array are read-only too: windows of a record share its memory.
    if values.flags.writeable:
        values = values.copy()
        values.flags.writeable = False
    return values


@dataclass(frozen=True, eq=False)
class Experiment:
    """One uninterrupted run of samples; build it with `from_arrays`, which fills and marks gaps.

    A masked input sample holds the linear interpolation between its measured neighbors (the nearest
    one at the ends). A masked output sample holds the last measured value (the first one before any
    was measured; 0.0 when there is none): finite, so that a weight of zero removes it from a loss,
    and causal, so that it leaks no later output. The arrays are read-only.

    **Arguments:**

    - `u`: inputs (T, nu), float64, in the units of the record.
    - `y`: outputs (T, ny), float64, in the units of the record.
    - `u_mask`: (T, nu), bool; True where the input was measured.
    - `y_mask`: (T, ny), bool; True where the output was measured.
    - `t0`: time of the first sample, seconds.
    - `name`: label used in messages.

    **Raises:** `DataError` when shapes disagree, a value is not finite, or there are fewer than two samples.
    """

    u: np.ndarray
    y: np.ndarray
    u_mask: np.ndarray
    y_mask: np.ndarray
    t0: float = 0.0
    name: str = "experiment"

    def __post_init__(self):
        for field in ("u", "y"):
            given, given_mask = self.signal(field)
            values = as_floats(given, f"experiment {self.name!r}: {field}")
            mask = np.asarray(given_mask)
            self._check(field, values, mask)
            object.__setattr__(self, field, _frozen(values))
            object.__setattr__(self, f"{field}_mask", _frozen(mask))
        if len(self.u) != len(self.y):
            raise DataError(
                f"experiment {self.name!r}: u and y must have the same number of samples, "
                f"got {len(self.u)} and {len(self.y)}"
            )
        if self.samples < MIN_SAMPLES:
            raise DataError(
                f"experiment {self.name!r} must have at least {MIN_SAMPLES} samples, got {self.samples}; arrays are time first, (T, n)"
            )
        if not is_real(self.t0) or not math.isfinite(self.t0):
            raise DataError(f"experiment {self.name!r}: t0 must be finite seconds, got {self.t0!r}")

    def _check(self, field: str, values: np.ndarray, mask: np.ndarray) -> None:
        where = f"experiment {self.name!r}: "
        if values.ndim != 2 or values.shape[1] == 0:
            raise DataError(f"{where}{field} must have shape (T, n) with n >= 1, got {values.shape}")
        if mask.shape != values.shape or mask.dtype != bool:
            raise DataError(
                f"{where}{field}_mask must be bool of shape {values.shape}, got {mask.dtype} {mask.shape}"
            )
        good = np.isfinite(values)
        if not good.all():
            sample, channel = np.argwhere(~good)[0]
            state = "measured" if mask[sample, channel] else "masked"
            raise DataError(
                f"{where}every sample must be finite, masked ones too; {field}[{sample}, {channel}] is "
                f"{values[sample, channel]} and {state}; use from_arrays, which marks and fills NaN"
            )

    def signal(self, field: str) -> tuple[np.ndarray, np.ndarray]:
        """Values and mask of the inputs, ``"u"``, or of the outputs, ``"y"``."""
        return (self.u, self.u_mask) if field == "u" else (self.y, self.y_mask)

    @property
    def samples(self) -> int:
        """Number of samples T."""
        return len(self.u)


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """Experiments on one plant that share sample time, channels and units.

    **Arguments:**

    - `experiments`: one or more `Experiment`, of any lengths.
    - `dt`: sample time, seconds, > 0.
    - `inputs`: channel names, at least one, all different.
    - `outputs`: channel names, at least one, all different and none of the inputs.
    - `input_units`: one label per input, ``""`` where it has none; empty for no labels at all.
    - `output_units`: one label per output, likewise.
    - `guesses`: what `read` found out about the file unasked, a phrase each; the text shows them.

    **Raises:** `DataError` when an argument breaks one of these rules.
    """

    experiments: tuple[Experiment, ...]
    dt: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_units: tuple[str, ...] = ()
    output_units: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()

    def __post_init__(self):
        experiments = tuple(self.experiments)
        if not experiments:
            raise DataError("a record must hold at least one experiment, got none")
        object.__setattr__(self, "experiments", experiments)
        object.__setattr__(self, "dt", check_dt(self.dt))
        for kind, given_names, given_units in (
            ("input", self.inputs, self.input_units),
            ("output", self.outputs, self.output_units),
        ):
            names = as_names(given_names, f"{kind}s")
            units = as_names(given_units, f"{kind}_units") or ("",) * len(names)
            if len(units) != len(names):
                raise DataError(
                    f"{kind}_units must be one per channel, got {len(units)} units for {len(names)} names"
                )
            object.__setattr__(self, f"{kind}s", names)
            object.__setattr__(self, f"{kind}_units", units)
        object.__setattr__(self, "guesses", as_names(self.guesses, "guesses"))
        check_names(self.inputs, self.outputs)
        for experiment in experiments:
            given = experiment.u.shape[1], experiment.y.shape[1]
            if given != (self.nu, self.ny):
                raise DataError(
                    f"experiment {experiment.name!r} has {given[0]} input and {given[1]} output channels, "
                    f"there are names for {self.nu} and {self.ny}"
                )

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return len(self.inputs)

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return len(self.outputs)

    @property
    def samples(self) -> int:
        """Number of samples of all experiments together."""
        return sum(experiment.samples for experiment in self.experiments)

    def time(self, index: int = 0) -> np.ndarray:
        """Times of the samples of experiment `index`, seconds, shape (T,)."""
        experiment = self.experiments[index]
        return experiment.t0 + self.dt * np.arange(experiment.samples)

    def __repr__(self):
        count = len(self.experiments)
        lines = [
            f"Record: {count} experiment{'s' * (count > 1)}, {self.samples} samples, "
            f"dt = {self.dt:g} s, {self.samples * self.dt:g} s in all"
        ]
        lines.append(f"  inputs  {self._channels('u', self.inputs, self.input_units)}")
        lines.append(f"  outputs {self._channels('y', self.outputs, self.output_units)}")
        if self.guesses:
            lines.append(f"  guessed {'; '.join(self.guesses)}")
        return "\n".join(lines)

    def _channels(self, field: str, names: tuple[str, ...], units: tuple[str, ...]) -> str:
        masks = [experiment.signal(field)[1] for experiment in self.experiments]
        missing = 100.0 * np.mean(~np.concatenate(masks), axis=0)
        return ", ".join(
            f"{name}{f' [{unit}]' if unit else ''} ({lost:.3g} % missing)"
            for name, unit, lost in zip(names, units, missing, strict=True)
        )
