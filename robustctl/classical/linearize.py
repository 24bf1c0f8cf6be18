"""Linearization by exact Jacobians, at a point or along a trajectory, and the equilibria to do it at."""

from typing import Any, NamedTuple

import control as ct
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from ..errors import ModelError, RobustctlError
from .flat import Flat, flatten, in_float64
from .nonlinear import sample_time


class Equilibrium(NamedTuple):
    """A point where a system stays: its state `x` (in the system's own form), input `u` and output `y`."""

    x: Any
    u: np.ndarray
    y: np.ndarray


class Along(NamedTuple):
    """Jacobians along a trajectory, time first: `A` (T, nx, nx), `B`, `C`, `D`, and the points `xs us ys`."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    xs: np.ndarray
    us: np.ndarray
    ys: np.ndarray


def linearize(
    system: Any, x0: Any = None, u0: Any = None, *, dt: float | None = None, references: int = 0
) -> ct.StateSpace:
    """Return the linearization of a system, plant or loop at a point, by exact Jacobians in float64.

    ::

        A = df/dx,  B = df/du,  C = dh/dx,  D = dh/du       at (x0, u0), for x+ = f(x, u) or dx/dt = f(x, u)

    What the vectors hold is told at `to_nonlinear_io`: a `Plant` or `Sampled` has the input `[u, d]`, a loop
    `[d, r]` and the output `[y, u]`. Names and dt are kept.

    **Arguments:** `x0`, `u0`: state and input as vectors or in the system's own form; default: where the system
    starts (a plant at its operating point); `dt`: where the system does not know it.

    **Raises:** `ModelError` for sizes that do not fit, an unknown width of the input or sample time, and
    Jacobians that are not finite.
    """
    flat = flatten(system, u0, references)
    x, u = _point(flat, x0, u0)
    A, B, C, D = jacobians(flat, x, u)
    for letter, M in zip("ABCD", (A, B, C, D), strict=True):
        if not np.isfinite(M).all():
            raise ModelError(
                f"the Jacobian {letter} must be finite at x0 = {x}, u0 = {u}; take another point"
            )
    names = {"inputs": list(flat.inputs), "outputs": list(flat.outputs), "states": list(flat.states)}
    return ct.StateSpace(A, B, C, D, sample_time(flat.dt, dt, system), **names)


def equilibrium(
    system: Any,
    u0: Any = None,
    x0: Any = None,
    *,
    references: int = 0,
    settle: int = 0,
    tolerance: float = 1e-9,
) -> Equilibrium:
    """Return where a system or plant stays under the constant input `u0`.

    ::

        f(x, u0) = x  in discrete time,    f(x, u0) = 0  in continuous time

    By Powell's hybrid method with exact Jacobians, from `x0` (default: where the system starts), or from where a
    discrete-time system is `settle` samples later.

    **Raises:** `RobustctlError` where none is found near `x0`, with the residual that is left.
    """
    flat = flatten(system, u0, references)
    x, u = _point(flat, x0, u0)
    residual, slope = _residual(flat, u)
    if settle and flat.dt != 0:
        later = _later(flat, x, u, settle)
        x = later if np.isfinite(later).all() else x
    if x.size:
        found = scipy.optimize.root(residual, x, jac=slope, method="hybr", options={"xtol": 1e-13})
        x = _newton(residual, slope, found.x)
    left = np.abs(residual(x)).max(initial=0.0)
    if not left <= tolerance * max(1.0, np.abs(x).max(initial=0.0)):
        raise RobustctlError(
            f"there must be an equilibrium for u0 = {_few(u)} near x0; the search stopped at x = {_few(x)} with {left:.3g} left. "
            "Give another x0 or u0 (a system that integrates has an equilibrium for some inputs only)"
        )
    return Equilibrium(in_float64(flat.restore)(x), u, _output(flat, x, u))


@in_float64
def _later(flat: Flat, x: np.ndarray, u: np.ndarray, samples: int) -> np.ndarray:
    held = jnp.asarray(u)
    run = jax.jit(lambda x: jax.lax.fori_loop(0, samples, lambda _, x: flat.step(x, held)[0], x))
    return np.asarray(run(jnp.asarray(x)))


def _few(a: np.ndarray) -> str:
    return np.array2string(a, precision=4, threshold=8, edgeitems=3, separator=", ")


@in_float64
def _output(flat: Flat, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.asarray(flat.step(jnp.asarray(x), jnp.asarray(u))[1])


def linearize_along(system: Any, us: Any, x0: Any = None, *, references: int = 0) -> Along:
    """Return the Jacobians of a discrete-time system along its trajectory under the inputs `us` (T, nu).

    ::

        A[t] = df/dx,  B[t] = df/du,  C[t] = dh/dx,  D[t] = dh/du   at (xs[t], us[t])

    **Raises:** `ModelError` for a continuous-time plant (sample it) and inputs of another width.
    """
    us = np.asarray(us, float)
    if us.ndim != 2:
        raise ModelError(f"us must be time first, (T, nu), got shape {us.shape}")
    flat = flatten(system, us.shape[1], references)
    if flat.dt == 0:
        raise ModelError(
            f"a {type(system).__name__} in continuous time has no samples; take Sampled(plant, dt)"
        )
    x, _ = _point(flat, x0, us[0])
    return Along(*(np.asarray(a) for a in _along(flat, x, us)))


@in_float64
def _along(flat: Flat, x, us):
    def body(x, u):
        x_next, y = flat.step(x, u)
        (A, B), (C, D) = jax.jacobian(flat.step, (0, 1))(x, u)
        return x_next, (A, B, C, D, x, u, y)

    return jax.jit(lambda x, us: jax.lax.scan(body, x, us)[1])(jnp.asarray(x), jnp.asarray(us))


@in_float64
def jacobians(flat: Flat, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return A, B, C, D of a flat system at a point."""
    (A, B), (C, D) = jax.jit(jax.jacobian(flat.step, (0, 1)))(jnp.asarray(x), jnp.asarray(u))
    return tuple(np.asarray(M) for M in (A, B, C, D))


def _residual(flat: Flat, u: np.ndarray):
    def stay(x, u):
        f = flat.step(x, u)[0]
        return f if flat.dt == 0 else f - x

    compiled, slope = jax.jit(stay), jax.jit(jax.jacobian(stay))

    @in_float64
    def call(function, x):
        return np.asarray(function(jnp.asarray(x, jnp.float64), jnp.asarray(u, jnp.float64)))

    return lambda x: call(compiled, x), lambda x: call(slope, x)


def _newton(residual, slope, x: np.ndarray) -> np.ndarray:
    """Polish a root by a few Newton steps, as far as they help."""
    for _ in range(5):
        r = residual(x)
        if not np.isfinite(r).all():
            return x
        after = x - np.linalg.lstsq(slope(x), r, rcond=None)[0]
        if not np.abs(residual(after)).max() < np.abs(r).max():
            return x
        x = after
    return x


def _point(flat: Flat, x0: Any, u0: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the point as two vectors, the given or the system's own."""
    point = []
    for what, given, own in (("x0", x0, flat.x), ("u0", u0, flat.u)):
        value = own if given is None or isinstance(given, int) else vector(given)
        if what == "x0" and value.size != own.size and hasattr(given, "_replace"):
            value = value[: own.size]  # a PlantState, of which the last entries may not matter
        if value.shape != own.shape:
            raise ModelError(f"{what} must have {own.size} entries, got {value.size}")
        point.append(np.asarray(value, float))
    return point[0], point[1]


@in_float64
def vector(tree: Any) -> np.ndarray:
    """Return a pytree of arrays as one float64 vector."""
    return np.asarray(ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree))[0])
