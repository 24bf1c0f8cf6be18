"""What a list of layers may hold besides matrices and names of activations."""

import dataclasses
from typing import Any

import numpy as np

from ..checks import is_whole
from ..errors import RobustctlError


@dataclasses.dataclass(frozen=True, eq=False)
class GroupSort:
    """An activation for a list of layers: every `size` neighboring signals in order.

    **Arguments:**

    - `size`: of a group, at least 2; 2 is maxmin.
    - `descending`: whether the largest comes first.

    **Raises:** `RobustctlError` for a size below 2.

    **Example:** ::

        W1, W2 = np.random.default_rng(0).normal(size=(2, 6, 6))
        print(rc.certificates.lipschitz([W1, rc.certificates.GroupSort(3), W2]))
    """

    size: int
    descending: bool = True

    def __post_init__(self):
        if not is_whole(self.size, 2):
            raise RobustctlError(f"size must be a whole number of at least 2 signals, got {self.size!r}")


@dataclasses.dataclass(frozen=True, eq=False)
class Householder:
    """An activation for a list of layers: each group of `len(v)` signals is reflected to the side of v.

    ::

        s -> s  where v's >= 0,  else  s - 2 v (v's),      v scaled to |v| = 1

    **Arguments:**

    - `v`: of at least 2 numbers, not all zero; `(1, -1)` is maxmin.

    **Raises:** `RobustctlError` for another v.
    """

    v: Any

    def __post_init__(self):
        v = np.asarray(self.v, np.float64)
        if v.ndim != 1 or v.size < 2 or not np.isfinite(v).all() or not v.any():
            raise RobustctlError(
                f"v must be a vector of at least 2 finite numbers, not all zero, got {self.v!r}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Residual:
    """A layer of a list: `s -> skip(s) + network(s)`; without `skip` the signal itself is added.

    **Arguments:**

    - `network`: a list of layers, or any other network that `lipschitz` takes.
    - `skip`: a matrix or a network, for a skip connection that changes the size; default the identity.

    **Example:** ::

        W1, W2, W3, W4 = np.random.default_rng(0).normal(size=(4, 4, 4)) / 4
        block = rc.certificates.Residual([W2, "relu", W3])
        print(rc.certificates.lipschitz([W1, block, "tanh", W4]))
    """

    network: Any
    skip: Any = None
