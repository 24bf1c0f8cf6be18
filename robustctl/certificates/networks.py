"""Feed-forward networks of several libraries as layers whose slopes are known."""

import dataclasses
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import RobustctlError
from ..lft import LFT
from ..nn.activations import ACTIVATIONS, is_known, name_of, neurons
from ..nn.bypass import BypassNetwork
from ..nn.group_activations import GroupSort, Householder
from ..nn.orthogonal import OrthogonalNetwork
from ..nn.sandwich import SandwichNetwork
from ..nn.static import StaticNetwork
from ..system import System, explicit_of
from .layers import Affine, Branches, Layer, Sorted, chain_of, elementwise, reflected
from .list_layers import Residual
from .pointwise import POINTWISE, Activation, assumed_unit, kinked
from .steps import Chain, form_of, slopes_everywhere

_LARGEST = 6000
"""Neurons, inputs and outputs together beyond which the matrices of one form would take gigabytes."""

_NAMES = (*POINTWISE, "identity", "maxmin")

_EXAMPLE = "a list of layers begins with a matrix, as [W1, 'relu', W2] does"


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """What bounds need of a network; `assumptions`: what was assumed and not checked, in words."""

    layers: list[Layer]
    ni: int
    assumptions: tuple[str, ...]

    @functools.cached_property
    def chain(self) -> Chain:
        """The network step by step, every neuron of one signal."""
        return chain_of(self.layers, self.ni)

    @functools.cached_property
    def grouped(self) -> Chain:
        """The same with a sorted group as one block, of which proofs for all inputs need more."""
        return chain_of(self.layers, self.ni, opened=False)

    @functools.cached_property
    def sizes(self) -> Chain:
        """The chain of absolute values."""
        return chain_of([layer.sizes() for layer in self.layers], self.ni)

    @property
    def form(self) -> LFT:
        """The form over all inputs."""
        return form_of(self.grouped, slopes_everywhere(self.grouped))

    def product(self, norm: float = 2.0) -> float:
        """Return the product of the layers' norms and largest slopes."""
        return math.prod(layer.gain(norm) for layer in self.layers)


def described(network: Any) -> Network:
    """Return the layers of a network.

    **Raises:** `RobustctlError` for what is no feed-forward network, an activation without known slopes, weights that are not
    finite or do not fit each other, and more neurons than a proof has memory for.
    """
    network = explicit_of(network)
    if callable(network) and not isinstance(network, eqx.Module):
        raise RobustctlError(_refusal(network))
    reader = _Reader()
    reader.read(network)
    if reader.width is None:
        raise RobustctlError(f"a network must have a layer, got {network!r}; {_EXAMPLE}")
    return Network(reader.layers, reader.ni, tuple(dict.fromkeys(reader.assumptions)))


class _Reader:
    """Layers in the order in which they act, and the number of signals after them; `width`: None before the first matrix."""

    def __init__(self, width: int | None = None):
        self.layers: list[Layer] = []
        self.assumptions: list[str] = []
        self.width, self.ni, self.signals = width, width or 0, 0

    def read(self, item: Any) -> None:
        """Add one layer or all layers of a network."""
        match explicit_of(item):
            case tuple(
                (np.ndarray(ndim=2) | jax.Array(ndim=2) as W, np.ndarray(ndim=1) | jax.Array(ndim=1) as b)
            ):
                self.affine(W, b)
            case list() | tuple() as parts:
                for part in parts:
                    self.read(part)
            case str(name):
                self.named(name)
            case GroupSort(size=size) as sort:
                # One comparison sorts a pair, and a neuron per pair is the better of both descriptions.
                layer = Sorted(n := self.groups_of(size, "GroupSort"), size, sort.descending)
                self.add(layer if size > 2 else layer.comparisons()[0], n)
            case Householder(v=v):
                v = np.asarray(v, np.float64)
                n = self.groups_of(len(v), "Householder")
                self.add(reflected(v / np.linalg.norm(v), n), n)
            case Residual() as residual:
                self.residual(residual)
            case eqx.Module() as module:
                self.module(module)
            case function if callable(function) and not eqx.is_array(function):
                self.function(function)
            case matrix:
                self.affine(matrix, None)

    def affine(self, W: Any, b: Any) -> None:
        layer = Affine(*_finite(W, b))
        if self.width is None:
            self.ni = layer.W.shape[1]
        elif layer.W.shape[1] != self.width:
            raise RobustctlError(
                f"matrices must fit each other, got one of shape {layer.W.shape} for {self.width} signals"
            )
        self.add(layer, len(layer.W))

    def add(self, layer: Layer, width: int) -> None:
        self.layers.append(layer)
        self.width = width
        self.signals += width
        if self.signals + self.ni > _LARGEST:
            raise RobustctlError(
                f"a network must have at most {_LARGEST} signals in all, inputs, neurons and outputs, got {self.signals + self.ni} "
                f"or more, for which one matrix takes {8e-9 * (self.signals + self.ni) ** 2:.2g} GB; bound parts of it and multiply, "
                "or prune neurons"
            )

    def signals_now(self, name: str) -> int:
        if self.width is None:
            raise RobustctlError(f"a list of layers must begin with a matrix, got {name} first; {_EXAMPLE}")
        return self.width

    def named(self, name: str) -> None:
        if name not in _NAMES:
            raise RobustctlError(
                f"an activation must be one of {', '.join(_NAMES)}, got {name!r}; others are GroupSort, Householder, or a JAX function "
                "with slopes in [0, 1]"
            )
        n = self.signals_now(name)
        if name == "maxmin":
            self.read(GroupSort(2))
        elif name != "identity":
            self.add(elementwise(POINTWISE[name], n), n)

    def groups_of(self, size: int, name: str) -> int:
        """Return the number of signals now, which must be whole groups of `size`."""
        n = self.signals_now(name)
        if n % size:
            even = (
                "maxmin needs an even number of signals"
                if size == 2
                else f"groups of {size} need a multiple of {size} signals"
            )
            raise RobustctlError(f"{even}, got {n}; pad the layer before")
        return n

    def residual(self, item: Residual) -> None:
        one, other = _Reader(self.width), _Reader(self.width)
        one.read(item.network)
        if item.skip is not None:
            other.read(item.skip)
        if self.width is None:
            self.ni, other.width = one.ni, other.width or one.ni
        if one.width != other.width or (item.skip is not None and one.ni != other.ni):
            raise RobustctlError(
                f"a residual network must return as many signals as its skip connection, got {one.width} and {other.width}; give a "
                "matrix as skip"
            )
        self.assumptions += one.assumptions + other.assumptions
        self.signals += one.signals + other.signals
        self.add(Branches(one.layers, other.layers), one.width or 0)

    def module(self, item: Any) -> None:
        """Add a network of Equinox or of this package; only the classes themselves: a subclass may compute something else."""
        kind = type(item)
        if kind is eqx.nn.Sequential:
            for part in item.layers:
                self.read(part)
        elif kind is eqx.nn.MLP:
            self.mlp(item)
        elif kind is eqx.nn.Linear:
            self.affine(*_linear(item))
        elif kind is eqx.nn.Lambda:
            self.read(item.fn)
        elif kind is eqx.nn.PReLU:
            n = self.signals_now("PReLU")
            self.add(elementwise(_leak(item.negative_slope, n), n), n)
        elif kind is StaticNetwork:
            self.read(item.phi)
            self.affine(float(item.gamma) * np.eye(self.width or 0), None)
        elif kind in (SandwichNetwork, BypassNetwork, OrthogonalNetwork):
            self.bounded(item)
        elif kind is not eqx.nn.Identity and not (kind is eqx.nn.Dropout and item.inference):
            raise RobustctlError(_refusal(item))

    def bounded(self, network: SandwichNetwork | BypassNetwork | OrthogonalNetwork) -> None:
        """Add a network of this package that has a bound."""
        inner = _Reader(self.width)
        for item in _items(network):
            # An activation of one signal may be a module of a user's own.
            own = item is network.activation and isinstance(network, SandwichNetwork)
            inner.function(item) if own else inner.read(item)
        self.ni = inner.ni if self.width is None else self.ni
        self.assumptions += inner.assumptions
        self.signals += inner.signals
        # Its construction bounds it far below the product of its matrices' norms.
        self.add(Branches(inner.layers, None, network.lipschitz_bound()), network.b.size)

    def mlp(self, network: eqx.nn.MLP) -> None:
        if "scalar" in (network.in_size, network.out_size):
            raise RobustctlError(
                "a network must map a vector to a vector, got sizes that are 'scalar'; give 1"
            )
        for k, layer in enumerate(network.layers):
            if type(layer) is not eqx.nn.Linear or layer.weight.ndim != 2:
                raise RobustctlError(
                    f"the layers of an MLP must be equinox.nn.Linear with one matrix each, got {type(layer).__name__}; build it "
                    "without scan=True"
                )
            self.affine(*_linear(layer))
            if k + 1 < len(network.layers):
                self.function(network.activation, k)
            elif network.depth:
                self.function(network.final_activation)

    def function(self, function: Any, layer: int | None = None) -> None:
        """Add an elementwise activation; an MLP has the arrays of one repeated for each layer and neuron."""
        if type(function) is eqx.nn.PReLU:
            slope = function.negative_slope if layer is None else function.negative_slope[layer]
            return self.read(eqx.tree_at(lambda f: f.negative_slope, function, slope))
        name = next((name for name, known in _FUNCTIONS.items() if known is function), None)
        if name is not None:
            return self.named(name)
        n = self.signals_now(name_of(function))
        match function:
            case functools.partial(func=jax.nn.leaky_relu, args=(), keywords=given):
                return self.add(elementwise(_leak(given.get("negative_slope", 0.01), n), n), n)
        if is_known(function):  # the identity, which Equinox has under no public name
            return None
        block, assumptions = neurons(n, function, (np.dtype(np.float64),))
        if block.reason:
            raise RobustctlError(block.reason)
        self.assumptions += assumptions
        return self.add(elementwise(assumed_unit(function), n), n)


def _items(network: SandwichNetwork | BypassNetwork | OrthogonalNetwork) -> list:
    """Return the layers of a network of this package as a list of layers."""
    activation = network.activation
    match network:
        case SandwichNetwork():
            inner = [
                item for layer in network.layers for item in ((layer.W_in, layer.b), activation, layer.W_out)
            ]
            return [*inner, (network.W, network.b)]
        case BypassNetwork():
            hidden = [item for layer in network.layers for item in ((layer.C, layer.b), activation)]
            return [Residual([*hidden, (network.B, network.b)], network.A)]
        case _:
            return [item for layer in network.layers for item in ((layer.W, layer.b), activation)][:-1]


_FUNCTIONS = ACTIVATIONS | {"silu": jax.nn.silu, "abs": jnp.abs}


def _leak(slope: Any, n: int) -> Activation:
    below = np.asarray(slope, np.float64)
    if not np.isfinite(below).all() or below.shape not in ((), (1,), (n,)):
        raise RobustctlError(
            f"the slope below zero must be finite, one or {n} numbers, got {np.asarray(slope)!r}; train again with a smaller step"
        )
    return kinked(np.broadcast_to(below, (n,)))


def _linear(layer: eqx.nn.Linear) -> tuple[Any, Any]:
    if "scalar" in (layer.in_features, layer.out_features):
        raise RobustctlError("a network must map a vector to a vector, got sizes that are 'scalar'; give 1")
    return layer.weight, layer.bias


def _finite(W: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        W = np.asarray(W, np.float64)
        b = np.zeros(len(W)) if b is None else np.asarray(b, np.float64)
    except (TypeError, ValueError) as error:
        raise RobustctlError(
            f"a layer must be a matrix, an activation or a network, got {W!r}; {_EXAMPLE}"
        ) from error
    if W.ndim != 2 or not W.size or not np.isfinite(W).all():
        bad = (
            ""
            if np.isfinite(W).all()
            else " with entries that are not finite; train again with a smaller step"
        )
        raise RobustctlError(f"a layer must be a finite matrix (rows, columns), got shape {W.shape}{bad}")
    if b.shape != (len(W),) or not np.isfinite(b).all():
        raise RobustctlError(f"a bias must be {len(W)} finite numbers, got shape {b.shape}")
    return W, b


def _refusal(item: Any) -> str:
    stateful = (
        f"a feed-forward network must have no state, got {type(item).__name__}; certify(model, prove=True) bounds the gain of a "
        "recurrent model, and a BatchNorm of a trained network can be multiplied into the matrix before it"
    )
    match item:
        case System() | eqx.nn.GRUCell() | eqx.nn.LSTMCell():
            return stateful
        case eqx.nn.StatefulLayer() if item.is_stateful():
            return stateful
        case _:
            return (
                "a network must be an LBDN, a LipschitzStatic, an equinox.nn.MLP, Linear or Sequential, or a list, for example "
                f"[W1, 'relu', W2], got {type(item).__name__}; write its layers as such a list, a residual as Residual"
            )
