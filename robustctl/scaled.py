"""Systems seen in other units than those they work in."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from .errors import InvalidModelError, RobustctlError
from .lft import LFT, Claim, float64, rescaled
from .registry import registered
from .system import Parameterization, SignalLimits, System, dtype_of

Limits = tuple[tuple[float, float] | None, ...]
"""Lowest and highest value of each channel, None of one that was never measured: a file holds no infinite numbers."""


def _floats(values) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@registered()
class Scaled(System):
    """A system that works on scaled signals, seen from outside in the signals' own units.

    ::

        u_scaled = (u - u_mean) / u_std,    y = y_std * y_scaled + y_mean

    **Arguments:**

    - `system`: the system that works on scaled signals.
    - `u_mean`: offsets of the inputs (nu,), in their units.
    - `u_std`: scales of the inputs (nu,).
    - `y_mean`: offsets of the outputs (ny,), in their units.
    - `y_std`: scales of the outputs (ny,).
    - `dt`: sample time in seconds, None where unknown as are the next four.
    - `inputs`: one name per input.
    - `outputs`: one name per output.
    - `input_units`: one per input.
    - `output_units`: one per output.
    - `trained`: lowest and highest value of each input, and of each output, in the record that it was trained on; None where unknown.

    **Raises:** `RobustctlError` for scales that do not fit each other or the system.
    """

    system: System
    u_mean: Float[Array, " nu"]
    u_std: Float[Array, " nu"]
    y_mean: Float[Array, " ny"]
    y_std: Float[Array, " ny"]
    dt: float | None = eqx.field(static=True, default=None, kw_only=True)
    inputs: tuple[str, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    outputs: tuple[str, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    input_units: tuple[str, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    output_units: tuple[str, ...] | None = eqx.field(static=True, default=None, kw_only=True)
    trained: tuple[Limits, Limits] | None = eqx.field(static=True, default=None, kw_only=True)

    def __check_init__(self):
        """Refuse scales that arithmetic would repeat, and ones that do not fit the system."""
        scales = (
            (self.u_mean.shape, (self.system.nu,), self.u_std),
            (self.y_mean.shape, (self.system.ny,), self.y_std),
        )
        for name, (mean, inner, std) in zip("uy", scales, strict=True):
            if mean != std.shape or inner not in ((None,), std.shape):
                raise RobustctlError(
                    f"there must be one scale for each channel of {name}, {inner[0]} in the system, got shapes {mean} and {std.shape}"
                )
        sizes = (*self.u_std.shape, *self.y_std.shape)
        if self.trained is not None and tuple(map(len, self.trained)) != sizes:
            raise RobustctlError(
                f"there must be a trained range for each of {self.nu} inputs and {self.ny} outputs, got {self.trained}"
            )

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.u_std.shape[0]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.y_std.shape[0]

    def lft(self) -> LFT | None:
        """Return the inner system's form with the scales in its ports."""
        inner = self.system.lft()
        if inner is None:
            return None
        u_std, y_std = float64(self.u_std, self.y_std)
        return rescaled(inner, 1 / u_std, y_std)

    @property
    def claim(self) -> Claim | None:
        """The inner system's claim, its supply rate in the signals' own units."""
        claim = self.system.claim
        if claim is None or claim.supply is None:
            return claim
        u_std, y_std = float64(self.u_std, self.y_std)
        Q, S, R = claim.supply
        u, y = 1 / u_std, 1 / y_std
        Q, R = y[:, None] * Q * y, u[:, None] * R * u
        # Products round the two halves of a symmetric matrix apart.
        return claim._replace(supply=((Q + Q.T) / 2, u[:, None] * S * y, (R + R.T) / 2))

    @property
    def flags(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Positions of the inputs that are 0 or 1."""
        return self.system.flags

    @property
    def schedule(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Positions of the schedule among the inputs."""
        return self.system.schedule

    @property
    def innermost(self) -> System:
        """The system inside."""
        return self.system.innermost

    def flag_fault(self) -> str:
        """Return which flags the scales turn into other numbers than 0 and 1, here or in the inner system; empty where none are."""
        try:
            check_flags(self.flags, self.u_mean, self.u_std)
        except (InvalidModelError, TypeError) as error:  # TypeError: complex scales
            return str(error)
        return self.system.flag_fault()

    def modes(self) -> tuple[System, ...]:
        """Return the inner system's modes with the scales of the inputs that they have.

        **Raises:** `InvalidModelError` for a scale that turns the 0 and 1 of a flag into other numbers.
        """
        modes = self.system.modes()
        if len(modes) == 1 and modes[0] is self.system:
            return (self,)
        check_flags(self.flags, self.u_mean, self.u_std)
        # A mode has neither flags nor a schedule among its inputs: they are fixed.
        read = np.delete(np.arange(self.nu), (*self.flags, *self.schedule))
        u_mean, u_std = (jax.device_put(np.asarray(a)[read]) for a in (self.u_mean, self.u_std))
        return tuple(Scaled(mode, u_mean, u_std, self.y_mean, self.y_std) for mode in modes)

    def input_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the offsets and scales of the inputs."""
        mean, std = float64(self.u_mean, self.u_std)
        return mean, std

    def input_limits(self) -> SignalLimits | None:
        """Return the inner system's limits in the inputs' own units."""
        return _unscaled(self.system.input_limits(), self.u_mean, self.u_std)

    def output_limits(self) -> SignalLimits | None:
        """Return the inner system's limits in the outputs' own units."""
        return _unscaled(self.system.output_limits(), self.y_mean, self.y_std)

    def actuator_limits(self) -> SignalLimits | None:
        """Return what the inner system's actuators can do, in the outputs' own units."""
        return _unscaled(self.system.actuator_limits(), self.y_mean, self.y_std)

    def trained_ranges(self) -> dict[str, list[list[float]]] | None:
        """Return lowest and highest values of inputs `u` and outputs `y` of the record that it was trained on; None where unknown."""
        if self.trained is None:
            return None
        nothing = (math.inf, -math.inf)
        u, y = ([list(limits or nothing) for limits in each] for each in self.trained)
        return {"u": u, "y": y}

    def init_state(self) -> PyTree:
        """Return the inner system's initial state."""
        return self.system.init_state()

    def step(self, x: PyTree, u: Float[Array, " nu"]) -> tuple[PyTree, Float[Array, " ny"]]:
        """Return `(x_next, y)`, with `u` and `y` in their own units.

        **Raises:** `RobustctlError` for signals that are not as many as their scales, which arithmetic would repeat.
        """
        _check_width("u", jnp.shape(u), self.u_std.shape)
        x_next, y = self.system.step(x, (u - self.u_mean) / self.u_std)
        _check_width("y", y.shape, self.y_std.shape)
        return x_next, self.y_std * y + self.y_mean

    def numpy_step(self) -> tuple[Callable, PyTree] | None:
        """Return the inner system's step in NumPy between the scales; it refuses an input of another shape."""
        inner = self.system.numpy_step()
        if inner is None:
            return None
        step, start = inner
        u_mean, u_std, y_mean, y_std = (
            np.asarray(a) for a in (self.u_mean, self.u_std, self.y_mean, self.y_std)
        )

        def scaled(x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if np.shape(u) != u_mean.shape:
                raise InvalidModelError(
                    f"u must be one sample, an array of shape {u_mean.shape}, got shape {np.shape(u)}"
                )
            x_next, y = step(x, (u - u_mean) / u_std)
            return x_next, y_std * y + y_mean

        return scaled, start

    def state_matrix(self) -> Array | None:
        """Return the inner system's: the state is its own."""
        return self.system.state_matrix()

    def scan(self, x0: PyTree, us: Float[Array, "T nu"]) -> tuple[PyTree, Float[Array, "T ny"], PyTree]:
        """Return `(xs, ys, x_final)` over a sequence, by the inner system's way."""
        xs, ys, x_final = self.system.scan(x0, (us - self.u_mean[None]) / self.u_std[None])
        return xs, self.y_std[None] * ys + self.y_mean[None], x_final

    def prepare(self) -> "Scaled":
        """Return the same with the inner system prepared."""
        return dataclasses.replace(self, system=self.system.prepare())


def _unscaled(limits: SignalLimits | None, mean: Array, std: Array) -> SignalLimits | None:
    """Return limits of scaled signals in the signals' own units."""
    if limits is None:
        return None
    mean64, std64, low, high = float64(mean, std, *limits)
    ends = mean64 + std64 * np.stack([low, high])
    # A scale below zero turns a lowest value into a highest.
    return ends.min(axis=0), ends.max(axis=0)


def _check_width(name: str, got: tuple[int, ...], scales: tuple[int, ...]) -> None:
    if got != scales:
        raise RobustctlError(f"one sample of {name} must have the shape of its scales, {scales}, got {got}")


def check_flags(flags: Sequence[int], u_mean: ArrayLike, u_std: ArrayLike) -> None:
    """Raise `InvalidModelError` unless inputs that are flags, 0 or 1, are not changed by a scaling.

    **Arguments:**

    - `flags`: their positions
    - `u_mean`: offsets of all inputs (nu,)
    - `u_std`: scales of all inputs (nu,)
    """
    read = list(flags)
    mean, std = float64(u_mean, u_std)
    if np.any(mean[read] != 0) or np.any(std[read] != 1):
        raise InvalidModelError(
            f"inputs {read} are flags, which must reach the model as 0 and 1, so that their mean must be 0 and their scale 1, got "
            f"{mean[read].tolist()} and {std[read].tolist()}; rc.observers.for_prediction returns such a scaling"
        )


@registered()
class Rescaled(Parameterization):
    """A parameterization that works on inputs and outputs of size one, seen from outside in their own units.

    ::

        y = y_scale * inner(u / u_scale)

    A network sees its own nonlinearity only where its signals are about as large as its weights expect: an
    innovation of tenths of a millimeter wants `u_scale=(1e-3,)`. The certificate is in the signals' units.

    **Arguments:**

    - `parameterization`: the inner model
    - `u_scale`: one size per input, in its unit
    - `y_scale`: one size per output, in its unit

    **Raises:** `RobustctlError` for a scale that is not positive and finite.
    """

    parameterization: Parameterization
    u_scale: tuple[float, ...] = eqx.field(static=True, converter=_floats)
    y_scale: tuple[float, ...] = eqx.field(static=True, converter=_floats)

    def __check_init__(self):
        """Refuse a scale that is not positive and finite."""
        for name, scale in (("u_scale", self.u_scale), ("y_scale", self.y_scale)):
            if not all(0 < s < math.inf for s in scale):
                raise RobustctlError(f"{name} must be positive and finite, got {scale}")

    def explicit(self) -> Scaled:
        """Map to the system in the signals' own units."""
        dtype = dtype_of(self.parameterization)
        u, y = (jnp.asarray(scale, dtype) for scale in (self.u_scale, self.y_scale))
        return Scaled(self.parameterization.explicit(), jnp.zeros_like(u), u, jnp.zeros_like(y), y)

    def quiet(self, factor: float = 1e-2) -> "Rescaled":
        """Return the same about the inner model's scaled-down version."""
        return dataclasses.replace(self, parameterization=self.parameterization.quiet(factor))
