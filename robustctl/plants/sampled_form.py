"""What is known of a sampled linear plant for a proof."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ..affine import to_float64
from ..errors import InvalidModelError
from ..lft import LFT, delay, float64, joined, linear, saturation, signals
from .signal import limits

if TYPE_CHECKING:
    from .sampled import Sampled

_ADAPTIVE = "steps of adaptive size solve the plant's equations exactly"


def sampled_form(sampled: "Sampled", change: tuple | None = None) -> LFT | None:
    """Return the form from `[u, d]` to y, states as in a `PlantState`; None where the loop is not known well enough.

    `change`: F and G of `x+ = x + F x + G [u, d]`, where a sample is computed from them.
    """
    imperfections = sampled.imperfections
    continuous = sampled.plant.lft()
    unknown = (
        imperfections.rate_limit,
        imperfections.resolution,
        imperfections.jitter or None,
        imperfections.late,
    )
    if continuous is None or continuous.blocks or any(value is not None for value in unknown):
        return None
    if change is None:
        held = _held(sampled, continuous)
    else:
        F, G = float64(*change)
        held = linear(np.eye(len(F)) + F, G, continuous.C2, continuous.D22)
    nu = sampled.nu
    bounded = np.asarray(np.isfinite(np.array(limits(sampled.plant.controls))).any(axis=0))
    limited = bounded if imperfections.saturate else np.zeros_like(bounded)
    parts = [held, delay(nu, imperfections.delay), saturation(limited), delay(nu, 1)]
    y, due, applied, _, u, d = signals(parts, nu, held.nu - nu)
    return joined(parts, [applied, d, u, due, applied], [y])


def _held(sampled: "Sampled", continuous: LFT) -> LFT:
    """Return the plant from one sample to the next."""
    nu, nd = sampled.nu, len(sampled.plant.disturbances)
    expected = len(sampled.plant.states), nu + nd, sampled.ny
    if (continuous.nx, continuous.nu, continuous.ny) != expected:
        raise InvalidModelError(
            f"lft() of {type(sampled.plant).__name__} must have the plant's numbers of states, of controls and disturbances and of "
            f"outputs, {expected}, got {(continuous.nx, continuous.nu, continuous.ny)}"
        )
    if sampled.exact or sampled.stepsize_controller is not None:
        zeros = np.zeros((nu + nd, continuous.nx + nu + nd))
        exact = scipy.linalg.expm(sampled.dt * np.block([[continuous.A, continuous.B2], [zeros]]))
        A, B = np.split(exact[: continuous.nx], [continuous.nx], axis=1)
        assumed = () if sampled.exact else (_ADAPTIVE,)
        return linear(A, B, continuous.C2, continuous.D22)._replace(assumptions=assumed)
    with jax.enable_x64(True):
        (A, B) = _step_matrices(to_float64(sampled), nu, nd)
    return linear(A, B, continuous.C2, continuous.D22)


@eqx.filter_jit
def _step_matrices(sampled: "Sampled", nu: int, nd: int):
    """Return A and B of the solver's own step, which is linear for a linear plant: its differences from zero."""
    nx = len(sampled.plant.states)
    length = jnp.asarray(sampled.dt, jnp.float64)

    def after(z):
        return sampled.hold(z[:nx], z[nx : nx + nu], z[nx + nu :], length)

    eye = jnp.eye(nx + nu + nd, dtype=jnp.float64)
    change = jax.vmap(after)(eye) - after(jnp.zeros_like(eye[0]))[None]
    return change[:nx].T, change[nx:].T
