"""Youla parameterization: a learned system on top of a base controller, and what it cannot break.

A base controller keeps a model of the plant and corrects it with the innovation; a contracting Q that reads the
innovation and adds to the control leaves the loop stable, because without disturbances or model error
the innovation does not depend on Q. Source: [BWM23] Barbara, Wang, Manchester, "Learning over contracting and
Lipschitz closed-loops for partially-observed nonlinear systems", CDC 2023; [BWMM25] arXiv 2506.01226.
"""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..errors import ModelError
from ..plants import Sampled, undisturbed
from ..system import StrictlyProper, System


class Base(StrictlyProper):
    """A base controller in the form that Youla needs: model, output and law apart.

    ::

        y_hat = output(x_hat),    u = control(x_hat) + u_q,    x_hat+ = advance(x_hat, u, innovation)

    It is a system to be controlled itself: by `u`, with the innovation for its disturbance.
    """

    @abc.abstractmethod
    def control(self, x: PyTree) -> Array:
        """Return the base law's control at the estimated state."""


class ModelBased(Base):
    """An observer built on a sampled model of the plant, with an injection and a law of the user's.

    ::

        x_hat+ = model(x_hat, u) + correct(x_hat, y - y_hat),    u = law(x_hat)

    **Arguments:** `model`: the plant's model as a `Sampled` without noise or jitter, its saturation
    included so that the estimate knows what the actuator did; `correct(x_hat, innovation) -> dx` (nx,);
    `law(x_hat) -> u`; both functions or Modules on the physical state. See `internal_model` and
    `linear_base` for ready ones.
    """

    model: Sampled
    correct: PyTree
    law: PyTree

    def __check_init__(self):
        """Refuse a model that would draw noise."""
        check_model(self.model, "the base controller's model")

    def init_state(self) -> PyTree:
        """Return the model's initial state."""
        return self.model.init_state()

    def output(self, x: PyTree, w: PyTree = None) -> Array:
        """Return the output the model expects."""
        return self.model.output(x, still(self.model))

    def control(self, x: PyTree) -> Array:
        """Return the base law's control."""
        return self.law(x.x)

    def advance(self, x: PyTree, u: Array, w: Array) -> PyTree:
        """Return the corrected next estimate; `w` is the innovation."""
        after = self.model.advance(x, u, still(self.model))
        return after._replace(x=after.x + self.correct(x.x, w))


def still(model: Sampled):
    """Return one sample in which nothing but the control acts."""
    return jax.tree.map(lambda a: a[0], undisturbed(model, 1))


def check_model(model: Sampled, name: str) -> None:
    """Refuse a model to predict with that would draw noise.

    **Raises:** `ModelError`.
    """
    if model.imperfections.noise is not None or model.imperfections.jitter:
        raise ModelError(
            f"{name} must be without noise and jitter; rc.loops.noiseless leaves those imperfections off"
        )


class Youla(System):
    """The controller of a base and a learned `q` on its innovation; a system from y to u.

    ::

        innovation = y - y_hat,    u = base law + q(innovation)

    With references the plant's output is `[y, r]`; q reads `[innovation, r]`.
    """

    base: Base
    q: System

    def init_state(self) -> tuple[PyTree, PyTree]:
        """Return the initial states of base and q."""
        return self.base.init_state(), self.q.init_state()

    def step(self, x: tuple[PyTree, PyTree], u: Float[Array, " ny"]) -> tuple[tuple[PyTree, PyTree], Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        estimate, q_state = x
        expected = self.base.output(estimate, None)
        ny = expected.shape[0]
        innovation = u[:ny] - expected
        q_next, addition = self.q.step(q_state, jnp.concatenate([innovation, u[ny:]]))
        control = self.base.control(estimate) + addition
        return (self.base.advance(estimate, control, innovation), q_next), control

    def prepare(self) -> "Youla":
        """Return the same with q prepared for many steps."""
        return Youla(self.base, self.q.prepare())
