"""Lower bounds of the gain from linearizations at equilibria, improved by gradient ascent."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from ..affine import to_float64
from ..checks import of_type
from ..errors import RobustctlError
from ..linalg import response
from ..system import Parameterization, System, explicit_of
from .ascent import LowerBound, ascend_gain
from .coordinates import spectral_radius

_SETTLED = 1e-9
"""Of a state that changes no more in one step, relative to its size plus one."""


_FORGOTTEN = 1e-4
"""Of a disturbance of the state after the ascent's horizon, where that is within the limits below."""

_HORIZONS = 64, 1024
"""Least and largest number of samples of the ascent that is chosen; powers of two between, so that few programs are compiled."""

_SHARES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Amplitudes of the increments that the ascent starts from, relative to the system's range of inputs: a switch needs a large one."""

_WALK = 0.3
"""Of a random walk over the horizon that is added to the constant input, relative to the range: it leaves the equilibrium."""


class Equilibria(NamedTuple):
    """States at constant inputs, and the linearizations there: x (n, nx), A (n, nx, nx), B, C, D, and what one step still moves x."""

    x: np.ndarray
    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    moved: np.ndarray


class Peak(NamedTuple):
    """The largest gain of the linearizations that was found: at the equilibrium x of the constant input u, at an angle per sample.

    `radius`: spectral radius of A there.
    """

    gain: float
    x: np.ndarray
    u: np.ndarray
    angle: float
    direction: np.ndarray
    radius: float


def lower_bound(
    model: Parameterization | System, *, seed: int = 0, horizon: int | None = None, steps: int = 200
) -> LowerBound:
    """Search for a gain from below: no gamma of this model can be smaller.

    ::

        |y(u + du) - y(u)| / |du| >= |C (e^jw I - A)^-1 B + D|    for small du about an equilibrium, x = f(x, u), A = df/dx, ...

    at every angle w where A is stable. Constant inputs are drawn over three decades of size, those with the largest gains are
    moved, and the trajectories from the best of them are then improved by gradient ascent. Of a system that switches, each mode is
    searched. It computes in float64, whatever the model's dtype is.

    **Arguments:**

    - `model`: a parameterization or a system.
    - `seed`: of the draws.
    - `horizon`: samples of the ascent's trajectories; None: until the system forgets, 64 to 1,024.
    - `steps`: of the ascent, 0 for none.

    **Raises:** `RobustctlError` for a system whose inputs are not a known number of signals.

    **Example:** ::

        model = rc.nn.LipschitzREN(nu=1, nx=2, nv=2, ny=1, gamma=2.0, key=jax.random.key(0))
        print(rc.certificates.lower_bound(model).value)
    """
    system = explicit_of(model)
    must, do = "a gain needs a system with a known number nu of inputs", "give the class an attribute nu"
    if of_type(system, System, must, do).input_size is None:
        raise RobustctlError(f"{must}, got {type(system).__name__}; {do}")
    if system.nu == 0:
        raise RobustctlError("a gain needs a system with inputs, got nu = 0")
    rng = np.random.default_rng(seed)
    # Outside JAX's promotion rules of the caller: a user's step may mix its own dtypes.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = [_of_mode(to_float64(mode), rng, horizon, steps) for mode in system.modes()]
    return max(found, key=lambda bound: bound.value)


def _of_mode(system: System, rng: np.random.Generator, horizon: int | None, steps: int) -> LowerBound:
    center, size = system.input_range()
    peak = _best(system, center, size, rng)
    if peak is None:
        return LowerBound(0.0, 0.0)
    if steps == 0 or peak.gain == 0:
        return LowerBound(peak.gain, peak.gain)
    horizon = _remembered(peak.radius) if horizon is None else horizon
    wave = np.real(peak.direction * np.exp(1j * peak.angle * np.arange(horizon)[:, None]))
    wave = wave / np.abs(wave / size).max()
    walks = np.cumsum(rng.normal(size=(len(_SHARES), *wave.shape)), axis=1) / np.sqrt(horizon)
    du = np.asarray(_SHARES)[:, None, None] * wave
    u = peak.u + _WALK * size * walks - du / 2
    _, unravel = ravel_pytree(system.init_state())
    x0 = unravel(jnp.asarray(peak.x))
    reached = ascend_gain(system, (jnp.asarray(u), jnp.asarray(du)), jnp.asarray(size), steps, x0)
    return LowerBound(max(peak.gain, reached.value), peak.gain)


def _remembered(radius: float) -> int:
    """Return the samples after which a linear system has forgotten its state, rounded up to a power of two within the limits."""
    samples = np.log(_FORGOTTEN) / np.log(np.clip(radius, 1e-9, 1 - 1e-9))
    return int(2 ** np.ceil(np.log2(np.clip(samples, *_HORIZONS))))


def _best(
    system: System, center: np.ndarray, size: np.ndarray, rng: np.random.Generator, count: int = 64
) -> Peak | None:
    """Return the largest peak over constant inputs, drawn first and then moved about the best."""
    directions = rng.normal(size=(count, len(size)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    inputs = np.geomspace(0.03, 30, count)[:, None] * directions
    peaks: list[Peak] = []
    for spread in (0.3, 0.1, 0.03, 0.0):
        peaks = [*peaks, *_peaks(system, center + size * inputs)]
        peaks = sorted(peaks, key=lambda peak: -peak.gain)[:4]
        if not peaks:
            return None
        best = np.stack([(peak.u - center) / size for peak in peaks]).repeat(count // 4, axis=0)[:count]
        inputs = np.resize(best, (count, len(size)))
        reach = np.linalg.norm(inputs, axis=1, keepdims=True) + 0.1
        inputs = inputs + spread * reach * rng.normal(size=inputs.shape)
    return peaks[0]


def _peaks(system: System, us: np.ndarray) -> list[Peak]:
    arrays, rest = eqx.partition(system, eqx.is_array)
    found = Equilibria(*map(np.asarray, _equilibria(arrays, rest, jnp.asarray(us))))
    settled = found.moved <= _SETTLED * (1 + np.linalg.norm(found.x, axis=1))
    peaks = []
    for k in np.flatnonzero(settled):
        A, B, C, D = (M[k] for M in (found.A, found.B, found.C, found.D))
        radius = spectral_radius(A) if np.isfinite(A).all() else np.inf
        if radius < 1:
            gain, angle, direction = peak_response(A, B, C, D)
            peaks.append(Peak(gain, found.x[k], us[k], angle, direction, radius))
    return peaks


def peak_response(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """Return the largest gain of a stable linear system that was found over angles per sample, its angle and its input direction."""
    poles = np.linalg.eigvals(A)
    angles = np.unique(np.concatenate([np.linspace(0, np.pi, 25), np.abs(np.angle(poles))]))
    for _ in range(8):
        gains = np.linalg.norm(response(A, B, C, D, np.exp(1j * angles)), 2, axis=(1, 2))
        k = int(np.argmax(gains))
        low, high = angles[max(k - 1, 0)], angles[min(k + 1, len(angles) - 1)]
        best, angles = float(angles[k]), np.unique([*np.linspace(low, high, 9), angles[k]])
    G = response(A, B, C, D, np.exp(1j * np.array([best])))[0]
    _, gains, right = np.linalg.svd(G)
    return float(gains.max(initial=0.0)), best, right[0].conj()


@eqx.filter_jit
def _equilibria(arrays: Any, rest: Any, us: Any):
    """Return the equilibria of constant inputs us (n, nu): what the state settles to, and Newton's method from there."""
    system = eqx.combine(arrays, rest)
    x0, unravel = ravel_pytree(system.init_state())

    def step(x, u):
        x_next, y = system.step(unravel(x), u)
        return jnp.concatenate([ravel_pytree(x_next)[0], jnp.ravel(y)])

    def newton(x, u):
        A = jax.jacrev(step)(x, u)[: x0.size]
        return x + jnp.linalg.solve(jnp.eye(x0.size) - A, step(x, u)[: x0.size] - x)

    def one(u):
        x = lax.fori_loop(0, 300, lambda _, x: step(x, u)[: x0.size], x0)

        def closer(_, x):
            tried = newton(x, u)
            away, now = (jnp.linalg.norm(step(z, u)[: x0.size] - z) for z in (tried, x))
            return jnp.where(away < now, tried, step(x, u)[: x0.size])

        x = lax.fori_loop(0, 15, closer, x)
        (A, B), (C, D) = (
            tuple(M[rows] for M in jax.jacrev(step, (0, 1))(x, u))
            for rows in (slice(x0.size), slice(x0.size, None))
        )
        return x, A, B, C, D, jnp.linalg.norm(step(x, u)[: x0.size] - x)

    return jax.vmap(one)(us)
