"""Activations of groups of signals: 1-Lipschitz, though they mix signals and have no slopes in [0, 1].

Anil, Lucas, Grosse, "Sorting out Lipschitz function approximation", ICML 2019 (GroupSort, MaxMin); Singla, Singla, Feizi,
"Improved deterministic l2 robustness on CIFAR-10 and CIFAR-100", ICLR 2022 (Householder).
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..checks import is_whole
from ..errors import InvalidModelError
from ..lft import LFT, Bounded, Slopes, static
from ..registry import registered


class GroupActivation(eqx.Module):
    """An activation of groups of `size` neighboring signals that changes only the part of a group in the span of `basis()`.

    ::

        s -> (I - E E') s + E q(E's),      |dq| <= |d(E's)|

    Source: the facts of Pauli et al., "Novel quadratic constraints for extending LipSDP beyond slope-restricted activations",
    ICLR 2024, with their free variables eliminated.
    """

    size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Evaluate the activation on a vector of whole groups."""

    @abc.abstractmethod
    def basis(self, dtype: Any = np.float64) -> np.ndarray:
        """Return E, (size, k), as the activation of signals of a dtype has it, in float64."""

    def gain(self, dtype: Any) -> float:
        """Return the Lipschitz constant on signals of a dtype, in which a unit vector is rounded: of size 1, nearly."""
        # q reflects at most: I - 2 E E' has the singular values 1 and |2 |E|^2 - 1|.
        return max(1.0, 2 * float(np.linalg.norm(self.basis(dtype), 2)) ** 2 - 1)

    def form(self, n: int, dtype: Any) -> LFT:
        """Return the form of n signals: a neuron of slopes in [-1, 1] per group, or a block of gain 1 where k > 1."""
        E, groups = self.basis(dtype), np.eye(n // self.size)
        k, passes = E.shape[1], np.eye(self.size) - E @ E.T
        F, P, W = (np.kron(groups, M) for M in (E.T, passes, E))
        ones = np.ones(len(groups))
        blocks = [Slopes(-ones, ones)] if k == 1 else [Bounded(k, k, 1.0)] * len(groups)
        return static(np.zeros((len(F), len(F))), F, W, P, blocks)

    def check_width(self, name: str, n: int) -> None:
        """Raise `InvalidModelError` unless n signals are whole groups."""
        if n % self.size:
            raise InvalidModelError(
                f"{name} must be a multiple of {self.size}, the size of a group of {type(self).__name__}, got {n}; use "
                f"{n - n % self.size + self.size}"
            )


@registered()
class GroupSort(GroupActivation):
    """An activation: every `size` neighboring signals in order. It keeps norms of gradients, as ReLU does not.

    ::

        (z_1, ..., z_size) -> the same numbers, sorted

    Source: Anil, Lucas, Grosse, ICML 2019.

    **Arguments:**

    - `size`: of a group, at least 2; 2 is `max_min`.
    - `descending`: whether the largest comes first.

    **Raises:** `InvalidModelError` for a size below 2.

    **Example:** ::

        W1, W2 = np.random.default_rng(0).normal(size=(2, 6, 6))
        print(rc.certificates.lipschitz([W1, rc.nn.GroupSort(3), W2]))
    """

    size: int = eqx.field(static=True)
    descending: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        if not is_whole(self.size, 2):
            raise InvalidModelError(f"size must be a whole number of at least 2 signals, got {self.size!r}")

    def __call__(self, z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return the groups in order."""
        signals = list(z.reshape(-1, self.size).T)
        # Comparisons of neighbors, even and odd ones in turn, sort after `size` turns, and every target has min and max.
        for turn in range(self.size):
            for k in range(turn % 2, self.size - 1, 2):
                pair = jnp.maximum(*signals[k : k + 2]), jnp.minimum(*signals[k : k + 2])
                signals[k : k + 2] = pair if self.descending else pair[::-1]
        return jnp.stack(signals, axis=1).reshape(-1)

    def basis(self, dtype: Any = np.float64) -> np.ndarray:
        """Return a basis of what is orthogonal to ones: the sum of a group passes, and the rest keeps its norm."""
        ones = np.full((self.size, self.size), 1 / self.size)
        return np.linalg.svd(np.eye(self.size) - ones)[0][:, : self.size - 1]

    def gain(self, dtype: Any) -> float:
        """Return 1: no rounding is in an exchange."""
        return 1.0


@registered()
class Householder(GroupActivation):
    """An activation: each group of `len(v)` signals is reflected to the side of v.

    ::

        s -> s  where v's >= 0,  else  s - 2 v (v's),      v scaled to |v| = 1

    Source: Singla, Singla, Feizi, ICLR 2022. Any other v of the same length is this one between two rotations of the group.

    **Arguments:**

    - `v`: of at least 2 numbers, not all zero; `(1, -1)` is `max_min`.

    **Raises:** `InvalidModelError` for another v.
    """

    v: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, v: Any):
        v = np.asarray(v, np.float64)
        if v.ndim != 1:
            raise InvalidModelError(f"v must be one vector, got shape {v.shape}")
        self.v = tuple(v.tolist())

    def __check_init__(self):
        if len(self.v) < 2 or not np.isfinite(self.v).all() or not np.any(self.v):
            raise InvalidModelError(
                f"v must be a vector of at least 2 finite numbers, not all zero, got {self.v!r}"
            )

    @property
    def size(self) -> int:
        """Number of signals of a group."""
        return len(self.v)

    def __call__(self, z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return the groups, reflected where they lie on the other side."""
        v, groups = jnp.asarray(self._unit(z.dtype)), z.reshape(-1, self.size)
        below = jnp.minimum(groups @ v, 0)
        return (groups - 2 * below[:, None] * v[None, :]).reshape(-1)

    def basis(self, dtype: Any = np.float64) -> np.ndarray:
        """Return v: what is orthogonal to it passes."""
        return self._unit(dtype).astype(np.float64)[:, None]

    def _unit(self, dtype: Any) -> np.ndarray:
        v = np.asarray(self.v)
        return (v / np.linalg.norm(v)).astype(dtype)


max_min = GroupSort(2)
"""Each pair of signals as `(max, min)`."""
