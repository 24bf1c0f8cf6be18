"""Losses of a simulation: `(y_hat, y, mask) -> number`, arrays (B, T, ny), mask False where nothing was measured.

Those that are classes hold their settings; two of equal settings are equal, and compile once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..checks import check_whole, is_positive, is_real
from ..errors import RobustctlError

Loss = Callable[[Array, Array, Array], Array]


def mean_squared_error(
    y_hat: Float[Array, "B T ny"], y: Float[Array, "B T ny"], mask: Bool[Array, "B T ny"]
) -> Float[Array, ""]:
    """Mean of the squared simulation error over the measured entries.

    **Arguments:**

    - `y_hat`: simulated outputs, scaled.
    - `y`: measured outputs, scaled.
    - `mask`: False where nothing was measured.
    """
    error = jnp.where(mask, y_hat - y, 0)
    return _mean(error**2, mask)


def summed_squared_error(
    y_hat: Float[Array, "B T ny"], y: Float[Array, "B T ny"], mask: Bool[Array, "B T ny"]
) -> Float[Array, ""]:
    """Mean over time of the squared error summed over experiments and channels, as published for the F-16 [BWM25].

    **Arguments:**

    - `y_hat`: simulated outputs, scaled.
    - `y`: measured outputs, scaled.
    - `mask`: False where nothing was measured.
    """
    error = jnp.where(mask, y_hat - y, 0)
    return jnp.sum(error**2) / y.shape[1]


@dataclass(frozen=True)
class Huber:
    """Loss for records with outliers: squared for small errors, linear for large ones.

    ::

        mean over measured entries of  e^2                      where |e| <= width
                                       width (2 |e| - width)    elsewhere,       e = y_hat - y

    An outlier pulls with the force of an error of `width`, however large it is. Source: P. J. Huber, Annals of
    Mathematical Statistics 35, 1964.

    **Arguments:**

    - `width`: in standard deviations of each output, positive; two or three times the noise that is not outliers.

    **Raises:** `RobustctlError` for a width that is not positive and finite.

    **Example:** ::

        problem = rc.train.Identification(rc.problems.two_tanks(200, seed=0), loss=rc.train.Huber(0.2))
    """

    width: float

    def __post_init__(self):
        """Refuse a width out of range."""
        if not is_positive(self.width):
            raise RobustctlError(
                f"width must be a positive, finite number of standard deviations, got {self.width!r}"
            )

    def __call__(self, y_hat: Array, y: Array, mask: Array) -> Array:
        """Return the loss."""
        size = jnp.abs(jnp.where(mask, y_hat - y, 0))
        near = jnp.minimum(size, self.width)
        return _mean(near * (2 * size - near), mask)


@dataclass(frozen=True)
class ChannelWeights:
    """Loss in which outputs count by weights.

    ::

        loss(sqrt(w) y_hat, sqrt(w) y),     with mean_squared_error   mean over measured entries of w_i (y_hat_i - y_i)^2

    Outputs are scaled to standard deviation one first, so equal weights count equal relative errors.

    **Arguments:**

    - `weights`: one for each output, at least 0, not all 0.
    - `loss`: of the weighted outputs.

    **Raises:** `RobustctlError` for weights that are negative, not finite or all zero, and, in use, for another number of them
    than outputs.

    **Example:** ::

        loss = rc.train.ChannelWeights((1.0, 0.1), rc.train.Huber(0.2))
    """

    weights: tuple[float, ...]
    loss: Loss = mean_squared_error

    def __post_init__(self):
        """Refuse weights out of range."""
        given = tuple(self.weights) if np.ndim(self.weights) == 1 else ()
        if not any(given) or not all(is_real(w) and 0 <= w < math.inf for w in given):
            raise RobustctlError(
                f"weights must be finite numbers of at least 0, one for each output and not all 0, got {self.weights!r}"
            )
        object.__setattr__(self, "weights", tuple(float(w) for w in given))

    def __call__(self, y_hat: Array, y: Array, mask: Array) -> Array:
        """Return the loss.

        **Raises:** `RobustctlError` for another number of weights than outputs.
        """
        if len(self.weights) != y.shape[2]:
            raise RobustctlError(
                f"there must be a weight for each of {y.shape[2]} outputs, got {self.weights}"
            )
        root = jnp.asarray(np.sqrt(self.weights), y.dtype)[None, None]
        return self.loss(root * y_hat, root * y, mask)


@dataclass(frozen=True)
class Prefilter:
    """Loss of the filtered error: only a band of frequencies counts.

    ::

        loss(L(q) e, 0),     e = y_hat - y, zero where nothing was measured

    L is a Butterworth filter, low-pass, high-pass or band-pass, from rest at the first sample of each segment. It weights the
    fit by frequency with `|L|^2`; outside of the band the model is free. Source: L. Ljung, "System Identification", 2nd ed.,
    section 14.4.

    **Arguments:**

    - `dt`: sample time of the record, seconds.
    - `low`: lower edge of the band in Hz; None: from zero on.
    - `high`: upper edge in Hz; None: up to the Nyquist frequency.
    - `order`: of the filter at each edge.
    - `loss`: of the filtered error.

    **Raises:** `RobustctlError` for a band that is empty or beyond the Nyquist frequency 1 / (2 dt), and an order below 1.

    **Example:** ::

        loss = rc.train.Prefilter(0.01, low=2.0, high=15.0)
    """

    dt: float
    low: float | None = None
    high: float | None = None
    order: int = 2
    loss: Loss = mean_squared_error

    def __post_init__(self):
        """Refuse a band that has no meaning at the sample time."""
        check_whole(1, order=self.order)
        if not is_positive(self.dt):
            raise RobustctlError(f"dt must be a positive, finite number of seconds, got {self.dt!r}")
        edges = [edge for edge in (self.low, self.high) if edge is not None]
        nyquist = 0.5 / self.dt
        if not edges or not all(is_positive(f) and f < nyquist for f in edges) or sorted(set(edges)) != edges:
            raise RobustctlError(
                f"the band must have low < high, one of them at least, between 0 and the Nyquist frequency {nyquist:g} Hz, got "
                f"low = {self.low!r} and high = {self.high!r}"
            )

    def __call__(self, y_hat: Array, y: Array, mask: Array) -> Array:
        """Return the loss."""
        error = jnp.where(mask, y_hat - y, 0)
        samples = y.shape[1]
        # As a product of spectra, zeros appended so that the end does not reach the start: all samples at once.
        response = jnp.fft.rfft(jnp.asarray(self.impulse(samples), y.dtype), 2 * samples)
        filtered = jnp.fft.irfft(
            jnp.fft.rfft(error, 2 * samples, axis=1) * response[None, :, None], 2 * samples, axis=1
        )
        filtered = filtered[:, :samples].astype(y.dtype)
        return self.loss(filtered, jnp.zeros_like(filtered), mask)

    def impulse(self, samples: int) -> np.ndarray:
        """Return the first samples of the filter's impulse response, float64."""
        from scipy.signal import butter, sosfilt  # slow to import

        kind = "lowpass" if self.low is None else "highpass" if self.high is None else "bandpass"
        edges = [edge for edge in (self.low, self.high) if edge is not None]
        sections = butter(
            self.order, edges if len(edges) > 1 else edges[0], kind, fs=1 / self.dt, output="sos"
        )
        return np.asarray(sosfilt(sections, np.eye(1, samples)[0]))


def _mean(values: Array, mask: Array) -> Array:
    """Return the mean over the measured entries; the others are zero."""
    return jnp.sum(values) / jnp.maximum(jnp.sum(mask.astype(values.dtype)), 1)
