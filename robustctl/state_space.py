"""A discrete-time linear system with names, units and a sample time."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.dtypes import canonicalize_dtype
from jaxtyping import Array, Float

from .checks import is_positive
from .errors import InvalidModelError
from .lft import LFT, linear
from .pytrees import traced
from .registry import registered
from .system import System


class DirectPath(System):
    """A system whose numbers of inputs and outputs are those of its direct path `D`, (ny, nu)."""

    D: eqx.AbstractVar[Array]

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.D.shape[1]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.D.shape[0]


@registered()
class StateSpace(DirectPath):
    """A discrete-time linear system in deviations from an equilibrium, like `control.StateSpace` with `dt > 0`.

    Without states it is a gain, without inputs an autonomous system; python-control has none of the latter.

    ::

        x+ = A x + B u,    y = C x + D u

    **Arguments:**

    - `A`: (nx, nx).
    - `B`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: (ny, nu).
    - `dt`: sample time, seconds.
    - `inputs`: names; default `u[0]`, `u[1]`, ...
    - `outputs`: names; default `y[0]`, ...
    - `states`: names; default `x[0]`, ...
    - `input_units`: one per input; default "".
    - `output_units`: one per output; default "".

    **Raises:** `InvalidModelError` for matrices that do not fit each other or are not finite, a `dt` that is not
    positive, and a number of names or units that is not the number of channels.

    **Example:** ::

        lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1, inputs=["valve"], outputs=["level"])
        print(rc.rollout(lag, jnp.ones((50, 1))).ys[-1])
    """

    A: Float[Array, "nx nx"]
    B: Float[Array, "nx nu"]
    C: Float[Array, "ny nx"]
    D: Float[Array, "ny nu"]
    dt: float = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    input_units: tuple[str, ...] = eqx.field(static=True)
    output_units: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        A,
        B,
        C,
        D,
        dt: float,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        states: Sequence[str] | None = None,
        input_units: Sequence[str] | None = None,
        output_units: Sequence[str] | None = None,
    ):
        matrices = {name: _matrix(M) for name, M in zip("ABCD", (A, B, C, D), strict=True)}
        _check_matrices(matrices)
        _check_dt(dt)
        self.A, self.B, self.C, self.D = (
            jnp.asarray(M, canonicalize_dtype(M.dtype if np.issubdtype(M.dtype, np.floating) else float))
            for M in matrices.values()
        )
        self.dt = float(dt)
        (nx, nu), ny = matrices["B"].shape, matrices["C"].shape[0]
        self.inputs, self.outputs, self.states = (
            _names("u", inputs, nu),
            _names("y", outputs, ny),
            _names("x", states, nx),
        )
        self.input_units, self.output_units = _units(input_units, nu), _units(output_units, ny)

    def check_parts(self) -> None:
        """Refuse a sample time out of range, and names and units that are not one for each channel.

        **Raises:** `InvalidModelError`.
        """
        _check_dt(self.dt)
        (nx, nu), ny = self.B.shape, self.C.shape[0]
        for letter, names, count in (("u", self.inputs, nu), ("y", self.outputs, ny), ("x", self.states, nx)):
            _names(letter, names, count)
        _units(self.input_units, nu)
        _units(self.output_units, ny)

    def init_state(self) -> Float[Array, " {self.A.shape[0]}"]:
        """Return the zero state."""
        return jnp.zeros(self.A.shape[0], self.A.dtype)

    def step(
        self, x: Float[Array, " {self.A.shape[0]}"], u: Float[Array, " {self.B.shape[1]}"]
    ) -> tuple[Float[Array, " {self.A.shape[0]}"], Float[Array, " {self.C.shape[0]}"]]:
        """Return `(x_next, y)`."""
        return self.A @ x + self.B @ u, self.C @ x + self.D @ u

    def lft(self) -> LFT:
        """Return the matrices."""
        return linear(self.A, self.B, self.C, self.D)


def _check_dt(dt: float) -> None:
    if not is_positive(dt):
        raise InvalidModelError(
            f"dt must be a positive, finite number of seconds, got {dt!r}; sample a continuous system first"
        )


def _matrix(M: Any) -> Any:
    """Return a matrix, of JAX where a parameterization is traced."""
    return jnp.atleast_2d(M) if traced(M) else np.atleast_2d(np.asarray(M))


def _check_matrices(matrices: dict[str, Any]) -> None:
    nx, nu, ny = matrices["A"].shape[0], matrices["B"].shape[1], matrices["C"].shape[0]
    for name, shape in (("A", (nx, nx)), ("B", (nx, nu)), ("C", (ny, nx)), ("D", (ny, nu))):
        if matrices[name].shape != shape:
            raise InvalidModelError(
                f"{name} must have shape {shape} to fit the others, got {matrices[name].shape}"
            )
        if not traced(matrices[name]) and not np.isfinite(matrices[name]).all():
            raise InvalidModelError(f"{name} must be finite, got {matrices[name].tolist()}")


def _names(letter: str, given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    names = tuple(f"{letter}[{k}]" for k in range(count)) if given is None else tuple(given)
    if len(names) != count or len(set(names)) != count:
        raise InvalidModelError(f"there must be {count} different names for {letter}, got {names}")
    return names


def _units(given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    units = ("",) * count if given is None else tuple(given)
    if len(units) != count:
        raise InvalidModelError(f"there must be {count} units, one per channel, got {units}")
    return units
