"""Which of several inputs would determine a model's weights, and keep the limits of the plant."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..checks import is_positive
from ..data import Record
from ..errors import DataError, RobustctlError
from ..system import step_by_step
from ..train import RecordModel
from ..train.record_model import check_channels
from .simulate import simulated

MARGIN = 2.0
"""Standard deviations of the predicted outputs that must be inside the limits too: 95 % of a normal distribution."""

LEAST_NOISE = 1e-6
"""Of the outputs' size: a model that fits a simulated record exactly has a finite information."""


class Candidate(NamedTuple):
    """What one input would determine.

    **Arguments:**

    - `information`: about the weights, nats.
    - `low`: lowest outputs (ny,) that are expected, two standard deviations of the prediction included, in their units.
    - `high`: highest outputs (ny,), likewise.
    - `allowed`: whether these are within the limits.
    """

    information: float
    low: np.ndarray
    high: np.ndarray
    allowed: bool


@dataclasses.dataclass(frozen=True, eq=False)
class NextExperiment:
    """What each of several inputs would determine of a model.

    **Arguments:**

    - `candidates`: in the order in which the inputs were given.
    - `noise`: standard deviation of each output's error (ny,), in its unit.
    - `outputs`: their names.
    """

    candidates: tuple[Candidate, ...]
    noise: np.ndarray
    outputs: tuple[str, ...]

    @property
    def best(self) -> int | None:
        """Position of the allowed input with most information; None where none is allowed."""
        allowed = [k for k, c in enumerate(self.candidates) if c.allowed]
        return max(allowed, key=lambda k: self.candidates[k].information, default=None)

    def __str__(self) -> str:
        """Return a line for each input, and what is assumed."""
        lines = [f"next experiment: {'none is allowed' if self.best is None else f'input {self.best}'}"]
        for k, c in enumerate(self.candidates):
            spans = ", ".join(
                f"{name} {a:.4g} to {b:.4g}" for name, a, b in zip(self.outputs, c.low, c.high, strict=True)
            )
            lines.append(
                f"  input {k}: {c.information:.4g} nats, {spans}{'' if c.allowed else ', beyond a limit'}"
            )
        lines.append(
            "  assumed: the model's structure is the plant's, and its errors are white noise of the residual's size"
        )
        return "\n".join(lines)


def next_experiment(
    model: RecordModel, record: Record, inputs: Sequence[Any], *, y_low: Any = None, y_high: Any = None, prior: float = 1.0,
) -> NextExperiment:  # fmt: skip
    """Return what each of several inputs would determine of a model's weights, beyond the record that it was fitted to.

    ::

        H = I / prior^2 + sum over the record of J' J,     information = (log det(H + J_c' J_c) - log det H) / 2

    with the slopes J of the simulated outputs in the weights, over the standard deviation of the error: the fall of the entropy of the
    weights, to first order (a D-optimal choice from candidates). Outputs are predicted from the model's own initial state, with
    the uncertainty `J_c H^-1 J_c'`.

    **Arguments:**

    - `model`: the fitted model.
    - `record`: that it was fitted to; the size of its residual is that of the noise.
    - `inputs`: candidates (T, nu) each, in the inputs' units, of any lengths.
    - `y_low`: lowest outputs that the plant may reach (ny,), default none.
    - `y_high`: highest outputs, likewise.
    - `prior`: standard deviation of each free number before any data.

    **Raises:** `RobustctlError` for no inputs, and a prior that is not positive; `DataError` for inputs of another number of channels or
    that are not finite, limits that cross, and a record that is not the model's.

    **Source:** Pukelsheim, "Optimal design of experiments", 1993; Ljung, "System identification", 1999, section 13.

    **Example:** ::

        record = rc.problems.two_tanks(300, seed=0)
        model = rc.identify.subspace(record, order=2, delay=0).model
        inputs = [3 + rc.data.multisine(100, highest=h, seed=0) for h in (0.1, 0.4)]
        print(rc.identify.next_experiment(model, record, inputs, y_high=[9.0]))
    """
    check_channels(model, record)
    if not is_positive(prior):
        raise RobustctlError(f"prior must be a positive, finite standard deviation, got {prior!r}")
    checked = _inputs(inputs, record.nu)
    low, high = _limits(y_low, y_high, record.ny)
    noise = _noise(model, record)
    slopes = [_slopes(model, e.u, noise)[1] for e in record.experiments]
    kept = [J[e.y_mask.ravel()] for J, e in zip(slopes, record.experiments, strict=True)]
    H = np.eye(slopes[0].shape[1]) / prior**2 + sum(J.T @ J for J in kept)
    root = np.linalg.cholesky(H)
    found = [_candidate(*_slopes(model, u, noise), root, noise, (low, high)) for u in checked]
    return NextExperiment(tuple(found), noise, record.outputs)


def _inputs(inputs: Sequence[Any], nu: int) -> list[np.ndarray]:
    found = [np.asarray(u, np.float64) for u in inputs]
    if not found:
        raise RobustctlError("there must be one or more inputs to compare, got none")
    for k, u in enumerate(found):
        if u.ndim != 2 or u.shape[1] != nu or not len(u) or not np.isfinite(u).all():
            raise DataError(f"input {k} must be finite, (T, {nu}), got shape {u.shape}; time is first")
    return found


def _limits(y_low: Any, y_high: Any, ny: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = (
        np.full(ny, open_end) if given is None else np.asarray(given, np.float64)
        for given, open_end in ((y_low, -np.inf), (y_high, np.inf))
    )
    if low.shape != (ny,) or high.shape != (ny,) or not (low < high).all():
        raise DataError(
            f"y_low must be below y_high for each of {ny} outputs, got {low.tolist()} and {high.tolist()}"
        )
    return low, high


def _noise(model: RecordModel, record: Record) -> np.ndarray:
    errors = np.concatenate(simulated(model, record).errors())
    size = np.nanstd(np.concatenate([e.y for e in record.experiments]), axis=0)
    return np.maximum(np.sqrt(np.nanmean(errors**2, axis=0)), LEAST_NOISE * size)


def _slopes(model: RecordModel, u: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the simulated outputs (T, ny), and the slopes (T ny, weights) of them over the noise."""
    ys, J = _run(model, jnp.asarray(u, model.dtype))
    J = np.asarray(J, np.float64) / noise[:, None]
    return np.asarray(ys, np.float64), J.reshape(-1, J.shape[-1])


@eqx.filter_jit
def _run(model: RecordModel, u: Array) -> tuple[Array, Array]:
    arrays, rest = eqx.partition(model.parameterization, eqx.is_inexact_array)
    flat, restore = ravel_pytree(arrays)

    def outputs(flat: Array) -> tuple[Array, Array]:
        parameterization = eqx.combine(restore(flat), rest)
        system = dataclasses.replace(model, parameterization=parameterization).explicit()
        # Step by step: faster scans have reverse-mode derivatives alone, which cost a pass for each sample.
        ys = step_by_step(system.step, system.init_state(), u)[1]
        return ys, ys

    J, ys = jax.jacfwd(outputs, has_aux=True)(flat)
    return ys, J


def _candidate(
    ys: np.ndarray, J: np.ndarray, root: np.ndarray, noise: np.ndarray, limits: tuple[np.ndarray, np.ndarray]
) -> Candidate:
    """Return the information of an input: det(H + J'J) / det(H) = det(I + L^-1 J'J L^-T), H = L L'."""
    import scipy.linalg

    moved = scipy.linalg.solve_triangular(root, J.T, lower=True)
    information = 0.5 * float(np.linalg.slogdet(np.eye(len(root)) + moved @ moved.T)[1])
    std = np.sqrt(np.sum(moved**2, axis=0)).reshape(ys.shape) * noise
    low, high = (ys - MARGIN * std).min(axis=0), (ys + MARGIN * std).max(axis=0)
    allowed = bool(np.all(low >= limits[0]) and np.all(high <= limits[1]))
    return Candidate(information, low, high, allowed)
