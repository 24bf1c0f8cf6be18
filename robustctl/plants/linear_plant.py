"""A continuous-time linear plant from its matrices."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import override

from ..checks import made_of
from ..errors import InvalidModelError
from ..lft import LFT, linear
from ..registry import registered
from .plant import Plant
from .signal import Signal


@registered(name="plants.LinearPlant")
class LinearPlant(Plant):
    """A linear time-invariant plant with its equilibrium at the origin.

    ::

        dx/dt = A x + B u + Bd d,    y = C x

    **Arguments:**

    - `A`: (nx, nx).
    - `B`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: zero or None, because a controller reads y before it chooses u.
    - `Bd`: (nx, nd); default `B`, a disturbance at the plant's input.
    - `states`: names or `Signal`s, one per state; default `x[0]`, `x[1]`, ...
    - `controls`: names or `Signal`s; default `u[0]`, ...
    - `disturbances`: names or `Signal`s; default `d[0]`, ...
    - `outputs`: names or `Signal`s; default `y[0]`, ...

    **Raises:** `InvalidModelError` for matrices that do not fit each other or are not finite, a number of names that is not the
    number of channels, and a nonzero `D`.

    **Example:** ::

        cart = rc.plants.LinearPlant([[0.0, 1.0], [0.0, -0.5]], [[0.0], [1.0]], [[1.0, 0.0]], outputs=["position"])
    """

    A: Float[Array, "nx nx"]
    B: Float[Array, "nx nu"]
    C: Float[Array, "ny nx"]
    Bd: Float[Array, "nx nd"]
    states: tuple[Signal, ...] = eqx.field(static=True)
    controls: tuple[Signal, ...] = eqx.field(static=True)
    disturbances: tuple[Signal, ...] = eqx.field(static=True)
    outputs: tuple[Signal, ...] = eqx.field(static=True)

    def __init__(
        self,
        A,
        B,
        C,
        D=None,
        *,
        Bd=None,
        states: Sequence[str | Signal] | None = None,
        controls: Sequence[str | Signal] | None = None,
        disturbances: Sequence[str | Signal] | None = None,
        outputs: Sequence[str | Signal] | None = None,
    ):
        Bd = B if Bd is None else Bd
        given = {name: np.atleast_2d(np.asarray(M)) for name, M in (("A", A), ("B", B), ("C", C), ("Bd", Bd))}
        nx = given["A"].shape[0]
        for name, shape in (
            ("A", (nx, nx)),
            ("B", (nx, given["B"].shape[1])),
            ("C", (given["C"].shape[0], nx)),
            ("Bd", (nx, given["Bd"].shape[1])),
        ):
            if given[name].shape != shape:
                raise InvalidModelError(f"{name} must have shape {shape} to fit A, got {given[name].shape}")
            if not np.isfinite(given[name]).all():
                raise InvalidModelError(f"{name} must be finite, got {given[name].tolist()}")
        if D is not None and np.any(np.asarray(D)):
            raise InvalidModelError(
                f"D must be zero, got {np.asarray(D).tolist()}: a controller reads y before it chooses u, and a feedthrough "
                "would make an algebraic loop; add the actuator's or sensor's lag as a state"
            )
        self.A, self.B, self.C, self.Bd = (_floating(M) for M in given.values())
        self.states = _signals("x", states, nx)
        self.controls = _signals("u", controls, self.B.shape[1])
        self.disturbances = _signals("d", disturbances, self.Bd.shape[1])
        self.outputs = _signals("y", outputs, self.C.shape[0])

    @override
    def lft(self) -> LFT:
        """Return the matrices, in continuous time; inputs `[u, d]`."""
        A, B, Bd, C = (np.asarray(M) for M in (self.A, self.B, self.Bd, self.C))
        driven = np.hstack([B, Bd])
        return linear(A, driven, C, np.zeros((len(C), driven.shape[1])))

    @override
    def rates(self, x: Float[Array, " nx"], u: Float[Array, " nu"], d: Float[Array, " nd"]) -> Array:
        return self.A @ x + self.B @ u + self.Bd @ d

    @override
    def output(self, x: Float[Array, " nx"]) -> Float[Array, " ny"]:
        """Return C x."""
        return self.C @ x

    @override
    def rate_matrices(self) -> tuple[Array, Array] | None:
        """Return A and `[B, Bd]`; None for a subclass that overrides rates or limits and may not move so."""
        kind = type(self)
        if kind.rates is not LinearPlant.rates or kind.constrain is not LinearPlant.constrain:
            return None
        return self.A, jnp.concatenate([self.B, self.Bd], axis=1)


def _floating(M: np.ndarray) -> Array:
    return jnp.asarray(M if np.issubdtype(M.dtype, np.floating) else M.astype(float))


def _signals(letter: str, given: Sequence[str | Signal] | None, count: int) -> tuple[Signal, ...]:
    listed = [f"{letter}[{k}]" for k in range(count)] if given is None else list(given)
    signals = tuple(made_of(s, Signal) for s in listed)
    if len(signals) != count or len({s.name for s in signals}) != count:
        raise InvalidModelError(
            f"there must be {count} different names for {letter}, got {[s.name for s in signals]}"
        )
    return signals
