"""Convex quadratic programs in stages, by an interior-point method whose work grows with their number and not its cube."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

_FLOOR = 8.0
"""Times the rounding of the dtype, by which each diagonal entry is raised before the factorization: about what that takes away."""

_NEAR = 0.99
"""Of the way to the nearest constraint, how far a step goes."""


class StagedQP(NamedTuple):
    """A quadratic program in N stages, each coupled with the end of the one before.

    ::

        minimize  sum_k z_k' H z_k / 2 + f_k' z_k      with      G z_k + B e_{k-1} <= g_k,     e_k = E z_k,   e_{-1} = 0

    **Arguments:**

    - `H`: cost (m, m), positive semidefinite.
    - `f`: linear cost (N, m).
    - `G`: constraints (r, m) on the stage's own variables.
    - `B`: on the end of the stage before, (r, n).
    - `g`: right sides (N, r).

    The end of a stage is its last n variables.
    """

    H: Float[Array, "m m"]
    f: Float[Array, "N m"]
    G: Float[Array, "r m"]
    B: Float[Array, "r n"]
    g: Float[Array, "N r"]

    def cost(self, z: Float[Array, "N m"]) -> Float[Array, ""]:
        """Return the cost of a point."""
        return jnp.sum(z @ self.H * z) / 2 + jnp.sum(self.f * z)

    def rows(self, z: Float[Array, "N m"]) -> Float[Array, "N r"]:
        """Return the left sides of the constraints."""
        return z @ self.G.T + self._before(z) @ self.B.T

    def columns(self, weights: Float[Array, "N r"]) -> Float[Array, "N m"]:
        """Return the transposed map of `rows`: the gradient of `sum weights * rows(z)`."""
        n = self.B.shape[1]
        # The end of a stage appears in the rows of the next.
        later = jnp.pad(weights[1:] @ self.B, ((0, 1), (0, 0)))
        return (weights @ self.G).at[:, -n:].add(later)

    def _before(self, z: Array) -> Array:
        return jnp.pad(z[:-1, z.shape[1] - self.B.shape[1] :], ((1, 0), (0, 0)))


class _Point(NamedTuple):
    """Variables, slacks, multipliers, the mean of slack times multiplier, and the number of iterations."""

    z: Array
    slack: Array
    multipliers: Array
    gap: Array
    iterations: Array


def solve_staged(program: StagedQP, start: Float[Array, "N m"], iterations: int) -> Float[Array, "N m"]:
    """Return the minimizer, or the last point within the constraints where so many iterations do not reach it; NaN for a program with NaN.

    Mehrotra's predictor and corrector from a point inside the constraints, which no iterate leaves. Source: Nocedal, Wright, "Numerical
    optimization", 2006, algorithm 16.4; the elimination stage by stage: Rao, Wright, Rawlings, J. Optimization Theory and
    Applications 99(3), 1998.

    **Arguments:**

    - `program`: the program.
    - `start`: a point with every constraint inactive.
    - `iterations`: largest number of them.
    """
    f, g, dtype = program.f, program.g, start.dtype
    size = jnp.maximum(jnp.max(jnp.abs(f + start @ program.H)), jnp.finfo(dtype).tiny ** 0.5)
    tolerance = size * float(jnp.finfo(dtype).eps) ** 0.9
    slack = g - program.rows(start)

    def running(point):
        return (point.gap > tolerance) & (point.iterations < iterations)

    first = _Point(start, slack, size / slack, size, jnp.zeros((), jnp.int32))
    end = lax.while_loop(running, lambda point: _improved(program, point), first)
    # A gap that is NaN ends the loop before it begins, at a start that is no answer.
    return jnp.where(jnp.isfinite(first.gap) & jnp.all(jnp.isfinite(slack)), end.z, jnp.nan)


def _improved(program: StagedQP, point: _Point) -> _Point:
    # Carried along: near a constraint the difference of both its sides would be rounding alone.
    z, slack, multipliers = point.z, point.slack, point.multipliers
    gradient = z @ program.H + program.f + program.columns(multipliers)
    solve = _factored(program, multipliers / slack)

    # slack d_multiplier + multiplier d_slack = target - slack multiplier, with d_slack = -rows(dz)
    def direction(target):
        dz = solve(-gradient - program.columns(target / slack - multipliers))
        d_slack = -program.rows(dz)
        return dz, d_slack, (target - multipliers * d_slack) / slack - multipliers

    _, d_slack, d_multipliers = direction(jnp.zeros_like(slack))
    length, other = _longest(slack, d_slack), _longest(multipliers, d_multipliers)
    ahead = jnp.mean((slack + length * d_slack) * (multipliers + other * d_multipliers))
    gap = jnp.mean(slack * multipliers)
    center = (jnp.maximum(ahead, 0) / gap) ** 3
    dz, d_slack, d_multipliers = direction(center * gap - d_slack * d_multipliers)
    # With one length for both the gradient of the Lagrangian shrinks as fast as the gap.
    length = _NEAR * jnp.minimum(_longest(slack, d_slack), _longest(multipliers, d_multipliers))
    z, slack, multipliers = z + length * dz, slack + length * d_slack, multipliers + length * d_multipliers
    found = _Point(z, slack, multipliers, jnp.mean(slack * multipliers), point.iterations + 1)
    good = jnp.isfinite(found.gap) & jnp.all(jnp.isfinite(z))
    # Where rounding ends the progress, the last point is the answer.
    last = point._replace(gap=jnp.zeros_like(gap))
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), found, last)


def _longest(at: Array, d: Array) -> Array:
    """Return the longest step in (0, 1] that leaves positive numbers at least 0."""
    return jnp.minimum(1.0, jnp.min(jnp.where(d < 0, -at / jnp.where(d < 0, d, -1.0), jnp.inf)))


def _factored(program: StagedQP, weights: Array):
    """Return the solution of `(H + rows' weights rows) dz = r` as a function of r, by elimination from the last stage."""
    H, G, B, n = program.H, program.G, program.B, program.B.shape[1]
    m = H.shape[0]
    own = H[None] + jnp.einsum("ra,kr,rb->kab", G, weights, G)
    ends = jnp.einsum("ra,kr,rb->kab", B, weights, B)
    own = own.at[:-1, m - n :, m - n :].add(ends[1:])
    raised = 1.0 + _FLOOR * float(jnp.finfo(H.dtype).eps) * jnp.eye(m, dtype=H.dtype)
    own = own * raised[None]
    cross = jnp.einsum("ra,kr,rb->kab", G, weights, B)

    def eliminate(taken, at):
        own, cross = at
        factor, _ = cho_factor(own.at[m - n :, m - n :].add(-taken), lower=True)
        gain = cho_solve((factor, True), cross)
        return cross.T @ gain, (factor, gain)

    _, (factors, gains) = lax.scan(eliminate, jnp.zeros((n, n), H.dtype), (own, cross), reverse=True)

    def solve(r):
        def back(taken, at):
            factor, cross, r = at
            part = cho_solve((factor, True), r.at[m - n :].add(-taken))
            return cross.T @ part, part

        _, parts = lax.scan(back, jnp.zeros(n, H.dtype), (factors, cross, r), reverse=True)

        def forth(end, at):
            part, gain = at
            z = part - gain @ end
            return z[m - n :], z

        return lax.scan(forth, jnp.zeros(n, H.dtype), (parts, gains))[1]

    return solve
