"""The correlations of a free-run simulation's residuals."""

import dataclasses

import numpy as np

from ..checks import is_whole
from ..errors import DataError
from .scores import FLAT, divergence
from .simulate import Simulation

QUANTILE = 2.575829303548901
"""Of the standard normal distribution: 99 % lie within plus and minus this."""

MIN_PAIRS = 10
"""Pairs of samples below which a correlation is not computed: its band would be 2.6 / sqrt(10), nearly one."""


@dataclasses.dataclass(frozen=True)
class ResidualCorrelations:
    """Correlations of the residuals e = y - y_hat, and their 99 % bands for a true model.

    ::

        auto[i, k]     = corr(e_i[t], e_i[t + lags[k]]),            lags = 0 ... max_lag
        cross[i, j, k] = corr(u_j[t], e_i[t + cross_lags[k]]),      cross_lags = -max_lag ... max_lag

    A value outside its band at a cross lag >= 0 means that the input has information about the output that the model
    does not use; at a lag < 0, that the input was fed back from the output. A value outside its band in `auto` may be
    colored noise, which a simulation model does not describe. A correlation of fewer than 10 measured pairs or of a
    constant channel is NaN.

    **Arguments:**

    - `lags`: of the autocorrelation, (max_lag + 1,)
    - `auto`: autocorrelations (ny, max_lag + 1)
    - `auto_band`: their bands, of the same shape
    - `cross_lags`: of the cross-correlation, (2 max_lag + 1,)
    - `cross`: cross-correlations (ny, nu, 2 max_lag + 1)
    - `cross_band`: their bands, of the same shape
    """

    lags: np.ndarray
    auto: np.ndarray
    auto_band: np.ndarray
    cross_lags: np.ndarray
    cross: np.ndarray
    cross_band: np.ndarray

    def auto_outside(self) -> np.ndarray:
        """Return the fraction (ny,) of the lags 1 ... max_lag outside the band, NaN if none is defined."""
        return _fraction_outside(self.auto[:, 1:], self.auto_band[:, 1:])

    def whiteness(self) -> np.ndarray:
        """Return for each output the probability (ny,) that white residuals are correlated as strongly as these, NaN if undefined.

        ::

            Q = sum over k = 1 ... max_lag of  pairs[k] auto[k]^2,     p = P(chi^2 with max_lag degrees of freedom > Q)

        Of one-step prediction errors (`rc.identify.predict`) a p below 0.01 means that the noise model is incomplete; free-run
        residuals are rarely white. Source: G. E. P. Box, D. A. Pierce, JASA 65, 1970.
        """
        from scipy.special import gammaincc

        squares = (QUANTILE * self.auto[:, 1:] / self.auto_band[:, 1:]) ** 2
        lags = np.sum(~np.isnan(squares), axis=1)
        found = gammaincc(np.maximum(lags, 1) / 2, np.nansum(squares, axis=1) / 2)
        return np.where(lags > 0, found, np.nan)

    def cross_outside(self) -> np.ndarray:
        """Return the fraction (ny, nu) of the lags 0 ... max_lag outside the band, NaN if none is defined."""
        first = len(self.lags) - 1
        return _fraction_outside(self.cross[..., first:], self.cross_band[..., first:])


def residual_correlations(simulation: Simulation, max_lag: int = 25) -> ResidualCorrelations:
    """Correlate the residuals of a simulation with themselves and with the inputs, as MATLAB's `resid` does.

    ::

        corr(a[t], b[t+k]) = sum a[t] b[t+k] / sqrt(sum a[t]^2  sum b[t+k]^2),    means removed
        auto_band  = 2.576 / sqrt(pairs)
        cross_band = 2.576 sqrt(max(1, sum over |m| <= max_lag of rho_u[m] rho_e[m])) / sqrt(pairs)

    The sums run over the pairs of samples that were both measured, of all experiments; no pair spans two
    experiments. The cross band allows for residuals and inputs that are not white, because free-run residuals
    are rarely white. Source: Ljung, "System Identification", 2nd ed., Section 16.6.

    **Arguments:**

    - `simulation`: of `rc.simulate`
    - `max_lag`: largest lag in samples

    **Raises:** `DataError` for a `max_lag` below 1 or so large that fewer than 10 pairs are left, and for a simulation
    that is not finite; same errors as `Simulation.scores`.

    """
    errors = simulation.errors()
    _check_finite(simulation)
    _check_lag(simulation, max_lag)
    inputs = [np.where(e.u_mask, e.u, np.nan) for e in simulation.record.experiments]
    e, u = _standardized(errors), _standardized(inputs)
    lags, cross_lags = np.arange(max_lag + 1), np.arange(-max_lag, max_lag + 1)
    auto, auto_pairs = _own_correlations(e, lags)
    rho_u, _ = _own_correlations(u, lags)
    results = [_correlation(u, e, int(k)) for k in cross_lags]
    cross, pairs = (np.stack([r[i].T for r in results], axis=-1) for i in (0, 1))
    # Variance of sqrt(N) times a cross-correlation of independent signals, sum over m of rho_u[m] rho_e[m], by symmetry
    # once m = 0 and twice m > 0. An estimate of it can fall below that of white signals, which would narrow the band.
    spread = 1 + 2 * np.nansum(auto[:, None, 1:] * rho_u[None, :, 1:], axis=-1)
    cross_band = QUANTILE * np.sqrt(np.maximum(spread, 1.0))[..., None] / np.sqrt(np.maximum(pairs, 1))
    auto_band = QUANTILE / np.sqrt(np.maximum(auto_pairs, 1))
    return ResidualCorrelations(
        lags, auto, np.where(np.isnan(auto), np.nan, auto_band),
        cross_lags, cross, np.where(np.isnan(cross), np.nan, cross_band),
    )  # fmt: skip


def _check_finite(simulation: Simulation) -> None:
    record = simulation.record
    for name, note in zip(
        record.outputs, divergence(record, simulation.y_hat, simulation.skipped), strict=True
    ):
        if note:
            raise DataError(f"simulated outputs must be finite, but for {name!r} {note}; fit the model again")


def _check_lag(simulation: Simulation, max_lag: int) -> None:
    if not is_whole(max_lag, 1):
        raise DataError(f"max_lag must be a whole number of samples of at least 1, got {max_lag!r}")
    scored = [e.samples - simulation.skipped for e in simulation.record.experiments]
    longest = max(scored)

    def pairs(lag: int) -> int:
        return sum(max(n - lag, 0) for n in scored)

    if pairs(max_lag) < MIN_PAIRS:
        admissible = next((k for k in range(longest, 0, -1) if pairs(k) >= MIN_PAIRS), 0)
        raise DataError(
            f"max_lag must leave at least {MIN_PAIRS} pairs of samples, got {max_lag}, which leaves "
            f"{pairs(max_lag)} (longest experiment: {longest} samples without the skipped ones); "
            + (f"choose max_lag <= {admissible}" if admissible else "use a longer record")
        )


def _standardized(values: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (values, mask) of each experiment, with mean 0 and standard deviation 1 of the measured values.

    A missing value is 0, and its mask, a float, too.
    """
    pooled = np.concatenate(values)
    mask = ~np.isnan(pooled)
    count = np.maximum(mask.sum(axis=0), 1)
    mean = np.where(mask, pooled, 0.0).sum(axis=0) / count
    # An infinite deviation gives zeros, whose correlations are 0 / 0, not defined
    with np.errstate(over="ignore"):
        std = np.sqrt((np.where(mask, pooled - mean, 0.0) ** 2).sum(axis=0) / count)
    flat = std <= FLAT * np.abs(pooled).max(axis=0, where=mask, initial=0.0)
    std = np.where(flat, np.inf, std)  # a constant channel becomes zero, and its correlations 0 / 0
    return [(np.where(np.isnan(v), 0.0, (v - mean) / std), (~np.isnan(v)).astype(float)) for v in values]


def _own_correlations(a, lags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    results = [_correlation(a, a, int(k)) for k in lags]
    correlations, pairs = (np.stack([np.diag(r[i]) for r in results], axis=-1) for i in (0, 1))
    return correlations, pairs


def _correlation(a, b, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation (na, nb) of a[t] and b[t + lag] over all experiments, and the number of measured pairs."""
    sums = np.zeros((4, a[0][0].shape[1], b[0][0].shape[1]))
    ahead, behind = max(lag, 0), max(-lag, 0)
    for (x, x_mask), (z, z_mask) in zip(a, b, strict=True):
        if (stop := len(x) - ahead - behind) > 0:
            x, x_mask = x[behind : behind + stop], x_mask[behind : behind + stop]
            z, z_mask = z[ahead : ahead + stop], z_mask[ahead : ahead + stop]
            sums += [x.T @ z, (x**2).T @ z_mask, x_mask.T @ z**2, x_mask.T @ z_mask]
    product, power_a, power_b, pairs = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        r = product / np.sqrt(power_a * power_b)
    return np.where((pairs >= MIN_PAIRS) & np.isfinite(r), r, np.nan), pairs


def _fraction_outside(r: np.ndarray, band: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(r)
    outside = np.where(defined, np.abs(r) > band, False).sum(axis=-1)
    count = defined.sum(axis=-1)
    return np.where(count > 0, outside / np.maximum(count, 1), np.nan)
