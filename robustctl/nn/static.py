"""A network without memory as a system: a static policy with a Lipschitz bound."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_gamma
from ..lft import LFT, Claim, static
from ..linalg import exact_map
from ..registry import registered
from ..system import System
from .activations import Activation
from .arrays import check_one, number
from .guarantee import Guaranteed, Lipschitz
from .lipschitz import bounded
from .sandwich import LBDN, SandwichNetwork


@registered()
class StaticNetwork(System):
    """A network without memory: `y = gamma phi(u)`, `phi` 1-Lipschitz."""

    phi: SandwichNetwork
    gamma: Float[Array, ""] | float

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.phi.ni

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.phi.b.size

    def lft(self) -> LFT:
        """Return `v = u`, `y = gamma w` about the network as one block."""
        check_one(self.phi, self.phi.b)
        block, assumptions = bounded(self.phi, self.nu, self.ny)
        D11, D22 = np.zeros((self.nu, self.ny)), np.zeros((self.ny, self.nu))
        return static(
            D11, np.eye(self.nu), number(self, "gamma") * np.eye(self.ny), D22, [block], assumptions
        )

    @property
    def claim(self) -> Claim:
        """The gain; there is nothing to forget, so that the rate means nothing."""
        gamma = check_gamma(number(self, "gamma"))
        # |dy|^2 / gamma <= gamma |du|^2.
        supply = -np.eye(self.ny) / gamma, np.zeros((self.nu, self.ny)), gamma * np.eye(self.nu)
        # Any multiplier in (gamma, gamma / gain^2) proves it; this one leaves as much room on either side.
        gain = self.lft().blocks[0].gain
        return Claim(1.0, np.zeros((0, 0)), supply, (np.full(1, gamma / (gain or 1.0)),))

    def init_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    def step(self, x: tuple[()], u: Float[Array, " nu"]) -> tuple[tuple[()], Float[Array, " ny"]]:
        """Return `((), y)`."""
        check_one(self.phi, self.phi.b)
        return x, self.gamma * self.phi(u)


@registered()
class LipschitzStatic(Guaranteed):
    """A static map of Lipschitz constant at most `gamma`, whatever the free arrays.

    ::

        |y1 - y2| <= gamma |u1 - u2|      at every sample

    Source: [WM23], Theorem 3.2, scaled.

    **Arguments:**

    - `nu`: number of inputs.
    - `ny`: number of outputs.
    - `gamma`: gain bound, positive, outputs' unit over inputs' unit.
    - `hidden`: widths of the hidden layers.
    - `activation`: elementwise, slope in [0, 1].
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, another dtype, gamma not positive and finite or a slope outside [0, 1].
    """

    phi: LBDN
    guarantee: Lipschitz

    def __init__(
        self,
        *,
        nu: int,
        ny: int,
        gamma: float,
        hidden: Sequence[int] = (32, 32),
        activation: Activation = jax.nn.relu,
        key: PRNGKeyArray,
        dtype=None,
    ):
        self.guarantee = Lipschitz(gamma)
        self.phi = LBDN(nu, ny, hidden, activation=activation, key=key, dtype=dtype)

    @exact_map
    def explicit(self) -> StaticNetwork:
        """Map to the network itself."""
        return StaticNetwork(self.phi.explicit(), self.guarantee.gamma(self.phi.b.dtype))
