"""The gain with which measured outputs correct a model's state: a noise model for a model of the plant."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..checks import check_whole
from ..data import Record
from ..errors import RobustctlError
from ..lft import is_linear
from ..linear.polish import DAMPING, EASED, STIFFER, damped_step
from ..system import System
from ..train.record_model import RecordModel, check_channels
from .predict import Corrected, ahead, corrected, packed, stepper

LONGEST = 5_000
"""Samples of each experiment, its first, that the gain is estimated from."""

STEPS, ENOUGH = 30, 1e-5
"""Most steps, and the relative decrease of the squared error below which they end."""

MOST_DAMPED = 1e8
"""The damping that ends them."""


def innovation_form(model: RecordModel, record: Record, steps: int = 1) -> RecordModel:
    """Return a model with the innovation gain K that predicts a record best one sample ahead, or several.

    ::

        x+ = f(x, u) + K e,    y = h(x, u) + e,        K = argmin  sum over measured samples of |y - y_hat|^2    (scaled)

    with y_hat of `rc.identify.predict`; one step ahead, of a linear model, its Kalman gain in steady state. It is found by the method of
    Levenberg and Marquardt from K = 0, where the prediction is the free run: it is never worse on the record. f and h remain as they
    are, so the model simulates as before. K of a linear model leaves all poles of the predictor inside of the unit circle. Of other models
    nothing is proven about the predictor (`rc.nn.InnovationR2DN` is contracting with its own K).

    **Arguments:**

    - `model`: a fitted model whose state is one vector, for example that of `rc.identify.subspace`, of an R2DN or of a REN
    - `record`: the record that it was fitted to
    - `steps`: samples ahead, at least 1. The best gain one sample ahead need not be good many samples ahead where the model is not
      exact; give the horizon at which it is used

    **Raises:** `RobustctlError` for steps below 1, for a model that has an innovation gain by construction, or a state of several
    arrays; `DataError`, same errors as `rc.simulate`.

    **Source:** L. Ljung, "System Identification", 2nd ed., sections 4.3 and 7.2.

    **Example:** ::

        record = rc.problems.two_tanks(600, seed=0)
        model = rc.identify.innovation_form(rc.identify.subspace(record, order=2).model, record)
        print(rc.identify.residual_correlations(rc.identify.predict(model, record)).whiteness())
    """
    check_whole(1, steps=steps)
    check_channels(model, record)
    system = model.parameterization.explicit()
    x = system.init_state()
    if system.predictor_sizes is not None or not eqx.is_array(x) or x.ndim != 1:
        raise RobustctlError(
            f"a model must be without an innovation gain and its state one vector, got {model.parameterization.label}; "
            "use predict of an InnovationR2DN as it is, and no other than linear models, R2DN and REN"
        )
    batch, start, _ = packed(model, record, steps)
    cut = [a[:, : LONGEST + start] for a in (batch.u, batch.y, batch.mask)]
    batch = batch._replace(u=cut[0], y=cut[1], mask=cut[2])
    data = corrected(model, system, batch)
    counted = data.seen.at[:, : start - model.initial.window].set(0)[:, steps - 1 :]
    K = _best_gain(system, data, counted, steps)
    return dataclasses.replace(model, innovation_gain=jnp.asarray(K, model.dtype))


def _best_gain(system: System, data: Corrected, counted: Array, steps: int) -> np.ndarray:
    shape = (data.x0.shape[1], data.y.shape[2])
    K, damping = np.zeros(shape), DAMPING
    error, gradient, hessian = _normal(K, system, data, counted, steps)
    for _ in range(STEPS):
        tried = K + damped_step(gradient, hessian, damping).reshape(shape)
        found = _normal(tried, system, data, counted, steps) if _stable(system, tried) else None
        if found is None or not found[0] < error:
            damping *= STIFFER
            if damping > MOST_DAMPED:
                break
            continue
        K, damping, gained = tried, EASED * damping, error - found[0]
        error, gradient, hessian = found
        if gained < ENOUGH * error:
            break
    return K


def _stable(system: System, K: np.ndarray) -> bool:
    form = system.lft()
    if form is None or not is_linear(form):
        return True
    return bool(np.abs(np.linalg.eigvals(form.A - K @ form.C2)).max() < 1)


def _normal(
    K: np.ndarray, system: System, data: Corrected, counted: Array, steps: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the squared error, and `J' e` and `J' J` of the derivatives J of the prediction to K; infinite where it diverges."""
    numbers = _equations(jnp.asarray(K, data.y.dtype), system, data, counted, steps)
    error, gradient, hessian = (np.asarray(a, np.float64) for a in numbers)
    fine = np.isfinite(error) and np.isfinite(hessian).all()
    return (float(error) if fine else np.inf), gradient, hessian


@eqx.filter_jit
def _equations(
    K: Array, system: System, data: Corrected, counted: Array, steps: int
) -> tuple[Array, Array, Array]:
    def errors(flat):
        found = ahead(*stepper(system, flat.reshape(K.shape)), data, steps)
        return (counted * (data.y[:, steps - 1 :] - found)).reshape(-1)

    flat = K.reshape(-1)
    e, J = errors(flat), -jax.jacfwd(errors)(flat)
    return e @ e, J.T @ e, J.T @ J
