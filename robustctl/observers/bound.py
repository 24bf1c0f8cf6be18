"""How far a state observer's estimate can be off, from its certificate."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from ..certificates import certify
from ..data import Record
from ..errors import RobustctlError
from ..nn import ExplicitR2DN, ExplicitREN, StateObserver, lipschitz_bound
from ..train import FittedModel
from ..train.fit import check_channels
from .one_step_penalty import one_steps


class ErrorBound(NamedTuple):
    """A bound on each state's estimation error, in the states' units.

    ::

        |e_i(t)| <= size_i (rate^t |e(0)|_P + (model + noise) / (1 - rate)),      size_i = sqrt((P^-1)_ii) in its unit

    `model`: the largest one-step error `|x+ - f(x, [u, y])|_P` met on a record; `noise`: the largest error that a measurement
    off by at most the given amounts adds to one step. Both bound the error of every trajectory on which they are not
    larger. `P` acts on the scaled states, `scale` (nx,) is their unit.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    dt: float
    rate: float
    model: float
    noise: float
    P: np.ndarray
    scale: np.ndarray

    def at(self, samples: Any, initial: Any) -> np.ndarray:
        """Return the bound (..., nx) after `samples`, from the initial error `initial` (nx,) in the states' units."""
        e = np.asarray(initial, float) / self.scale
        start = np.sqrt(e @ self.P @ e)
        t = np.asarray(samples, float)[..., None]
        return self.size() * (
            self.rate**t * start + (1 - self.rate**t) * (self.model + self.noise) / (1 - self.rate)
        )

    def ultimate(self) -> np.ndarray:
        """Return the bound (nx,) after a long time."""
        return self.size() * (self.model + self.noise) / (1 - self.rate)

    def size(self) -> np.ndarray:
        """Return each state's largest value (nx,), in its unit, at distance one in P."""
        return self.scale * np.sqrt(np.diag(np.linalg.inv(self.P)))

    def __str__(self) -> str:
        """Return a text for people."""
        half = np.log(0.5) / np.log(self.rate) * self.dt
        lines = [
            f"estimation error: halved every {half:.3g} s (rate {self.rate:.6g} per sample); after a long time at most"
        ]
        share = self.size() / (1 - self.rate)
        for name, unit, m, n in zip(
            self.names, self.units, share * self.model, share * self.noise, strict=True
        ):
            lines.append(f"  {name:<24}{m + n:>11.4g} {unit:<8} ({m:.3g} model, {n:.3g} noise)")
        return "\n".join(lines)


def error_bound(model: FittedModel, record: Record, noise: Mapping[str, float] | None = None) -> ErrorBound:
    """Return the certified bound on an observer's estimation error.

    **Arguments:** `model`: an identified `StateObserver`; `record`: what it was fitted to or another like it, with the true
    states for outputs; `noise`: the largest error of measured channels in their units, by name.

    **Raises:** `RobustctlError` for another model, a certificate that does not hold or proves no rate below one (ask the core
    for a smaller one), an unknown channel, and a noise that is negative or not finite; `DataError` for a record whose sample
    time, channels or units are not the model's, and one in which no step is known.
    """
    observer = model.parameterization
    if not isinstance(observer, StateObserver):
        raise RobustctlError(
            f"the bound must be of an identified StateObserver, got {type(observer).__name__}"
        )
    found = certify(observer)
    if not found.holds or found.rate_found is None or found.P is None or not found.rate_found < 1:
        raise RobustctlError(
            f"the certificate must hold with a rate below 1, got {found.rate_found} ({found.reason or 'it holds'}); build the "
            "core with a smaller rate"
        )
    return ErrorBound(
        names=model.outputs,
        units=model.output_units,
        dt=model.dt,
        rate=found.rate_found,
        model=_model_error(model, record, found.P),
        noise=_noise(model, observer.explicit(), found.P, {} if noise is None else dict(noise)),
        P=found.P,
        scale=model.scaling.y_std,
    )


def _model_error(model: FittedModel, record: Record, P: np.ndarray) -> float:
    """The largest one-step error over the samples at which the states before and after are known."""
    check_channels(model, record)
    system = model.parameterization.explicit()
    xs, vs, after = one_steps(model.scaling.apply(record))
    error = after - np.asarray(_after(system, xs.astype(model.dtype), vs.astype(model.dtype)), float)
    return float(np.linalg.norm(error @ np.linalg.cholesky(P), axis=1).max(initial=0.0))


@eqx.filter_jit
def _after(system, xs, us):
    return jax.vmap(lambda x, u: system.step(x, u)[0])(xs, us)


def _noise(
    model: FittedModel, system: ExplicitR2DN | ExplicitREN, P: np.ndarray, noise: dict[str, float]
) -> float:
    """`|f(x, u + d) - f(x, u)|_P <= sum over channels |d_k| (|B2_k|_P + |B1|_P |dw_k|)`."""
    for name in noise:
        if name not in model.inputs:
            raise RobustctlError(
                f"{name!r} must be a channel that the observer reads, which are {model.inputs}"
            )
        if not 0 <= noise[name] < np.inf:
            raise RobustctlError(
                f"the noise of {name!r} is its largest error, at least 0 and finite, got {noise[name]}"
            )
    root = np.linalg.cholesky(P).T
    B1, B2, D12 = (np.asarray(a, float) for a in (system.B1, system.B2, system.D12))
    through = np.linalg.norm(root @ B1, 2) * _network_gain(system)
    total = 0.0
    for k, name in enumerate(model.inputs):
        one = np.linalg.norm(root @ B2[:, k]) + through * np.linalg.norm(D12[:, k])
        total += noise.get(name, 0.0) / model.scaling.u_std[k] * one
    return float(total)


def _network_gain(system: ExplicitR2DN | ExplicitREN) -> float:
    """How far w moves at most for one of v: the bound of phi, or of a REN's implicit layer.

    For the layer `w = sigma(D11 w + v)` with slopes in [0, 1] and `2 L - L D11 - D11' L > 0`, L = Lambda:
    `dw' (2 L - L D11 - D11' L) dw <= 2 dw' L dv`, so `|dw| <= 2 |L| |dv| / (least eigenvalue)`.
    """
    if isinstance(system, ExplicitR2DN):
        return float(lipschitz_bound(system.phi) or np.inf)
    L, D11 = np.diag(np.asarray(system.Lambda, float)), np.asarray(system.D11, float)
    H = 2 * L - L @ D11 - D11.T @ L
    return float(2 * np.abs(L).max() / np.linalg.eigvalsh(H)[0])
