"""A learned system alongside an unchanged controller."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..errors import InvalidModelError
from ..lft import LFT, joined, signals
from ..plants import Sampled
from ..registry import registered
from ..system import SignalLimits, System
from .feedback import check_sample_time
from .internal_model import noiseless
from .parts import Of, forms, narrowed, with_references
from .youla import Base, Youla, check_model


@registered(name="loops.Alongside")
class Alongside(System):
    """An unchanged controller, and a learned `q` that reads the difference between the loop and a twin of it.

    ::

        e = y - y_twin,     u = C(y) + q(e),     u_twin = C(y_twin) + q(e),     x_twin+ = f(x_twin, u_twin)

    The twin, a model of the plant with a copy of the controller, runs in the computer and receives q's control as the plant does.
    Without disturbances and with an exact model `e` does not depend on q: q leaves stable what the controller stabilizes.
    On a linear plant, with a linear controller, `z = T0 d + T1 q(T2 d)` with T0 from disturbance to performance, T1 from control to
    performance and T2 from disturbance to output in the controller's own loop; `rc.classical.youla_gain` bounds its gain.
    With references the plant's output is `[y, r]`; the controllers read `[y, r]` and `[y_twin, r]`, q reads `[e, r]`.

    Source: internal model control (Morari and Zafiriou, "Robust Process Control", 1989, chapter 3) of the loop that the controller
    closes; for nonlinear ones Furieri, Galimberti, Ferrari-Trecate, "Learning to boost the performance of stable nonlinear systems",
    2024, arXiv 2405.00871.

    **Arguments:**

    - `controller`: any system from y (ny,) to u (nu,), for example a `PID`.
    - `model`: the plant's model as a `Sampled` without noise or jitter, its saturation included; see `noiseless`.
    - `q`: a system from e (ny,) to u (nu,).

    **Raises:** `InvalidModelError` for a model with noise or jitter, for a controller or q of another sample time than the
    model's, and, at the first step, for a controller or q that does not take the outputs or give the controls.
    """

    controller: System
    model: Sampled
    q: System
    ny, dt = Of("model", "nu"), Of("model")
    outputs, output_units = Of("model", "inputs"), Of("model", "input_units")

    @property
    @override
    def nu(self) -> int | None:
        """Number of outputs and references that it reads; None where unknown."""
        return self.controller.nu if self.q.nu is None else self.q.nu

    @property
    @override
    def inputs(self) -> tuple[str, ...] | None:
        """Names of the outputs and references that it reads; None where unknown."""
        return with_references(self.model.outputs, self.nu)

    @property
    @override
    def input_units(self) -> tuple[str, ...] | None:
        """Units of the outputs that it reads, none for references; None where unknown."""
        return with_references(self.model.output_units, self.nu, "")

    @override
    def actuator_limits(self) -> SignalLimits | None:
        return self.model.input_limits()

    @override
    def lft(self) -> LFT | None:
        """Return the form from `[y, r]` to u, where controller, model and q have one."""
        parts = forms(self.controller, self.model, self.controller, self.q)
        if parts is None:
            return None
        ny, nu = self.model.ny, parts[3].nu
        parts[0] = parts[2] = narrowed(
            parts[0], nu
        )  # the controller may do without references that q does not read
        own, expected, copy, added, y, r = signals(parts, ny, nu - ny)
        d = np.zeros((len(self.model.plant.disturbances), y.shape[1]))
        inputs = [y, r, copy + added, d, expected, r, y - expected, r]
        return joined(parts, inputs, [own + added])

    def __check_init__(self):
        """Refuse a model that would draw noise, and parts of other sample times."""
        check_model(self.model, "the twin's model")
        check_sample_time("controller", self.controller, "the model's", self.model)
        check_sample_time("q", self.q, "the model's", self.model)

    @override
    def init_state(self) -> tuple[tuple[PyTree, PyTree, PyTree], PyTree]:
        """Return the initial states of the controller, the twin's plant, the twin's controller; and of q."""
        own = self.controller.init_state()
        return (own, self.model.init_state(), self.controller.init_state()), self.q.init_state()

    @override
    def step(self, x: tuple[Any, PyTree], u: Float[Array, " nyr"]) -> tuple[tuple[Any, PyTree], Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        (own, plant, copy), q_state = x
        expected = self.model.output(plant, self.model.undisturbed())
        ny, nu = self.model.ny, self.model.nu
        if u.shape[0] < ny:
            raise InvalidModelError(
                f"the plant must have the {ny} outputs of the twin's model, got {u.shape[0]}"
            )
        y, r = u[:ny], u[ny:]
        q_state, added = _stepped("q", self.q, q_state, jnp.concatenate([y - expected, r]), nu)
        own, control = _stepped("the controller", self.controller, own, u, nu)
        copy, believed = self.controller.step(copy, jnp.concatenate([expected, r]))
        plant = self.model.advance(plant, believed + added, self.model.undisturbed())
        return ((own, plant, copy), q_state), control + added

    @override
    def prepare(self) -> "Alongside":
        """Return the same with controller and q prepared for many steps."""
        return dataclasses.replace(self, controller=self.controller.prepare(), q=self.q.prepare())


def _stepped(name: str, system: System, x: PyTree, u: Array, nu: int) -> tuple[PyTree, Array]:
    """Step a part, or report that it does not fit; JAX would name two shapes and no part."""
    wanted = (
        f"{name} must take {u.shape[0]} signals, those of the outputs and references, and give {nu} controls"
    )
    try:
        x_next, y = system.step(x, u)
    except (TypeError, ValueError) as error:
        raise InvalidModelError(f"{wanted}; its step raised: {error}") from error
    if y.shape != (nu,):
        raise InvalidModelError(f"{wanted}, got controls of shape {y.shape}")
    return x_next, y


def learned_with(base: System, sampled: Sampled, q: System) -> Youla | Alongside:
    """Return the controller of a base and a learned q: Youla's form for a `Base`, `Alongside` for any other controller."""
    return Youla(base, q) if isinstance(base, Base) else Alongside(base, noiseless(sampled), q)
