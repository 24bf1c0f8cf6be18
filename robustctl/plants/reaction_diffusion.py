"""A reaction-diffusion equation with boundary control."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from ..registry import registered
from .plant import Plant, Task, parameter
from .signal import Signal

NODES = 51


@registered(name="plants.ReactionDiffusion", sizes=lambda plant: {})
class ReactionDiffusion(Plant):
    """Nonlinear heat flow on 51 nodes with boundary control, measured at the boundary and in the middle.

    ::

        xi_t = xi_zz + R(xi) / 2,     R(xi) = xi (1 - xi) (xi - 1/2),     z in [0, 10]
        xi(0) = xi(10) = b,           b' = (u - b) / tau

    by central differences; the boundary follows the control with a lag tau, so that the measured boundary does not
    depend on the control of the same instant. Measured: boundary and middle. The disturbance is a source that is
    equal at all inner nodes. Source: [BWM25] Barbara, Wang, Manchester, arXiv 2504.01250, Sec. V-B, for the equation;
    lag, source and task are ours.
    """

    states: ClassVar = tuple(Signal(f"xi[{k}]", "1") for k in range(NODES))
    controls: ClassVar = (Signal("boundary", "1", 0.0, 1.0),)
    disturbances: ClassVar = (Signal("source", "1/s"),)
    outputs: ClassVar = (Signal("xi[0]", "1"), Signal(f"xi[{NODES // 2}]", "1"))

    length: Array = parameter(10.0, "1", "[BWM25]")
    lag: Array = parameter(0.05, "s", "ours")
    level: Array = parameter(0.5, "1", "ours: the operating point, an equilibrium of the reaction")

    @override
    def rates(self, x: Float[Array, "51"], u: Float[Array, "1"], d: Float[Array, "1"]) -> Array:
        dz = self.length / (NODES - 1)
        inner = (x[2:] - 2 * x[1:-1] + x[:-2]) / dz**2
        inner = inner + 0.5 * x[1:-1] * (1 - x[1:-1]) * (x[1:-1] - 0.5) + d[0]
        ends = (u[0] - jnp.stack([x[0], x[-1]])) / self.lag
        return jnp.concatenate([ends[:1], inner, ends[1:]])

    @override
    def operating_point(self) -> tuple[Array, Array]:
        """Return the flat profile at `level`, an equilibrium where the reaction is zero: at 0, 1/2 and 1."""
        return jnp.full(NODES, self.level), self.level[None]


class HoldProfile(Task):
    """Hold the whole profile at the operating point against a source.

    ::

        cost = mean over nodes of (xi - xi_e)^2 / 0.1^2 + (u - u_e)^2

    The initial profile is flat, between 0 and 1; the source is piecewise constant, uniform on +-0.05, drawn every 100
    samples.
    """

    @override
    def initial_state(self, key: PRNGKeyArray) -> Float[Array, "51"]:
        """Draw a flat profile."""
        return jnp.full(NODES, jr.uniform(key))

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} 1"]:
        """Draw a piecewise constant source."""
        return jnp.repeat(jr.uniform(key, (-(-samples // 100), 1), minval=-0.05, maxval=0.05), 100, axis=0)[
            :samples
        ]

    @override
    def cost(self, x: Float[Array, "51"], u: Float[Array, "1"], r: Float[Array, " nr"]) -> Float[Array, ""]:
        x_e, u_e = self.plant.operating_point()
        return jnp.mean((x - x_e) ** 2) / 0.01 + jnp.sum((u - u_e) ** 2)
