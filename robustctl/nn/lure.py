"""A linear system in feedback with a static nonlinearity (a Lur'e system), ready to step: what R2DN and REN share."""

import abc
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..checks import check_rate
from ..lft import LFT, Bounded, Claim, Slopes, float64
from ..system import System
from .arrays import check_one, check_shapes, number
from .inverse import Matrices
from .numpy_maps import Shapes, norm, zeros
from .supply import Supply, in_float64

_M = TypeVar("_M", bound=eqx.Module)


class LureSystem(System):
    """A linear system in feedback with a static nonlinearity.

    ::

        x+ = A x + B1 w + B2 u + bx
        w  = response(C1 x + D12 u + bv)
        y  = C2 x + D21 w + D22 u + by

    with the metric `P` of its storage function `V = dx' P dx`, the contraction `rate` and the supply rate
    that it was built for (None: contraction alone). These last three are what `certify` checks; stepping
    does not use them. Source: [BWM25], eqs. (2)-(4).

    **Arguments:**

    - `A`: (nx, nx).
    - `B1`: (nx, nv).
    - `B2`: (nx, nu).
    - `C1`: (nv, nx).
    - `C2`: (ny, nx).
    - `D12`: (nv, nu).
    - `D21`: (ny, nv).
    - `D22`: (ny, nu).
    - `bx`: offset of the state, (nx,).
    - `bv`: offset of what reaches the nonlinearity, (nv,).
    - `by`: offset of the output, (ny,).
    - `P`: metric, (nx, nx).
    - `supply`: the supply rate, or None.
    - `rate`: contraction rate per sample.
    """

    A: Float[Array, "nx nx"]
    B1: Float[Array, "nx nv"]
    B2: Float[Array, "nx nu"]
    C1: Float[Array, "nv nx"]
    C2: Float[Array, "ny nx"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]
    P: Float[Array, "nx nx"]
    supply: Supply | None
    rate: Float[Array, ""] | float

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.D22.shape[1]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.D22.shape[0]

    @abc.abstractmethod
    def response(self, b: Float[Array, " nv"]) -> Float[Array, " nv"]:
        """Return w for what reaches the nonlinearity from the state and the input."""

    @abc.abstractmethod
    def response_gain(self) -> float:
        """Return a bound on `|dw| / |db|` of the response, infinite where none is known."""

    def init_state(self) -> Float[Array, " {self.A.shape[0]}"]:
        """Return the zero state."""
        return jnp.zeros_like(self.bx)

    def linear_part(self) -> tuple[Array, ...]:
        """Return the matrices and offsets apart from w."""
        return self.A, self.B2, self.C2, self.D22, self.bx, self.by

    def step(
        self, x: Float[Array, " {self.A.shape[0]}"], u: Float[Array, " {self.B2.shape[1]}"]
    ) -> tuple[Float[Array, " {self.A.shape[0]}"], Float[Array, " {self.C2.shape[0]}"]]:
        """Return `(x_next, y)`."""
        check_one(self, self.bx)
        w = self.response(self.C1 @ x + self.D12 @ u + self.bv)
        x_next = self.A @ x + self.B1 @ w + self.B2 @ u + self.bx
        y = self.C2 @ x + self.D21 @ w + self.D22 @ u + self.by
        return x_next, y

    def form(self, D11, block: Slopes | Bounded, assumptions: tuple[str, ...]) -> LFT:
        """Return the linear part with the nonlinearity as one block."""
        check_one(self, self.bx)
        nx, nv, ny, nu = self.bx.size, self.bv.size, self.by.size, self.B2.shape[-1]
        check_shapes(
            self, A=(nx, nx), B1=(nx, nv), B2=(nx, nu), C1=(nv, nx), C2=(ny, nx), D12=(nv, nu), D21=(ny, nv), D22=(ny, nu),
            bv=(nv,), by=(ny,), P=(nx, nx),
        )  # fmt: skip
        # Of differences between two trajectories, in which the offsets cancel.
        A, B1, B2, C1 = float64(self.A, self.B1, self.B2, self.C1)
        D11, D12, C2, D21, D22 = float64(D11, self.D12, self.C2, self.D21, self.D22)
        return LFT(A, B1, B2, C1, D11, D12, C2, D21, D22, (block,), assumptions)

    def claimed(self, multiplier: np.ndarray) -> Claim:
        """Return the claim with the block's multiplier."""
        (P,) = float64(self.P)
        # Only its square enters the proof: that of a negative rate would pass, and one above one allows divergence.
        return Claim(check_rate(number(self, "rate")), P, in_float64(self.supply), (multiplier,))


class Core(eqx.Module):
    """Free arrays of an R2DN or a REN: those that each has, in a class for each kind of guarantee that adds its own.

    **Arguments:**

    - `X` (n, n), `Y` (nx, nx): of the map to the state equation.
    - `nv`, `ny`: numbers of network features or neurons and of outputs.
    """

    X: Float[Array, "n n"]
    p: Float[Array, ""]
    Y: Float[Array, "nx nx"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]

    inverse: ClassVar[Callable[[Matrices, float, Any], dict[str, np.ndarray]]]
    """`(matrices, rate, dtype) -> free arrays by name`, of ports of unit gain where the guarantee has a supply rate."""

    def __init__(self, X: Array, Y: Array, nv: int, ny: int):
        self.X, self.p, self.Y = X, norm(X), Y
        self.bx, self.bv, self.by = (zeros(n, X.dtype) for n in (len(Y), nv, ny))

    @property
    @abc.abstractmethod
    def nu(self) -> int:
        """Number of inputs."""

    @abc.abstractmethod
    def explicit(self, rate: Float[Array, ""], supply: Supply | None) -> LureSystem:
        """Map to the model of this rate that respects the supply rate."""

    @abc.abstractmethod
    def quiet(self, factor: float) -> "Core":
        """Return the core with its output arrays multiplied by `factor`."""


def port_shapes(nu: int, nx: int, nv: int, ny: int) -> Shapes:
    """Return the shapes of the arrays at the ports: `B2`, `C2`, `D12` and `D21`."""
    return (nx, nu), (ny, nx), (nv, nu), (ny, nv)


def scaled_rows(core: _M, factor: float, *names: str) -> _M:
    """Return a module with the arrays of these names multiplied by `factor`."""
    arrays = attrgetter(*names)
    return eqx.tree_at(arrays, core, jax.tree.map(lambda a: factor * a, arrays(core)))
