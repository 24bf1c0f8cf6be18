"""Layers of feed-forward networks: what a bound needs of each, whatever library the network is of."""

import math
from typing import NamedTuple

import numpy as np

from ..nn.group_activations import GroupSort
from .pointwise import Activation, kinked
from .steps import Builder, Chain, largest_norm


class Affine(NamedTuple):
    """`s -> W s + b`."""

    W: np.ndarray
    b: np.ndarray

    def build(self, builder: Builder, opened: bool) -> None:
        """Add the layer to a chain."""
        builder.affine(self.W, self.b)

    def sizes(self) -> "Affine":
        """Return the layer of absolute values."""
        return Affine(np.abs(self.W), np.abs(self.b))

    def gain(self, norm: float) -> float:
        """Return the Lipschitz constant in a norm, 2 or infinity."""
        return float(largest_norm(self.W, norm))


class Nonlinear(NamedTuple):
    """`s -> P s + E activation(F s)`; `bounds`: its Lipschitz constants in the 2-norm and in the infinity norm."""

    F: np.ndarray
    P: np.ndarray
    E: np.ndarray
    activation: Activation
    bounds: tuple[float, float]

    def build(self, builder: Builder, opened: bool) -> None:
        """Add the layer to a chain."""
        builder.neurons(self.F, self.P, self.E, self.activation)

    def sizes(self) -> "Nonlinear":
        """Return the layer of absolute values."""
        return self._replace(F=np.abs(self.F), P=np.abs(self.P), E=np.abs(self.E))

    def gain(self, norm: float) -> float:
        """Return the Lipschitz constant in a norm, 2 or infinity."""
        return self.bounds[norm != 2]


class Sorted(NamedTuple):
    """Each group of `size` signals of n in order."""

    n: int
    size: int
    descending: bool

    def build(self, builder: Builder, opened: bool) -> None:
        """Add the layer to a chain: opened to comparisons of two signals, or as one block a group.

        The sum of a group passes, and the rest has the same norm before and after: `|d sort(s)| <= |ds|` and both have one sum.
        """
        if opened:
            for layer in self.comparisons():
                layer.build(builder, opened)
            return
        groups, ones = np.eye(self.n // self.size), np.full((self.size, self.size), 1 / self.size)
        across = GroupSort(self.size).basis()
        builder.neurons(
            np.kron(groups, across.T), np.kron(groups, ones), np.kron(groups, across), None, self.size - 1
        )

    def comparisons(self) -> list[Nonlinear]:
        """Return layers that compare neighbors, even and odd ones in turn, which sorts after `size` of them."""
        return [self._comparison(k % 2) for k in range(self.size)]

    def _comparison(self, first: int) -> Nonlinear:
        pairs = range(first, self.size - 1, 2)
        half, passes = np.zeros((len(pairs), self.size)), np.eye(self.size)
        for row, k in zip(half, pairs, strict=True):
            row[k : k + 2] = 0.5, -0.5
            passes[k : k + 2, k : k + 2] = 0.5
        # max, min = (a + b) / 2 +- |a - b| / 2
        order = 1.0 if self.descending else -1.0
        groups = np.eye(self.n // self.size)
        return Nonlinear(
            np.kron(groups, half),
            np.kron(groups, passes),
            np.kron(groups, order * np.sign(half).T),
            kinked(-1.0),
            (1.0, 1.0),
        )

    def sizes(self) -> "Branches":
        """Return the comparisons of absolute values."""
        return Branches([layer.sizes() for layer in self.comparisons()], None)

    def gain(self, norm: float) -> float:
        """Return the Lipschitz constant in a norm, 2 or infinity."""
        return 1.0


class Branches(NamedTuple):
    """The sum of two branches, or the layers of one alone; `bound`: what is known of its Lipschitz constant in the 2-norm."""

    one: list
    other: list | None
    bound: float = math.inf

    def build(self, builder: Builder, opened: bool) -> None:
        """Add both branches to a chain."""
        if self.other is None:
            return _build(self.one, builder, opened)
        builder.fork()
        _build(self.one, builder, opened)
        builder.swap()
        _build(self.other, builder, opened)
        return builder.join()

    def sizes(self) -> "Branches":
        """Return the branches of absolute values."""
        one, other = (layers and [layer.sizes() for layer in layers] for layers in (self.one, self.other))
        return Branches(one or [], other)

    def gain(self, norm: float) -> float:
        """Return a Lipschitz bound in a norm, 2 or infinity: the sum of both branches' products."""
        branches = [layers for layers in (self.one, self.other) if layers is not None]
        products = sum(math.prod(layer.gain(norm) for layer in layers) for layers in branches)
        return min(products, self.bound) if norm == 2 else products


Layer = Affine | Nonlinear | Sorted | Branches


def _build(layers: list, builder: Builder, opened: bool) -> None:
    for layer in layers:
        layer.build(builder, opened)


def chain_of(layers: list, ni: int, opened: bool = True) -> Chain:
    """Return layers as a chain; `opened`: with every sorted group as comparisons of two signals, else as one block."""
    builder = Builder(ni)
    _build(layers, builder, opened)
    return builder.chain(ni)


def elementwise(activation: Activation, n: int) -> Nonlinear:
    """Return a layer of n neurons."""
    gain = float(np.max(np.maximum(np.abs(activation.lo), np.abs(activation.hi))))
    return Nonlinear(np.eye(n), np.zeros((n, n)), np.eye(n), activation, (gain, gain))


def reflected(v: np.ndarray, n: int) -> Nonlinear:
    """Return the Householder activation: every group of `len(v)` signals is reflected to the side of v.

    ::

        s -> s  where v's >= 0,  else  (I - 2 v v') s   =   (I - v v') s + v |v's|,      |v| = 1
    """
    groups, across = np.eye(n // v.size), np.outer(v, v)
    reflection = np.abs(np.eye(v.size) - 2 * across).sum(axis=1).max()
    return Nonlinear(
        np.kron(groups, v[None]), np.kron(groups, np.eye(v.size) - across), np.kron(groups, v[:, None]), kinked(-1.0),
        (1.0, max(1.0, float(reflection))),
    )  # fmt: skip
