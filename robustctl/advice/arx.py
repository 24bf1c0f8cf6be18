"""Linear models of one output: ARX by least squares and instrumental variables, scored in free run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..linear.delays import lags
from .series import FITTED_SHARE, OutputSeries, pilot

ORDERS = (1, 2, 3, 5, 8)  # each adds at least half of the one before; neighbors differ little in free run
DELAYS = tuple(range(0, 61, 3))  # order 2 has three values of each input, so no delay is skipped
ROWS_PER_PARAMETER = 3  # fewer fit the noise, more refuse short records
INSTRUMENT_ROUNDS = (
    3  # each refines the instruments; the best of all rounds is used, so a further one only costs time
)
# A model of higher order must reduce the error below BETTER of a shorter one's, and EXACT standard deviations below it: the first
# keeps noise in the held-out score from adding orders, the second rounding where the error is zero.
BETTER, EXACT = 0.98, 1e-6
FORGOTTEN = 0.01  # of the peak of the step response: 4.6 time constants of a first-order lag
DEPENDENT = 1e-8  # of the largest singular value: states that the first samples distinguish only by rounding stay uncorrected
TOO_LARGE = 1e6  # standard deviations; a larger simulated output has diverged


@dataclass(frozen=True, eq=False)
class Arx:
    """``y[k] + a1 y[k-1] + ... + an y[k-n] = sum_ij b[j, i] u_j[k-delay-i] + c``, i = 0, ..., n.

    `a` (n + 1,) with a[0] = 1, `b` (nu, n + 1), `c`, `delay` in samples.
    """

    a: np.ndarray
    b: np.ndarray
    c: float
    delay: int

    @property
    def order(self) -> int:
        """Number n of past outputs."""
        return len(self.a) - 1

    def simulate(self, series: OutputSeries, head: int = 0) -> np.ndarray:
        """Free run (T,) from equilibrium at the first measured output, with the first inputs held before it.

        With `head`, the run starts from the state that fits the measured outputs among the first `head` samples best,
        the smallest correction of that equilibrium by least squares.
        """
        from scipy.signal import lfilter, lfiltic  # slow to import

        drive = np.full(len(series.y), self.c)
        for b, u in zip(self.b, series.u.T, strict=True):
            held = np.concatenate([np.full(self.delay + self.order, u[0]), u])
            drive += np.convolve(held[: self.order + len(u)], b, "valid")
        with np.errstate(over="ignore", invalid="ignore"):
            run = lfilter([1.0], self.a, drive, zi=lfiltic([1.0], self.a, [series.start] * self.order))[0]
            if not (fitted := series.y_ok & (np.arange(len(run)) < head)).any():
                return run
            # The output is linear in the state, so each state's free response is one regressor.
            free = np.stack([lfilter([1.0], self.a, 0 * drive, zi=z)[0] for z in np.eye(self.order)], axis=1)
            if not np.isfinite(free[fitted]).all() or not np.isfinite(run[fitted]).all():
                return run  # diverged among the first samples: no state fits, as the score shows
            return run + free @ np.linalg.lstsq(free[fitted], (series.y - run)[fitted], rcond=DEPENDENT)[0]

    def memory(self, most: int) -> float:
        """Samples after which the step response stays within 1 % of its peak around its final value.

        ``4.6 tau / dt`` for a first-order lag, plus the delay. The responses to several inputs are combined as the root
        of their summed squares. Infinite for more than `most` samples, NaN when no input has an effect.
        """
        from scipy.signal import lfilter  # slow to import

        if np.abs(np.roots(self.a)).max() >= 1:
            return np.inf
        ones = np.ones(most + 1)
        steps = np.array([lfilter(b, self.a, ones) for b in self.b]).reshape(-1, most + 1)
        # The final value of a step response is the gain at z = 1, sum b / sum a.
        left = np.linalg.norm(steps - self.b.sum(axis=1, keepdims=True) / self.a.sum(), axis=0)
        peak = np.linalg.norm(steps, axis=0).max()
        if not peak > 0:
            return np.nan
        last = int(np.flatnonzero(left >= FORGOTTEN * peak)[-1]) if left[0] >= FORGOTTEN * peak else -1
        return np.inf if last == most else float(self.delay + last + 1)


def best_arx(
    series: Sequence[OutputSeries], orders: Iterable[int] = ORDERS, delays: Iterable[int] = DELAYS
) -> tuple[Arx, float] | None:
    """Return the model with the smallest error in free run and its NRMSE, None when samples are too few.

    Each candidate is fitted to the first two thirds of every experiment, by least squares and by three
    rounds of instrumental variables (the instruments are its own simulated outputs, so that noise on the
    output does not bias it: Ljung, System Identification, 2nd ed., section 7.6). The last thirds select
    and score. The delay, common to all inputs, is selected with order 2,
    first among `delays` and then between the neighbors of the best. Delay and order of a long record are selected on a pilot of it
    (`series.pilot`).

    **Arguments:**

    - `series`: one output of one or more experiments.
    - `orders`: the orders to try.
    - `delays`: the delays to try first, samples; those longer than a tenth of the longest experiment are skipped.
    """
    longest = max(len(s.y) for s in series)
    tried = [d for d in delays if d <= longest / 10]
    few = pilot(series)
    near = _delay(few, tried)
    around = [d for d in tried if abs(tried.index(d) - tried.index(near)) <= 1]
    delay = _delay(few, [near, *range(around[0], around[-1] + 1)])
    found = _best(few, [(n, delay) for n in orders])
    if found is not None and few != list(series):
        found = _best(series, [(found[0].order, delay)])
    return None if found is None else (found[0], free_run_nrmse(found[0], series))


def _delay(series: Sequence[OutputSeries], delays: Sequence[int]) -> int:
    found = _best(series, [(2, d) for d in delays]) if len(set(delays)) > 1 else None
    return found[0].delay if found else delays[0]


def _best(series: Sequence[OutputSeries], shapes: Iterable[tuple[int, int]]) -> tuple[Arx, float] | None:
    best = None
    for order, delay in shapes:
        models = [(model, free_run_rmse(model, series)) for model in _fits(series, order, delay)]
        model, rmse = min(models, key=lambda pair: pair[1], default=(None, np.inf))
        if model is not None and (best is None or rmse < BETTER * best[1] - EXACT):
            best = model, rmse
    return best


def free_run_rmse(model: Arx, series: Sequence[OutputSeries]) -> float:
    """Root mean square error of a free run over the held-out samples; infinite when it diverges."""
    errors = np.concatenate([(s.y - model.simulate(s))[s.y_ok & s.held_out] for s in series])
    fine = errors.size and np.isfinite(errors).all() and np.abs(errors).max() < TOO_LARGE
    return float(np.sqrt(np.mean(errors**2))) if fine else np.inf


def free_run_nrmse(model: Arx, series: Sequence[OutputSeries]) -> float:
    """`free_run_rmse` over the standard deviation of the held-out samples; NaN where that is zero."""
    spread = np.std(np.concatenate([s.y[s.y_ok & s.held_out] for s in series]))
    return float(free_run_rmse(model, series) / spread) if spread > 0 else np.nan


def _fits(series: Sequence[OutputSeries], order: int, delay: int) -> Iterator[Arx]:
    phi, y, rows = regression(series, order, delay)
    if len(y) < ROWS_PER_PARAMETER * phi.shape[1]:
        return
    model = _arx(_solve(phi, y), order, delay)
    yield model
    for _ in range(INSTRUMENT_ROUNDS):
        simulated = [model.simulate(s) for s in series]
        if not all(np.isfinite(y_hat).all() and np.abs(y_hat).max() < TOO_LARGE for y_hat in simulated):
            return
        # Noise-free outputs correlate with the regressors and not with the noise: theta = (z' phi)^-1 z' y.
        z = phi.copy()
        z[:, :order] = np.concatenate(
            [lags(y_hat, 1, order)[row] for y_hat, row in zip(simulated, rows, strict=True)]
        )
        model = _arx(_solve(z.T @ phi, z.T @ y), order, delay)
        yield model


def regression(
    series: Sequence[OutputSeries], order: int, delay: int, part: float = FITTED_SHARE
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Regressors ``y[k-1..k-n], u_j[k-delay..k-delay-n], 1`` and targets y[k], all experiments pooled.

    Only rows with every sample measured, from the first `part` of each experiment.

    **Arguments:**

    - `series`: one output of one or more experiments.
    - `order`: number n of past outputs.
    - `delay`: of the inputs, samples.
    - `part`: share of each experiment to use, from its start.

    **Returns:** Regressors (rows, parameters), targets (rows,) and, for each experiment, an array (T,) that is True at
    the rows used.
    """
    blocks, targets, used = [], [], []
    for s in series:
        row = lags(s.y_ok, 0, order).all(axis=1) & lags(s.u_ok, delay, delay + order).all(axis=1)
        row &= np.arange(len(s.y)) < part * len(s.y)
        inputs = [lags(u, delay, delay + order) for u in s.u.T]
        blocks.append(np.column_stack([lags(s.y, 1, order), *inputs, np.ones(len(s.y))])[row])
        targets.append(s.y[row])
        used.append(row)
    return np.concatenate(blocks), np.concatenate(targets), used


def _solve(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(matrix, target)[0]


def _arx(theta: np.ndarray, order: int, delay: int) -> Arx:
    a, inputs = np.concatenate([[1.0], -theta[:order]]), (len(theta) - order - 1) // (order + 1)
    return Arx(a, theta[order:-1].reshape(inputs, order + 1), float(theta[-1]), delay)
