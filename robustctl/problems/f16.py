"""Benchmark problem 1: identify an F-16's ground vibration from measured accelerations.

Data: Noel, Schoukens, "F-16 aircraft benchmark based on ground vibration test data", 2017, DOI 10.4121/12954911; they are
owned by others and are not part of this package. Protocol: [BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of
contracting and Lipschitz recurrent deep networks", arXiv 2504.01250, Sec. V-A; details that the paper does not state are from its
code, github.com/nic-barbara/R2DN at 5e65ac9: columns, scaling by Level 4, zero states and washout from `examples/utils`, sizes and
schedule from `examples/train_sysid.py`.

All seven records are one multisine realization at seven amplitudes.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from .. import nn
from ..data import Record, Scaling, merge, read
from ..errors import DataError, RobustctlError
from ..system import Parameterization
from ..train import Identification, summed_squared_error

SAMPLES, RATE = 73_728, 400.0
TRAIN, TEST, REFERENCE = (1, 3, 5, 7), (2, 4, 6), 4
WASHOUT = 100
INPUTS, OUTPUTS = ("Force", "Voltage"), ("Acceleration1", "Acceleration2", "Acceleration3")
_UNITS = {"Force": "N", "Voltage": "V", **dict.fromkeys(OUTPUTS, "m/s^2")}
_INSIDE = "F16GVT_Files/BenchmarkData"

PUBLISHED = {
    "r2dn": dict(mean=0.612, lowest=0.577, highest=0.637, parameters=97_481, seconds_per_epoch=16.8),
    "ren": dict(mean=0.523, lowest=0.504, highest=0.547, parameters=96_995, seconds_per_epoch=85.0),
}
"""Training loss of the 70th epoch over ten seeds, and seconds on a GPU, read from the figures of [BWM25]."""

REFERENCES = {
    "best linear model": 0.208,
    "interpolation between the neighboring training levels": 0.184,
    "repeatability of the record itself": 0.084,
}
"""Test errors that need no network, in the measure of `test_scores`."""

MODELS = ("r2dn", "ren", "lipschitz", "lstm", "linear")
LIPSCHITZ = 200.0
"""Gain of the Lipschitz variant, in deviations of the outputs over those of the inputs; the linear model's gain peaks at about 80."""


@dataclasses.dataclass(frozen=True)
class F16Protocol:
    """The published settings.

    **Arguments:**

    - `model`: one of `MODELS`: R2DN and REN as published, or a variant or baseline of their size.
    - `epochs`: of the training.
    - `segment`: samples per gradient step.
    - `learning_rate`: at first.
    - `least_rate`: at the end.
    - `decay_epochs`: epochs after which the rate is divided by ten.
    - `clip`: largest absolute value of an element of the gradient.

    **Raises:** `RobustctlError` for any other model.
    """

    model: str = "r2dn"
    epochs: int = 70
    segment: int = 256
    learning_rate: float = 1e-3
    least_rate: float = 1e-6
    decay_epochs: int = 20
    clip: float = 10.0

    def __post_init__(self):
        """Refuse unknown names."""
        if self.model not in MODELS:
            raise RobustctlError(f"model must be one of {MODELS}, got {self.model!r}")

    def optimizer(self, samples: int) -> optax.GradientTransformation:
        """Return Adam with its rate divided by ten every `decay_epochs`, and elements of the gradient clipped."""
        steps = self.decay_epochs * -(-samples // self.segment)
        rate = optax.exponential_decay(
            self.learning_rate, steps, 0.1, staircase=True, end_value=self.least_rate
        )
        return optax.chain(optax.clip(self.clip), optax.adam(rate))

    def fit_arguments(self, records: dict[int, Record], key: PRNGKeyArray) -> "FitArguments":
        """Return the arguments of `rc.train.train` for one seed."""
        data = training(records)
        problem = Identification(
            data, scaling=Scaling.fit(records[REFERENCE]), segment=self.segment, loss=summed_squared_error
        )
        return FitArguments(problem, model(self, key), self.optimizer(data.experiments[0].samples))


class FitArguments(NamedTuple):
    """Arguments of `rc.train.train`: the problem, the model and the optimizer."""

    problem: Identification
    model: Parameterization
    optimizer: optax.GradientTransformation


def model(protocol: F16Protocol, key: PRNGKeyArray) -> Parameterization:
    """Return the published configuration of about 97,000 parameters, an LSTM of that size, or a linear model of 75 states."""
    sizes = {"nu": len(INPUTS), "ny": len(OUTPUTS), "key": key}
    if protocol.model == "lstm":
        return nn.LSTM(nx=154, **sizes)
    if protocol.model == "linear":
        return nn.StableLinear(nx=75, init=nn.long_memory, **sizes)
    if protocol.model == "lipschitz":
        return nn.LipschitzR2DN(nx=75, nv=75, hidden=(87,) * 3, gamma=LIPSCHITZ, init=nn.long_memory, **sizes)
    if protocol.model == "ren":
        return nn.ContractingREN(nx=75, nv=150, init=nn.long_memory, **sizes)
    return nn.ContractingR2DN(nx=75, nv=75, hidden=(87,) * 3, init=nn.long_memory, **sizes)


def load(folder: str | Path) -> dict[int, Record]:
    """Return the seven FullMSine records by level: force (N) and voltage (V) to three accelerations (m/s^2), 400 Hz.

    `folder` is the unpacked archive, its folder `F16GVT_Files`, or its folder `BenchmarkData`.

    **Raises:** `DataError` where a record is missing, cut off or not the benchmark's.
    """
    data = _data_folder(Path(folder))
    return {level: _read(data / _file(level)) for level in range(1, 8)}


def training(records: dict[int, Record]) -> Record:
    """Return Levels 1, 3, 5 and 7 as one record of four experiments."""
    return merge(*(records[level] for level in TRAIN))


def _file(level: int) -> str:
    return f"F16Data_FullMSine_Level{level}{'' if level in TRAIN else '_Validation'}.csv"


def _data_folder(folder: Path) -> Path:
    candidates = [folder / _INSIDE, folder / "BenchmarkData", folder]
    for candidate in candidates:
        missing = [_file(level) for level in range(1, 8) if not (candidate / _file(level)).is_file()]
        if not missing:
            return candidate
        if len(missing) < 7:
            raise DataError(
                f"{candidate} must hold the records of all seven levels, missing: {', '.join(missing)}; unpack the whole archive"
            )
    raise DataError(
        f"{folder} must hold the F-16 benchmark's records, got none of {_file(1)} ... in it, in BenchmarkData or in {_INSIDE}; "
        "name the folder in which F16GVT_Files.zip (DOI 10.4121/12954911) was unpacked, or download it with "
        "robustctl.problems.f16_download.download()"
    )


def _read(path: Path) -> Record:
    record = read(path, inputs=INPUTS, outputs=OUTPUTS, dt=1 / RATE, units=_UNITS)
    samples = record.experiments[0].samples
    if samples != SAMPLES:
        raise DataError(
            f"{path} must have {SAMPLES} samples, got {samples}; it is cut off or of another version: unpack it again"
        )
    return record


def test_scores(simulated: dict[int, np.ndarray], records: dict[int, Record]) -> dict:
    """Return the errors of simulated outputs (T, 3), m/s^2, by level, without the first 100 samples.

    ::

        nrmse = sqrt(mean e^2 / mean y^2)    e, y scaled by Level 4's means and deviations, pooled over levels and channels

    Keys: `nrmse`; `nrmse_by_level`; `rmse` (m/s^2) by level and channel, the benchmark's official measure.
    """
    # One scaling for all levels, as published: errors at high levels weigh more than at low ones.
    scaling = Scaling.fit(records[REFERENCE])
    errors, sizes, rmse = {}, {}, {}
    for level, y_hat in simulated.items():
        y = records[level].experiments[0].y
        error = (y - y_hat)[WASHOUT:]
        errors[level] = np.mean((error / scaling.y_std) ** 2)
        sizes[level] = np.mean(((y[WASHOUT:] - scaling.y_mean) / scaling.y_std) ** 2)
        rmse[level] = np.sqrt(np.mean(error**2, axis=0)).tolist()
    by_level = {str(level): float(np.sqrt(errors[level] / sizes[level])) for level in simulated}
    pooled = float(np.sqrt(sum(errors.values()) / sum(sizes.values())))
    return {"nrmse": pooled, "nrmse_by_level": by_level, "rmse": {str(level): r for level, r in rmse.items()}}
