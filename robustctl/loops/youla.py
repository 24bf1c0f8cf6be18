"""Youla parameterization: a learned system added to a base controller that leaves the loop stable.

A base controller keeps a model of the plant and corrects it with the innovation; a contracting Q that reads the
innovation and adds to the control leaves the loop stable, because without disturbances or model error
the innovation does not depend on Q. Source: [BWM23] Barbara, Wang, Manchester, "Learning over contracting and
Lipschitz closed-loops for partially-observed nonlinear systems", CDC 2023; [BWMM25] arXiv 2506.01226.
"""

import abc
import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..errors import InvalidModelError
from ..lft import LFT, joined, signals
from ..plants import Sampled
from ..registry import registered
from ..system import SignalLimits, StrictlyProper, System
from .parts import Of, forms, narrowed, with_references


class Base(StrictlyProper):
    """A base controller whose observer and law are separate, as the Youla parameterization needs them.

    ::

        y_hat = output(x_hat),    u = control(x_hat) + u_q,    x_hat+ = advance(x_hat, u, innovation)

    It is a system to be controlled itself: by `u`, with the innovation for its disturbance.
    """

    @abc.abstractmethod
    def control(self, x: PyTree) -> Array:
        """Return the base law's control at the estimated state."""

    def lft_with_law(self) -> LFT | None:
        """Return the form from `[u, innovation]` to `[y_hat, law's control]`; `lft()` has y_hat alone."""
        return None


class WithModel(Base):
    """A base controller that keeps a model of the plant and expects its output."""

    model: eqx.AbstractVar[StrictlyProper]
    nu, ny, dt = Of("model"), Of("model"), Of("model")
    inputs, outputs = Of("model"), Of("model")
    input_units, output_units = Of("model"), Of("model")

    @override
    def undisturbed(self, references: int = 0) -> Array:
        """Return an innovation of zero."""
        return jnp.zeros(self.ny + references)

    @override
    def input_limits(self) -> SignalLimits | None:
        return self.model.input_limits()

    @override
    def init_state(self) -> PyTree:
        """Return the model's initial state."""
        return self.model.init_state()

    @override
    def output(self, x: PyTree, w: PyTree = None) -> Array:
        """Return the output that the model expects."""
        return self.model.output(x, self.model.undisturbed())


@registered(name="loops.ModelBased")
class ModelBased(WithModel):
    """A base controller from a sampled model of the plant, with given correction and law.

    ::

        x_hat+ = model(x_hat, u) + correct(x_hat, y - y_hat),    u = law(x_hat)

    **Arguments:**

    - `model`: the plant's model as a `Sampled` without noise or jitter, its saturation included so that the estimate
      follows what the actuator did.
    - `correct`: function or Module `(x_hat, innovation) -> dx` (nx,) on the physical state.
    - `law`: function or Module `x_hat -> u` on the physical state.

    `internal_model` and `linear_base` give ready ones. It has no integral action: a constant disturbance leaves an error, which a
    trained q may reduce and does not remove. `rc.classical.linear_base(..., integral=True)` removes it, and follows references.
    """

    model: Sampled
    correct: PyTree
    law: PyTree

    def __check_init__(self):
        """Refuse a model that would draw noise."""
        check_model(self.model, "the base controller's model")

    @override
    def check_parts(self) -> None:
        x, y = (eqx.filter_eval_shape(f, self.model.init_state()) for f in (lambda x: x.x, self.output))
        found = eqx.filter_eval_shape(self.correct, x, y).shape, eqx.filter_eval_shape(self.law, x).shape
        if found != (x.shape, (self.nu,)):
            raise InvalidModelError(
                f"correction and law must give shapes {x.shape} and {(self.nu,)}, of state and control, got {found}"
            )

    @override
    def lft(self) -> LFT | None:
        """Return the form from `[u, innovation]` to y_hat, of a model, correction and law that have forms.

        A correction's form reads `[x_hat, innovation]`, a law's reads x_hat.
        """
        form = self.lft_with_law()
        if form is None:
            return None
        return form._replace(C2=form.C2[: self.ny], D21=form.D21[: self.ny], D22=form.D22[: self.ny])

    @override
    def lft_with_law(self) -> LFT | None:
        """Return the form from `[u, innovation]` to `[y_hat, law's control]`."""
        parts = forms(self.model, self.correct, self.law)
        if parts is None:
            return None
        parts[0] = _seen_inside(parts[0], len(self.model.plant.states))
        x_and_y, dx, law, u, innovation = signals(parts, self.nu, self.ny)
        y, x = np.split(x_and_y, [self.ny])
        d = np.zeros((len(self.model.plant.disturbances), u.shape[1]))
        return joined(parts, [u, d, dx, x, innovation, x], [y, law])

    @override
    def prepare(self) -> "ModelBased":
        """Return the same with its model prepared for many steps."""
        return dataclasses.replace(self, model=self.model.prepare())

    @override
    def control(self, x: PyTree) -> Array:
        """Return the base law's control."""
        return self.law(x.x)

    @override
    def advance(self, x: PyTree, u: Array, w: Array) -> PyTree:
        """Return the corrected next estimate; `w` is the innovation."""
        after = self.model.advance(x, u, self.model.undisturbed())
        return after._replace(x=after.x + self.correct(x.x, w))


def _seen_inside(form: LFT, nx: int) -> LFT:
    """Return the form of a sampled plant with its physical state as further outputs, and moved by further inputs."""
    shown = np.eye(nx, form.nx)
    wide = form._replace(
        B2=np.hstack([form.B2, shown.T]), D12=np.hstack([form.D12, np.zeros((len(form.D12), nx))]),
        C2=np.vstack([form.C2, shown]), D21=np.vstack([form.D21, np.zeros((nx, form.D21.shape[1]))]),
    )  # fmt: skip
    return wide._replace(D22=np.pad(form.D22, ((0, nx), (0, nx))))


def check_model(model: Sampled, name: str) -> None:
    """Refuse a model to predict with that would draw noise.

    **Raises:** `InvalidModelError`.
    """
    given = model.imperfections
    if given.noise is not None or given.jitter or given.late is not None:
        raise InvalidModelError(
            f"{name} must be without noise and jitter, and without late samples; rc.loops.noiseless leaves those imperfections off"
        )


@registered(name="loops.Youla")
class Youla(System):
    """The controller of a base and a learned `q` on its innovation; a system from y to u.

    ::

        innovation = y - y_hat,    u = base law + q(innovation)

    With references the plant's output is `[y, r]`; q reads `[innovation, r]`, and so does a base that has `references`.
    """

    base: Base
    q: System
    nu, ny, dt = Of("q"), Of("q"), Of("base")
    outputs, output_units = Of("base", "inputs"), Of("base", "input_units")

    @override
    def check_parts(self) -> None:
        if None not in (self.q.nu, self.q.ny) and (self.q.nu < self.base.ny or self.q.ny != self.base.nu):
            raise InvalidModelError(
                f"q must read the base's {self.base.ny} outputs, at least, and give its {self.base.nu} controls, got {self.q.nu} and "
                f"{self.q.ny}"
            )

    @property
    @override
    def inputs(self) -> tuple[str, ...] | None:
        """Names of the outputs and references that it reads; None where unknown."""
        return with_references(self.base.outputs, self.nu)

    @property
    @override
    def input_units(self) -> tuple[str, ...] | None:
        """Units of the outputs that it reads, none for references; None where unknown."""
        return with_references(self.base.output_units, self.nu, "")

    @override
    def actuator_limits(self) -> SignalLimits | None:
        return self.base.input_limits()

    @override
    def lft(self) -> LFT | None:
        """Return the form from `[y, r]` to u, of a base with a form and a q with one."""
        # A base whose methods were overridden has no lft(), whatever its lft_with_law() returns.
        known, base = forms(self.base, self.q), self.base.lft_with_law()
        if known is None or base is None:
            return None
        estimator, q = known
        ny, references = estimator.ny, q.nu - estimator.ny
        own = references if self.base.references else 0
        parts = [narrowed(base, self.base.nu + ny + own), q]
        expected_and_law, added, y, r = signals(parts, ny, references)
        expected, law = np.split(expected_and_law, [ny])
        u = law + added
        return joined(parts, [u, y - expected, r[:own], y - expected, r], [u])

    @override
    def init_state(self) -> tuple[PyTree, PyTree]:
        """Return the initial states of base and q."""
        return self.base.init_state(), self.q.init_state()

    @override
    def step(self, x: tuple[PyTree, PyTree], u: Float[Array, " ny"]) -> tuple[tuple[PyTree, PyTree], Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        estimate, q_state = x
        expected = self.base.output(estimate, None)
        ny = expected.shape[0]
        seen = jnp.concatenate([u[:ny] - expected, u[ny:]])
        q_next, addition = self.q.step(q_state, seen)
        control = self.base.control(estimate) + addition
        return (
            self.base.advance(estimate, control, seen if self.base.references else seen[:ny]),
            q_next,
        ), control

    @override
    def prepare(self) -> "Youla":
        """Return the same with base and q prepared for many steps."""
        return dataclasses.replace(self, base=self.base.prepare(), q=self.q.prepare())
