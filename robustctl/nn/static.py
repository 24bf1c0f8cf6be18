"""A network without memory as a system: a static policy with a Lipschitz bound."""

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_gamma
from ..system import Parameterization, System
from .activations import Activation
from .sandwich import LBDN, SandwichNetwork


class StaticNetwork(System):
    """A network without memory: `y = gamma phi(u)`, `phi` 1-Lipschitz."""

    phi: SandwichNetwork
    gamma: float = eqx.field(static=True)

    def init_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    def step(self, x: tuple[()], u: Float[Array, " nu"]) -> tuple[tuple[()], Float[Array, " ny"]]:
        """Return `((), y)`."""
        return x, self.gamma * self.phi(u)


class LipschitzStatic(Parameterization):
    """A static map of Lipschitz constant at most `gamma`, whatever the free arrays.

    ::

        |y1 - y2| <= gamma |u1 - u2|      at every sample

    Source: [WM23], Theorem 3.2, scaled.

    **Arguments:** `nu ny`: numbers of inputs and outputs; `hidden`: widths of the hidden layers; `gamma` > 0;
    `activation`: elementwise, slope in [0, 1]; `dtype`: of the free arrays.

    **Raises:** `ModelError` for a size below 1, gamma not positive and finite or a slope outside [0, 1].
    """

    phi: LBDN
    gamma: float = eqx.field(static=True)

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
        self.gamma = check_gamma(gamma)
        self.phi = LBDN(nu, ny, hidden, activation=activation, key=key, dtype=dtype)

    def explicit(self) -> StaticNetwork:
        """Map to the network itself."""
        return StaticNetwork(self.phi.explicit(), self.gamma)
