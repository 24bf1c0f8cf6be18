"""The nearest linear model of least free-run error, by the method of Levenberg and Marquardt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .projection import Linear, Series, run, slopes, starts, state_slopes

STEPS = 20
"""Most steps: the error falls by less than a thousandth after five to fifteen."""

ENOUGH = 1e-4
"""Relative decrease of the squared error below which it ends."""

DAMPING, EASED, STIFFER = 1e-3, 0.3, 10.0
"""First damping relative to the diagonal, and its factors after a step that reduced the error and one that did not."""

MOST_DAMPED = 1e6


def polished(model: Linear, x0: list[np.ndarray], experiments: Sequence[Series], radius: float) -> Linear:
    """Return the model after steps that reduce the squared error of the free run, with all poles within a radius.

    ::

        min over A, B, C, D, d, x0 of  sum over outputs and samples that count of  (y - y_hat)^2

    The coordinates of the state are free; the damping holds what they leave undetermined.

    **Arguments:**

    - `model`: where the search begins
    - `x0`: initial state (nx,) of each experiment
    - `experiments`: in scaled signals
    - `radius`: of the circle that no step may leave with a pole
    """
    damping, states = DAMPING, np.stack(x0)
    error = _error(model, states, experiments)
    gradient, hessian = _normal(model, states, experiments)
    for _ in range(STEPS):
        scale = np.diag(hessian) + 1e-9 * np.trace(hessian) / len(hessian)
        step = np.linalg.solve(hessian + damping * np.diag(scale), gradient)
        tried = _moved(model, states, step)
        reduced = (
            np.abs(np.linalg.eigvals(tried[0].A)).max() <= radius
            and (found := _error(*tried, experiments)) < error
        )
        if not reduced:
            damping *= STIFFER
            if damping > MOST_DAMPED:
                break
            continue
        (model, states), gain, error, damping = tried, error - found, found, EASED * damping
        if gain < ENOUGH * error:
            break
        gradient, hessian = _normal(model, states, experiments)
    return model


def _error(model: Linear, states: np.ndarray, experiments: Sequence[Series]) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        errors = [(e.y - run(model, e.u, x)[0])[e.y_ok] for e, x in zip(experiments, states, strict=True)]
        total = float(sum(np.sum(error**2) for error in errors))
    return total if np.isfinite(total) else np.inf


def _normal(
    model: Linear, states: np.ndarray, experiments: Sequence[Series]
) -> tuple[np.ndarray, np.ndarray]:
    """Return `J' e` and `J' J` of the derivatives J to A, C, B, D, d and the initial states, in columns."""
    gradient, hessian = 0.0, 0.0
    for k, e in enumerate(experiments):
        y, x = run(model, e.u, states[k])
        parts = (
            state_slopes(model.A, model.C, x),
            slopes(model.A, model.C, e.u),
            starts(model.A, model.C, experiments, k),
        )
        J = np.concatenate(parts, axis=2)[e.y_ok]
        J = J.reshape(-1, J.shape[2])
        gradient, hessian = gradient + J.T @ (e.y - y)[e.y_ok].ravel(), hessian + J.T @ J
    return np.asarray(gradient), np.asarray(hessian)


def _moved(model: Linear, states: np.ndarray, step: np.ndarray) -> tuple[Linear, np.ndarray]:
    nx, nu, ny = len(model.A), model.B.shape[1], len(model.C)
    A, C, B, D, d, x0 = np.split(step, np.cumsum([nx * nx, ny * nx, nx * nu, ny * nu, ny]))
    new = Linear(
        model.A + A.reshape(nx, nx).T, model.B + B.reshape(nu, nx).T, model.C + C.reshape(nx, ny).T,
        model.D + D.reshape(nu, ny).T, model.d + d,
    )  # fmt: skip
    return new, states + x0.reshape(states.shape)
