"""Where a simulation starts: at zero, at a state learned for each experiment, or after a warm-up window."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..checks import is_whole
from ..errors import RobustctlError
from ..registry import registered
from ..system import System


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


def _check(name: str, value: int) -> None:
    if not is_whole(value, 1):
        raise RobustctlError(f"{name} must be a whole number of samples of at least 1, got {value!r}")
