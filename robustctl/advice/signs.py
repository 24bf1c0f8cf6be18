"""Signs that a plant does not forget: drift, hysteresis, sticking, several equilibria at one input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from .arx import Arx, best_arx, free_run_nrmse, regression
from .series import OutputSeries, pilot

# Lags take up the plant's other dynamics, so that the root nearest to one is tested alone; fewer leave correlated noise.
# EXACT is added to a standard error that is zero on data without noise.
DRIFT_LAGS, EXACT = 5, 1e-8
# Windows of a twentieth of an experiment average its fast dynamics out; R^2 of fewer than 10 changes is too uncertain.
WINDOWS, FEWEST_WINDOWS = 20, 10
RADII = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4)  # of the input's range; a play beyond 0.5 hardly moves at all
PLAY_ORDERS = (1, 2, 3)  # low: seven plays add their own inputs at every lag
# A piece of 4 % of the range averages noise of a few percent out and is still shorter than a stick-slip cycle. Its ends must
# differ by NET_TRAVEL of it, or the model turned around in it. A free run of over MOST_TRAVEL pieces per sample has diverged.
# Over four levels of a quantized output its halves differ by 2 levels, known to half a level: neither stuck nor a jump.
TRAVEL, LEVELS, NET_TRAVEL, MOST_TRAVEL = 0.04, 4, 0.8, 1e3
# Motion over the expected motion that counts as none and as a jump. Both are far from 1, because noise moves the ratio: of
# ten simulated linear lags with 5 % noise at most 6 % of the pieces were below STUCK and 4 % above JUMP.
STUCK, JUMP, END_ZONE, FEWEST_MOVES = 0.25, 2.0, 0.2, 30
# Shares of a range. Larger ones take slow motion for a steady state, smaller ones find none under noise.
HELD, SAME_INPUT, SETTLED = 0.02, 0.02, 0.02
# In rise times: a first-order lag rises over half its range in 0.7 time constants, so 5 of them leave exp(-3.5) = 3 % of a
# transient. Comparing all pairs takes memory in the square of MOST_STATES.
STEADY_RISES, SETTLED_RISES, MOST_STATES = 5, 3, 1000


def span(values: np.ndarray) -> float:
    """Range from the 0.5th to the 99.5th percentile, which spikes do not stretch; the whole range where that is zero."""
    return float(np.subtract(*np.percentile(values, (99.5, 0.5)))) or float(np.ptp(values))


def unit_root(series: Sequence[OutputSeries], delay: int) -> tuple[float, float]:
    """Return the pole nearest to one and the t value of the test for an integrator.

    Least squares of ``y[k] - y[k-1] = rho y[k-1] + sum_i c_i (y[k-i] - y[k-i-1]) + inputs + constant``, i = 1, ..., 4, with
    6 values of each input, over all measured samples; t = rho / its standard error. An integrator has rho = 0, and
    without inputs t > -2.86 in 95 of 100 records (Dickey, Fuller, J. Am. Stat. Assoc. 74, 1979). The pole is a root
    of the characteristic polynomial in y; for a complex pair p it is `1 - |1 - p|`. NaN when samples are too few.
    """
    phi, y, _ = regression(series, DRIFT_LAGS, delay, part=1.0)
    rows = len(y)
    if rows <= 2 * phi.shape[1]:
        return np.nan, np.nan
    # The triangular factor has the inner products of all rows, so least squares of its few rows are the same.
    factor = np.asarray(np.linalg.qr(np.column_stack([phi, y]), mode="r"))
    phi, y = factor[:, :-1], factor[:, -1]
    past = phi[:, :DRIFT_LAGS]
    poles = np.roots([1.0, *-np.linalg.lstsq(phi, y)[0][:DRIFT_LAGS]])
    pole = poles[np.argmin(np.abs(poles - 1))]
    # The same regression in y[k-1] and differences: rho = sum of the coefficients of the outputs, minus one.
    phi = np.column_stack([past[:, 0], past[:, :-1] - past[:, 1:], phi[:, DRIFT_LAGS:]])
    inverse = np.linalg.pinv(phi)
    rho, left = inverse @ (y - past[:, 0]), y - past[:, 0]
    # Standard error of the first coefficient: noise variance times entry (1, 1) of (phi' phi)^-1 = phi^+ (phi^+)'.
    noise = np.sum((left - phi @ rho) ** 2) / (rows - phi.shape[1])
    error = np.sqrt(noise * np.sum(inverse[0] ** 2)) + EXACT
    return float(pole.real if pole.imag == 0 else 1 - abs(1 - pole)), float(rho[0] / error)


def summed(series: Sequence[OutputSeries]) -> float:
    """Share of the output's slow changes that the summed inputs explain, 1 for an integrator.

    Every experiment is cut into 20 windows; over all windows, R^2 of the least-squares fit ``y(end) - y(start) =
    g' (sum of u) + d duration``, corrected for its degrees of freedom. NaN for fewer than 10 windows.
    """
    changes, sums = [], []
    for s in series:
        edges = np.linspace(0, len(s.y) - 1, WINDOWS + 1).astype(int)
        for start, stop in pairwise(edges):
            if stop - start > 1 and s.y_ok[start] and s.y_ok[stop]:
                changes.append(s.y[stop] - s.y[start])
                sums.append([*s.u[start:stop].sum(axis=0), stop - start])
    changes, sums = np.array(changes), np.array(sums)
    free = len(changes) - (sums.shape[-1] if len(changes) else 0)
    if len(changes) < FEWEST_WINDOWS or free < 5 or not changes.any():
        return np.nan
    left = changes - sums @ np.linalg.lstsq(sums, changes)[0]
    return float(max(0.0, 1 - np.mean(left**2) / np.var(changes) * len(changes) / free))


def play(u: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Outputs (T, n) of n play operators, from p = u[0]: ``p[k] = min(max(p[k-1], u[k] - r), u[k] + r)``."""
    out = np.empty((len(u), len(radii)))
    p = np.full(len(radii), u[0])
    for k, (low, high) in enumerate(zip(u[:, None] - radii, u[:, None] + radii, strict=True)):
        p = np.minimum(np.maximum(p, low), high)
        out[k] = p
    return out


def hysteresis(
    series: Sequence[OutputSeries], model: Arx, nrmse: float, exciting: Sequence[bool]
) -> tuple[float, float]:
    """Return the free-run NRMSE of models without and with play operators, for the input that gains most.

    Both are ARX models of order 1 to 3. Without: the inputs, u^2 and u^3 of one of them, y_hat^2 and y_hat^3 of
    the linear model's free run (Hammerstein and Wiener curves). With: also plays of that input with radii of 3
    to 40 % of its range (the Prandtl-Ishlinskii model: Visintin, Differential Models of Hysteresis, 1994). A long record is
    tested on a pilot (`series.pilot`), and the errors are multiplied by the linear model's NRMSE on all over that on the pilot.

    **Arguments:**

    - `series`: one output of one or more experiments.
    - `model`: the linear model.
    - `nrmse`: its NRMSE.
    - `exciting`: True for each input to test, because it has enough frequencies.

    **Returns:** Both NRMSE; NaN when no input is exciting, or samples are too few.
    """
    best, few = (np.nan, np.nan), pilot(series)
    simulated = [model.simulate(s) for s in few]
    for j in np.flatnonzero(exciting):
        radii = span(np.concatenate([s.u[:, j] for s in few])) * np.array(RADII)
        pairs = zip(few, simulated, strict=True)
        curved = [
            s.with_inputs(np.column_stack([x**p for x in (s.u[:, j], y) for p in (2, 3)])) for s, y in pairs
        ]
        played = [c.with_inputs(play(c.u[:, j], radii)) for c in curved]
        without, found = (best_arx(x, PLAY_ORDERS, (model.delay,)) for x in (curved, played))
        # Ratios compared by products, negated so that the NaN of the first input loses.
        if without and found and not found[1] * best[0] >= best[1] * without[1]:
            best = without[1], found[1]
    of_pilot = free_run_nrmse(model, few)
    scale = nrmse / of_pilot if 0 < of_pilot < np.inf else 1.0
    return scale * best[0], scale * best[1]


def sticking(
    series: Sequence[OutputSeries], simulated: Sequence[np.ndarray], level_step: float = 0.0
) -> tuple[float, float]:
    """Return the shares of moves in which the output is stuck, and in which it jumps.

    The linear model's free run is cut wherever it has traveled 4 % of the output's range, or 4 levels of an output that is
    quantized to `level_step` of its range, which stays on a level while it moves by less. In each piece
    the mean moves from the first half to the second, by m in the measurement and m_hat in the model: the output is
    stuck when `|m| < 0.25 |m_hat|` and jumps when `|m| > 2 |m_hat|`. A piece counts when the model's ends differ by 3.2 %
    of the range or more, all of it is measured, and the output is not in the outer fifths of its range, where
    it may saturate. NaN below 30 pieces.
    """
    low, high = np.percentile(np.concatenate([s.y[s.y_ok] for s in series]), (0.5, 99.5))
    width = high - low
    if not width > 0:
        return np.nan, np.nan
    pieces, travel = [], max(TRAVEL, LEVELS * level_step) * width
    for s, y_hat in zip(series, simulated, strict=True):
        inside = s.y_ok & (s.y > low + END_ZONE * width) & (s.y < high - END_ZONE * width)
        pieces.append(_moves(s.y, y_hat, inside, travel))
    moves = np.concatenate(pieces)
    if len(moves) < FEWEST_MOVES:
        return np.nan, np.nan
    return float(np.mean(moves < STUCK)), float(np.mean(moves > JUMP))


def _moves(y: np.ndarray, y_hat: np.ndarray, inside: np.ndarray, travel: float) -> np.ndarray:
    """Motion over the expected motion, in each piece that counts."""
    traveled = np.append(0.0, np.cumsum(np.abs(np.diff(y_hat)))) / travel
    if not traveled[-1] < MOST_TRAVEL * len(y):
        return np.zeros(0)
    cuts = np.unique(np.searchsorted(traveled, np.arange(traveled[-1])))
    start, stop = cuts[:-1], cuts[1:]
    all_inside = _sums(inside.astype(float), start, stop + 1) == stop + 1 - start
    counts = all_inside & (np.abs(y_hat[stop] - y_hat[start]) >= NET_TRAVEL * travel)
    start, stop = start[counts], stop[counts]
    middle = (start + stop + 1) // 2
    moved, expected = (
        np.abs(_sums(x, middle, stop + 1) / (stop + 1 - middle) - _sums(x, start, middle) / (middle - start))
        for x in (y, y_hat)
    )
    return moved / expected


def _sums(x: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Sums of x[start:stop] for each pair."""
    total = np.append(0.0, np.cumsum(x))
    return total[stop] - total[start]


def rise(series: Sequence[OutputSeries]) -> int:
    """Smallest number of samples in which the output covers half its range, 0 when it never does."""
    from scipy.ndimage import maximum_filter1d, minimum_filter1d  # slow to import

    half = 0.5 * span(np.concatenate([s.y[s.y_ok] for s in series]))
    longest = max(len(s.y) for s in series)

    def covers(length: int) -> bool:
        return any(
            np.max(maximum_filter1d(s.y, length) - minimum_filter1d(s.y, length)) >= half for s in series
        )

    # Bisection: a longer window covers at least as much.
    low, high = 1, longest
    if not half > 0 or not covers(longest):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if covers(middle) else (middle, high)
    return high - 1


def steady_states(series: Sequence[OutputSeries], simulated: Sequence[np.ndarray]) -> tuple[int, float]:
    """Return the number of steady states, and the largest gap between two at equal inputs, over the output's range.

    A steady state is reached after 5 rise times (`rise`) or more in which every input varies by at most 2 % of its
    range, when the means of the output over the last three rise times agree within 2 % of the range. Two steady
    states whose inputs agree within 2 % have the gap ``min(|dy|, |dy - dy_hat|)``, with y_hat the linear model's free
    run, so that a difference explained by slow linear memory does not count. Of more than 1,000
    steady states every nth is compared. NaN when no two have equal inputs.
    """
    block = max(rise(series), 1)
    u_span = np.array([span(u) for u in np.concatenate([s.u for s in series]).T])
    y_span = span(np.concatenate([s.y[s.y_ok] for s in series]))
    found = [
        row
        for s, y_hat in zip(series, simulated, strict=True)
        for row in _steady_states(s, y_hat, block, HELD * u_span, SETTLED * y_span)
    ]
    if not found:
        return 0, np.nan
    few = found[:: -(-len(found) // MOST_STATES)]
    u, y, y_hat = (np.array(x) for x in zip(*few, strict=True))
    same = (np.abs(u[:, None] - u[None]) <= SAME_INPUT * u_span).all(axis=-1)
    dy, dy_hat = y[:, None] - y[None], y_hat[:, None] - y_hat[None]
    gap = np.minimum(np.abs(dy), np.abs(dy - dy_hat))[same & ~np.eye(len(y), dtype=bool)]
    return len(found), float(gap.max() / y_span) if gap.size else np.nan


def _steady_states(
    s: OutputSeries, y_hat: np.ndarray, block: int, u_most: np.ndarray, y_most: float
) -> Iterator[tuple]:
    from scipy.ndimage import maximum_filter1d, minimum_filter1d  # slow to import

    length = STEADY_RISES * block
    if len(s.y) < length:
        return
    ranges = maximum_filter1d(s.u, length, axis=0) - minimum_filter1d(s.u, length, axis=0)
    # The filters are centered: entry k of `constant` is the window that starts at sample k.
    constant = np.all(ranges <= u_most, axis=1)[length // 2 :][: len(s.y) - length + 1]
    ends = np.flatnonzero(constant & ~np.append(constant[1:], False)) + length
    for end in ends:
        means = _means(s.y, s.y_ok, int(end) - SETTLED_RISES * block, block)
        if np.ptp(means) <= y_most:
            last = slice(end - block, end)
            yield s.u[last].mean(axis=0), means[-1], y_hat[last].mean()


def _means(y: np.ndarray, ok: np.ndarray, start: int, block: int) -> np.ndarray:
    """Means of the measured samples of three blocks, NaN for a block with none."""
    part = slice(start, start + SETTLED_RISES * block)
    y, ok = y[part].reshape(SETTLED_RISES, block), ok[part].reshape(SETTLED_RISES, block)
    count = ok.sum(axis=1)
    return np.where(count > 0, (y * ok).sum(axis=1) / np.maximum(count, 1), np.nan)
