"""The best linear approximation of a plant from periodic records, with noise and nonlinear distortion apart."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..advice.series import standard
from ..checks import is_whole
from ..data import Record
from ..errors import DataError, RobustctlError
from ..train.record_model import check_record
from .error_response import Residual, period_spectra

EXCITED = 1e-6
"""Of the largest amplitude of the inputs: a smaller one at a frequency is rounding."""

ABOVE_NOISE = 4.0
"""Deviations of the scatter of the periods that the inputs' amplitude exceeds at a frequency that counts as excited."""


@dataclasses.dataclass(frozen=True, eq=False)
class BestLinear:
    """The best linear approximation at the excited frequencies, and its standard deviations.

    ::

        Y = G U + S + noise,        S: nonlinear distortion, which changes with the phases of the input but not from period to period

    **Arguments:**

    - `omega`: frequencies (n,), rad/s
    - `G`: response (n, ny, nu), in units of output per input
    - `noise`: standard deviation of G by noise (n, ny, nu), from the scatter of the periods
    - `total`: by noise and distortion (n, ny, nu), from the scatter of the experiments; NaN with no more experiments than inputs
    - `noise_share`: root mean square of the noise over that of the linear response, in one period at these frequencies, (ny,)
    - `distortion_share`: the same of the distortion; NaN where it is not known
    - `periods`: number of periods of the shortest experiment
    - `experiments`: number of experiments, one for each choice of the input's phases
    - `inputs`: names
    - `outputs`: names
    - `input_units`: one per input
    - `output_units`: one per output
    - `dt`: sample time of the record, s
    """

    omega: np.ndarray
    G: np.ndarray
    noise: np.ndarray
    total: np.ndarray
    noise_share: np.ndarray
    distortion_share: np.ndarray
    periods: int
    experiments: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_units: tuple[str, ...]
    output_units: tuple[str, ...]
    dt: float

    @property
    def distortion(self) -> np.ndarray:
        """Standard deviation of G by nonlinear distortion alone (n, ny, nu), zero where the noise alone explains the scatter."""
        return np.sqrt(np.maximum(self.total**2 - self.noise**2, 0.0))

    def __repr__(self) -> str:
        lines = [
            f"best linear approximation at {len(self.omega)} frequencies, {self.omega[0]:.4g} to {self.omega[-1]:.4g} rad/s, from "
            f"{self.experiments} experiments of {self.periods} periods"
        ]
        for name, a, b in zip(self.outputs, self.noise_share, self.distortion_share, strict=True):
            known = (
                f"{100 * b:.3g} %" if np.isfinite(b) else "unknown, which takes more experiments than inputs"
            )
            lines.append(
                f"  {name}: noise {100 * a:.3g} % of the linear response in one period, nonlinear distortion {known}"
            )
        return "\n".join(lines)


def best_linear(record: Record, period: int, *, skip: int = 1) -> BestLinear:
    """Estimate the best linear approximation of a plant under a periodic input, with noise and nonlinear distortion apart.

    ::

        G = Y U^+ at each excited frequency,     U, Y: means over the periods, an experiment per column
        noise^2 = s^2 (U U*)^-1,                 s^2: variance of those means, from the scatter of Y - G U over the periods
        total^2 = r^2 (U U*)^-1,                 r^2 = |Y - G U|^2 / (experiments - nu)

    The noise changes from period to period; a nonlinear distortion repeats with the period and changes with the phases of the input alone.
    So noise takes two periods, and distortion takes more experiments than inputs, each with other random phases of the same amplitudes
    (`rc.data.multisine` with other seeds).

    **Arguments:**

    - `record`: experiments whose inputs repeat
    - `period`: samples
    - `skip`: periods at the start that are left out, because the transient has not decayed yet

    **Raises:** `RobustctlError` for a period or skip out of range; `DataError` for fewer than two periods, a missing sample, fewer
    experiments than inputs, and inputs that are constant.

    **Source:** R. Pintelon, J. Schoukens, "System Identification: A Frequency Domain Approach", 2nd ed., 2012, section 4.3.

    **Example:** ::

        us = [np.tile(rc.data.multisine(200, seed=seed), (4, 1)) for seed in range(3)]
        record = rc.data.from_arrays(us, [np.roll(u, 1) + 0.1 * np.roll(u, 1) ** 3 for u in us], 0.1)
        print(rc.identify.best_linear(record, 200))
    """
    check_record(record)
    if not is_whole(period, 4) or not is_whole(skip, 0):
        raise RobustctlError(
            f"period must be a whole number of at least 4 samples and skip one of at least 0 periods, got {period!r} and {skip!r}"
        )
    U, Y, scatter, excited = _means(record, period, skip)
    lines = np.flatnonzero(excited)
    if not len(lines):
        raise DataError(
            "the inputs must have a frequency at which all of them have power, got none; log with rc.data.multisine"
        )
    U, Y = U[lines], Y[lines]
    G = Y @ np.linalg.pinv(U)
    linear, periods = G @ U, min(e.samples // period - skip for e in record.experiments)
    noise, more = scatter(lines, G), U.shape[2] - record.nu
    total = np.sum(np.abs(Y - linear) ** 2, axis=2) / more if more else np.full_like(noise, np.nan)
    # The covariance of a row of G is (U U*)^-1 times the variance of that output.
    spread = np.real(np.diagonal(np.linalg.inv(U @ U.conj().swapaxes(1, 2)), axis1=1, axis2=2))
    size = standard(record, "u").std
    deviations = [np.sqrt(v[:, :, None] * spread[:, None]) / size for v in (noise, total)]
    power = np.sum(np.mean(np.abs(linear) ** 2, axis=2), axis=0)
    shares = [np.sqrt(np.maximum(np.sum(v, axis=0), 0) / power) for v in (periods * noise, total - noise)]
    return BestLinear(
        2 * np.pi * lines / (period * record.dt), G / size,
        deviations[0], deviations[1], shares[0], shares[1], periods, len(record.experiments),
        record.inputs, record.outputs, record.input_units, record.output_units, record.dt,
    )  # fmt: skip


def _means(record: Record, period: int, skip: int):
    """Return the means over the periods, (lines, n, experiments) each, a function for the variance of Y - G U, and the excited lines.

    Inputs in their standard deviations.
    """
    u = standard(record, "u")
    if not u.varies.any():
        raise DataError(
            f"an input must vary, but {list(record.inputs)} are constant; log with rc.data.multisine"
        )
    each = [
        period_spectra(Residual(u(e.u), e.y, np.asarray(e.u_mask.all(axis=1)), e.y_mask), period, skip)
        for e in record.experiments
    ]
    if len(each) < record.nu:
        raise DataError(
            f"there must be an experiment of other phases for each of {record.nu} inputs, got {len(each)}; log more, or leave inputs out"
        )
    U = np.stack([u.mean(axis=0) for u, _ in each], axis=2)
    Y = np.stack([y.mean(axis=0) for _, y in each], axis=2)

    def scatter(lines: np.ndarray, G: np.ndarray) -> np.ndarray:
        """Return the variance (lines, ny) of the mean over the periods of Y - G U, the mean of the experiments."""
        found = []
        for u, y in each:
            e = y[:, lines] - np.einsum("loi,pli->plo", G, u[:, lines])
            found.append(np.sum(np.abs(e - e.mean(axis=0)) ** 2, axis=0) / (len(e) * (len(e) - 1)))
        return np.mean(found, axis=0)

    weakest = np.linalg.svd(U, compute_uv=False)[:, -1]
    uncertain = [
        np.sum(np.abs(u - u.mean(axis=0)) ** 2, axis=(0, 2)) / (len(u) * (len(u) - 1)) for u, _ in each
    ]
    excited = weakest > np.maximum(
        EXCITED * weakest[1:].max(), ABOVE_NOISE * np.sqrt(np.sum(uncertain, axis=0))
    )
    # The mean of the record is no response.
    excited[0] = False
    return U, Y, scatter, excited
