"""The other side of a certificate: lower bounds found by searching, which show how tight it is."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import RobustctlError
from ..system import System
from ..trajectory import rollout


class LowerBound(NamedTuple):
    """A bound from below and the search that found it.

    **Arguments:**

    - `value`: the largest ratio found
    - `sampled`: the largest before the gradient ascent, of the random starts or of the linearizations
    """

    value: float
    sampled: float


def gain_lower_bound(
    system: System,
    nu: int,
    *,
    key: PRNGKeyArray,
    horizon: int = 100,
    steps: int = 200,
    starts: int = 8,
    dtype=None,
) -> LowerBound:
    """Search for the inputs that two trajectories differ most on, from one initial state.

    ::

        max over u1, u2 of  sqrt(sum |y1 - y2|^2 / sum |u1 - u2|^2),   t = 0 .. horizon-1

    by Adam on the logarithm, from `starts` random pairs. Any certified gamma lies above, but for the rounding of the two
    rollouts: search in float64 where signals have offsets or units far from one.

    **Arguments:**

    - `system`: what is simulated
    - `nu`: number of its inputs
    - `key`: of the random starts
    - `horizon`: samples of a trajectory
    - `steps`: of the ascent
    - `starts`: random pairs to ascend from
    - `dtype`: of the inputs; default that of JAX

    **Raises:** `RobustctlError` for a horizon, steps or starts below 1.
    """
    _check(horizon, steps, starts)

    dtype = jnp.result_type(float) if dtype is None else dtype
    pairs = (
        jr.normal(key, (starts, 2, horizon, nu), dtype)
        * jnp.logspace(-1, 1, starts, dtype=dtype)[:, None, None, None]
    )
    return _ascend(_GainRatio(system), (pairs[:, 0], pairs[:, 1]), steps)


def ascend_gain(system: System, pairs: tuple[Array, Array], size: Array, steps: int, x0: Any) -> LowerBound:
    """Return the largest ratio that ascent reaches from pairs `(u, du)`, each (starts, time, nu), at the initial state `x0`.

    It moves both in units of `size` (nu,), and du in units of its largest entry.
    """
    u, du = pairs
    size = size[None, None]
    amplitude = jnp.abs(du / size).max(axis=(1, 2), keepdims=True)
    return _ascend(_GainRatioAbout(system, x0, size[0]), (u / size, du / size / amplitude, amplitude), steps)


class _GainRatio(eqx.Module):
    system: System

    def __call__(self, pair):
        u, du = pair
        y1, y2 = rollout(self.system, u).ys, rollout(self.system, u + du).ys
        return _log_norm(y2 - y1) - _log_norm(du)


class _GainRatioAbout(eqx.Module):
    system: System
    x0: Any
    size: Array

    def __call__(self, start):
        u, du, amplitude = start
        u, du = self.size * u, self.size * lax.stop_gradient(amplitude) * du
        y1, y2 = rollout(self.system, u, self.x0).ys, rollout(self.system, u + du, self.x0).ys
        return _log_norm(y2 - y1) - _log_norm(du)


def contraction_lower_bound(
    system: System,
    nu: int,
    P: Float[Array | np.ndarray, "nx nx"],
    *,
    key: PRNGKeyArray,
    horizon: int = 1,
    steps: int = 200,
    starts: int = 8,
) -> LowerBound:
    """Search for the states and inputs from which two trajectories approach each other most slowly.

    ::

        max over x, dx, u of  (V(dx[T]) / V(dx[0]))^(1/2T),   V(dx) = dx' P dx,  T = horizon

    by Adam on the logarithm, from `starts` random ones. Any certified rate for the metric P lies above.

    **Arguments:**

    - `system`: what is simulated
    - `nu`: number of its inputs
    - `P`: the metric (nx, nx)
    - `key`: of the random starts
    - `horizon`: samples of a trajectory
    - `steps`: of the ascent
    - `starts`: random states and inputs to ascend from

    **Raises:** `RobustctlError` for a horizon, steps or starts below 1.
    """
    _check(horizon, steps, starts)
    L = jnp.linalg.cholesky(jnp.asarray(P))

    nx, dtype = L.shape[0], L.dtype
    x_key, dx_key, u_key = jr.split(key, 3)
    x, dx = jr.normal(x_key, (starts, nx), dtype), jr.normal(dx_key, (starts, nx), dtype)
    us = jr.normal(u_key, (starts, horizon, nu), dtype)
    return _ascend(_DistanceRatio(system, L, horizon), (x, dx, us), steps)


class _DistanceRatio(eqx.Module):
    system: System
    L: Array
    horizon: int = eqx.field(static=True)

    def __call__(self, start):
        x, dx, u = start
        far = rollout(self.system, u, x + dx).x_final - rollout(self.system, u, x).x_final
        return (_log_norm(self.L.T @ far) - _log_norm(self.L.T @ dx)) / self.horizon


def _log_norm(a: Array) -> Array:
    return 0.5 * jnp.log(
        jnp.sum(a**2) + jnp.finfo(a.dtype).tiny
    )  # the logarithm of zero has no slope to climb


def _climb(log_ratio, start, steps: int):
    # Of signals of size one, in logarithms of ratios; the last steps are small, so that it ends at a maximum.
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))

    def body(carry, _):
        point, state, best = carry
        value, slope = jax.value_and_grad(log_ratio)(point)
        with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
            updates, state = optimizer.update(jax.tree.map(jnp.negative, slope), state)
        best = jnp.where(jnp.isfinite(value), jnp.maximum(best, value), best)
        return (optax.apply_updates(point, updates), state, best), value

    lowest = jnp.asarray(-jnp.inf, jax.tree.leaves(start)[0].dtype)
    (_, _, best), values = lax.scan(body, (start, optimizer.init(start), lowest), None, length=steps)
    return best, values[0]


@eqx.filter_jit
def _climb_all(log_ratio, starts: Any, steps: int):
    return jax.vmap(lambda start: _climb(log_ratio, start, steps))(starts)


def _ascend(log_ratio, starts: Any, steps: int) -> LowerBound:
    best, first = _climb_all(log_ratio, starts, steps)
    return LowerBound(float(jnp.exp(jnp.max(best))), float(jnp.exp(jnp.nanmax(first))))


def _check(horizon: int, steps: int, starts: int) -> None:
    for name, value in (("horizon", horizon), ("steps", steps), ("starts", starts)):
        if value < 1:
            raise RobustctlError(f"{name} must be at least 1, got {value}")
