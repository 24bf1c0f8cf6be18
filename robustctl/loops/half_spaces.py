"""The allowed controls of a sample, and the one that is nearest to a given control."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

SWEEPS = 100
"""Passes over several constraints; what has not converged by then counts as infeasible."""

ROUNDING = 256
"""Rounding errors that sums of a few terms may have in all, in units of the dtype's eps."""


class Allowed(NamedTuple):
    """The controls that are allowed at one sample: a box and half-spaces.

    ::

        low <= u <= high,    G u >= g

    **Arguments:**

    - `low`: lowest controls (nu,), minus infinity where there is no limit.
    - `high`: highest controls (nu,).
    - `G`: one row for each half-space (k, nu).
    - `g`: their bounds (k,).
    """

    low: Float[Array, " nu"]
    high: Float[Array, " nu"]
    G: Float[Array, "k nu"]
    g: Float[Array, " k"]


def contains(allowed: Allowed, u: Float[Array, " nu"]) -> Bool[Array, ""]:
    """Return whether a control is allowed, to the last bit; NaN is not."""
    inside = jnp.all(allowed.low <= u) & jnp.all(u <= allowed.high)
    return inside & jnp.all(allowed.G @ u >= allowed.g)


def nearest(u: Float[Array, " nu"], allowed: Allowed) -> tuple[Float[Array, " nu"], Bool[Array, ""]]:
    """Return the allowed control that is nearest to `u`, and whether it was found.

    ::

        minimize |v - u|^2   with   low <= v <= high,   G v >= g,        v = clip(u + G' lam, low, high),   lam >= 0

    One control has an interval, whose ends are exact. The multiplier of one half-space is exact, too: its constraint is piecewise linear in
    it, and all corners are compared. With several each is solved exactly with the others fixed, a fixed number of passes. The result
    counts as found if it satisfies all constraints to rounding and its distance to the true solution, which the duality gap bounds, is a
    rounding error too. Otherwise it is a control in the box.

    **Arguments:**

    - `u`: the wanted control.
    - `allowed`: the constraints, of a box that is not empty.
    """
    low, high, G, g = allowed
    if u.shape[0] == 1:
        v = _in_interval(u, allowed)
        return v, jnp.all(G @ v - g >= -_rounding(u, v, allowed)) & jnp.all(jnp.isfinite(v))
    lam, index = jnp.zeros_like(g), np.arange(g.shape[0])

    def sweep(lam, _):
        for j in index:
            others = u + G.T @ jnp.where(index == j, 0, lam)
            lam = jnp.where(index == j, _multiplier(others, low, high, G[j], g[j]), lam)
        return lam, None

    if len(index) == 1:
        lam, _ = sweep(lam, None)
    elif len(index) > 1:
        lam, _ = lax.scan(sweep, lam, None, length=SWEEPS)
    v = jnp.clip(u + G.T @ lam, low, high)
    slack = G @ v - g
    rounding = _rounding(u, v, allowed)
    # |v - v*|^2 / 2 is at most the duality gap, the sum of multiplier times slack: the problem is strongly convex.
    found = jnp.all(slack >= -rounding) & jnp.all(lam * slack <= lam * rounding)
    return v, found & jnp.all(jnp.isfinite(v))


def _rounding(u: Array, v: Array, allowed: Allowed) -> Array:
    """Return the rounding errors (k,) that `G v - g` may have."""
    return (
        ROUNDING
        * jnp.finfo(v.dtype).eps
        * (jnp.abs(allowed.g) + jnp.abs(allowed.G) @ (jnp.abs(v) + jnp.abs(u)))
    )


def _in_interval(u: Array, allowed: Allowed) -> Array:
    """Return one control (1,) clipped to the interval that half-spaces leave, and to the box."""
    low, high, G, g = allowed
    a = G[:, 0]
    ends = g / jnp.where(a != 0, a, 1)
    least = jnp.max(jnp.where(a > 0, ends, -jnp.inf), initial=-jnp.inf)
    most = jnp.min(jnp.where(a < 0, ends, jnp.inf), initial=jnp.inf)
    return jnp.clip(jnp.clip(u, least, most), low, high)


def _multiplier(u: Array, low: Array, high: Array, a: Array, g: Array) -> Array:
    """Return lam >= 0 with `a' clip(u + lam a, low, high) = g`: 0 where 0 exceeds it, and where none reaches it the last corner."""
    moves = a != 0
    slope = jnp.where(moves, a, 1)
    behind, ahead = jnp.where(a > 0, low, high), jnp.where(a > 0, high, low)
    # Entry i moves while enter < lam < leave: before it is clipped at the bound behind, after at the one ahead.
    enter = jnp.where(moves, (behind - u) / slope, jnp.inf)
    leave = jnp.where(moves, (ahead - u) / slope, jnp.inf)
    # Corners only choose the piece, on which lam is a quotient. Their own derivatives are infinite where a bound is.
    enter, leave = lax.stop_gradient((enter, leave))
    corners = jnp.concatenate([jnp.zeros_like(g)[None], enter, leave])
    usable = (corners >= 0) & jnp.isfinite(corners)
    at = jnp.where(usable, corners, 0)
    reached = jnp.clip(u[None] + at[:, None] * a[None], low[None], high[None]) @ a
    start = jnp.max(jnp.where(usable & (reached <= g), at, 0))
    free = moves & (enter <= start) & (start < leave)
    fixed = jnp.where(start < enter, behind, ahead)
    stays = jnp.where(free, u, jnp.where(moves, fixed, 0))
    growth = jnp.sum(jnp.where(free, a * a, 0))
    lam = (g - a @ stays) / jnp.where(growth > 0, growth, 1)
    return jnp.where(growth > 0, jnp.maximum(lam, 0), start)
