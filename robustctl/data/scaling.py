"""Channels scaled to mean zero and standard deviation one."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import of_type
from ..errors import DataError, RobustctlWarning
from ..registry import registered
from .record import Record
from .record_checks import CONSTANT, as_floats, check_squares
from .trend import pooled

FIELDS = ("u_mean", "u_std", "y_mean", "y_std")


@registered()
@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation of every channel: ``scaled = (value - mean) / std``.

    Fit it to the training data only and apply it to the rest: a scaling fitted to the test data leaks them into
    training, and no check here can detect that.

    **Arguments:**

    - `u_mean`: shape (nu,), float64, in the units of the inputs.
    - `u_std`: shape (nu,), > 0, in the units of the inputs.
    - `y_mean`: shape (ny,), in the units of the outputs.
    - `y_std`: shape (ny,), > 0, in the units of the outputs.

    **Raises:** `DataError` for other shapes, numbers that are not finite, or a standard deviation <= 0.

    **Example:** ::

        u = np.sin(0.1 * np.arange(100.0))
        record = rc.data.from_arrays(u, u**2, 0.1)
        scaled = rc.data.Scaling.fit(record).apply(record)
    """

    u_mean: np.ndarray
    u_std: np.ndarray
    y_mean: np.ndarray
    y_std: np.ndarray

    def __post_init__(self):
        for name, given in self._numbers().items():
            array = as_floats(given, name)
            if array.ndim != 1 or not np.isfinite(array).all():
                raise DataError(f"{name} must be one finite number per channel, shape (n,), got {array!r}")
            if name.endswith("std") and not (array > 0).all():
                raise DataError(f"{name} must be > 0, got {array!r}")
            object.__setattr__(self, name, array)
        for kind, mean, std in (("u", self.u_mean, self.u_std), ("y", self.y_mean, self.y_std)):
            if mean.shape != std.shape:
                raise DataError(f"{kind}_mean and {kind}_std must match, got {mean.shape} and {std.shape}")

    def __eq__(self, other: object) -> bool:
        """Equal when all numbers are equal, so that a model read back from a file equals the saved one."""
        return isinstance(other, Scaling) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        """Hash of the numbers."""
        return hash(tuple(numbers.tobytes() for numbers in self._numbers().values()))

    @classmethod
    def fit(cls, record: Record) -> Scaling:
        """Mean and standard deviation of the measured samples of all experiments together.

        A constant channel gets a standard deviation of 1, with a RobustctlWarning.

        **Raises:** `DataError` when a channel has no measured sample, or values too large or too small for float64 to
        square (`check_squares`).
        """
        return cls(*_moments(record, "u", record.inputs), *_moments(record, "y", record.outputs))

    @classmethod
    def identity(cls, nu: int, ny: int) -> Scaling:
        """Scaling that changes nothing, for `nu` inputs and `ny` outputs."""
        return cls(np.zeros(nu), np.ones(nu), np.zeros(ny), np.ones(ny))

    def apply(self, record: Record) -> Record:
        """Record in scaled values, which have no units.

        **Raises:** `DataError` when the numbers of channels differ.
        """
        experiments = tuple(
            dataclasses.replace(experiment, u=self.scale_u(experiment.u), y=self.scale_y(experiment.y))
            for experiment in record.experiments
        )
        return dataclasses.replace(record, experiments=experiments, input_units=(), output_units=())

    def scale_u(self, u: Any) -> Any:
        """Inputs (..., nu) to scaled inputs; NumPy or JAX arrays of the same dtype."""
        u, mean, std = _alike(u, self.u_mean, self.u_std, "u")
        return (u - mean) / std

    def scale_y(self, y: Any) -> Any:
        """Outputs (..., ny) to scaled outputs; NumPy or JAX arrays of the same dtype."""
        y, mean, std = _alike(y, self.y_mean, self.y_std, "y")
        return (y - mean) / std

    def undo_u(self, u: Any) -> Any:
        """Scaled inputs (..., nu) back to their units; NumPy or JAX arrays of the same dtype."""
        u, mean, std = _alike(u, self.u_mean, self.u_std, "u")
        return u * std + mean

    def undo_y(self, y: Any) -> Any:
        """Scaled outputs (..., ny) back to their units; NumPy or JAX arrays of the same dtype."""
        y, mean, std = _alike(y, self.y_mean, self.y_std, "y")
        return y * std + mean

    def to_dict(self) -> dict[str, list[float]]:
        """Lists of floats that JSON can hold and `from_dict` reads back without loss."""
        return {name: numbers.tolist() for name, numbers in self._numbers().items()}

    def _numbers(self) -> dict[str, np.ndarray]:
        return dict(zip(FIELDS, (self.u_mean, self.u_std, self.y_mean, self.y_std), strict=True))

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Scaling:
        """Scaling from the result of `to_dict`.

        **Raises:** `DataError` for missing or unknown keys, or numbers that a scaling may not hold.
        """
        must = f"a scaling needs exactly the keys {FIELDS}"
        given = sorted(map(str, of_type(numbers, Mapping, must, error=DataError)))
        if given != sorted(FIELDS):
            raise DataError(f"{must}, got {given}")
        return cls(**{name: as_floats(numbers[name], name) for name in FIELDS})


def _moments(record: Record, field: str, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    values, mask = pooled(record, field)
    if not mask.any(axis=0).all():
        lost = names[int(np.argmin(mask.any(axis=0)))]
        raise DataError(
            f"channel {lost!r} must have a measured sample to be scaled by, got none; leave it out"
        )
    check_squares(values, mask, names)
    mean, std = np.mean(values, axis=0, where=mask), np.std(values, axis=0, where=mask)
    # A constant computed in float64 scatters by about 1e-16 of its value; logs resolve 1e-6 or coarser.
    constant = std <= CONSTANT * np.abs(values).max(axis=0, where=mask, initial=0.0)
    if constant.any():
        flat = [name for name, still in zip(names, constant, strict=True) if still]
        warnings.warn(f"channels {flat} never change; their scale is 1", RobustctlWarning, stacklevel=3)
    return mean, np.where(constant, 1.0, std)


def _alike(values: Any, mean: np.ndarray, std: np.ndarray, what: str) -> tuple[Any, np.ndarray, np.ndarray]:
    values = values if hasattr(values, "dtype") else as_floats(values, what)
    if values.ndim == 0 or values.shape[-1] != len(mean):
        raise DataError(
            f"the last axis of {what} must be the scaling's {len(mean)} channels, got shape {values.shape}"
        )
    dtype = values.dtype if np.issubdtype(values.dtype, np.floating) else np.float64
    # Full rank, because JAX may be set to refuse rank promotion.
    shape = (1,) * (values.ndim - 1) + mean.shape
    return values, mean.astype(dtype).reshape(shape), std.astype(dtype).reshape(shape)
