"""A trained R2DN without JAX: one sample at a time in NumPy, for a control loop in Python."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import ModelError
from ..scaled import Scaled
from ..system import System
from .activations import ACTIVATIONS
from .folded import FoldedR2DN

_IN_NUMPY: dict[Callable, Callable] = {
    jax.nn.relu: lambda z: np.maximum(z, 0),
    jnp.tanh: np.tanh,
    jax.nn.leaky_relu: lambda z: np.maximum(z, z * z.dtype.type(0.01)),
    jax.nn.hard_tanh: lambda z: np.clip(z, -1, 1),
    jax.nn.sigmoid: lambda z: 1 / (1 + np.exp(-z)),
    jax.nn.softplus: lambda z: np.logaddexp(z, 0),
    jax.nn.identity: lambda z: z,
}

Step = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def numpy_step(system: System) -> tuple[Step, np.ndarray]:
    """Return `step(x, u) -> (x_next, y)` on NumPy vectors, and the initial state.

    The same numbers as the system's own step to rounding, without the tens of microseconds that a call into JAX costs. It needs
    the weights and NumPy alone, and keeps their dtype.

    **Arguments:** `system`: an explicit R2DN with hidden layers, or one in its signals' units, as `fitted.model.explicit()` gives.

    **Raises:** `ModelError` for another system, and an activation that is not in `rc.nn.ACTIVATIONS`; the step of a system in its
    signals' units for an input of another shape.
    """
    if isinstance(system, Scaled):
        inner, start = numpy_step(system.system)
        u_mean, u_std, y_mean, y_std = (
            np.asarray(a) for a in (system.u_mean, system.u_std, system.y_mean, system.y_std)
        )

        def scaled(x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if np.shape(u) != u_mean.shape:
                raise ModelError(
                    f"u must be one sample, an array of shape {u_mean.shape}, got shape {np.shape(u)}"
                )
            x_next, y = inner(x, (u - u_mean) / u_std)
            return x_next, y_std * y + y_mean

        return scaled, start
    if not isinstance(system, System):
        raise ModelError(f"numpy_step needs a system, got {type(system).__name__}; give its explicit()")
    folded = system.prepare()
    if not isinstance(folded, FoldedR2DN):
        raise ModelError(
            f"the system must be an explicit R2DN with a hidden layer, got {type(system).__name__}; step it with JAX"
        )
    if folded.activation not in _IN_NUMPY:
        raise ModelError(f"the activation must be one of {', '.join(ACTIVATIONS)}, got {folded.activation}")
    return _unscaled(folded), np.zeros(folded.nx, folded.g.dtype)


def _unscaled(folded: FoldedR2DN) -> Step:
    G, g, W = (np.asarray(a) for a in (folded.G, folded.g, folded.W))
    hidden = [(np.asarray(Wk), np.asarray(b)) for Wk, b in folded.hidden]
    activation, nx, n = _IN_NUMPY[folded.activation], folded.nx, folded.W.shape[0]
    Gx, Gu = np.ascontiguousarray(G[:, :nx]), np.ascontiguousarray(G[:, nx:])

    def step(x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = Gx @ x + Gu @ u + g
        h = activation(z[n:])
        for Wk, b in hidden:
            h = activation(Wk @ h + b)
        r = z[:n] + W @ h
        return r[:nx], r[nx:]

    return step
