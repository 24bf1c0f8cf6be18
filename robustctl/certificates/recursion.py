"""Multipliers of a deep network step by step, where one matrix inequality for all neurons would be too large."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .steps import Chain

_APART = 1e-6
"""Relative distance of D from G, so that rounding does not hide `D > G`."""


def chain_multipliers(chain: Chain, deadline: float) -> tuple[float, list[np.ndarray]]:
    """Return a bound of a chain with slopes in [-1, 1], and the diagonals D that prove it, one number per neuron or group.

    ::

        S_1 = I;   G = F S F';   S <- P (S + S F' (D - G)^-1 F S) P' + E D E';   Lip^2 <= lambda_max(C S C')

    for any diagonal D with `D > G`. It starts from the norms of the rows of G and improves their logarithms by L-BFGS.

    Source: Y. Xu, S. Sivaranjani, "ECLipsE", NeurIPS 2024, for layers with slopes in [0, 1] and `D = lambda_max(G) I`.

    **Arguments:**

    - `chain`: with slopes in [-1, 1], as `centered` returns it.
    - `deadline`: of `time.monotonic()`.
    """
    from scipy.optimize import minimize  # slow to import

    sizes = tuple(step.size for step in chain.steps)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        arrays = jax.tree.map(jnp.asarray, ([(step.F, step.P, step.E) for step in chain.steps], chain.C))

        def both(flat):
            (value, _), slope = _value_and_slope(jnp.asarray(flat), arrays, sizes)
            return float(value), np.asarray(slope, np.float64)

        def late(intermediate_result):
            if time.monotonic() > deadline:
                raise StopIteration

        start = np.zeros(len(sizes) + sum(len(step.F) // step.size for step in chain.steps))
        found = minimize(both, start, jac=True, method="L-BFGS-B", callback=late, options={"maxiter": 300})
        (log_square, D), _ = _value_and_slope(jnp.asarray(found.x), arrays, sizes)
        return float(np.exp(log_square / 2)), [np.asarray(d, np.float64) for d in D]


def _recursion(flat: Any, arrays: Any, sizes: tuple[int, ...]) -> tuple[Any, list]:
    """The logarithm of the squared bound, and D: `D = R lambda (1 + e^t)` and a little more, R the rows' norms times e^theta."""
    steps, C = arrays
    S, D, at = jnp.eye(steps[0][0].shape[1]), [], len(sizes)
    for k, ((F, P, E), size) in enumerate(zip(steps, sizes, strict=True)):
        if not len(F):
            S = P @ S @ P.T
            D.append(jnp.zeros(0))
            continue
        G = F @ S @ F.T
        theta, at = flat[at : at + len(F) // size], at + len(F) // size
        norms = jnp.linalg.norm(G, axis=1).reshape(-1, size).max(axis=1)
        R = jnp.exp(theta) * jnp.maximum(norms, 1e-12 * jnp.linalg.norm(G) + 1e-100)
        root = jnp.sqrt(jnp.repeat(R, size))
        R = R * _largest(G / jnp.outer(root, root)) * (1 + _APART + jnp.exp(flat[k]))
        d = jnp.repeat(R, size)
        FS = F @ S
        S = P @ (S + FS.T @ jnp.linalg.solve(jnp.diag(d) - G, FS)) @ P.T + E @ (d[:, None] * E.T)
        S = (S + S.T) / 2
        D.append(R)
    return jnp.log(_largest(C @ S @ C.T)), D


def _largest(M):
    return jnp.linalg.eigvalsh(M)[-1]


@functools.partial(jax.jit, static_argnums=2)
def _value_and_slope(flat, arrays, sizes):
    return jax.value_and_grad(lambda x: _recursion(x, arrays, sizes), has_aux=True)(flat)
