"""Linearization by exact Jacobians, at a point or along a trajectory, and equilibria."""

import warnings
from typing import NamedTuple

import control as ct
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..checks import is_whole
from ..errors import InvalidModelError, RobustctlError, RobustctlWarning
from ..plants import Plant, check_equilibrium
from .convert import check_inputs
from .flat import Flat, flatten, in_float64
from .nonlinear import sample_time
from .summary import summary
from .types import ArrayLike, SystemLike


class Equilibrium(NamedTuple):
    """An equilibrium of a system.

    **Arguments:**

    - `x`: the state, in the system's own form
    - `u`: the input, a vector
    - `y`: the output, a vector
    """

    x: PyTree
    u: np.ndarray
    y: np.ndarray

    __repr__ = summary


class Along(NamedTuple):
    """Jacobians along a trajectory, time first.

    **Arguments:**

    - `A`: (T, nx, nx)
    - `B`: (T, nx, nu)
    - `C`: (T, ny, nx)
    - `D`: (T, ny, nu)
    - `xs`: the states (T, nx)
    - `us`: the inputs (T, nu)
    - `ys`: the outputs (T, ny)
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    xs: np.ndarray
    us: np.ndarray
    ys: np.ndarray

    __repr__ = summary


def linearize(
    system: SystemLike,
    x0: PyTree = None,
    u0: PyTree = None,
    *,
    dt: float | None = None,
    references: int = 0,
) -> ct.StateSpace:
    """Linearize a system, plant or loop at a point, by exact Jacobians in float64.

    ::

        A = df/dx,  B = df/du,  C = dh/dx,  D = dh/du       at (x0, u0), for x+ = f(x, u) or dx/dt = f(x, u)

    A `Plant` or `Sampled` has the input `[u, d]`, a loop the input `[d, r]` and the output `[y, u]`. The result has the
    names and dt of the system.

    **Arguments:**

    - `system`: a system, a plant, or a feedback loop about a sampled plant
    - `x0`: state as a vector or in the system's own form, default the initial state (a plant's operating point)
    - `u0`: input likewise, default zero (a plant's operating point); or the width of the input
    - `dt`: seconds per sample, for a system that does not define its sample time
    - `references`: number of references of a loop

    **Raises:** `InvalidModelError` for sizes that do not fit, an unknown width of the input or sample time, and
    Jacobians that are not finite.

    **Warns:** `RobustctlWarning` for a plant whose operating point is not an equilibrium, if that is the point.

    **Example:** ::

        plant = rc.plants.TwoTanks()
        linear = rc.classical.linearize(plant)          # a control.StateSpace
    """
    flat = flatten(system, u0, references)
    check_inputs(flat.u.size)
    if flat.plant is not None and x0 is None and u0 is None:
        _warn_of_motion(flat.plant)
    x, u = _point(flat, x0, u0)
    A, B, C, D = jacobians(flat, x, u)
    for letter, M in zip("ABCD", (A, B, C, D), strict=True):
        if not np.isfinite(M).all():
            raise InvalidModelError(
                f"the Jacobian {letter} must be finite at x0 = {x}, u0 = {u}, but is not; choose another point"
            )
    names = {"inputs": list(flat.inputs), "outputs": list(flat.outputs), "states": list(flat.states)}
    return ct.StateSpace(A, B, C, D, sample_time(flat.dt, dt, system), **names)


def _warn_of_motion(plant: Plant) -> None:
    try:
        check_equilibrium(plant)
    except InvalidModelError as error:
        warnings.warn(f"the linearization leaves a motion out: {error}", RobustctlWarning, stacklevel=3)


def equilibrium(
    system: SystemLike,
    u0: PyTree = None,
    x0: PyTree = None,
    *,
    references: int = 0,
    settle: int = 0,
    tolerance: float = 1e-9,
) -> Equilibrium:
    """Find an equilibrium of a system, plant or loop under the constant input `u0`.

    ::

        f(x, u0) = x  in discrete time,    f(x, u0) = 0  in continuous time

    By Powell's hybrid method with exact Jacobians.

    **Arguments:**

    - `system`: as for `linearize`
    - `u0`: the input, as for `linearize`
    - `references`: as for `linearize`
    - `x0`: where the search starts, default the initial state
    - `settle`: number of samples to simulate a discrete-time system from `x0` before the search
    - `tolerance`: largest residual, relative to the largest entry of x above 1

    **Raises:** `RobustctlError` if none is found near `x0`, with the residual.

    **Example:** ::

        point = rc.classical.equilibrium(rc.plants.TwoTanks(), x0=[8.0, 12.0])
    """
    flat = flatten(system, u0, references)
    x, u = _point(flat, x0, u0)
    residual, slope = _residual(flat, u)
    if settle and flat.dt != 0:
        later = _later(flat, x, u, settle)
        x = later if np.isfinite(later).all() else x
    if x.size:
        # xtol far below `tolerance`, so that Powell's method ends at rounding; Newton steps then take what it left
        found = scipy.optimize.root(residual, x, jac=slope, method="hybr", options={"xtol": 1e-13})
        x = _newton(residual, slope, found.x)
    left = np.abs(residual(x)).max(initial=0.0)
    if not left <= tolerance * max(1.0, np.abs(x).max(initial=0.0)):
        raise RobustctlError(
            f"there must be an equilibrium for u0 = {_few(u)} near x0; the search stopped at x = {_few(x)} with the residual "
            f"{left:.3g}. Give another x0 or u0 (a system that integrates has an equilibrium for some inputs only)"
        )
    return Equilibrium(in_float64(flat.restore)(x), u, _output(flat, x, u))


@in_float64
def _later(flat: Flat, x: np.ndarray, u: np.ndarray, samples: int) -> np.ndarray:
    return np.asarray(_run(flat.step, jnp.asarray(x), jnp.asarray(u), samples))


@eqx.filter_jit
def _run(step, x, u, samples: int):
    return jax.lax.fori_loop(0, samples, lambda _, x: step(x, u)[0], x)


def _few(a: np.ndarray) -> str:
    return np.array2string(a, precision=4, threshold=8, edgeitems=3, separator=", ")


@in_float64
def _output(flat: Flat, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.asarray(evaluated(flat.step, jnp.asarray(x), jnp.asarray(u))[1])


@eqx.filter_jit
def evaluated(step, x, u):
    """Return `step(x, u)`."""
    return step(x, u)


def linearize_along(system: SystemLike, us: ArrayLike, x0: PyTree = None, *, references: int = 0) -> Along:
    """Return the Jacobians of a discrete-time system along its trajectory under the inputs `us` (T, nu).

    ::

        A[t] = df/dx,  B[t] = df/du,  C[t] = dh/dx,  D[t] = dh/du   at (xs[t], us[t])

    **Arguments:**

    - `system`: as for `linearize`
    - `x0`: the initial state, as for `linearize`
    - `references`: as for `linearize`
    - `us`: the inputs (T, nu), time first

    **Raises:** `InvalidModelError` for a continuous-time plant (sample it) and inputs of another width.
    """
    inputs = np.asarray(us, float)
    if inputs.ndim != 2:
        raise InvalidModelError(f"us must be time first, (T, nu), got shape {inputs.shape}")
    flat = flatten(system, inputs.shape[1], references)
    if flat.dt == 0:
        raise InvalidModelError(
            f"the system must be discrete, but a {type(system).__name__} is in continuous time; use Sampled(plant, dt)"
        )
    x, _ = _point(flat, x0, inputs[0])
    return Along(*(np.asarray(a) for a in _along(flat, x, inputs)))


@in_float64
def _along(flat: Flat, x: np.ndarray, us: np.ndarray):
    return _scanned(flat.step, jnp.asarray(x), jnp.asarray(us))


@eqx.filter_jit
def _scanned(step, x, us):
    def body(x, u):
        x_next, y = step(x, u)
        (A, B), (C, D) = jax.jacobian(step, (0, 1))(x, u)
        return x_next, (A, B, C, D, x, u, y)

    return jax.lax.scan(body, x, us)[1]


@in_float64
def jacobians(flat: Flat, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return A, B, C, D of a flat system at a point."""
    (A, B), (C, D) = _slopes(flat.step, jnp.asarray(x), jnp.asarray(u))
    return tuple(np.asarray(M) for M in (A, B, C, D))


@eqx.filter_jit
def _slopes(step, x, u):
    return jax.jacobian(step, (0, 1))(x, u)


def _residual(flat: Flat, u: np.ndarray):
    @in_float64
    def call(function, x):
        point = jnp.asarray(x, jnp.float64), jnp.asarray(u, jnp.float64)
        return np.asarray(function(flat.step, flat.dt == 0, *point))

    return lambda x: call(_change, x), lambda x: call(_change_slope, x)


@eqx.filter_jit
def _change(step, continuous: bool, x, u):
    f = step(x, u)[0]
    return f if continuous else f - x


_change_slope = eqx.filter_jit(jax.jacobian(_change, 2))


def _newton(residual, slope, x: np.ndarray) -> np.ndarray:
    """Refine a root by a few Newton steps, while they reduce the residual."""
    for _ in range(5):  # convergence is quadratic: from Powell's tolerance one or two steps reach rounding
        r = residual(x)
        if not np.isfinite(r).all():
            return x
        # least squares, for a continuum of equilibria has a singular Jacobian
        after = x - np.linalg.lstsq(slope(x), r, rcond=None)[0]
        if not np.abs(residual(after)).max() < np.abs(r).max():
            return x
        x = after
    return x


def _point(flat: Flat, x0: PyTree, u0: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """Return the point as two vectors, as given or the system's own."""
    point = []
    for what, given, own in (("x0", x0, flat.x), ("u0", u0, flat.u)):
        value = own if given is None or is_whole(given, 0) else vector(given)
        if what == "x0" and value.size != own.size and hasattr(given, "_replace"):
            value = value[: own.size]  # a PlantState, whose last entries do not matter without a rate limit
        if value.shape != own.shape:
            raise InvalidModelError(f"{what} must have {own.size} entries, got {value.size}")
        point.append(np.asarray(value, float))
    return point[0], point[1]


@in_float64
def vector(tree: PyTree) -> np.ndarray:
    """Return a pytree of arrays as one float64 vector."""
    return np.asarray(ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree))[0])
