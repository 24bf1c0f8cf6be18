"""A sampled plant with zero-order hold and with imperfections of its sensors and actuators."""

from typing import NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from typing_extensions import override

from ..checks import is_positive, is_whole, of_type
from ..errors import InvalidModelError
from ..lft import LFT
from ..pytrees import fields_of
from ..registry import registered
from ..system import StrictlyProper
from .exogenous import Exogenous, undisturbed
from .held import held
from .local import check_steps
from .plant import Plant
from .sampled_form import sampled_form
from .signal import Signal, limits
from .solvers import RK4, adaptive_steps, fixed_steps


class PlantState(NamedTuple):
    """State of a sampled plant.

    **Arguments:**

    - `x`: the plant's state (nx,).
    - `queue`: delayed controls (delay, nu), the next one first.
    - `applied`: the control last applied (nu,).
    - `read`: the measurements last read (ny,), where samples come late; else None.
    """

    x: Array
    queue: Array
    applied: Array
    read: Array | None = None


for _of_diffrax in (
    dfx.RecursiveCheckpointAdjoint, dfx.Euler, dfx.Heun, dfx.Midpoint, dfx.Ralston, dfx.Bosh3, dfx.Tsit5, dfx.Dopri5, dfx.Dopri8,
):  # fmt: skip
    registered(name=f"diffrax.{_of_diffrax.__name__}")(_of_diffrax)


@registered(name="plants.Imperfections")
class Imperfections(eqx.Module):
    """Sensor and actuator imperfections of a real loop, each off by default.

    **Arguments:**

    - `saturate`: clip the control to the limits of the plant's control signals.
    - `rate_limit`: largest change of the control in its units per second, one number or one per control.
    - `noise`: standard deviation of the measurement noise in the outputs' units, one number or one per output.
    - `delay`: whole samples between choosing a control and applying it.
    - `jitter`: half width of the uniform relative error of each sample's length, in [0, 1).
    - `resolution`: quantization step of the outputs in their units, one number or one per output; gradients ignore
      the quantization.
    - `late`: share of samples, in (0, 1), whose measurements come too late or not at all: the last ones that came are read again.

    **Raises:** `InvalidModelError` for a value out of range.
    """

    saturate: bool = eqx.field(static=True, default=False, kw_only=True)
    rate_limit: float | tuple[float, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    noise: float | tuple[float, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    delay: int = eqx.field(static=True, default=0, kw_only=True)
    jitter: float = eqx.field(static=True, default=0.0, kw_only=True)
    resolution: float | tuple[float, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    late: float | None = eqx.field(static=True, default=None, kw_only=True)

    def __check_init__(self):
        """Refuse values out of range."""
        limits = {"rate_limit": self.rate_limit, "noise": self.noise, "resolution": self.resolution}
        for name, value in limits.items():
            if value is not None and not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
                raise InvalidModelError(f"{name} must be positive and finite, or None for none, got {value}")
        if not is_whole(self.delay, 0):
            raise InvalidModelError(
                f"delay must be a whole number of samples of at least 0, got {self.delay!r}"
            )
        if not 0 <= self.jitter < 1:
            raise InvalidModelError(f"jitter must be in [0, 1) of the sample time, got {self.jitter}")
        if self.late is not None and not 0 < self.late < 1:
            raise InvalidModelError(
                f"late must be a share of samples in (0, 1), or None for none, got {self.late}"
            )


@registered(name="plants.Sampled")
class Sampled(StrictlyProper):
    """A plant sampled every `dt` seconds with its inputs held between samples (zero-order hold).

    ::

        x[t+1] = x(dt),  where  dx/dt = plant.rates(x, u[t], d[t]),  x(0) = x[t]
        y[t]   = [plant.output(x[t]) + noise, r[t]]

    Each interval is solved separately, so no stage of the solver uses the next sample's input. A `LinearPlant` is solved exactly, by the
    matrix exponential, unless there is a `stepsize_controller`; `solver` and `substeps` are for other plants.

    **Arguments:**

    - `plant`: the continuous-time plant.
    - `dt`: sample time, seconds.
    - `imperfections`: of sensors and actuators (`Imperfections`).
    - `solver`: any Diffrax solver.
    - `substeps`: solver steps per sample.
    - `stepsize_controller`: a Diffrax controller, for example `dfx.PIDController(rtol=1e-6, atol=1e-9)`, for adaptive
      steps in place of `substeps`.
    - `adjoint`: how Diffrax differentiates adaptive steps.

    **Raises:** `InvalidModelError` for an argument that is not a `Plant`, a `dt` that is not positive and finite, and `substeps`
    below 1.

    **Example:** ::

        tanks = rc.plants.Sampled(rc.plants.TwoTanks(), dt=2.0)
        x, y = tanks.step(tanks.init_state(), (jnp.array([3.0]), tanks.undisturbed()))
    """

    plant: Plant
    dt: float = eqx.field(static=True)
    imperfections: Imperfections = Imperfections()
    solver: dfx.AbstractSolver = RK4()
    substeps: int = eqx.field(static=True, default=1)
    stepsize_controller: dfx.AbstractStepSizeController | None = None
    adjoint: dfx.AbstractAdjoint = dfx.RecursiveCheckpointAdjoint()

    def __check_init__(self):
        """Refuse arguments of another class and numbers out of range."""
        of_type(
            self.plant, Plant, "the plant must be a rc.plants.Plant in continuous time",
            "rc.classical.from_control converts a continuous-time python-control model to a Plant, and a discrete-time one to a system "
            "that needs no sampling", InvalidModelError,
        )  # fmt: skip
        if not is_positive(self.dt):
            raise InvalidModelError(f"dt must be a positive, finite number of seconds, got {self.dt!r}")
        if self.substeps < 1:
            raise InvalidModelError(f"substeps must be at least 1 per sample, got {self.substeps}")

    @override
    def check_parts(self) -> None:
        given = self.imperfections
        for name, value, n in (
            ("rate_limit", given.rate_limit, self.nu), ("noise", given.noise, self.ny), ("resolution", given.resolution, self.ny),
        ):  # fmt: skip
            if isinstance(value, tuple) and len(value) != n:
                raise InvalidModelError(f"{name} must be one number or {n} of them, got {value}")

    @property
    @override
    def nu(self) -> int:
        """Number of controls."""
        return len(self.plant.controls)

    @property
    @override
    def ny(self) -> int:
        """Number of measured outputs, references apart."""
        return len(self.plant.outputs)

    @property
    @override
    def inputs(self) -> tuple[str, ...]:
        """Names of the controls."""
        return _names(self.plant.controls)

    @property
    @override
    def outputs(self) -> tuple[str, ...]:
        """Names of the measured outputs."""
        return _names(self.plant.outputs)

    @property
    @override
    def input_units(self) -> tuple[str, ...]:
        """Units of the controls."""
        return _units(self.plant.controls)

    @property
    @override
    def output_units(self) -> tuple[str, ...]:
        """Units of the measured outputs."""
        return _units(self.plant.outputs)

    @override
    def input_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the plant's controls, whether or not the imperfections include saturation."""
        return limits(self.plant.controls)

    @override
    def lft(self) -> LFT | None:
        """Return the form of a linear plant, from `[u, d]` to y; None with a rate limit, a resolution, jitter or late samples.

        Its states are those of a `PlantState`; a saturation is a block with slopes in [0, 1].
        Two trajectories have the same noise, so that it drops out.
        """
        return sampled_form(self)

    @override
    def undisturbed(self, references: int = 0) -> Exogenous:
        """Return one sample in which nothing but the control acts: no disturbance, zero references, no noise."""
        return jax.tree.map(lambda a: a[0], undisturbed(self, 1, references))

    @property
    @override
    def sampled(self) -> "Sampled":
        return self

    @property
    def exact(self) -> bool:
        """Whether a sample is the matrix exponential, rather than steps of the solver."""
        return self._matrices() is not None

    def _matrices(self) -> tuple[Array, Array] | None:
        """Return the matrices of states and inputs for a matrix exponential, None for a solver."""
        return self.plant.rate_matrices() if self.stepsize_controller is None else None

    @property
    def physical(self) -> Plant:
        """The plant in continuous time."""
        return self.plant

    @override
    def check_steps(self) -> None:
        """Refuse steps of a fixed size that are too long for the plant at its operating point, or warn of them.

        **Raises:** `InvalidModelError` for a stable mode that the steps make unstable.

        **Warns:** `RobustctlWarning` for an oscillation that they miss by 1 % of its size or more in a sample, and a decay by 25 %.
        """
        check_steps(self)

    @override
    def prepare(self) -> "Sampled":
        """Return the same with the matrices of a sample of a linear plant computed once."""
        matrices = self._matrices()
        if matrices is None or self.imperfections.jitter:
            return self
        return _Prepared(**fields_of(self), change=held(*matrices, jnp.asarray(self.dt, matrices[0].dtype)))

    @override
    def init_state(self) -> PlantState:
        """Return the plant at its operating point."""
        return self.state_at(self.plant.operating_point()[0])

    def state_at(self, x: Float[Array, " nx"]) -> PlantState:
        """Return the sampled plant's state for a physical state, with the actuators at the operating point."""
        u = self.plant.operating_point()[1]
        read = None if self.imperfections.late is None else self.plant.output(x)
        return PlantState(x, jnp.tile(u, (self.imperfections.delay, 1)), u, read)

    @override
    def output(self, x: PlantState, w: Exogenous) -> Float[Array, " nyr"]:
        """Return the measurements and the reference, `[y, r]`."""
        y = self.plant.output(x.x)
        if self.imperfections.noise is not None:
            y = y + jnp.asarray(self.imperfections.noise, y.dtype) * w.noise
        if self.imperfections.resolution is not None:
            q = jnp.asarray(self.imperfections.resolution, y.dtype)
            # The rounded value with the gradient of y: a straight-through estimate.
            y = y + lax.stop_gradient(q * jnp.round(y / q) - y)
        if x.read is not None and w.late is not None:
            y = jnp.where(w.late, x.read, y)
        return jnp.concatenate([y, w.r])

    @override
    def advance(self, x: PlantState, u: Float[Array, " nu"], w: Exogenous) -> PlantState:
        """Return the state one sample later."""
        queue = jnp.concatenate([x.queue, u[None]])
        applied = self._actuate(queue[0], x.applied)
        length = jnp.asarray(self.dt, x.x.dtype)
        if self.imperfections.jitter:
            length = length * (1 + self.imperfections.jitter * w.jitter)
        read = None if x.read is None else self.output(x, w)[: self.ny]
        return PlantState(self.hold(x.x, applied, w.d, length), queue[1:], applied, read)

    def within_limits(self, u: Float[Array, " nu"]) -> Float[Array, " nu"]:
        """Return the control, clipped to its limits if the imperfections include saturation."""
        if not self.imperfections.saturate:
            return u
        low, high = self.input_limits()
        return jnp.clip(u, jnp.asarray(low, u.dtype), jnp.asarray(high, u.dtype))

    def _actuate(self, u: Array, before: Array) -> Array:
        u = self.within_limits(u)
        if self.imperfections.rate_limit is not None:
            most = jnp.asarray(self.imperfections.rate_limit, u.dtype) * jnp.asarray(self.dt, u.dtype)
            u = jnp.clip(u, before - most, before + most)
        return u

    def hold(self, x: Array, u: Array, d: Array, length: Array) -> Array:
        """Return the physical state after `length` seconds of held inputs."""
        matrices = self._matrices()
        if matrices is not None:
            return _moved(held(*matrices, length), x, u, d)
        if self.stepsize_controller is not None:
            steps = self.substeps, self.stepsize_controller, self.adjoint
            return adaptive_steps(self.plant, self.solver, steps, x, (u, d), length)
        return fixed_steps(self.plant, self.solver, self.substeps, x, (u, d), length)


@registered(name="plants.Sampled prepared")
class _Prepared(Sampled):
    """A sampled linear plant with the matrices of one sample."""

    change: tuple[Float[Array, "nx nx"], Float[Array, "nx nv"]] | None = None

    @override
    def prepare(self) -> Sampled:
        return self

    @override
    def lft(self) -> LFT | None:
        """Return the form with the matrices of one sample as they are, which may have been rounded."""
        return sampled_form(self, self.change)

    @override
    def hold(self, x: Array, u: Array, d: Array, length: Array) -> Array:
        assert self.change is not None
        return _moved(self.change, x, u, d)


def _moved(change: tuple[Array, Array], x: Array, u: Array, d: Array) -> Array:
    F, G = change
    return x + F @ x + G @ jnp.concatenate([u, d])


def _names(signals: tuple[Signal, ...]) -> tuple[str, ...]:
    return tuple(s.name for s in signals)


def _units(signals: tuple[Signal, ...]) -> tuple[str, ...]:
    return tuple(s.unit for s in signals)
