"""The linear model at the operating point, on which every design is based."""

from typing import Any, NamedTuple

import control as ct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from typing_extensions import TypeIs

from ..checks import of_type
from ..errors import InvalidModelError
from ..linalg import unstable
from ..loops import Feedback
from ..plants import Plant, Sampled, check_equilibrium
from ..system import System
from .convert import to_control
from .flat import flatten
from .linearize import jacobians
from .summary import summary
from .types import ArrayLike, PlantLike, Realization, typed


class Model(NamedTuple):
    """A linear model in deviations from an operating point.

    ::

        dx+ = A dx + B du + Bd d,   dy = C dx,     x = x_e + dx,   u = u_e + du,   y = y_e + dy

    **Arguments:**

    - `system`: a `control.StateSpace` from controls to outputs, (A, B, C) with D = 0
    - `Bd`: (nx, nd), how the disturbances enter
    - `x`: the operating point's state `x_e` (nx,)
    - `u`: its control `u_e` (nu,)
    - `y`: its output `y_e` (ny,)
    """

    system: Realization
    Bd: np.ndarray
    x: np.ndarray
    u: np.ndarray
    y: np.ndarray

    __repr__ = summary

    @property
    def discrete(self) -> bool:
        """Whether the model is in discrete time."""
        return self.system.dt != 0


def linear_model(plant: PlantLike) -> Model:
    """Return the linear model that a design works on.

    A `Plant` or `Sampled` is linearized at its operating point, with its delay. A `StateSpace`, a `LinearPlant` and
    python-control's systems are used as they are, and so is a `Model`: one linearization serves many designs.

    **Arguments:**

    - `plant`: a plant or a linear system

    **Raises:** `InvalidModelError` for any other class, a dt of True or None, an output that depends on the control
    of the same sample, with which the loop would be algebraic, a plant without states, and one whose operating point is
    not an equilibrium.

    **Example:** ::

        model = rc.classical.linear_model(rc.plants.Sampled(rc.plants.TwoTanks(), 2.0))
        regulator = rc.classical.lqr(model, [1.0, 1.0], 1.0)
    """
    match plant:
        case Model():
            return plant
        case Plant() | Sampled():
            return _at_operating_point(plant)
    system = typed(to_control(plant))
    if system.dt is None or system.dt is True:
        raise InvalidModelError(
            f"dt must be a number, got {system.dt}; set system.dt to 0 or to seconds per sample"
        )
    if np.any(system.D):
        raise InvalidModelError(
            f"the plant must have D = 0, got {system.D.tolist()}: the output would depend on the control of the same "
            "sample and the loop would be algebraic; add a delay of one sample or the actuator's lag to the plant"
        )
    nx, nu, ny = system.nstates, system.ninputs, system.noutputs
    if not nx:
        raise InvalidModelError(
            "a design must have a plant with at least one state, got a constant gain; no feedback moves it"
        )
    return Model(system, np.zeros((nx, 0)), np.zeros(nx), np.zeros(nu), np.zeros(ny))


def _at_operating_point(plant: Plant | Sampled) -> Model:
    inner = plant.physical
    check_equilibrium(inner)
    plant.check_steps()
    flat = flatten(plant)
    A, B, C, _ = jacobians(flat, flat.x, flat.u)
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
    return Model(typed(system), B[:, nu:], flat.x, flat.u[:nu], y)


def is_physical(plant: Any) -> TypeIs[Plant | Sampled]:
    """Return whether a plant has equations and signals, and is not only a linear system."""
    return isinstance(plant, Plant | Sampled)


def require_sampled(plant: Any) -> None:
    """Raise `InvalidModelError` unless the plant is a `Sampled`."""
    of_type(plant, Sampled, "the plant must be a Sampled", "Sampled(plant, dt) makes one", InvalidModelError)


def require_discrete(model: Model, dt: float | None, what: str) -> float:
    """Return the controller's sample time: the model's, or for a continuous-time model the given `dt`.

    **Raises:** `InvalidModelError` for a `dt` that is missing, or not that of a discrete-time model.
    """
    if model.discrete:
        # 1e-9 relative: 0.1 and 1 / 10 computed in another order are the same sample time
        if dt is not None and not np.isclose(dt, model.system.dt, rtol=1e-9, atol=0):
            raise InvalidModelError(f"dt must be the plant's own, {model.system.dt} s, got {dt} s; omit it")
        return float(model.system.dt)
    if dt is None:
        raise InvalidModelError(
            f"{what} must have a sample time, but the plant is in continuous time; give dt in seconds, or design "
            "for Sampled(plant, dt)"
        )
    return float(dt)


def closed_loop_poles(sampled: Sampled, policy: System) -> np.ndarray:
    """Return the poles of the loop of a sampled plant and a policy, linearized at the initial states of both.

    **Arguments:**

    - `sampled`: the plant, which starts at its operating point
    - `policy`: the controller, from the measured output to the control
    """
    flat = flatten(Feedback(sampled, policy))
    return np.linalg.eigvals(jacobians(flat, flat.x, flat.u)[0])


def require_stable(sampled: Sampled, policy: System, what: str = "the controller") -> np.ndarray:
    """Return the closed-loop poles of a policy that stabilizes the plant, and refuse any other.

    **Arguments:**

    - `sampled`: the plant
    - `policy`: the controller, from the measured output to the control
    - `what`: what the message calls the policy

    **Raises:** `InvalidModelError` with the poles if one has a modulus of 1 or more.
    """
    poles = closed_loop_poles(sampled, policy)
    if ordered := unstable(poles, digits=5):
        raise InvalidModelError(
            f"{what} must stabilize the plant at its operating point, but the closed loop has the poles {ordered} "
            "(stable: inside the unit circle); design it for this plant, with its delay and its sample time"
        )
    return poles


def as_array(M: ArrayLike) -> Array:
    """Return a JAX array of the default floating-point type."""
    return jnp.asarray(np.asarray(M), jnp.result_type(float))
