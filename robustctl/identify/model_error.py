"""What a record shows of the error of a model: its gain over frequency with confidence, and a weight above it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..advice.series import standard
from ..checks import is_whole
from ..data import Record
from ..errors import DataError, RobustctlError
from ..state_space import StateSpace
from ..train import RecordModel
from .error_response import Residual, Response, from_error_model, from_periods
from .simulate import simulate
from .weight import for_each_input, gains, weight_above

FLOOR = 1e-4
"""Of the largest power of the inputs: 1 % of their amplitude, where a sensor's resolution is often all that is left."""

GAP = 4
"""Times the distance of their neighbors: excited lines that far apart leave the band between them unseen."""


@dataclass(frozen=True, eq=False, repr=False)
class ErrorEstimate:
    """The error of a model as a record shows it, over frequency.

    ::

        y = model(u) + error(u) + noise,     error about G(z) u,     gain = sigma_max(G),     |G| <= upper <= |W|

    Gains are in the outputs' units per the input's, and with several inputs per one standard deviation of each.

    **Arguments:**

    - `omega`: frequencies (n,), rad/s.
    - `gain`: estimated gain of the error (n,).
    - `upper`: upper bound of the gain (n,), at all frequencies together with the probability `confidence`.
    - `W`: stable filter of minimum phase, a channel for each input in its own units, whose gain is above `upper` on the seen
      band; the `weight` of `rc.certificates.ModelError(gain=1.0, at="output", weight=W)`.
    - `unseen`: bands `(low, high)` in rad/s in which the inputs have too little power to show an error.
    - `confidence`: probability that `upper` holds, if noise and error are as assumed.
    - `u_size`: size of each input of which gains are given (nu,), 1 for a single input.
    - `how`: the estimate in words.
    - `units`: of the gain, "" where it has none.
    """

    omega: np.ndarray
    gain: np.ndarray
    upper: np.ndarray
    W: StateSpace
    unseen: tuple[tuple[float, float], ...]
    confidence: float
    u_size: np.ndarray
    how: str
    units: str

    @property
    def seen(self) -> np.ndarray:
        """True for the frequencies outside the unseen bands, (n,)."""
        return outside(self.omega, self.unseen)

    def weight_gain(self, omega: np.ndarray) -> np.ndarray:
        """Return the gain of W at frequencies (n,) in rad/s, in the units of `upper`."""
        return gains(self.W, omega, self.u_size)

    def summary(self) -> str:
        """Return the estimate in words: what is statistics, what is checked and what is assumed."""
        worst = int(np.argmax(np.where(self.seen, self.upper, 0)))
        bands = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in self.unseen)
        order = len(self.W.A) // len(self.u_size)
        largest = f"upper {self.upper[worst]:.3g} {self.units} at {self.omega[worst]:.3g} rad/s, estimate {self.gain[worst]:.3g}"
        return "\n".join((
            f"model error from {self.omega[0]:.3g} to {self.omega[-1]:.3g} rad/s, by {self.how}",
            f"  statistics   with probability {self.confidence:.3g} the error's gain is at most upper at all seen frequencies, for",
            "               Gaussian noise and inputs of the size and kind of the record's",
            f"  largest      {largest} there",
            f"  checked      W, stable and of order {order}, is above upper at all seen frequencies of the estimate",
            f"  not seen     {bands} rad/s: the inputs have too little power there, and W is only continued",
            "  assumed      that the plant's error is within W, when a certificate uses W: a proof holds for every error within W,",
            "               and no record proves that the plant's is one. Larger or other inputs can show another error",
        ))  # fmt: skip

    def __repr__(self) -> str:
        return self.summary()


def outside(omega: np.ndarray, bands: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return which frequencies are outside all bands, their edges included, (n,)."""
    return ~np.any(
        [np.zeros(len(omega), bool), *((low < omega) & (omega < high) for low, high in bands)], axis=0
    )


def model_error(
    model: RecordModel, record: Record, *, period: int | None = None, skip: int = 1, confidence: float = 0.95, floor: float = FLOOR,
) -> ErrorEstimate:  # fmt: skip
    """Estimate the error of a model over frequency from a record that it was not fitted to, and a weight above it.

    ::

        e = y - model(u) = offset + G(z) u + noise

    The residual of a free run is averaged over the periods of a repeated input, whose scatter is the noise, or else regressed on the
    inputs by an ARX model with its covariance. Several channels are compared by the largest singular value.

    **Arguments:**

    - `model`: the fitted model
    - `record`: with the model's channels; the training record would hide errors that the model was fitted to
    - `period`: samples after which the inputs repeat, None for another record
    - `skip`: periods at the start that are left out, because the transient has not decayed yet
    - `confidence`: probability, in (0, 1), with which the bound holds at all frequencies together
    - `floor`: power of the inputs over their largest below which a frequency counts as unseen, in (0, 1)

    **Raises:** `RobustctlError` for a confidence, floor, period or skip out of range; `DataError` for channels that differ from the
    model's, inputs that are constant, a residual that is not finite, too few samples, and periods that are incomplete.

    **Example:** ::

        record = rc.problems.two_tanks(600, seed=0)
        model = rc.identify.subspace(record).model
        print(rc.identify.model_error(model, rc.problems.two_tanks(600, seed=1)))
    """
    _check(period, skip, confidence, floor)
    residuals, u_size, y_size = _residuals(model, record)
    if period is None:
        response = from_error_model(residuals, record.dt, 1 - confidence)
    else:
        response = from_periods(residuals, period, skip, record.dt, 1 - confidence)
    # The gain of one input is in its own unit; of several, whose units may differ, each in its standard deviations.
    scale, size = (y_size / u_size[0], np.ones(1)) if record.nu == 1 else (y_size, u_size)
    gain, upper = scale * response.gain, scale * (response.gain + response.radius)
    unseen = _unseen(response, record.dt, floor)
    seen = outside(response.omega, unseen) & (response.power >= floor)
    if not seen.any():
        raise DataError(
            f"the inputs must have power above floor = {floor:g} of their largest at some frequency, got none; lower floor"
        )
    # A residual of exactly zero, as of a simulation compared with itself, still has a weight, which must be positive.
    target = np.maximum(upper[seen], 1e-9 * max(float(scale), upper[seen].max()))
    W = for_each_input(weight_above(response.omega[seen], target, record.dt), size, record.inputs)
    return ErrorEstimate(
        response.omega, gain, upper, W, unseen, confidence, size, response.how, _units(record)
    )


def _units(record: Record) -> str:
    given = sorted({unit or "1" for unit in record.output_units})
    inputs = record.input_units[0] or "1" if record.nu == 1 else "standard deviation"
    return f"{' or '.join(given)} per {inputs}"


def _check(period: int | None, skip: int, confidence: float, floor: float) -> None:
    if (period is not None and not is_whole(period, 4)) or not is_whole(skip, 0):
        raise RobustctlError(
            f"period must be a whole number of at least 4 samples and skip one of at least 0 periods, got {period!r} and {skip!r}"
        )
    if not (0 < confidence < 1 and 0 < floor < 1):
        raise RobustctlError(f"confidence and floor must be in (0, 1), got {confidence!r} and {floor!r}")


def _residuals(model: RecordModel, record: Record) -> tuple[list[Residual], np.ndarray, float]:
    """Return inputs in standard deviations with those, and residuals in the largest deviation of an output with that."""
    simulation = simulate(model, record)
    notes = [note for note in simulation.scores().notes if "finite" in note]
    if notes:
        raise DataError(f"the model's simulation must be finite, but {notes[0]}; fit the model again")
    u, y = standard(record, "u"), standard(record, "y")
    for names, channels in ((record.inputs, u), (record.outputs, y)):
        if not channels.varies.all():
            flat = [name for name, varies in zip(names, channels.varies, strict=True) if not varies]
            raise DataError(
                f"every channel must vary, but {flat} are constant; leave them out with rc.data.select"
            )
    y_size = float(y.std.max())
    residuals = [
        Residual(u(e.u), np.nan_to_num(error) / y_size, np.all(e.u_mask, axis=1), ~np.isnan(error))
        for e, error in zip(record.experiments, simulation.errors(), strict=True)
    ]
    return residuals, u.std, y_size


def _unseen(response: Response, dt: float, floor: float) -> tuple[tuple[float, float], ...]:
    """Return the bands without power, of the whole axis up to the Nyquist frequency, rad/s."""
    # The Nyquist frequency itself belongs to a band that ends there.
    highest = np.nextafter(np.pi / dt, np.inf)
    omega, weak = response.omega[response.power >= floor], response.omega[response.power < floor]
    if not len(omega):
        return ((0.0, float(highest)),)
    last = [] if np.isclose(omega[-1], np.pi / dt) else [highest]
    ends = np.concatenate([[0.0], omega, last])
    steps = np.diff(ends)
    near = np.minimum(np.append(steps[1:], np.inf), np.insert(steps[:-1], 0, np.inf))
    inside = np.array([np.any((low < weak) & (weak < high)) for low, high in itertools.pairwise(ends)])
    unseen = (steps > GAP * near) | inside
    # An offset is no error of the model, so the gain at frequency zero is unseen always, and up to the first frequency.
    unseen[0] = True
    return tuple((float(a), float(b)) for a, b in zip(ends[:-1][unseen], ends[1:][unseen], strict=True))
