"""The nearest linear model of least free-run error, by the method of Levenberg and Marquardt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .series import Linear, Series, Start, direct, filtered, free, offset_slopes, run, start_of

STEPS = 20
"""Most steps: the error falls by less than a thousandth after five to fifteen."""

ENOUGH = 1e-4
"""Relative decrease of the squared error below which it ends."""

DAMPING, EASED, STIFFER = 1e-3, 0.3, 10.0
"""First damping relative to the diagonal, and its factors after a step that reduced the error and one that did not."""

MOST_DAMPED = 1e6


Normal = tuple[np.ndarray, np.ndarray]
"""`J' e` and `J' J` of residuals e with derivatives J."""


def polished(
    model: Linear, experiments: Sequence[Series], radius: float, *, steps: int = STEPS, enough: float = ENOUGH
) -> Linear:
    """Return the model after steps that reduce the squared error of the free run, with all poles within a radius.

    ::

        min over A, B, C, D, d, x0 of  sum over outputs and samples that count of  (y - y_hat)^2

    The initial states, in which the output is linear, are eliminated in each step.

    **Arguments:**

    - `model`: where the search begins
    - `experiments`: in scaled signals
    - `radius`: of the circle that no step may leave with a pole
    - `steps`: most steps
    - `enough`: relative decrease of the squared error below which it ends
    """

    def error(m: Linear) -> float:
        return squared_error(m, experiments)

    return descended(model, error, lambda m: _normal(m, experiments), radius, steps=steps, enough=enough)


def descended(
    model: Linear, error: Callable[[Linear], float], normal: Callable[[Linear], Normal], radius: float, *,
    steps: int = STEPS, enough: float = ENOUGH,
) -> Linear:  # fmt: skip
    """Return the model after steps that reduce a sum of squares, with all poles within a radius.

    ::

        A + K C,  C + E,  B, D, d   move freely

    Every pair (A, C) near an observable one is of the form (A + K C, C + E) in other coordinates of the state, with ny nx numbers too
    many, which the damping holds.

    **Arguments:**

    - `model`: where the search begins
    - `error`: the sum of squares of a model
    - `normal`: its `J' e` and `J' J`, in the order of `moved`
    - `radius`: of the circle that no step may leave with a pole
    - `steps`: most steps
    - `enough`: relative decrease of the sum of squares below which it ends
    """
    damping, least = DAMPING, error(model)
    gradient, hessian = normal(model)
    for _ in range(steps):
        tried = moved(model, damped_step(gradient, hessian, damping))
        reduced = np.abs(np.linalg.eigvals(tried.A)).max() <= radius and (found := error(tried)) < least
        if not reduced:
            damping *= STIFFER
            if damping > MOST_DAMPED:
                break
            continue
        model, gain, least, damping = tried, least - found, found, EASED * damping
        if gain < enough * least:
            break
        gradient, hessian = normal(model)
    return model


def damped_step(gradient: np.ndarray, hessian: np.ndarray, damping: float) -> np.ndarray:
    """Return the step of Levenberg and Marquardt.

    **Arguments:**

    - `gradient`: `J' e`
    - `hessian`: `J' J`
    - `damping`: relative to the diagonal of the hessian
    """
    scale = np.diag(hessian) + 1e-9 * np.trace(hessian) / len(hessian)
    return np.linalg.solve(hessian + damping * np.diag(scale), gradient)


class Residual(NamedTuple):
    """Error of the outputs that count from the initial state of least error (rows,), the states (T, nx), and what a start explains."""

    error: np.ndarray
    x: np.ndarray
    start: Start


def residual(model: Linear, e: Series) -> Residual:
    """Return the free run of least error.

    **Arguments:**

    - `model`: the model
    - `e`: an experiment
    """
    x = run(model, e.u, np.zeros(len(model.A)))[1]
    response = free(model.A, len(e.u))
    start = start_of(response, model.C, e.y_ok)
    error = (e.y - x @ model.C.T - e.u @ model.D.T - model.d)[e.y_ok]
    x0 = start.state @ (start.range.T @ error)
    return Residual(start.without(error), x + response @ x0, start)


def squared_error(model: Linear, experiments: Sequence[Series]) -> float:
    """Return the sum of the squares of the free-run errors; infinite where a run diverges.

    **Arguments:**

    - `model`: the model
    - `experiments`: in scaled signals
    """
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            total = float(sum(np.sum(residual(model, e).error ** 2) for e in experiments))
        except np.linalg.LinAlgError:
            return np.inf
    return total if np.isfinite(total) else np.inf


def slopes(model: Linear, experiments: Sequence[Series]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each experiment the derivatives (rows, .) of the outputs that count to K, B, E, D and d, and the error (rows,).

    Both without what the initial state explains: columns of K, B, E, D and d, in the order of `moved`.

    **Arguments:**

    - `model`: the model
    - `experiments`: in scaled signals
    """
    for e in experiments:
        error, x, start = residual(model, e)
        of_outputs = np.concatenate([response_slopes(model, x, e.u), offset_slopes(e)], axis=2)
        yield start.without(of_outputs[e.y_ok]), error


def response_slopes(model: Linear, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the derivatives (T, ny, .) of the outputs to K, B, E and D, in the order of `moved`.

    **Arguments:**

    - `model`: the model
    - `x`: its states in a run (T, nx)
    - `u`: the inputs of the run (T, nu)
    """
    A, _, C, _, _ = model
    parts = (
        filtered(A, C, np.concatenate([x @ C.T, u], axis=1)),
        direct(np.concatenate([x, u], axis=1), len(C)),
    )
    return np.concatenate(parts, axis=2)


def _normal(model: Linear, experiments: Sequence[Series]) -> Normal:
    """Return `J' e` and `J' J` of the derivatives J."""
    pairs = [(J.T @ e, J.T @ J) for J, e in slopes(model, experiments)]
    return np.sum([g for g, _ in pairs], axis=0), np.sum([h for _, h in pairs], axis=0)


def moved(model: Linear, step: np.ndarray) -> Linear:
    """Return the model moved by a step of K, B, E, D and d.

    **Arguments:**

    - `model`: the model
    - `step`: columns of K (nx, ny), B (nx, nu), E (ny, nx), D (ny, nu), and d
    """
    nx, nu, ny = len(model.A), model.B.shape[1], len(model.C)
    K, B, E, D, d = np.split(step, np.cumsum([nx * ny, nx * nu, ny * nx, ny * nu]))
    return Linear(
        model.A + K.reshape(ny, nx).T @ model.C, model.B + B.reshape(nu, nx).T, model.C + E.reshape(nx, ny).T,
        model.D + D.reshape(nu, ny).T, model.d + d,
    )  # fmt: skip
