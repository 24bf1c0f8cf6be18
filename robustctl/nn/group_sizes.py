"""What each state and each neuron of an R2DN or a REN adds to its output, in a simulation with typical inputs."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import InvalidModelError
from ..trajectory import rollout
from .at_linear import typical_inputs
from .guarantee import Recurrent
from .lure import LureSystem
from .nearest import gramian
from .r2dn import ExplicitR2DN
from .ren import ExplicitREN
from .sandwich import SandwichNetwork


class GroupSizes(NamedTuple):
    """What each group adds to the output, in its unit, the largest first.

    **Arguments:**

    - `states`: Hankel singular values of the model linearized along the simulation, (nx,).
    - `neurons`: of the REN's neurons or the network features of the R2DN, (nv,).
    - `hidden`: of the neurons of each hidden layer of the R2DN's network, where that is an `LBDN`.
    """

    states: np.ndarray
    neurons: np.ndarray
    hidden: tuple[np.ndarray, ...]


class Signal(NamedTuple):
    """One group a column: its mean in the simulation and what its deviations from it add to the output."""

    mean: np.ndarray
    size: np.ndarray


class Simulated(NamedTuple):
    """A model along a simulation: mean state, Gramians of state and output, and the signals between its parts."""

    mean: np.ndarray
    reached: np.ndarray
    seen: np.ndarray
    signals: tuple[Signal, ...]


def group_sizes(model: Recurrent, u: Any) -> GroupSizes:
    """Return what each state and each neuron adds to the output of a model, to first order.

    ::

        size_i = std(w_i) sqrt(j_i' Wo j_i + |k_i|^2),    [j_i; k_i] = mean of d(x+, y) / d w_i
        sizes of the states = sqrt(eig(W Wo)),            W = mean of (x - mean)(x - mean)'

    along a simulation from the zero state, where Wo is the observability Gramian of the mean linearization. A group of a much smaller
    size than the error of the model can go: see `reduce`.

    **Arguments:**

    - `model`: an R2DN or a REN.
    - `u`: typical inputs (T, nu), as the model reads them; of a longer record the middle 5,000 samples.

    **Returns:** `GroupSizes`, in the unit of the output; over several outputs the root of the summed squares.

    **Raises:** `InvalidModelError` for another model, and inputs that are not finite or not (T, nu).

    **Source:** Hankel singular values as in B. C. Moore, IEEE TAC 26, 1981, with empirical Gramians as in S. Lall et al., Int. J. Robust
    and Nonlinear Control 12, 2002.

    **Example:** ::

        model = rc.nn.ContractingREN(nu=1, nx=4, nv=8, ny=1, key=jax.random.key(0))
        sizes = rc.nn.group_sizes(model, np.random.default_rng(0).normal(size=(500, 1)))
    """
    found = simulated(check_recurrent(model).explicit(), u)
    L = np.linalg.cholesky(found.reached)
    states = np.sqrt(np.maximum(np.linalg.eigvalsh(L.T @ found.seen @ L)[::-1], 0))
    neurons, *rest = (np.sort(signal.size)[::-1] for signal in found.signals)
    # A feature of the R2DN goes with one output and one input of its network, which need not be of one index.
    neurons = neurons + rest.pop(0) if rest else neurons
    return GroupSizes(states, neurons, tuple(rest))


def check_recurrent(model: Any) -> Recurrent:
    """Return the model, or raise `InvalidModelError` where it is no R2DN and no REN."""
    if not isinstance(model, Recurrent):
        raise InvalidModelError(
            f"the model must be an R2DN or a REN, got {type(model).__name__}; of a fitted model give model.parameterization"
        )
    return model


def simulated(system: LureSystem, u: Any) -> Simulated:
    """Simulate a model and return what its reduction needs.

    The signals are the outputs of the nonlinearity and, of an R2DN, the inputs of its network and the outputs of its activations.
    """
    inputs = typical_inputs(u, system.nu)
    given = jnp.asarray(inputs, system.bx.dtype)
    xs, signals, (A, C), columns = jax.tree.map(
        lambda a: np.asarray(a, np.float64), _along(system, given, rollout(system, given).xs)
    )
    around = xs - xs.mean(axis=0)
    # The means of contracting linearizations contract in the same metric.
    seen = gramian(A.T, C.T @ C)
    reached = around.T @ around / len(xs)
    reached = reached + 1e-10 * max(np.trace(reached), np.finfo(float).tiny ** 0.5) * np.eye(len(A))
    found = []
    for s, (to_state, to_output) in zip(signals, columns, strict=True):
        gains = np.sqrt(np.sum(to_state * (seen @ to_state), axis=0) + np.sum(to_output**2, axis=0))
        found.append(Signal(s.mean(axis=0), s.std(axis=0) * gains))
    return Simulated(xs.mean(axis=0), reached, seen, tuple(found))


@eqx.filter_jit
def _along(system: LureSystem, us: Array, xs: Array) -> tuple:
    """Return states, signals, and the mean derivatives of `(x+, y)` by the state and by a change of each signal."""
    none = [jnp.zeros(width, us.dtype) for width in _widths(system)]

    def at(x, u):
        signals = _step(system, x, u, none)[1]
        return signals, jax.jacrev(lambda x, changes: _step(system, x, u, changes)[0], (0, 1))(x, none)

    signals, slopes = jax.vmap(at)(xs, us)
    (A, to_state), (C, to_output) = jax.tree.map(lambda a: jnp.mean(a, axis=0), slopes)
    return xs, signals, (A, C), list(zip(to_state, to_output, strict=True))


def _widths(system: LureSystem) -> list[int]:
    nv = system.bv.size
    layers = network_of(system).layers if has_layers(system) else ()
    return [nv] if isinstance(system, ExplicitREN) else [nv, nv, *(layer.b.size for layer in layers)]


def has_layers(system: LureSystem) -> bool:
    """Return whether the nonlinearity is a network whose layers are known here."""
    return isinstance(system, ExplicitR2DN) and isinstance(system.phi, SandwichNetwork)


def network_of(system: LureSystem) -> SandwichNetwork:
    """Return the network of a system that has layers."""
    return system.phi  # pyright: ignore[reportAttributeAccessIssue]


def _step(system: LureSystem, x: Float[Array, " nx"], u: Float[Array, " nu"], changes: list[Array]):
    """Return `((x+, y), signals)` with a change added to each signal."""
    v = system.C1 @ x + system.D12 @ u + system.bv
    if isinstance(system, ExplicitREN):
        # w = activation(D11 (w + change) + v): what is added to a neuron reaches those after it, too.
        w = system.response(v + jnp.tril(system.D11, -1) @ changes[0])
        signals = [w]
    else:
        hidden, h = [], v + changes[1]
        if has_layers(system):
            phi = network_of(system)
            for layer, change in zip(phi.layers, changes[2:], strict=True):
                hidden.append(phi.activation(layer.W_in @ h + layer.b))
                h = layer.W_out @ (hidden[-1] + change)
            w = phi.W @ h + phi.b
        else:
            w = system.response(h)
        signals = [w, v, *hidden]
    w = w + changes[0]
    x_next = system.A @ x + system.B1 @ w + system.B2 @ u + system.bx
    return (x_next, system.C2 @ x + system.D21 @ w + system.D22 @ u + system.by), signals
