"""A ready base controller for open-loop stable plants."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import override

from ..affine import to_float64
from ..errors import InvalidModelError
from ..lft import LFT, static_gain
from ..linalg import unstable
from ..plants import Sampled, check_equilibrium
from ..registry import registered
from ..system import Certifiable
from .youla import ModelBased


@registered(name="loops.NoCorrection")
class NoCorrection(Certifiable):
    """An observer's correction that leaves the prediction as it is.

    **Arguments:**

    - `nx`, `ny`: numbers of states and outputs.
    """

    nx: int = eqx.field(static=True)
    ny: int = eqx.field(static=True)

    @override
    def lft(self) -> LFT:
        """Return zero of `[x, innovation]`."""
        return static_gain(np.zeros((self.nx, self.nx + self.ny)))

    def __call__(self, x: Array, innovation: Array) -> Array:
        """Return zero."""
        return jnp.zeros_like(x)


@registered(name="loops.Constant")
class Constant(Certifiable):
    """A law that holds one control.

    **Arguments:**

    - `value`: the control (nu,).
    - `nx`: number of states.
    """

    value: Float[Array, " nu"]
    nx: int = eqx.field(static=True)

    @override
    def lft(self) -> LFT:
        """Return zero of x."""
        return static_gain(np.zeros((self.value.size, self.nx)))

    def __call__(self, x: Array) -> Array:
        """Return the control."""
        return self.value


def internal_model(sampled: Sampled) -> ModelBased:
    """Return the base controller of internal model control, for a stable plant: its model alone, in parallel.

    ::

        x_hat+ = f(x_hat, u),    u = u_e + Q(y - h(x_hat))

    Source: Morari and Zafiriou, "Robust Process Control", 1989, chapter 3.

    **Raises:** `InvalidModelError` for a plant whose operating point is not an equilibrium, and for one whose poles there are not all
    inside the unit circle.
    """
    check_equilibrium(sampled.plant)
    if listed := unstable(plant_poles(sampled)):
        raise InvalidModelError(
            f"the plant must be open-loop stable at its operating point, got the poles {listed} (stable: inside the unit "
            "circle); robustctl.classical.linear_base gives a base controller that stabilizes it"
        )
    nx = len(sampled.plant.states)
    law = Constant(sampled.plant.operating_point()[1], nx)
    return ModelBased(noiseless(sampled), NoCorrection(nx, sampled.ny), law)


def plant_poles(sampled: Sampled) -> np.ndarray:
    """Return the poles of a sampled plant, linearized at its operating point in float64."""
    with jax.enable_x64(True):
        sampled = to_float64(sampled)
        return np.linalg.eigvals(_state_matrix(sampled))


@eqx.filter_jit
def _state_matrix(sampled: Sampled) -> Array:
    """Return the Jacobian of one sample in the physical state, at the operating point."""
    x, u = sampled.plant.operating_point()
    start, w = sampled.state_at(x), sampled.undisturbed()
    return jax.jacobian(lambda x: sampled.advance(start._replace(x=x), u, w).x)(x)


def noiseless(sampled: Sampled) -> Sampled:
    """Return a sampled plant as a model to predict with: no noise, no jitter, no quantization, no late samples."""
    imperfections = dataclasses.replace(
        sampled.imperfections, noise=None, jitter=0.0, resolution=None, late=None
    )
    return dataclasses.replace(sampled, imperfections=imperfections)
