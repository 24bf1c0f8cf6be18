"""The simplest systems: a static gain, a constant control, a delay."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float
from typing_extensions import override

from ..checks import is_whole
from ..errors import InvalidModelError
from ..lft import LFT, delay, static_gain
from ..plants import Sampled
from ..registry import registered
from ..state_space import DirectPath
from ..system import System


@registered(name="loops.Gain")
class Gain(DirectPath):
    """A static gain without state about an offset: `y = D (u - u0) + y0`.

    **Arguments:**

    - `D`: the gain (ny, nu).
    - `u0`: offset of the input (nu,).
    - `y0`: offset of the output (ny,).
    """

    D: Float[Array, "ny nu"]
    u0: Float[Array, " nu"]
    y0: Float[Array, " ny"]

    @override
    def lft(self) -> LFT:
        """Return D; the offsets drop out."""
        return static_gain(self.D)

    @override
    def init_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    @override
    def step(self, x: tuple[()], u: Array) -> tuple[tuple[()], Array]:
        """Return `(x, y)`.

        **Raises:** `InvalidModelError` for inputs that are not as many as the gain's, which arithmetic would repeat.
        """
        if jnp.shape(u) != self.u0.shape:
            raise InvalidModelError(
                f"one sample of u must have the shape {self.u0.shape}, got {jnp.shape(u)}"
            )
        return x, self.D @ (u - self.u0) + self.y0


def zero_gain(nu: int, ny: int) -> Gain:
    """Return the system whose outputs are zero: a Q that leaves the base controller alone, for example.

    **Arguments:**

    - `nu`: number of inputs.
    - `ny`: number of outputs.

    **Example:** ::

        nothing = rc.loops.zero_gain(nu=1, ny=1)
    """
    return Gain(jnp.zeros((ny, nu)), jnp.zeros(nu), jnp.zeros(ny))


def open_loop(plant: Sampled, references: int = 0) -> Gain:
    """Return the controller that holds the control of the plant's operating point, whatever it reads.

    **Arguments:**

    - `plant`: the plant to leave in open loop.
    - `references`: number of references that the controller reads besides the outputs.
    """
    u = plant.plant.operating_point()[1]
    nu = plant.ny + references
    return Gain(jnp.zeros((u.size, nu), u.dtype), jnp.zeros(nu, u.dtype), u)


@registered(name="loops.Delay")
class Delay(System):
    """A delay of whole samples: `y[t] = u[t - samples]`.

    **Arguments:**

    - `initial`: output (nu,) of the first samples.
    - `samples`: length of the delay, at least 1.

    **Raises:** `InvalidModelError` for a delay that is not a whole number of at least 1.
    """

    initial: Float[Array, " nu"]
    samples: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        """Refuse a length out of range."""
        if not is_whole(self.samples, 1):
            raise InvalidModelError(
                f"samples must be a whole number of samples of at least 1, got {self.samples!r}; without a delay leave it out"
            )

    @property
    @override
    def nu(self) -> int:
        """Number of inputs."""
        return self.initial.shape[0]

    @property
    @override
    def ny(self) -> int:
        """Number of outputs."""
        return self.initial.shape[0]

    @override
    def lft(self) -> LFT:
        """Return the shift register."""
        return delay(self.nu, self.samples)

    @override
    def init_state(self) -> Float[Array, "{self.samples} nu"]:
        """Return the inputs that are still to come out."""
        return jnp.tile(self.initial, (self.samples, 1))

    @override
    def step(
        self, x: Float[Array, "{self.samples} nu"], u: Float[Array, " nu"]
    ) -> tuple[Float[Array, "{self.samples} nu"], Float[Array, " nu"]]:
        """Return `(x_next, y)`."""
        return jnp.concatenate([x[1:], u[None]]), x[0]
