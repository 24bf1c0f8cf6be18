"""Simulations, and a fit, made of arrays without any training."""

import functools

import jax.random as jr
import numpy as np
import scipy.signal

import robustctl as rc
from robustctl.data import Scaling, from_arrays
from robustctl.identify import Simulation
from robustctl.train import Fit, FittedModel, ZeroState

NAN = np.nan
OWN_START = "the model's own initial state"


def columns(a):
    a = np.asarray(a, float)
    return a[:, None] if a.ndim == 1 else a


def simulation(us, y_hats, residuals, *, skipped=0, **names):
    """A simulation whose residuals are the given ones, (T,) or (T, n); NaN in one: nothing was measured."""
    us, y_hats, residuals = ([columns(a) for a in several] for several in (us, y_hats, residuals))
    record = from_arrays(us, [y + e for y, e in zip(y_hats, residuals, strict=True)], 0.02, **names)
    y_hats = [y.copy() for y in y_hats]
    for y in y_hats:
        y[:skipped] = NAN
    start = f"warm-up window of {skipped} samples" if skipped else OWN_START
    return Simulation(record, tuple(y_hats), skipped, start)


def example(ny=1, nu=1, samples=400, experiments=1, *, seed=0, skipped=0, gaps=False, **names):
    rng = np.random.default_rng(seed)
    us = [rng.normal(size=(samples + 10 * k, nu)) for k in range(experiments)]
    y_hats = [scipy.signal.lfilter([0.3], [1, -0.9], u[:, np.arange(ny) % nu], axis=0) for u in us]
    residuals = [0.1 * rng.normal(size=y.shape) for y in y_hats]
    if gaps:
        for e in residuals:
            e[rng.random(e.shape) < 0.2] = NAN
    return simulation(us, y_hats, residuals, skipped=skipped, **names)


def broken():
    """Outputs that are constant, not measured after the start, diverged, and in order."""
    y = np.random.default_rng(0).normal(size=(60, 4))
    y[:, 0], y[5:, 1] = 0.1, NAN
    y_hat = np.where(np.isnan(y), 0.0, y) + 0.05
    y_hat[:5], y_hat[40:, 2] = NAN, np.inf
    record = from_arrays(np.zeros(60), y, 0.1, outputs=["still", "lost", "wild", "good"])
    return Simulation(record, (y_hat,), 5, "warm-up window of 5 samples")


@functools.cache
def model():
    inner = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), rate=0.9, key=jr.key(0))
    return FittedModel(inner, ZeroState(), Scaling.identity(1, 1), 0.1, ("u",), ("y",), ("",), ("",))


def fitted(loss, validation=None, best=0, stopped="finished"):
    loss = np.asarray(loss, float)
    validation = np.full(loss.shape, NAN) if validation is None else np.asarray(validation, float)
    history = {"loss": loss, "validation": validation, "gradient_norm": loss}
    return Fit(model(), history, best, stopped, None, 1.5)
