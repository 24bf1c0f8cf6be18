"""Where a simulation starts: at zero, at a state learned for each experiment, or after a warm-up window."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..checks import is_whole
from ..errors import InvalidModelError, RobustctlError
from ..lft import float64
from ..registry import registered
from ..system import System, dtype_of

RIDGE = 1e-5
"""Of the mean square with which the outputs show a state."""

LEAST_RIDGE = 1e-12
"""Where the outputs show no state at all."""


class InitialState(eqx.Module):
    """A rule for the state that a simulation of one experiment starts from.

    It sees the first `window` samples (scaled, gaps filled) and the simulation starts right after them:
    with `window = 0` it starts at the first sample.
    """

    window: eqx.AbstractVar[int]

    @property
    def estimated(self) -> int:
        """Samples of another record that its state is found from by least squares; 0 for a rule that works on any record."""
        return 0

    @abc.abstractmethod
    def __call__(
        self, u: Float[Array, "window nu"], y: Float[Array, "window ny"], index: Int[Array, ""], zero: PyTree
    ) -> PyTree:
        """Return the state at sample `window` of training experiment number `index`; `zero` is the system's own."""


Builder = Callable[..., InitialState]
"""`(system, nu, ny, experiments, key) -> InitialState`: what `fit` takes as `initial`."""


@registered()
class ZeroState(InitialState):
    """The system's own initial state; score after a `washout`, because the states of a contracting model forget their start."""

    window: int = eqx.field(static=True, default=0)

    def __call__(self, u, y, index, zero):
        """Return the system's own initial state."""
        return zero


@registered()
class LearnedState(InitialState):
    """One trained state for each experiment of the training record.

    Another record has no trained state: `simulate` then finds one by least squares over its first samples, which are left
    out of the score.

    **Arguments:**

    - `x0`: the states, stacked along the first axis.
    - `horizon`: samples of the least squares.
    - `window`: 0.
    """

    x0: PyTree
    horizon: int = eqx.field(static=True)
    window: int = eqx.field(static=True, default=0)

    @property
    def estimated(self) -> int:
        """The horizon: each trained state is of one experiment."""
        return self.horizon

    def __call__(self, u, y, index, zero):
        """Return the trained state of experiment `index`."""
        return jax.tree.map(lambda leaf: leaf[index], self.x0)


@registered()
class WarmUp(InitialState):
    """A trained map from the first `window` samples of inputs and outputs to the state after them.

    ::

        x[window] = network(u[0], y[0], ..., u[window-1], y[window-1])

    Source: the encoder of Beintema, Toth, Schoukens, "Nonlinear state-space identification using deep
    encoder networks", L4DC 2021. Its error decays at the model's contraction rate.

    **Arguments:**

    - `network`: the map.
    - `window`: samples that it reads.
    """

    network: eqx.nn.MLP
    window: int = eqx.field(static=True)

    def __call__(self, u, y, index, zero):
        """Return the state after the window."""
        flat = self.network(jnp.concatenate([u, y], axis=1).reshape(-1))
        return ravel_pytree(zero)[1](flat)


@registered()
class LinearWarmUp(InitialState):
    """A trained linear map from the first `window` samples of inputs and outputs to the state after them.

    ::

        x[window] = K [u[0]; y[0]; ...; u[window-1]; y[window-1]] + b

    **Arguments:**

    - `K`: (nx, window (nu + ny)).
    - `b`: (nx,).
    - `window`: samples that it reads.
    """

    K: Float[Array, "nx _"]
    b: Float[Array, " nx"]
    window: int = eqx.field(static=True)

    def __call__(self, u, y, index, zero):
        """Return the state after the window."""
        flat = self.K @ jnp.concatenate([u, y], axis=1).reshape(-1) + self.b
        return ravel_pytree(zero)[1](flat)


def zero_state() -> Builder:
    """Start at the system's own initial state."""
    return lambda system, nu, ny, experiments, key: ZeroState()


def learned_state(*, horizon: int = 50) -> Builder:
    """Train one state an experiment; later records get theirs by least squares over `horizon` samples."""
    _check("horizon", horizon)

    def build(system: System, nu: int, ny: int, experiments: int, key: PRNGKeyArray) -> LearnedState:
        zero = system.init_state()
        x0 = jax.tree.map(lambda leaf: jnp.zeros((experiments, *leaf.shape), leaf.dtype), zero)
        return LearnedState(x0=x0, horizon=horizon)

    return build


def warm_up(window: int, *, width: int = 64) -> Builder:
    """Train a network with one hidden layer of `width` that maps the first `window` samples to the state."""
    _check("window", window)
    _check("width", width)

    def build(system: System, nu: int, ny: int, experiments: int, key: PRNGKeyArray) -> WarmUp:
        flat, _ = ravel_pytree(system.init_state())
        network = eqx.nn.MLP(window * (nu + ny), flat.size, width, 1, jnp.tanh, dtype=flat.dtype, key=key)
        return WarmUp(network=network, window=window)

    return build


def linear_warm_up(window: int) -> Builder:
    """Train a linear map from the first `window` samples to the state, from what the model's linear part states of them.

    The start is the estimate by least squares, of the state at the first sample, moved on to the end of the window; it is for models with
    a linear part: an R2DN, a REN, a linear model.
    """
    _check("window", window)

    def build(system: System, nu: int, ny: int, experiments: int, key: PRNGKeyArray) -> LinearWarmUp:
        K, b = observer(*linear_part(system), window=window)
        dtype = dtype_of(system)
        return LinearWarmUp(K=jnp.asarray(K, dtype), b=jnp.asarray(b, dtype), window=window)

    return build


def linear_part(system: System) -> tuple[np.ndarray, ...]:
    """Return A, B, C, D and the offsets of states and outputs of a model's linear part, in float64.

    **Raises:** `InvalidModelError` for a model that has none.
    """
    found = system.linear_part()
    if found is None:
        raise InvalidModelError(
            f"the model must have a linear part, and {type(system).__name__} has no lft(); use warm_up or learned_state"
        )
    return tuple(float64(*found))


def observer(A, B, C, D, bx, by, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return K and b of the state after a window as least squares see it: see `LinearWarmUp`."""
    nx, (ny, nu) = len(A), D.shape
    # x[t] = power x[0] + driven u + offset, for the inputs u of the window, concatenated
    power, driven, offset = np.eye(nx), np.zeros((nx, window, nu)), np.zeros(nx)
    seen, direct, constant = [], [], []
    for t in range(window):
        now = np.tensordot(C, driven, 1)
        now[:, t] += D
        seen.append(C @ power)
        direct.append(now.reshape(ny, -1))
        constant.append(C @ offset + by)
        power, offset = A @ power, A @ offset + bx
        driven = np.tensordot(A, driven, 1)
        driven[:, t] += B
    of_y = power @ regularized(np.concatenate(seen), np.eye(window * ny))
    of_u = driven.reshape(nx, -1) - of_y @ np.concatenate(direct)
    K = np.concatenate([of_u.reshape(nx, window, nu), of_y.reshape(nx, window, ny)], axis=2).reshape(nx, -1)
    return K, offset - of_y @ np.concatenate(constant)


def regularized(seen: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return `(O'O + small)^-1 O' y`: a state that the outputs hardly show stays near zero.

    **Arguments:**

    - `seen`: O, what a unit of each state shows in the outputs (rows, nx)
    - `y`: outputs, (rows,) or (rows, .)
    """
    gram = seen.T @ seen
    weight = max(RIDGE * np.trace(gram) / len(gram), LEAST_RIDGE)
    return np.linalg.solve(gram + weight * np.eye(len(gram)), seen.T @ y)


def _check(name: str, value: int) -> None:
    if not is_whole(value, 1):
        raise RobustctlError(f"{name} must be a whole number of samples of at least 1, got {value!r}")
