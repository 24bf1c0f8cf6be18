"""What every design starts from: the linear model at the operating point, and what it must allow."""

from typing import Any, NamedTuple

import control as ct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..errors import ModelError
from ..loops import Feedback
from ..plants import Plant, Sampled
from ..system import System
from .convert import to_control
from .flat import flatten
from .linearize import jacobians


class Model(NamedTuple):
    """A linear model in deviations from an operating point: `system` from controls to outputs, `Bd` (nx, nd)."""

    system: Any  # control.StateSpace, whose matrices have no usable types
    Bd: np.ndarray
    x: np.ndarray
    u: np.ndarray
    y: np.ndarray

    @property
    def discrete(self) -> bool:
        """Whether time goes in samples."""
        return self.system.dt != 0


def linear_model(plant: Any) -> Model:
    """Return the linear model that a design works on.

    A `Plant` or `Sampled` is linearized at its operating point, with its delay; `StateSpace`, `LinearPlant` and
    python-control's systems are taken as they are, and so is a `Model`: one linearization serves many designs.

    **Raises:** `ModelError` for something else, a dt of True or None, and an output that depends on the control
    of the same sample, with which the loop would be algebraic.
    """
    if isinstance(plant, Model):
        return plant
    if isinstance(plant, Plant | Sampled):
        return _at_operating_point(plant)
    system: Any = to_control(plant)
    if system.dt is None or system.dt is True:
        raise ModelError(f"dt must be a number, got {system.dt}; set system.dt to 0 or to seconds a sample")
    if np.any(system.D):
        raise ModelError(
            f"the plant must have D = 0, got {system.D.tolist()}: the output would depend on the control of the same "
            "sample and the loop be algebraic; put a sample's delay or the actuator's lag into the plant"
        )
    nx, nu, ny = system.nstates, system.ninputs, system.noutputs
    return Model(system, np.zeros((nx, 0)), np.zeros(nx), np.zeros(nu), np.zeros(ny))


def _at_operating_point(plant: Plant | Sampled) -> Model:
    flat = flatten(plant)
    A, B, C, _ = jacobians(flat, flat.x, flat.u)
    inner = plant.plant if isinstance(plant, Sampled) else plant
    nu = len(inner.controls)
    system = ct.StateSpace(
        A,
        B[:, :nu],
        C,
        np.zeros((C.shape[0], nu)),
        flat.dt,
        inputs=list(flat.inputs[:nu]),
        outputs=list(flat.outputs),
        states=list(flat.states),
    )
    y = np.asarray(inner.output(jnp.asarray(inner.operating_point()[0])), float)
    return Model(system, B[:, nu:], flat.x, flat.u[:nu], y)


def require_discrete(model: Model, dt: float | None, what: str) -> float:
    """Return the controller's sample time: the model's, or for a continuous-time model the one given."""
    if model.discrete:
        if dt is not None and not np.isclose(dt, model.system.dt, rtol=1e-9, atol=0):
            raise ModelError(f"dt must be the plant's own, {model.system.dt} s, got {dt} s; leave it out")
        return float(model.system.dt)
    if dt is None:
        raise ModelError(
            f"{what} must know its sample time, and the plant is in continuous time; give dt in seconds, or design "
            "for Sampled(plant, dt)"
        )
    return float(dt)


def closed_loop_poles(sampled: Sampled, policy: System) -> np.ndarray:
    """Return the poles of the loop of a sampled plant and a policy, linearized where both start."""
    flat = flatten(Feedback(sampled, policy))
    return np.linalg.eigvals(jacobians(flat, flat.x, flat.u)[0])


def require_stable(sampled: Sampled, policy: System, what: str = "the controller") -> np.ndarray:
    """Return the closed-loop poles, having refused a policy that does not stabilize the plant.

    **Raises:** `ModelError` with the poles, where one has a modulus of 1 or more.
    """
    poles = closed_loop_poles(sampled, policy)
    if not np.abs(poles).max(initial=0.0) < 1:
        ordered = ", ".join(f"{p:.5g}" for p in sorted(poles, key=abs, reverse=True))
        raise ModelError(
            f"{what} must stabilize the plant at its operating point, but the closed loop has the poles {ordered} "
            "(stable: inside the unit circle); design it for this plant, with its delay and its sample time"
        )
    return poles


def as_array(M: Any) -> Array:
    """Return numbers as a JAX array of the default floating-point type."""
    return jnp.asarray(np.asarray(M), jnp.result_type(float))
