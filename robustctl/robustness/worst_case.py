"""The worst disturbance for a loop, by gradient ascent through the nonlinear loop."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..classical.flat import in_float64, sampled_plant
from ..classical.response import at_frequencies
from ..loops import Feedback
from ..plants import Exogenous, undisturbed
from ..system import System
from ..trajectory import rollout
from .linear_loop import LinearLoop, Performance, frequencies, plain

RANDOMS = 16
"""Random disturbances that the worst one is compared with."""


class WorstCase(NamedTuple):
    """The worst disturbance that was found and its effect, compared with random ones of the same energy.

    **Arguments:**

    - `d`: the disturbance (T, nd)
    - `z`: the deviation (T, nz) that it causes
    - `gain`: `|z| / |d|`
    - `random_z`: the deviation (T, nz) that the first random disturbance causes
    - `random_gains`: (R,), of the random disturbances
    - `rms`: root mean square of each disturbance
    """

    d: np.ndarray
    z: np.ndarray
    gain: float
    random_z: np.ndarray
    random_gains: np.ndarray
    rms: float


@in_float64
def worst_case(
    loop: Feedback,
    linear: LinearLoop,
    performance: Performance,
    reference: np.ndarray,
    *,
    rms: float,
    horizon: int,
    steps: int,
    key: PRNGKeyArray,
) -> WorstCase:
    """Search for the disturbance of a given energy that changes the performance output most.

    ::

        max over |d| = rms sqrt(T nd)  of  |z(d) - z(0)|_2 / |d|_2,   from the loop's equilibrium, T = horizon
        d <- |d| grad / |grad|

    The normalized ascent is the power method on a linear loop and approaches its H-infinity norm from below as
    the horizon grows. It starts from noise and from a sine at the linearization's worst frequency. Source: Tierno,
    Murray, Doyle, Gregory, "Numerically efficient robustness analysis of trajectory tracking for nonlinear
    systems", J. Guidance Control Dynamics, 1997, the power algorithm.

    **Arguments:**

    - `loop`: the feedback loop
    - `linear`: its linearization, at whose equilibrium the search starts
    - `performance`: `performance(x, u) -> z`
    - `reference`: the constant reference (nr,)
    - `rms`: root mean square of the disturbance
    - `horizon`: T, samples
    - `steps`: gradient steps
    - `key`: of the random disturbances
    """
    loop = plain(loop)
    deviation = _deviation(loop, linear, performance, reference, horizon)
    nd = linear.disturbance.ninputs
    size = rms * np.sqrt(horizon * nd)
    noise = jr.normal(key, (RANDOMS, horizon, nd), jnp.float64)
    noise = size * noise / jnp.linalg.norm(noise, axis=(1, 2), keepdims=True)
    # The sine is the worst input of the linearization for a long horizon, the noise reaches what is nonlinear or transient.
    starts = jnp.stack([noise[0], jnp.asarray(size * _worst_sine(linear, horizon))])
    d, gain = _ascend(deviation, starts, size, steps)
    gains, shown = _gains(deviation, noise, size)
    return WorstCase(
        np.asarray(d), np.asarray(deviation(d)), float(gain), np.asarray(shown), np.asarray(gains), rms
    )


def _deviation(
    loop: Feedback, linear: LinearLoop, performance: Performance, reference: np.ndarray, horizon: int
) -> "Deviation":
    nominal = undisturbed(sampled_plant(loop), horizon, len(reference))
    nominal = nominal._replace(r=jnp.broadcast_to(jnp.asarray(reference), (horizon, len(reference))))
    z0 = performance(linear.x[0].x, jnp.asarray(linear.u))
    return Deviation(loop.prepare(), linear.x, nominal, z0, performance)


class Deviation(eqx.Module):
    """The map from a disturbance to the deviation of the performance output, from the equilibrium.

    **Arguments:**

    - `loop`: the loop without noise
    - `x`: the loop's state at the equilibrium
    - `z0`: the performance output at the equilibrium
    - `nominal`: the exogenous inputs without disturbance
    - `performance`: `performance(x, u) -> z`
    """

    loop: System
    x: PyTree
    nominal: Exogenous
    z0: Array
    performance: Performance

    def __call__(self, d: Float[Array, "T nd"]) -> Float[Array, "T nz"]:
        """Return the deviation."""
        ys: Any = rollout(self.loop, self.nominal._replace(d=d), self.x, checkpoint=1).ys
        return jax.vmap(self.performance)(ys.x.x, ys.u) - self.z0[None]


@eqx.filter_jit
def _ascend(deviation: Deviation, starts: Array, size: float, steps: int) -> tuple[Array, Array]:
    def square(d):
        z = deviation(d)
        return jnp.sum(z**2) / 2

    def ascend(start):
        def body(carry, _):
            d, best, found = carry
            value, slope = jax.value_and_grad(square)(d)
            # The best is remembered: on a nonlinear loop the ascent is not monotonic, and the loop may diverge.
            better = jnp.isfinite(value) & (value > found)
            best, found = jnp.where(better, d, best), jnp.where(better, value, found)
            norm = jnp.linalg.norm(slope)
            usable = jnp.isfinite(norm) & (norm > 0)
            d = jnp.where(usable, size * slope / jnp.where(usable, norm, 1.0), best)
            return (d, best, found), None

        first = (start, start, jnp.asarray(-1.0, start.dtype))
        (_, best, found), _ = lax.scan(body, first, None, length=steps)
        return best, found

    best, found = lax.map(ascend, starts)
    k = jnp.argmax(found)
    return best[k], jnp.sqrt(2 * jnp.maximum(found[k], 0.0)) / size


@eqx.filter_jit
def _gains(deviation: Deviation, noise: Array, size: float) -> tuple[Array, Array]:
    """Return the gains of disturbances of norm `size`, and the first one's deviation."""
    z = lax.map(deviation, noise)
    return jnp.linalg.norm(z, axis=(1, 2)) / size, z[0]


def _worst_sine(linear: LinearLoop, horizon: int) -> np.ndarray:
    """Return the input (T, nd), of norm one, of the linearization's worst frequency and direction."""
    omega = frequencies(linear)
    G = linear.disturbance
    _, gains, right = np.linalg.svd(at_frequencies(G, omega), full_matrices=False)
    k = int(np.argmax(gains[:, 0]))
    # G exp(i w t) v is largest for v the first right singular vector, the conjugate of the first row of `right`
    direction = right[k, 0].conj()
    d = np.real(np.exp(1j * omega[k] * G.dt * np.arange(horizon))[:, None] * direction)
    return d / max(np.linalg.norm(d), np.finfo(float).tiny)
