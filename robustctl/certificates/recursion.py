"""Multipliers of a deep network layer by layer, where one matrix inequality for all neurons would be too large."""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def chain_multipliers(matrices: Sequence[np.ndarray], deadline: float) -> tuple[float, list[np.ndarray]]:
    """Return a bound of `W_L s(W_{L-1} ... s(W_1 u))` with slopes in [0, 1], and the diagonals D that prove it.

    ::

        S_0 = I;   G = W S W';   S = D (2 D - G)^-1 D for each hidden layer;   Lip^2 <= lambda_max(W_L S W_L')

    for any diagonal D with `2 D > G`. It starts from the norms of the rows of G and improves their logarithms by L-BFGS.

    Source: Y. Xu, S. Sivaranjani, "ECLipsE", NeurIPS 2024, for the recursion with `D = lambda_max(G) I`.

    **Arguments:**

    - `matrices`: W_1 to W_L.
    - `deadline`: of `time.monotonic()`.
    """
    from scipy.optimize import minimize  # slow to import

    widths = [len(W) for W in matrices[:-1]]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        Ws = [jnp.asarray(W, float) for W in matrices]

        def both(flat):
            value, slope = _value_and_slope(jnp.asarray(flat), Ws)
            return float(value), np.asarray(slope, np.float64)

        def late(intermediate_result):
            if time.monotonic() > deadline:
                raise StopIteration

        start = np.zeros(sum(widths) + len(widths))
        found = minimize(both, start, jac=True, method="L-BFGS-B", callback=late, options={"maxiter": 300})
        log_square, D = _recursion(jnp.asarray(found.x), Ws)
        return float(np.exp(log_square / 2)), [np.asarray(d, np.float64) for d in D]


def _recursion(flat, Ws):
    """The logarithm of the squared bound, and D: `D = E lambda (1 + e^t) / 2`, E the rows' norms times e^theta."""
    S, D, at = jnp.eye(Ws[0].shape[1]), [], len(Ws) - 1
    for k, W in enumerate(Ws[:-1]):
        G = W @ S @ W.T
        theta, at = flat[at : at + len(W)], at + len(W)
        E = jnp.exp(theta) * jnp.maximum(jnp.linalg.norm(G, axis=1), 1e-12 * jnp.linalg.norm(G) + 1e-100)
        root = jnp.sqrt(E)
        d = E * _largest(G / jnp.outer(root, root)) * (1 + jnp.exp(flat[k])) / 2
        S = d[:, None] * jnp.linalg.solve(2 * jnp.diag(d) - G, jnp.diag(d))
        S = (S + S.T) / 2
        D.append(d)
    return jnp.log(_largest(Ws[-1] @ S @ Ws[-1].T)), D


def _largest(M):
    return jnp.linalg.eigvalsh(M)[-1]


@jax.jit
def _value_and_slope(flat, Ws):
    return jax.value_and_grad(lambda x: _recursion(x, Ws)[0])(flat)
