"""The two nouns: a `System` steps through time, a `Parameterization` is what training moves."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from .errors import RobustctlError


class System(eqx.Module):
    """A discrete-time system, one sample a step, with no side effects.

    ::

        x[t+1], y[t] = step(x[t], u[t]),     x[0] = init_state()

    States, inputs and outputs are arrays or pytrees of arrays without a batch axis; batches are `jax.vmap`.
    """

    @abc.abstractmethod
    def init_state(self) -> PyTree:
        """Return the state that a rollout starts from when none is given."""

    @abc.abstractmethod
    def step(self, x: PyTree, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return `(x_next, y)` for state `x` and input `u`."""

    def prepare(self) -> "System":
        """Return the same system arranged for many steps; `rollout` calls it once before its scan."""
        return self

    def scan(self, x0: PyTree, us: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """Return `(xs, ys, x_final)` over a sequence, time first: step by step, where no better way is known."""
        return step_by_step(lambda x, u: self.step(x, u), x0, us)


def step_by_step(step: Callable, x0: PyTree, us: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """Return `(xs, ys, x_final)` of the scan of `step(x, u) -> (x_next, y)`."""

    def body(x, u):
        x_next, y = step(x, u)
        return x_next, (x, y)

    x_final, (xs, ys) = lax.scan(body, x0, us)
    return xs, ys, x_final


class Trajectory(eqx.Module):
    """What a rollout returns, time first.

    `xs[t]` is the state before sample t (so `xs[0]` is the initial state), `ys[t]` the output at sample t,
    and `x_final` the state after the last sample, from which a next rollout goes on.
    """

    xs: PyTree
    ys: PyTree
    x_final: PyTree


class StrictlyProper(System):
    """A system to be controlled: its output does not depend on the control of the same sample.

    ::

        y[t] = output(x[t], w[t]),      x[t+1] = advance(x[t], u[t], w[t])

    with the control `u` and everything else that acts on it, `w` (disturbances, references, noise). A
    controller can therefore read y[t] before it chooses u[t], and a loop about it is never algebraic.
    """

    @abc.abstractmethod
    def output(self, x: PyTree, w: PyTree) -> PyTree:
        """Return what a controller reads at state `x`."""

    @abc.abstractmethod
    def advance(self, x: PyTree, u: PyTree, w: PyTree) -> PyTree:
        """Return the next state under control `u`."""

    def step(self, x: PyTree, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return `(x_next, y)`; here the input is the pair `(u, w)`."""
        control, w = u
        return self.advance(x, control, w), self.output(x, w)


class Parameterization(eqx.Module):
    """Free, unconstrained arrays, and the map from them to a model that carries a guarantee.

    Every floating-point array in it may be moved freely by an optimizer: whatever the values,
    `explicit()` satisfies the guarantee. The map costs matrix solves, so call it once a loss and not
    once a step; a parameterization therefore has no `__call__` and no `step`.
    """

    @abc.abstractmethod
    def explicit(self) -> Any:
        """Return the model itself: a `System`, or for a network a callable."""


def dtype_of(model: PyTree):
    """Return the dtype of a model's floating-point arrays, with shapes and dtypes alone too."""
    leaves = (leaf for leaf in jax.tree.leaves(model) if hasattr(leaf, "dtype"))
    return jnp.result_type(*(leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)))


def _floats(values) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


class Scaled(System):
    """A system that works on scaled signals, seen from outside in the signals' own units.

    ::

        u_scaled = (u - u_mean) / u_std,    y = y_std * y_scaled + y_mean
    """

    system: System
    u_mean: Float[Array, " nu"]
    u_std: Float[Array, " nu"]
    y_mean: Float[Array, " ny"]
    y_std: Float[Array, " ny"]

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

    def scan(self, x0: PyTree, us: Float[Array, "T nu"]) -> tuple[PyTree, Float[Array, "T ny"], PyTree]:
        """Return `(xs, ys, x_final)` over a sequence, by the inner system's way."""
        xs, ys, x_final = self.system.scan(x0, (us - self.u_mean[None]) / self.u_std[None])
        return xs, self.y_std[None] * ys + self.y_mean[None], x_final

    def prepare(self) -> "Scaled":
        """Return the same with the inner system prepared."""
        return dataclasses.replace(self, system=self.system.prepare())


def _check_width(name: str, got: tuple[int, ...], scales: tuple[int, ...]) -> None:
    if got != scales:
        raise RobustctlError(f"one sample of {name} must have the shape of its scales, {scales}, got {got}")


class Rescaled(Parameterization):
    """A parameterization that works on inputs and outputs of size one, seen from outside in their own units.

    ::

        y = y_scale * inner(u / u_scale)

    A network sees its own nonlinearity only where its signals are about as large as its weights expect: an
    innovation of tenths of a millimeter wants `u_scale=(1e-3,)`. The certificate is in the signals' units.

    **Raises:** `RobustctlError` for a scale that is not positive and finite.
    """

    parameterization: Parameterization
    u_scale: tuple[float, ...] = eqx.field(static=True, converter=_floats)
    y_scale: tuple[float, ...] = eqx.field(static=True, converter=_floats)

    def __check_init__(self):
        """Refuse a scale that means nothing."""
        for name in ("u_scale", "y_scale"):
            if not all(0 < s < math.inf for s in getattr(self, name)):
                raise RobustctlError(f"{name} must be positive and finite, got {getattr(self, name)}")

    def explicit(self) -> Scaled:
        """Map to the system in the signals' own units."""
        dtype = dtype_of(self.parameterization)
        u, y = (jnp.asarray(scale, dtype) for scale in (self.u_scale, self.y_scale))
        return Scaled(self.parameterization.explicit(), jnp.zeros_like(u), u, jnp.zeros_like(y), y)
