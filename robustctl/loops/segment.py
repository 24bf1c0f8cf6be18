"""The way from a fallback's control to the wanted one, and how much of it is allowed."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

BISECTIONS = 20
"""Of the way between two controls: a millionth of it is less than actuators resolve."""


def furthest(
    room: Callable[[Array], Array], start: Float[Array, " nu"], end: Float[Array, " nu"]
) -> tuple[Float[Array, " nu"], Bool[Array, ""]]:
    """Return the control nearest to `end` on the way there from `start` that has room, and whether it is another than `start`.

    ::

        u = start + t (end - start),    t the largest of 0, 2^-20, ..., 1 that bisection finds with room(u) >= 0

    A room at both ends of the bisection's interval is not looked for in between. The derivative of t is that of a root of the room.

    **Arguments:**

    - `room`: of a control, at least 0 where it is allowed.
    - `start`: where there is room if anywhere.
    - `end`: the control that is wanted.
    """

    def at(t):
        return start + t * (end - start)

    def halved(_, ends):
        inside, outside = ends
        middle = (inside + outside) / 2
        has = room(at(middle)) >= 0
        return jnp.where(has, middle, inside), jnp.where(has, outside, middle)

    def bisected(_, t):
        return lax.fori_loop(0, BISECTIONS, halved, (jnp.zeros_like(t), t))[0]

    def solved(slope, y):
        # Where t is no root the result is not used; only infinity would spoil the derivative.
        of_one = slope(jnp.ones_like(y))
        return y / jnp.where(of_one == 0, 1, of_one)

    one = jnp.ones((), start.dtype)
    t = lax.custom_root(lambda t: room(at(t)), one, bisected, solved)
    whole = room(end) >= 0
    begins = room(start) >= 0
    u = jnp.where(whole, end, jnp.where(begins, at(t), start))
    return u, whole | (begins & (t > 0))
