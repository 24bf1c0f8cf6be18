"""A feed-forward network as a chain of steps, in which residual and skip connections are signals that pass.

::

    v_k = F_k z_k + f_k,      z_{k+1} = P_k z_k + p_k + E_k activation(v_k),      y = C z + c,      z_1 = u

Every bound reads this chain: the matrix inequality as one form, the recursion and the propagation of intervals step by step.
"""

from typing import NamedTuple

import numpy as np

from ..lft import LFT, Bounded, Slopes, static
from .pointwise import Activation


class Step(NamedTuple):
    """One step; `size`: neurons per multiplier, more than one where only the norm of a group is known to be at most its input's."""

    F: np.ndarray
    f: np.ndarray
    P: np.ndarray
    p: np.ndarray
    E: np.ndarray
    activation: Activation | None
    size: int = 1


class Chain(NamedTuple):
    """Steps from ni inputs, and the output `C z + c`."""

    ni: int
    steps: tuple[Step, ...]
    C: np.ndarray
    c: np.ndarray

    @property
    def rounding(self) -> float:
        """Relative rounding of all products along the chain, of the sums of their absolute values, twice what it can be."""
        terms = self.ni + sum(sum(step.F.shape) for step in self.steps) + len(self.C)
        return 4 * (terms + 20) * float(np.finfo(np.float64).eps)


Ranges = list[tuple[np.ndarray, np.ndarray]]
"""Least and largest slopes of the neurons of each step."""


def slopes_everywhere(chain: Chain) -> Ranges:
    """Return the slopes over all inputs; of a group -1 and 1, which are its gain."""
    found = []
    for step in chain.steps:
        lo, hi = (step.activation.lo, step.activation.hi) if step.activation else (-1.0, 1.0)
        found.append(tuple(np.broadcast_to(np.asarray(a, float), (len(step.F),)) for a in (lo, hi)))
    return found


def form_of(chain: Chain, ranges: Ranges) -> LFT:
    """Return the chain as one form without state; offsets drop out."""
    counts = [step.E.shape[1] for step in chain.steps]
    N = sum(counts)
    *ws, u = np.split(np.eye(N + chain.ni), np.cumsum(counts))
    Z, V, blocks = u, [np.zeros((0, N + chain.ni))], []
    for step, w, (lo, hi) in zip(chain.steps, ws, ranges, strict=True):
        V.append(step.F @ Z)
        Z = step.P @ Z + step.E @ w
        groups = len(step.F) // step.size
        blocks += [Slopes(lo, hi)] if step.size == 1 else [Bounded(step.size, step.size, 1.0)] * groups
    (D11, D12), (D21, D22) = (np.split(M, [N], axis=1) for M in (np.vstack(V), chain.C @ Z))
    return static(D11, D12, D21, D22, blocks)


def centered(chain: Chain, ranges: Ranges) -> Chain:
    """Return the chain with slopes in [-1, 1]: `activation(v) = m v + r q(v)`, m the middle and r half the width of its range.

    Neurons without width, those that are linear in the range, become part of what passes.
    """
    steps = []
    for step, (lo, hi) in zip(chain.steps, ranges, strict=True):
        m, r = (lo + hi) / 2, (hi - lo) / 2
        bent = r > 0
        P = step.P + (step.E * m) @ step.F
        steps.append(
            step._replace(F=step.F[bent], f=step.f[bent], P=P, E=step.E[:, bent] * r[bent], activation=None)
        )
    return chain._replace(steps=tuple(steps))


def unit_ranges(chain: Chain) -> Ranges:
    """Return slopes in [-1, 1] for every neuron."""
    return [(-np.ones(len(step.F)), np.ones(len(step.F))) for step in chain.steps]


def path_sizes(sizes: Chain, ranges: Ranges) -> np.ndarray:
    """Return the sum over all paths of the products of absolute weights and slopes, (no, ni): no Jacobian's entry is larger.

    `sizes`: the chain of absolute values.
    """
    Z = np.eye(sizes.ni)
    for step, (lo, hi) in zip(sizes.steps, ranges, strict=True):
        largest = np.maximum(np.abs(lo), np.abs(hi))
        Z = step.P @ Z + step.E @ (largest[:, None] * (step.F @ Z))
    return sizes.C @ Z


def values(chain: Chain, points: np.ndarray) -> np.ndarray:
    """Return the outputs at `points` (B, ni), (B, no)."""
    z = points
    for step in chain.steps:
        assert step.activation is not None
        z = z @ step.P.T + step.p + step.activation.value(z @ step.F.T + step.f) @ step.E.T
    return z @ chain.C.T + chain.c


def jacobians(chain: Chain, points: np.ndarray) -> np.ndarray:
    """Return the Jacobians at `points` (B, ni), (B, no, ni)."""
    z, slopes = points, []
    for step in chain.steps:
        assert step.activation is not None
        v = z @ step.F.T + step.f
        slopes.append(np.broadcast_to(step.activation.slope(v), v.shape))
        z = z @ step.P.T + step.p + step.activation.value(v) @ step.E.T
    return jacobians_of(chain, slopes, len(points))


def jacobians_of(chain: Chain, slopes: list[np.ndarray], count: int) -> np.ndarray:
    """Return the `count` Jacobians of neurons with slopes (count, n) for each step, (count, no, ni)."""
    J = np.broadcast_to(np.eye(chain.ni), (count, chain.ni, chain.ni))
    for step, d in zip(chain.steps, slopes, strict=True):
        bent = step.E @ (d[..., None] * (step.F @ J))
        J = step.P @ J + bent if step.P.any() else bent
    return chain.C @ J


def largest_norm(M: np.ndarray, norm: float) -> np.ndarray:
    """Return the norm of each matrix of a stack (..., n, m) that belongs to the vectors' norm, 2 or infinity."""
    if norm == 2:
        return np.asarray(np.linalg.norm(M, 2, axis=(-2, -1)))
    return np.asarray(np.abs(M).sum(axis=-1).max(axis=-1, initial=0.0))


class Builder:
    """Collects steps; `maps` are the signals as functions of z, those that pass first and the current one last."""

    def __init__(self, ni: int):
        self.steps: list[Step] = []
        self.maps = [(np.eye(ni), np.zeros(ni))]

    def affine(self, W: np.ndarray, b: np.ndarray) -> None:
        """Replace the current signal s by `W s + b`."""
        A, a = self.maps.pop()
        self.maps.append((W @ A, W @ a + b))

    def neurons(
        self, F: np.ndarray, P: np.ndarray, E: np.ndarray, activation: Activation | None, size: int = 1
    ) -> None:
        """Replace the current signal s by `P s + E activation(F s)`."""
        *passing, (A, a) = self.maps
        parts = [*passing, (P @ A, P @ a)]
        E = np.vstack([np.zeros((sum(len(M) for M, _ in passing), E.shape[1])), E])
        self.steps.append(
            Step(
                F @ A,
                F @ a,
                np.vstack([M for M, _ in parts]),
                np.concatenate([m for _, m in parts]),
                E,
                activation,
                size,
            )
        )
        rows = np.split(np.eye(len(E)), np.cumsum([len(M) for M, _ in parts])[:-1])
        self.maps = [(row, np.zeros(len(row))) for row in rows]

    def fork(self) -> None:
        """Let a copy of the current signal pass, for a second branch."""
        self.maps.append(self.maps[-1])

    def swap(self) -> None:
        """Continue with the copy, and let the first branch's result pass."""
        self.maps[-2:] = self.maps[-2:][::-1]

    def join(self) -> None:
        """Add the results of two branches."""
        (A, a), (B, b) = self.maps.pop(), self.maps.pop()
        self.maps.append((A + B, a + b))

    def chain(self, ni: int) -> Chain:
        """Return what was built, with the current signal as the output."""
        return Chain(ni, tuple(self.steps), *self.maps[-1])
