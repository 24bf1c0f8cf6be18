"""Linear models of a measured frequency response, each frequency weighted by what is known of it."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..checks import is_whole
from ..errors import DataError, RobustctlError
from ..linear.choose import ORDERS
from ..linear.response import Measured, fitted, most_states, response_covariance, with_slopes
from ..linear.series import Linear
from ..state_space import StateSpace
from .best_linear import BestLinear
from .uncertainty import Spread, spread

SMALLEST = 1e-6
"""Of the response's root mean square: a smaller deviation, as of a record without noise, does not weight more."""

PATIENCE = 3
"""Orders tried beyond the best: an antiresonance between two modes may need two states before either helps."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ResponseFit:
    """A linear model of a best linear approximation, and how its order was chosen.

    **Arguments:**

    - `order`: number of states
    - `misfit`: mean square of error over standard deviation at the frequencies, corrected for the numbers that were fitted; near one
      where the order suffices and the deviations are right
    - `misfits`: the same by order
    - `linear`: the model, in the response's units
    - `best`: what was fitted
    - `covariance`: of the model's numbers, in the order of `linear.polish.moved`
    """

    order: int
    misfit: float
    misfits: dict[int, float]
    linear: Linear
    best: BestLinear
    covariance: np.ndarray

    def state_space(self) -> StateSpace:
        """Return the model, in the signals' own units and with their names."""
        (A, B, C, D, _), b = self.linear, self.best
        return StateSpace(
            A, B, C, D, b.dt, inputs=b.inputs, outputs=b.outputs, input_units=b.input_units, output_units=b.output_units
        )  # fmt: skip

    def frequency_response(self, omega: np.ndarray) -> Spread:
        """Return the response (n, ny, nu) at frequencies in rad/s, and its covariance.

        **Arguments:**

        - `omega`: frequencies (n,), rad/s
        """
        G, slope = with_slopes(self.linear, np.exp(1j * np.asarray(omega, float) * self.best.dt))
        return spread(G, slope, self.covariance)

    def __repr__(self) -> str:
        scores = ", ".join(f"{n}: {score:.3g}" for n, score in self.misfits.items())
        return (
            f"linear model of order {self.order} of the best linear approximation, misfit {self.misfit:.3g} "
            f"(1: all that the deviations allow)\n  misfit by order  {scores}"
        )


def fit_response(best: BestLinear, order: int | None = None) -> ResponseFit:
    """Fit a stable linear model to a best linear approximation, weighted by its standard deviations.

    ::

        min over A, B, C, D of  sum over frequencies, outputs, inputs of  |G - C (z I - A)^-1 B - D|^2 / deviation^2

    The deviation is that by noise and distortion where the experiments show it, and that by noise otherwise: a frequency at which the
    plant is nonlinear or the record noisy counts less. The search begins at a subspace estimate. Of the orders tried the one of the least
    `2 N log(error) + p log(2 N)` is returned, for N complex values and p numbers in a model (minimum description length).

    **Arguments:**

    - `best`: from `best_linear`
    - `order`: number of states, None to choose it

    **Raises:** `RobustctlError` for an order that is no whole number of at least one; `DataError` for one that the frequencies do not
    determine.

    **Source:** R. Pintelon, J. Schoukens, "System Identification: A Frequency Domain Approach", 2nd ed., 2012, chapters 7, 9 and 11.

    **Example:** ::

        us = [np.tile(rc.data.multisine(200, seed=seed), (4, 1)) for seed in range(3)]
        record = rc.data.from_arrays(us, [np.roll(u, 1) + 0.1 * np.roll(u, 1) ** 3 for u in us], 0.1)
        print(rc.identify.fit_response(rc.identify.best_linear(record, 200), order=1))
    """
    if order is not None and not is_whole(order, 1):
        raise RobustctlError(f"order must be a whole number of at least 1, or None, got {order!r}")
    most = most_states(best.G.shape, max(order or 0, *ORDERS))
    tried = [n for n in ORDERS if n <= most] if order is None else [order]
    if (order is not None and order > most) or not tried:
        raise DataError(
            f"order must be at most {most}, what {len(best.omega)} frequencies determine, got {order}; log a multisine of more frequencies"
        )
    scaled, ys, us = _scaled(best)
    # A mode that is slower than the distance of two frequencies looks like one line.
    radius = 1 - 0.1 * float(np.diff(best.omega).min(initial=best.omega[0])) * best.dt / (2 * np.pi)
    found: dict[int, tuple[Linear, float]] = {}
    for n in tried:
        found[n] = fitted(scaled, n, radius)
        chosen = min(found, key=lambda n: _length(found[n][1], scaled, n))
        if list(found).index(chosen) < len(found) - PATIENCE:
            break
    misfits = {n: error / max(best.G.size - _numbers(scaled, n) / 2, 0.5) for n, (_, error) in found.items()}
    model = found[chosen][0]
    # In scaled signals, then in the signals' own: the numbers of K stay, those of B, E, D and offset change with the units.
    own = Linear(model.A, model.B / us, model.C * ys[:, None], model.D * ys[:, None] / us, model.d)
    measured = Measured(scaled.z, best.G, scaled.std * ys[:, None] / us)
    return ResponseFit(chosen, misfits[chosen], misfits, own, best, response_covariance(own, measured))


def _scaled(best: BestLinear) -> tuple[Measured, np.ndarray, np.ndarray]:
    """Return the response with rows and columns of about one, and the units of outputs (ny,) and inputs (nu,) that make it so."""
    power = np.mean(np.abs(best.G) ** 2, axis=0)
    ys = np.sqrt(power.mean(axis=1))
    ys[ys == 0] = 1.0
    us = 1 / np.sqrt(np.maximum(np.mean(power / ys[:, None] ** 2, axis=0), 1e-300))
    ratio = us / ys[:, None]
    G = best.G * ratio
    known = np.where(np.isfinite(best.total), best.total, best.noise) * ratio
    std = np.maximum(known, SMALLEST * np.sqrt(np.mean(np.abs(G) ** 2)))
    return Measured(np.exp(1j * best.omega * best.dt), G, std), ys, us


def _numbers(measured: Measured, order: int) -> int:
    _, ny, nu = measured.G.shape
    return order * (ny + nu) + ny * nu


def _length(error: float, measured: Measured, order: int) -> float:
    """Return the description length of a model and its errors."""
    values = measured.G.size
    # Where rounding is all that is left, further states describe nothing.
    floor = values * np.finfo(float).eps
    return 2 * values * np.log(error + floor) + _numbers(measured, order) * np.log(2 * values)
