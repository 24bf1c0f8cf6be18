"""Frequency responses of linear models, their derivatives, and the model of least weighted error of a measured one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..linalg import response
from .covariance import determined_inverse
from .polish import Normal, descended
from .projection import state_matrices
from .series import DEPENDENT, Linear

EXTRA_ROWS = 2
"""Block rows beyond the order, as a multiple of it: more of them make the singular values sharper."""

STEPS, ENOUGH = 60, 1e-6
"""Most steps, and the relative decrease that ends them: the covariance is that of the smallest error."""


class Measured(NamedTuple):
    """A measured response (n, ny, nu) at points of the unit circle (n,), and its standard deviations (n, ny, nu), those of |error|."""

    z: np.ndarray
    G: np.ndarray
    std: np.ndarray


def with_slopes(model: Linear, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `G(z) = C (z I - A)^-1 B + D`, (n, ny, nu), and its derivatives to K, B, E and D, (n, ny, nu, .), in the order of `moved`.

    **Arguments:**

    - `model`: the model
    - `z`: points (n,)
    """
    A, B, C, D, _ = model
    R = np.linalg.inv(z[:, None, None] * np.eye(len(A)) - A)
    X, L = R @ B, C @ R
    ny, nu = D.shape
    y, u = np.eye(ny), np.eye(nu)
    both = np.broadcast_to(np.einsum("op,jq->ojqp", y, u), (len(z), ny, nu, nu, ny))
    shape = (len(z), ny, nu, -1)
    # To K[i, p] (C X)[p, j] L[o, i]; to B[i, p]; to E[p, i] and D[p, q]. Columns first, as `moved` has them.
    slope = np.concatenate(
        [
            np.einsum("noi,npj->nojpi", L, C @ X).reshape(shape), np.einsum("noi,jp->nojpi", L, u).reshape(shape),
            np.einsum("nij,op->nojip", X, y).reshape(shape), both.reshape(shape),
        ],
        axis=3,
    )  # fmt: skip
    return C @ X + D, slope


def fitted(measured: Measured, order: int, radius: float) -> tuple[Linear, float]:
    """Return the stable model of least weighted squared error, and that error.

    ::

        min over A, B, C, D of  sum |G - C (z I - A)^-1 B - D|^2 / std^2

    The search of Levenberg and Marquardt begins at a subspace estimate.

    **Arguments:**

    - `measured`: the response
    - `order`: number of states
    - `radius`: of the circle that holds all poles
    """

    def error(model: Linear) -> float:
        found = (response(*model[:4], measured.z) - measured.G) / measured.std
        return float(np.sum(np.abs(found) ** 2))

    best = descended(
        _subspace(measured, order, radius),
        error,
        lambda m: normal(m, measured),
        radius,
        steps=STEPS,
        enough=ENOUGH,
    )
    return best, error(best)


def normal(model: Linear, measured: Measured) -> Normal:
    """Return `Re J* e` and `Re J* J` of the weighted errors e, with zeros for the offset.

    **Arguments:**

    - `model`: the model
    - `measured`: the response
    """
    G, slope = with_slopes(model, measured.z)
    weight = 1 / measured.std.ravel()
    J = slope.reshape(-1, slope.shape[-1]) * weight[:, None]
    e, ny = (measured.G - G).ravel() * weight, G.shape[1]
    gradient, hessian = np.real(J.conj().T @ e), np.real(J.conj().T @ J)
    return np.pad(gradient, (0, ny)), np.pad(hessian, ((0, ny), (0, ny)))


def response_covariance(model: Linear, measured: Measured) -> np.ndarray:
    """Return the covariance of the model's numbers, in the order of `moved`, for errors as large as the standard deviations.

    **Arguments:**

    - `model`: of least weighted error
    - `measured`: the response
    """
    # Real and imaginary part have half of the variance each.
    ny = len(model.C)
    return determined_inverse(2 * normal(model, measured)[1][:-ny, :-ny], model.C.size)


def _subspace(measured: Measured, order: int, radius: float) -> Linear:
    """Return a model from the extended observability matrix in ``[G; z G; ...] = O X + Gamma [I; z I; ...]``.

    **Source:** T. McKelvey, H. Akcay, L. Ljung, "Subspace-based multivariable system identification from frequency response data", IEEE
    Transactions on Automatic Control 41, 1996, algorithm 2.
    """
    z, G, std = measured
    (n, ny, nu), rows = G.shape, _rows(G.shape, order)
    powers = z[:, None] ** np.arange(rows)
    outputs = np.einsum("kr,koj->rokj", powers, G).reshape(rows * ny, n * nu)
    inputs = np.einsum("kr,ij->rikj", powers, np.eye(nu)).reshape(rows * nu, n * nu)
    factor = np.asarray(np.linalg.qr(_real(np.vstack([inputs, outputs])).T, mode="r"))
    left = factor[rows * nu :, rows * nu :].T
    # The errors of neighboring rows are those of one response: their covariance weights the projection.
    errors = np.einsum("kr,ko,ks->rsok", powers, np.sum(std**2, axis=2), powers.conj())
    covariance = np.einsum("rsok,op->rosp", np.real(errors), np.eye(ny)).reshape(rows * ny, rows * ny)
    values, V = np.linalg.eigh(covariance)
    root = V * np.sqrt(np.maximum(values, DEPENDENT * values[-1]))
    vectors, s, _ = np.linalg.svd(np.linalg.lstsq(root, left)[0], full_matrices=False)
    A, C, _ = state_matrices(root @ vectors, s, order, ny, radius, radius)
    return _with_inputs(A, C, measured)


def most_states(shape: tuple[int, int, int], most: int) -> int:
    """Return the highest order that a response of a shape determines, at most `most`.

    **Arguments:**

    - `shape`: (n, ny, nu)
    - `most`: the limit
    """
    n, ny, nu = shape
    # Rows of inputs and outputs, at least order / ny + 1 of each, have as many real columns at least.
    return max((k for k in range(1, most + 1) if (k // ny + 2) * (nu + ny) <= 2 * n * nu), default=0)


def _rows(shape: tuple[int, int, int], order: int) -> int:
    n, ny, nu = shape
    least = order // ny + 2
    return int(np.clip(2 * n * nu // (3 * (nu + ny)), least, least + EXTRA_ROWS * order))


def _real(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.real(values), np.imag(values)], axis=-1)


def _with_inputs(A: np.ndarray, C: np.ndarray, measured: Measured) -> Linear:
    """Return the model with B and D of least weighted error."""
    z, G, std = measured
    nx, (_, ny, nu) = len(A), G.shape
    slope = with_slopes(Linear(A, np.zeros((nx, nu)), C, np.zeros((ny, nu)), np.zeros(ny)), z)[1]
    weight = 1 / std.ravel()
    J = np.delete(slope, np.r_[: nx * ny, nx * (ny + nu) : nx * (2 * ny + nu)], axis=3)
    J = J.reshape(G.size, -1) * weight[:, None]
    size = np.linalg.norm(J, axis=0)
    size[size == 0] = 1.0
    theta = np.linalg.lstsq(_real((J / size).T).T, _real(G.ravel() * weight), rcond=DEPENDENT)[0] / size
    B, D = np.split(theta, [nx * nu])
    return Linear(A, B.reshape(nu, nx).T, C, D.reshape(nu, ny).T, np.zeros(ny))
