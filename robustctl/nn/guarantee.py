"""What a model is to guarantee for every set of its free arrays, as a value that `R2DN` and `REN` are given."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..checks import check_gamma, check_rate, check_supply, of_type
from ..errors import InvalidModelError
from ..linalg import exact_map
from ..registry import registered
from ..system import Parameterization, dtype_of
from .arrays import check_free, free_dtype
from .fixed import Fixed
from .inverse import Rates
from .lure import Core, LureSystem
from .numpy_maps import zeros
from .supply import Supply, gain_supply


class Guarantee(eqx.Module):
    """A contraction rate, and for some a supply rate.

    ::

        V(dx+) - rate^2 V(dx) <= dy' Q dy + 2 du' S dy + du' R du,      V(dx) = dx' P dx

    without a supply rate for `du = 0` and with zero on the right: contraction alone.
    """

    rate: eqx.AbstractVar[Fixed]
    bounds_output: ClassVar[bool] = True

    def gamma(self, dtype) -> Float[Array, ""] | None:
        """Return the gain bound, None without one; a general supply rate has no such number."""
        return None

    @abc.abstractmethod
    def supply(self, nu: int, ny: int, dtype) -> Supply | None:
        """Return the supply rate for so many inputs and outputs, None for contraction alone."""

    def exact_supply(self, nu: int, ny: int) -> Rates | None:
        """Return the supply rate as it is before training, in float64, None for contraction alone."""
        return None

    def for_ports(self, nu: int, ny: int, dtype) -> "Guarantee":
        """Return the guarantee of a model of so many inputs and outputs; raise `InvalidModelError` where it does not fit."""
        return self


@registered(sizes=lambda guarantee: {})
class Contracting(Guarantee):
    """Two trajectories under one input approach each other.

    ::

        V(x1+ - x2+) <= rate^2 V(x1 - x2),      V(d) = d' P d

    **Arguments:**

    - `rate`: in (0, 1], per sample; 1.0 asks only that they do.

    **Raises:** `InvalidModelError` for a rate outside (0, 1].
    """

    rate: Fixed
    bounds_output: ClassVar[bool] = False

    def __init__(self, rate: float = 1.0):
        self.rate = Fixed(check_rate(rate))

    def supply(self, nu: int, ny: int, dtype) -> None:
        """Return None: any gain is allowed."""


@registered(sizes=lambda guarantee: {"gamma": 1.0, "trainable": guarantee.log_gamma_ratio is not None})
class Lipschitz(Guarantee):
    """The gain from input to output is at most `gamma`, and trajectories approach each other.

    ::

        sum_t |y1 - y2|^2 <= gamma^2 sum_t |u1 - u2|^2      for equal initial states, and
        V(dx+) - rate^2 V(dx) <= gamma |du|^2 - |dy|^2 / gamma

    **Arguments:**

    - `gamma`: positive, outputs' unit over inputs' unit.
    - `rate`: in (0, 1], per sample.
    - `trainable`: whether training may move gamma from there; give the loss a term in `model.gamma` then.

    **Raises:** `InvalidModelError` for a gamma that is not positive and finite, and a rate outside (0, 1].
    """

    rate: Fixed
    start: Fixed
    log_gamma_ratio: Float[Array, ""] | None

    def __init__(self, gamma: float, rate: float = 1.0, *, trainable: bool = False):
        self.start, self.rate = Fixed(check_gamma(gamma)), Fixed(check_rate(rate))
        self.log_gamma_ratio = zeros((), free_dtype()) if trainable else None

    def gamma(self, dtype) -> Float[Array, ""]:
        """Return the gain bound."""
        start = self.start.value(dtype)
        # As a logarithm gamma stays positive whatever step an optimizer takes, and starts at the number given.
        return start if self.log_gamma_ratio is None else start * jnp.exp(self.log_gamma_ratio)

    def supply(self, nu: int, ny: int, dtype) -> Supply:
        """Return the supply rate of the gain bound."""
        return gain_supply(self.gamma(dtype), nu, ny)

    def exact_supply(self, nu: int, ny: int) -> Rates:
        """Return the supply rate of the gain bound as it is before training."""
        gamma = float(self.start)
        return -np.eye(ny) / gamma, np.zeros((nu, ny)), gamma * np.eye(nu)

    def for_ports(self, nu: int, ny: int, dtype) -> "Lipschitz":
        """Return the same with what is trained in the model's dtype."""
        if self.log_gamma_ratio is None:
            return self
        return eqx.tree_at(lambda g: g.log_gamma_ratio, self, zeros((), dtype))


@registered(sizes=lambda guarantee: {"Q": guarantee.Q.exact, "S": guarantee.S.exact, "R": guarantee.R.exact})
class Dissipative(Guarantee):
    """An incremental supply rate is respected.

    ::

        V(dx+) - rate^2 V(dx) <= dy' Q dy + 2 du' S dy + du' R du

    **Arguments:**

    - `Q`: (ny, ny), symmetric, negative definite.
    - `S`: (nu, ny); for passive models see `passive`.
    - `R`: (nu, nu), symmetric, with `R - S Q^-1 S'` positive definite.
    - `rate`: in (0, 1], per sample.

    **Raises:** `InvalidModelError` unless Q < 0 and R - S Q^-1 S' > 0, and for a rate outside (0, 1].
    """

    rate: Fixed
    Q: Fixed
    S: Fixed
    R: Fixed

    def __init__(self, Q, S, R, rate: float = 1.0):
        Q, S, R = (np.atleast_2d(np.asarray(M, np.float64)) for M in (Q, S, R))
        check_supply(Q, S, R)
        self.Q, self.S, self.R = Fixed(Q), Fixed(S), Fixed(R)
        self.rate = Fixed(check_rate(rate))

    def supply(self, nu: int, ny: int, dtype) -> Supply:
        """Return the supply rate."""
        return Supply(self.Q.value(dtype), self.S.value(dtype), self.R.value(dtype))

    def exact_supply(self, nu: int, ny: int) -> Rates:
        """Return the supply rate in float64."""
        return self.Q.exact, self.S.exact, self.R.exact

    def for_ports(self, nu: int, ny: int, dtype) -> "Dissipative":
        """Return the same, or raise `InvalidModelError` for another number of inputs or outputs than the supply rate has."""
        shape = self.S.words.shape[:-1]
        if shape != (nu, ny):
            raise InvalidModelError(
                f"S must have shape {(nu, ny)} for nu = {nu}, ny = {ny}, got {shape}; give Q (ny, ny), S (nu, ny), R (nu, nu)"
            )
        return self


def passive(n: int, *, output_excess: float = 1e-3, input_excess: float = 0.0) -> dict[str, np.ndarray]:
    """Return the supply rate of a passive model with `n` inputs and `n` outputs, as `Q`, `S` and `R`.

    ::

        V(dx+) - rate^2 V(dx) <= du' dy - output_excess |dy|^2 - input_excess |du|^2

    Use it as `Dissipative(**passive(n))`, which checks that `4 output_excess input_excess < 1`.

    **Arguments:**

    - `n`: number of inputs and of outputs.
    - `output_excess`: positive.
    - `input_excess`: of any sign.
    """
    eye = np.eye(n)
    return {"Q": -output_excess * eye, "S": eye / 2, "R": -input_excess * eye}


class Guaranteed(Parameterization):
    """A parameterization that was given its guarantee as a value."""

    guarantee: eqx.AbstractVar[Guarantee]

    @property
    def rate(self) -> Float[Array, ""]:
        """The contraction rate per sample."""
        return self.guarantee.rate.value(dtype_of(self))

    @property
    def gamma(self) -> Float[Array, ""] | None:
        """The gain bound, None without one; a general supply rate has no such number."""
        return self.guarantee.gamma(dtype_of(self))


def check_contracting(core: Any, kind: type["Recurrent"], must: str, do: str = "") -> None:
    """Raise `InvalidModelError` unless a core is of a class and promises contraction alone, no bound on its output."""
    of_type(core, kind, must, do, InvalidModelError)
    if core.guarantee.bounds_output:
        given = type(core.guarantee).__name__
        raise InvalidModelError(f"{must}, got {given}{do and f'; {do}'}")


class Recurrent(Guaranteed):
    """A guarantee and the core of free arrays that keeps it: an R2DN or a REN."""

    core: eqx.AbstractVar[Core]

    @property
    def label(self) -> str:
        """The guarantee and the class, `ContractingR2DN` for example."""
        return type(self.guarantee).__name__ + type(self).__name__

    def sizes(self) -> dict[str, Any]:
        """Return the arguments of the constructor that the arrays' shapes follow from."""
        core = self.core
        sizes = {"nu": core.nu, "nx": core.bx.size, "nv": core.bv.size, "ny": core.by.size}
        return sizes | {"guarantee": self.guarantee}

    @exact_map
    def explicit(self) -> LureSystem:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        check_free(self, self.core.bx)
        # Made here and not stored: a trained gamma changes it at every step.
        supply = self.guarantee.supply(self.core.nu, self.core.by.size, self.core.bx.dtype)
        return self.core.explicit(self.rate, supply)

    def quiet(self, factor: float = 1e-2) -> "Recurrent":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: m.core, self, self.core.quiet(factor))
