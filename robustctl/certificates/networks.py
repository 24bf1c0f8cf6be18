"""Feed-forward networks as forms without state: whose activations' slopes are known, whatever made the network."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import RobustctlError
from ..lft import LFT, Slopes, series, static, static_gain
from ..nn.activations import ACTIVATIONS, dtypes_of, is_known, neurons
from ..nn.sandwich import SandwichNetwork
from ..system import explicit_of


def maxmin(z):
    """Return the larger and the smaller of each pair of neighbors."""
    pairs = z.reshape(-1, 2)
    return jnp.stack([pairs.max(axis=1), pairs.min(axis=1)], axis=1).reshape(-1)


FUNCTIONS: dict[str, Callable] = ACTIVATIONS | {"silu": jax.nn.silu, "abs": jnp.abs, "maxmin": maxmin}
"""Activations by the name that a list of matrices gives."""

SLOPES = {
    "relu": (0.0, 1.0), "tanh": (0.0, 1.0), "hard_tanh": (0.0, 1.0), "softplus": (0.0, 1.0), "sigmoid": (0.0, 0.25),
    "leaky_relu": (0.0099, 1.0), "silu": (-0.0999, 1.0999), "abs": (-1.0, 1.0), "identity": (1.0, 1.0),
}  # fmt: skip
"""Least and largest slopes; that of leaky_relu, 0.01, and the extremes of silu, -0.09984 and 1.09984, are rounded outwards."""


class Network(NamedTuple):
    """What a bound needs of a network: its form, a bound from its layers' norms, and the function itself.

    `matrices`: of the layers, from the input on, where every activation has its slopes in [0, 1]; else empty.
    """

    form: LFT
    product: float
    function: Callable
    matrices: tuple[np.ndarray, ...]


def described(network: Any) -> Network:
    """Return the description of a network: an LBDN, an `equinox.nn.MLP` or `Linear`, or a list of matrices and activation names.

    **Raises:** `RobustctlError` for anything else, and for an activation without known slopes.
    """
    network = explicit_of(network)
    if isinstance(network, list | tuple):
        return _of_list(list(network))
    in_float64 = jax.tree.map(lambda a: np.asarray(a, np.float64) if eqx.is_inexact_array(a) else a, network)
    if type(network) is SandwichNetwork:
        return Network(network.lft(), network.lipschitz_bound(), in_float64, _sandwich_matrices(network))
    # The classes themselves: a subclass may compute something else.
    if type(network) not in (eqx.nn.MLP, eqx.nn.Linear):
        raise RobustctlError(
            "a network must be an LBDN, an equinox.nn.MLP or Linear, or a list like [W1, 'relu', W2], got "
            f"{type(network).__name__}"
        )
    parts, matrices = _mlp(network)
    return Network(_chained(parts), _product(parts), in_float64, matrices)


def _chained(parts: Sequence[LFT]) -> LFT:
    form = parts[0]
    for part in parts[1:]:
        form = series(form, part)
    return form


def _product(parts: Sequence[LFT]) -> float:
    """Return the product of the matrices' norms and the activations' largest slopes; what maxmin passes adds nothing."""
    product = 1.0
    for part in parts:
        product *= part.blocks[0].gain if part.blocks else float(np.linalg.norm(part.D22, 2))
    return product


def _sandwich_matrices(network: SandwichNetwork) -> tuple[np.ndarray, ...]:
    ins = [*(layer.W_in for layer in network.layers), network.W]
    outs = [np.eye(network.ni), *(layer.W_out for layer in network.layers)]
    return tuple(
        np.asarray(a, np.float64) @ np.asarray(b, np.float64) for a, b in zip(ins, outs, strict=True)
    )


def _mlp(network: eqx.nn.MLP | eqx.nn.Linear) -> tuple[list[LFT], tuple[np.ndarray, ...]]:
    layers = [network] if isinstance(network, eqx.nn.Linear) else network.layers
    if "scalar" in (layers[0].in_features, layers[-1].out_features):
        raise RobustctlError("a network must map a vector to a vector, got sizes that are 'scalar'; give 1")
    matrices = [_weight(layer) for layer in layers]
    if isinstance(network, eqx.nn.Linear):
        return [static_gain(matrices[0])], tuple(matrices)
    functions = [*[network.activation] * (len(matrices) - 1), network.final_activation]
    found = [_activation(f, len(W), dtypes_of(network)) for f, W in zip(functions, matrices, strict=True)]
    parts = [
        part
        for W, act in zip(matrices, found, strict=True)
        for part in (static_gain(W), act)
        if part is not None
    ]
    # A nonlinear last activation is a layer more, with the identity behind it.
    chain = (*matrices, np.eye(len(matrices[-1]))) if found[-1] is not None else tuple(matrices)
    return parts, chain if all(act is not None for act in found[:-1]) and _in_unit(found) else ()


def _weight(layer: Any) -> np.ndarray:
    if type(layer) is not eqx.nn.Linear or layer.weight.ndim != 2:
        raise RobustctlError(
            f"the layers of an MLP must be equinox.nn.Linear with one matrix each, got {type(layer).__name__}"
        )
    return _matrix(layer.weight)


def _in_unit(parts: Sequence[LFT | None]) -> bool:
    blocks = [block for part in parts if part is not None for block in part.blocks]
    direct = any(part.D22.any() for part in parts if part is not None)
    return not direct and all(
        isinstance(b, Slopes) and np.all(b.lo >= 0) and np.all(b.hi <= 1) for b in blocks
    )


def _activation(function: Callable, n: int, dtypes: Sequence[Any]) -> LFT | None:
    """Return the form of n neurons; None for the identity."""
    name = next((name for name, known in FUNCTIONS.items() if known is function), None)
    if name is not None:
        return _named(name, n)
    if is_known(function):  # the identity, which Equinox has under no public name
        return None
    block, assumptions = neurons(n, function, dtypes)
    if not isinstance(block, Slopes):
        raise RobustctlError(block.reason)
    return _elementwise(block)._replace(assumptions=assumptions)


def _named(name: str, n: int) -> LFT | None:
    if name == "identity":
        return None
    if name == "maxmin":
        return _maxmin(n)
    lo, hi = SLOPES[name]
    return _elementwise(Slopes(np.full(n, lo), np.full(n, hi)))


def _elementwise(block: Slopes) -> LFT:
    n = block.nv
    return static(np.zeros((n, n)), np.eye(n), np.eye(n), np.zeros((n, n)), (block,))


def _maxmin(n: int) -> LFT:
    """Return the form of `max, min = (a + b) / 2 +- |a - b| / 2`: one neuron of slopes [-1, 1] per pair, and what passes.

    Source: the constraints of P. Pauli et al., "Novel quadratic constraints for extending LipSDP beyond slope-restricted
    activations", ICLR 2024, with their free variables eliminated.
    """
    if n % 2:
        raise RobustctlError(f"maxmin needs an even number of signals, got {n}")
    half = np.kron(np.eye(n // 2), [[0.5, -0.5]])
    ones = np.ones(n // 2)
    passes = np.kron(np.eye(n // 2), np.full((2, 2), 0.5))
    return static(np.zeros((n // 2,) * 2), half, np.sign(half).T, passes, (Slopes(-ones, ones),))


def _of_list(network: list) -> Network:
    parts, layers = [], [_layer(item) for item in network]
    if not layers or isinstance(layers[0], str) or isinstance(layers[-1], str):
        raise RobustctlError("a list of layers must begin and end with a matrix, as [W1, 'relu', W2] does")
    width = layers[0].shape[1]
    for layer in layers:
        if isinstance(layer, str):
            part = _named(layer, width)
        elif layer.shape[1] != width:
            raise RobustctlError(
                f"matrices must fit each other, got one of shape {layer.shape} for {width} signals"
            )
        else:
            part, width = static_gain(layer), len(layer)
        parts += [] if part is None else [part]
    alternating = all(isinstance(layer, str) == bool(k % 2) for k, layer in enumerate(layers))
    chain = (
        alternating and "identity" not in map(str, layers[1::2]) and _in_unit([p for p in parts if p.blocks])
    )
    return Network(
        _chained(parts), _product(parts), lambda z: _evaluated(layers, z), _matrices(layers) if chain else ()
    )


def _matrices(layers: list) -> tuple[np.ndarray, ...]:
    return tuple(layer for layer in layers if not isinstance(layer, str))


def _layer(item: Any) -> np.ndarray | str:
    if isinstance(item, str):
        if item not in FUNCTIONS:
            raise RobustctlError(f"an activation must be one of {', '.join(FUNCTIONS)}, got {item!r}")
        return item
    return _matrix(item)


def _matrix(item: Any) -> np.ndarray:
    matrix = np.asarray(item, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all() or not matrix.size:
        raise RobustctlError(
            f"a layer must be a finite matrix, got shape {matrix.shape}; biases do not count and are left out"
        )
    return matrix


def _evaluated(layers: list, z):
    for layer in layers:
        z = FUNCTIONS[layer](z) if isinstance(layer, str) else jnp.asarray(layer) @ z
    return z
