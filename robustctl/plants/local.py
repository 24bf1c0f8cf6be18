"""What a plant does near its operating point, for checks before anything is designed or simulated."""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..affine import to_float64
from ..errors import InvalidModelError, RobustctlWarning
from ..pytrees import traced
from .plant import Plant
from .solvers import RK4

if TYPE_CHECKING:
    from .sampled import Sampled


class Local(NamedTuple):
    """A plant at its operating point: the point, the rates there, and their slopes A (nx, nx) and B (nx, nu)."""

    x: np.ndarray
    u: np.ndarray
    rates: np.ndarray
    A: np.ndarray
    B: np.ndarray


def local(plant: Plant) -> Local | None:
    """Return a plant at its operating point, in float64; None inside a trace, where there are no numbers."""
    if traced(plant):
        return None
    with jax.enable_x64(True):
        found = _local(to_float64(plant))
        return Local(*(np.asarray(a, float) for a in found))


@eqx.filter_jit
def _local(plant: Plant):
    x, u = (jnp.asarray(a, jnp.float64) for a in plant.operating_point())
    d = jnp.zeros(len(plant.disturbances), x.dtype)
    A, B = jax.jacfwd(plant.rates, (0, 1))(x, u, d)
    return x, u, plant.rates(x, u, d), A, B


def check_equilibrium(plant: Plant) -> None:
    """Refuse a plant whose operating point is not an equilibrium.

    **Raises:** `InvalidModelError` with the rates.
    """
    at = local(plant)
    if at is None:
        return
    # 1e-4 of the terms that must cancel: a point computed in float32 leaves 1e-7. 1e-9: rounding of terms about zero.
    allowed = 1e-4 * (np.abs(at.A) @ np.abs(at.x) + np.abs(at.B) @ np.abs(at.u)) + 1e-9
    off = ~(np.abs(at.rates) <= allowed)
    if off.any():
        moving = ", ".join(
            f"{s.name} by {rate:.4g} {s.unit}/s".replace(" /s", " 1/s")
            for s, rate, moves in zip(plant.states, at.rates, off, strict=True)
            if moves
        )
        raise InvalidModelError(
            f"the operating point must be an equilibrium of the plant, but at x = {_few(at.x)}, u = {_few(at.u)} it moves: {moving}; let "
            f"operating_point() of {type(plant).__name__} return an equilibrium (rc.classical.equilibrium(plant, u0, x0) finds x for a u)"
        )


def check_steps(sampled: "Sampled") -> None:
    """Refuse steps of a fixed size that are too long for the plant at its operating point, or warn of them.

    **Raises:** `InvalidModelError` for a stable mode that the steps make unstable.

    **Warns:** `RobustctlWarning` for an oscillation that they miss by 1 % of its size or more in a sample, and a decay by 25 %.
    """
    implicit = isinstance(sampled.solver, dfx.AbstractImplicitSolver)
    at = None if sampled.exact or implicit or sampled.stepsize_controller else local(sampled.plant)
    if at is None or not (at.x.size and np.isfinite(at.A).all()):
        return
    modes = np.linalg.eigvals(at.A)
    step = sampled.dt / sampled.substeps
    k = int(np.argmax(np.abs(modes)))
    fastest = float(np.abs(modes[k]))
    if isinstance(sampled.solver, RK4):
        grown, exact = _runge_kutta(modes * step), np.exp(modes * step)
        lost = (modes.real < 0) & (np.abs(grown) >= 1)
        error = np.abs(grown**sampled.substeps - exact**sampled.substeps) / np.maximum(
            np.abs(exact**sampled.substeps), 1
        )
        # An oscillation adds up what each sample misses, while a decay forgets it.
        poor = bool((error > np.where(np.abs(modes.imag) > np.abs(modes.real), 0.01, 0.25)).any())
    else:  # of other methods only the order of magnitude is known: a step may not be longer than what it follows
        lost, poor = np.zeros(len(modes), bool), fastest * step > 1
    if not (lost.any() or poor):
        return
    name = (
        f"{type(sampled.plant).__name__} sampled at {sampled.dt:g} s with {sampled.substeps} steps per sample"
    )
    found = (
        f"the solver's steps must follow the plant's fastest mode, {modes[k]:.4g} 1/s at its operating point, but "
        f"|lambda| times a step is {fastest * step:.3g} for {name}"
    )
    if lost.any():
        raise InvalidModelError(
            f"{found}, which makes a stable plant unstable; {_remedy(fastest * sampled.dt)}"
        )
    warnings.warn(f"{found}; {_remedy(fastest * sampled.dt)}", RobustctlWarning, stacklevel=5)


def _runge_kutta(z: np.ndarray) -> np.ndarray:
    """Return the factor that a step of the fourth-order method multiplies a mode by, for z = lambda h."""
    return 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24


def _remedy(reach: float) -> str:
    stiff = "solver=diffrax.Kvaerno5(), stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-9)"
    # |lambda| h = 1 leaves 0.8 % in a step; beyond 100 steps an implicit method costs less
    steps = max(2, int(np.ceil(reach * (1 - 1e-9))))  # rounding asks for no further step
    return f"take substeps={steps}" if steps <= 100 else f"take a stiff solver, {stiff}, or substeps={steps}"


def _few(a: np.ndarray) -> str:
    return np.array2string(a, precision=4, threshold=8, edgeitems=3, separator=", ")
