"""A bound on a state observer's estimation error, from its certificate."""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from numpy.typing import ArrayLike

from ..certificates import certify
from ..checks import of_type
from ..data import Record
from ..errors import RobustctlError
from ..lft import BOUND_ROUNDING
from ..nn import StateObserver
from ..train import RecordModel
from ..train.record_model import check_channels
from .one_step_penalty import one_steps


class ErrorBound(NamedTuple):
    """A bound on each state's estimation error, in the states' units.

    ::

        |e_i(t)| <= size_i (rate^t |e(0)|_P + (model + noise) / (1 - rate)),      size_i = sqrt((P^-1)_ii) in its unit

    It holds on every trajectory with one-step errors of at most `model` and measurement errors of at most `noise`.

    **Arguments:**

    - `names`: of the states
    - `units`: of the states
    - `dt`: seconds per sample
    - `rate`: certified contraction rate per sample
    - `model`: the largest one-step error `|x+ - f(x, [u, y])|_P` on a record
    - `noise`: the largest error that the measurement errors add in one step
    - `P`: (nx, nx), the certificate's metric of the scaled states
    - `scale`: (nx,), unit of the scaled states
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    dt: float
    rate: float
    model: float
    noise: float
    P: np.ndarray
    scale: np.ndarray

    def at(self, samples: ArrayLike, initial: ArrayLike) -> np.ndarray:
        """Return the bound (..., nx) after `samples`, from the initial error `initial` (nx,) in the states' units."""
        # |e(t+1)|_P <= rate |e(t)|_P + model + noise, summed as a geometric series
        e = np.asarray(initial, float) / self.scale
        start = np.sqrt(e @ self.P @ e)
        t = np.asarray(samples, float)[..., None]
        return self.size() * (
            self.rate**t * start + (1 - self.rate**t) * (self.model + self.noise) / (1 - self.rate)
        )

    def ultimate(self) -> np.ndarray:
        """Return the bound (nx,) as time goes to infinity."""
        return self.size() * (self.model + self.noise) / (1 - self.rate)

    def size(self) -> np.ndarray:
        """Return the largest deviation (nx,) of each state, in its unit, at distance one in the metric P, rounded up."""
        return self.scale * np.sqrt(inverse_diagonal(self.P))

    def __str__(self) -> str:
        """Return half-life and ultimate bounds as text."""
        half = np.log(0.5) / np.log(self.rate) * self.dt
        lines = [
            f"estimation error: halved every {half:.3g} s (rate {self.rate:.6g} per sample), then at most"
        ]
        share = self.size() / (1 - self.rate)
        for name, unit, m, n in zip(
            self.names, self.units, share * self.model, share * self.noise, strict=True
        ):
            lines.append(f"  {name:<24}{m + n:>11.4g} {unit:<8} ({m:.3g} model, {n:.3g} noise)")
        return "\n".join(lines)


def inverse_diagonal(P: np.ndarray) -> np.ndarray:
    """Return upper bounds on the diagonal of `P^-1`, rounding included, infinite where float64 cannot invert P.

    ::

        P X = I + E:    P^-1 = X (I + E)^-1,    |(P^-1 - X)_ii| <= |row i of X| |E| / (1 - |E|)
    """
    d = 1 / np.sqrt(np.diag(P))  # of states in unlike units only the scaled matrix is well conditioned
    scaled = d[:, None] * P * d
    X = np.linalg.inv(scaled)
    # Of the residual, too, the digits are lost to rounding: n products of this size are added up.
    rounding = (len(P) + 4) * np.finfo(float).eps * np.linalg.norm(scaled) * np.linalg.norm(X)
    left = np.linalg.norm(scaled @ X - np.eye(len(P))) + rounding
    if not left < 1:
        return np.full(len(P), np.inf)
    return d**2 * (np.diag(X) + np.linalg.norm(X, axis=1) * left / (1 - left))


def error_bound(model: RecordModel, record: Record, noise: Mapping[str, float] | None = None) -> ErrorBound:
    """Return the certified bound on an observer's estimation error.

    **Arguments:**

    - `model`: a fitted `StateObserver`
    - `record`: the record that it was fitted to or another with the same channels, with the true states as outputs
    - `noise`: the largest error of measured channels in their units, by name, default 0

    **Raises:** `RobustctlError` for any other model, a certificate that does not hold or proves no rate below one (build
    the core with a smaller rate), an unknown channel, and a noise that is negative or not finite; `DataError` for a record
    whose sample time, channels or units are not the model's, and one without two known samples in succession.

    """
    observer = of_type(
        model.parameterization, StateObserver, "the model must be a fitted StateObserver",
        "rc.fit makes one of an rc.nn.StateObserver",
    )  # fmt: skip
    found = certify(observer, prove=False)
    if not found.holds or found.rate_found is None or found.P is None or not found.rate_found < 1:
        raise RobustctlError(
            f"the certificate must hold with a rate below 1, got {found.rate_found} ({found.reason or 'it holds'}); build the "
            "observer's core with a smaller rate"
        )
    return ErrorBound(
        names=model.outputs,
        units=model.output_units,
        dt=model.dt,
        rate=found.rate_found,
        model=_model_error(model, record, found.P),
        noise=_noise(model, observer, found.P, {} if noise is None else dict(noise)),
        P=found.P,
        scale=model.scaling.y_std,
    )


def _model_error(model: RecordModel, record: Record, P: np.ndarray) -> float:
    """Return the largest one-step error over the samples with known states before and after."""
    check_channels(model, record)
    system = model.parameterization.explicit()
    xs, vs, after = one_steps(model.prepared(record))
    # with P = L L', |x|_P = |L' x|: for the rows of `error` that is error @ L
    error = after - np.asarray(_after(system, xs.astype(model.dtype), vs.astype(model.dtype)), float)
    return float(np.linalg.norm(error @ np.linalg.cholesky(P), axis=1).max(initial=0.0))


@eqx.filter_jit
def _after(system, xs, us):
    return jax.vmap(lambda x, u: system.step(x, u)[0])(xs, us)


def _noise(model: RecordModel, observer: StateObserver, P: np.ndarray, noise: dict[str, float]) -> float:
    """Return the bound on `|f(x, u + d) - f(x, u)|_P` over all measurement errors d.

    ::

        |f(x, u + d) - f(x, u)|_P <= sum over channels |d_k| (|B2_k|_P + |B1|_P gain |D12_k|),   |dw| <= gain |dv|
    """
    for name in noise:
        if name not in model.inputs:
            raise RobustctlError(
                f"{name!r} must be a channel that the observer reads, which are {model.inputs}"
            )
        if not 0 <= noise[name] < np.inf:
            raise RobustctlError(
                f"the noise of {name!r} must be its largest error, at least 0 and finite, got {noise[name]}"
            )
    # The observer differs from its core in the output alone.
    system = observer.core.explicit()
    root = np.linalg.cholesky(P).T  # |x|_P = |root x|
    B1, B2, D12 = (np.asarray(a, float) for a in (system.B1, system.B2, system.D12))
    # As in the certificate, what rounding can do to a bound in float64 is added to it.
    through = np.linalg.norm(root @ B1, 2) * system.response_gain() * (1 + BOUND_ROUNDING)
    total = 0.0
    for k, name in enumerate(model.inputs):
        one = np.linalg.norm(root @ B2[:, k]) + through * np.linalg.norm(D12[:, k])
        total += noise.get(name, 0.0) / model.scaling.u_std[k] * one  # the observer reads scaled channels
    return float(total)
