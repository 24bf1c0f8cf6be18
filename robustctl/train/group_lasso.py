"""A penalty in training that leaves few states and neurons, and their removal: the group lasso."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Float

from ..checks import is_positive, is_real, of_type
from ..errors import RobustctlError
from ..nn.fixed import Fixed
from ..nn.group_sizes import GroupSizes, check_recurrent, group_sizes, has_layers, network_of
from ..nn.guarantee import Recurrent
from ..nn.lure import LureSystem
from ..nn.reduce import reduce
from ..nn.ren import ExplicitREN
from ..pytrees import fields_of
from ..system import Parameterization
from .batches import Experiments
from .identification import Identification, Learned, simulate_batch
from .initial_state import InitialState
from .losses import Loss
from .record_model import RecordModel, check_channels, check_fitted

DOUBLINGS = 10
"""Of the sum of an observability Gramian, which counts 1,024 samples."""


class GroupLasso(eqx.Module):
    """A regularizer that drives states and neurons out of an R2DN or a REN one by one.

    ::

        states  sum of the singular values of [C; C A; C A^2; ...] P^(-1/2),    C = [C1; C2]
        + neurons (sum_i |[P^(1/2) B1; D21]_i| + sum_j |[C1 P^(-1/2), D12]_j| + sum over layers and k  |(B A')_k|)

    B1 and D21 are taken by columns, `[C1, D12]` by rows: features out of and into the R2DN's network, whose hidden neurons have the
    third sum, by what the next layer reads of them. A REN has the first sum, with D11 and in units of its multiplier. P is the metric of
    the certificate, so no sum depends on the coordinates of the state, in which a training would otherwise hide its size; and a
    state in the first sum is a direction of them.

    **Arguments:**

    - `states`: weight of the sum over states, at least 0.
    - `neurons`: weight of the sums over neurons and features, at least 0. See `largest_weights` for their scale.

    **Raises:** `RobustctlError` for weights that are negative or not finite; in use, `InvalidModelError` for a model that is neither R2DN
    nor REN.

    **Source:** M. Yuan, Y. Lin, J. Royal Statistical Society B 68, 2006; for the order of recurrent models A. Bemporad, "An L-BFGS-B
    approach for linear and nonlinear system identification under l1 and group-lasso regularization", IEEE TAC 2025; the sum of singular
    values as in M. Forgione et al., arXiv 2403.14833.

    **Example:** ::

        record = rc.problems.two_tanks(400, seed=0)
        problem = rc.train.Identification(record, regularizer=rc.train.GroupLasso(states=1e-3, neurons=1e-3))
    """

    # Numbers in the program, so that a path of weights compiles once; a sum whose weight is zero is not computed.
    weights: dict[str, Fixed]

    def __init__(self, states: float = 0.0, neurons: float = 0.0):
        given = {"states": states, "neurons": neurons}
        for name, weight in given.items():
            if not (is_real(weight) and 0 <= weight < math.inf):
                raise RobustctlError(f"{name} must be a finite weight of at least 0, got {weight!r}")
        self.weights = {name: Fixed(weight) for name, weight in given.items() if weight}

    @property
    def states(self) -> float:
        """The weight of the sum over states."""
        return float(self.weights.get("states", 0.0))

    @property
    def neurons(self) -> float:
        """The weight of the sums over neurons."""
        return float(self.weights.get("neurons", 0.0))

    def __call__(self, model: Recurrent) -> Float[Array, ""]:
        """Return the penalty."""
        system = check_recurrent(model).explicit()
        R = _root(system)
        total = jnp.zeros((), system.A.dtype)
        if "states" in self.weights:
            C = _over(R, jnp.concatenate([system.C1, system.C2]))
            total = total + self.weights["states"].value(total.dtype) * _nuclear_norm(
                _over(R, R @ system.A), C
            )
        if "neurons" in self.weights:
            total = total + self.weights["neurons"].value(total.dtype) * sum(
                jnp.sum(sizes) for sizes in _columns(system, R)
            )
        return total


def _root(system: LureSystem) -> Array:
    """Return the R with `R'R = P`: the metric of R x is the identity."""
    return jnp.linalg.cholesky(system.P).T


def _over(R: Array, M: Array) -> Array:
    """Return `M R^-1`."""
    return jsl.solve_triangular(R, M.T, trans=1).T


def _norms(M: Array) -> Array:
    """Return the norms of the columns, with a derivative of zero where they are zero."""
    tiny = float(jnp.finfo(M.dtype).eps) ** 2
    return jnp.sqrt(jnp.sum(M**2, axis=0) + tiny)


def _nuclear_norm(A: Array, C: Array) -> Array:
    """Return the sum of the singular values of `[C; C A; C A^2; ...]`."""
    W = C.T @ C
    for _ in range(DOUBLINGS):
        W = W + A.T @ W @ A
        A = A @ A
    values, U = jnp.linalg.eigh(jax.lax.stop_gradient(W))
    roots = jnp.sqrt(
        jnp.maximum(values, float(jnp.finfo(W.dtype).eps) * values[-1]) + jnp.finfo(W.dtype).tiny
    )
    # d trace(W^(1/2)) = trace(W^(-1/2) dW) / 2; the derivative of the decomposition itself is infinite where two values are equal.
    return jnp.sum(roots) + jnp.sum((U / roots[None]) @ U.T * (W - jax.lax.stop_gradient(W))) / 2


def _columns(system: LureSystem, R: Array) -> list[Array]:
    """Return the sizes of the groups of neurons."""
    if isinstance(system, ExplicitREN):
        root = jnp.sqrt(system.Lambda)
        inner = jnp.concatenate([R @ system.B1, root[:, None] * jnp.tril(system.D11, -1)]) / root[None]
        return [_norms(jnp.concatenate([inner, system.D21]))]
    out = _norms(jnp.concatenate([R @ system.B1, system.D21]))
    into = _norms(jnp.concatenate([_over(R, system.C1), system.D12], axis=1).T)
    if not has_layers(system):
        return [out, into]
    network = network_of(system)
    layers = network.layers
    nexts = [*(layer.psi[:, None] * layer.W_in / 2**0.5 for layer in layers[1:]), network.W]
    return [
        out,
        into,
        *(_norms(B @ layer.W_out / layer.psi[None] / 2**0.5) for B, layer in zip(nexts, layers, strict=True)),
    ]


class _Replaced(Parameterization):
    """A system with other arrays, to differentiate by them."""

    system: LureSystem
    arrays: dict[str, Array]

    def explicit(self) -> LureSystem:
        """Return it."""
        return eqx.tree_at(
            lambda s: [fields_of(s)[name] for name in self.arrays], self.system, list(self.arrays.values())
        )


def largest_weights(problem: Identification, model: Recurrent) -> GroupLasso:
    """Return the weights of a `GroupLasso` from which on nothing is left, near a model.

    ::

        neurons  max_i |gradient of the loss by the i-th column of [P^(1/2) B1; D21]|    where these are zero
        states   |G|^2 / (sum of the singular values for C = G),    G = gradient of the loss by [C1; C2] P^(-1/2) where these are zero

    A group of zeros stays zero under a larger weight, as the loss falls by less than the penalty grows; under a smaller one the
    gradient moves one away from zero. All other arrays are the model's. Training moves them too, so a start at a linear model
    (`rc.identify.start`) gives the scale, and one from random values a much larger number. Try a tenth first, then less. The number for
    states is that of one direction, so a larger weight may leave a state, too.

    **Arguments:**

    - `problem`: what is trained; its regularizer is not used.
    - `model`: an R2DN or a REN.

    **Raises:** `InvalidModelError` for a model that is neither R2DN nor REN; as `Identification`.

    **Source:** the largest weight of a path of the lasso, J. Friedman, T. Hastie, R. Tibshirani, J. Statistical Software 33, 2010.

    **Example:** ::

        problem = rc.train.Identification(rc.problems.two_tanks(400, seed=0))
        model = rc.nn.ContractingREN(nu=1, nx=4, nv=8, ny=1, key=jax.random.key(0))
        limits = rc.train.largest_weights(problem, model)
        lasso = rc.train.GroupLasso(states=0.01 * limits.states, neurons=0.01 * limits.neurons)
    """
    return _limits(problem, model, check_recurrent(model).explicit(), None)


def _limits(
    problem: Identification, model: Recurrent, system: LureSystem, initial: InitialState | None
) -> GroupLasso:
    """Return the largest weights at a system in place of that of the model."""
    trained, objective = problem.prepare(model, jr.key(0))
    initial = objective.whole(trained).initial if initial is None else initial

    def gradient(*names: str) -> dict[str, Array]:
        zero = {name: jnp.zeros_like(fields_of(system)[name]) for name in names}
        return _slope(zero, system, initial, objective.data, objective.loss)

    neurons, states, R = gradient("B1", "D21"), gradient("C1", "C2"), _root(system)
    root = jnp.sqrt(system.Lambda) if isinstance(system, ExplicitREN) else jnp.ones_like(system.bv)
    # With b = R B1 / root the gradient by b is R^-T times that by B1, times root; with c = C R^-1 it is that by C times R'.
    columns = jnp.concatenate([jsl.solve_triangular(R, neurons["B1"], trans=1) * root[None], neurons["D21"]])
    G = jnp.concatenate([states["C1"], states["C2"]]) @ R.T
    of_states = jnp.sum(G**2) / _nuclear_norm(_over(R, R @ system.A), G)
    return GroupLasso(float(of_states), float(jnp.max(_norms(columns))))


@eqx.filter_jit
def _slope(
    arrays: dict[str, Array], system: LureSystem, initial: Any, data: Experiments, loss: Loss
) -> dict[str, Array]:
    def value(arrays):
        parts = eqx.partition(Learned(_Replaced(system, arrays), initial), eqx.is_inexact_array)
        return loss(simulate_batch(*parts, data), data.y, data.mask)

    return jax.grad(value)(arrays)


def prune(
    model: RecordModel, problem: Identification, start: Recurrent, *, tolerance: float = 1e-3
) -> Recurrent:
    """Return a trained model without its states and neurons that add next to nothing: a smaller one, with the same guarantee.

    ::

        left: all groups with  size >= tolerance,     sizes of rc.nn.group_sizes on the record of the problem

    After a training with a `GroupLasso`. The result is a value of the same class, whose certificate holds by its own matrices; see
    `rc.nn.reduce`. Train it once more without the lasso, which has made every weight smaller.

    **Arguments:**

    - `model`: the trained model, `fitted.model`.
    - `problem`: what it was trained on.
    - `start`: the untrained model; its network determines the weight that an error names.
    - `tolerance`: of the standard deviation of the outputs, positive.

    **Returns:** the smaller parameterization.

    **Raises:** `RobustctlError` where no state or no neuron is left, and for a tolerance that is not positive; `InvalidModelError` for a
    model that is neither R2DN nor REN; `DataError` for a record of other channels.

    **Example:** ::

        record = rc.problems.two_tanks(400, seed=0)
        start = rc.nn.ContractingREN(nu=1, nx=4, nv=8, ny=1, key=jax.random.key(0))
        problem = rc.train.Identification(record, regularizer=rc.train.GroupLasso(states=1e-3, neurons=1e-3))
        fitted = rc.train.train(problem, start, epochs=100, monitor=None, key=jax.random.key(0))
        small = rc.train.prune(fitted.model, problem, start)
    """
    check_fitted(model)
    of_type(
        problem, Identification, "problem must be the rc.train.Identification that the model was trained on"
    )
    if not is_positive(tolerance):
        raise RobustctlError(
            f"tolerance must be a positive part of the outputs' standard deviation, got {tolerance!r}"
        )
    inner = check_recurrent(model.parameterization)
    check_channels(model, problem.record)
    u = np.concatenate([experiment.u for experiment in model.prepared(problem.record).experiments])
    sizes = group_sizes(inner, u)
    left = {kind: [int(np.sum(s >= tolerance)) for s in groups] for kind, groups in _by_kind(sizes).items()}
    for kind, counts in left.items():
        if 0 in counts:
            _nothing_left(kind, sizes, tolerance, model, problem, start)
    (nx,), (nv, *hidden) = left["states"], left["neurons"]
    return reduce(inner, u, nx=nx, nv=nv, hidden=hidden or None)


def _by_kind(sizes: GroupSizes) -> dict[str, list[np.ndarray]]:
    return {"states": [sizes.states], "neurons": [sizes.neurons, *sizes.hidden]}


def _nothing_left(
    kind: str,
    sizes: GroupSizes,
    tolerance: float,
    model: RecordModel,
    problem: Identification,
    start: Recurrent,
) -> None:
    largest = max(float(s.max()) for s in _by_kind(sizes)[kind])
    trained, untrained = model.parameterization.explicit(), check_recurrent(start).explicit()
    # The network of the start, since nothing is left of the trained one, reads the states of the trained linear part.
    names = ("A", "B2", "C2", "D22", "bx", "by", "P")
    C1 = _over(_root(untrained), untrained.C1) @ _root(trained)
    values = [*(fields_of(trained)[name] for name in names), C1]
    mixed = eqx.tree_at(lambda s: [fields_of(s)[name] for name in (*names, "C1")], untrained, values)
    limit = getattr(_limits(problem, start, mixed, model.initial), kind)
    # The limit is that of one model; the training, which went through many, may have lost the last group under less.
    lasso = problem.regularizer
    used = getattr(lasso, kind) if isinstance(lasso, GroupLasso) else math.inf
    raise RobustctlError(
        f"some of the {kind} must add {tolerance:g} of the outputs' standard deviation, but none does, the largest adds {largest:.2g}: the "
        f"lasso has removed all; near this model the largest weight of {kind} that leaves one is {limit:.3g}, and the training's was "
        f"{used:.3g}; give a smaller one, for example {min(limit, used) / 10:.2g}"
    )
