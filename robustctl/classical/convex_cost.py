"""Costs of outputs and controls that stay convex in a plan over an input-convex model."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..checks import weight
from ..errors import InvalidModelError
from ..pytrees import fields_of
from ..registry import registered
from .model import as_array
from .modes import one_each
from .types import ArrayLike


@registered()
class ScaledCost(eqx.Module):
    """A `ConvexCost` in scaled signals, with the limits of the outputs.

    **Arguments:**

    - `p`: price of the outputs (ny,).
    - `q`: weight of their excess over `y_from`, squared (ny,).
    - `y_from`: (ny,).
    - `y_high`: (ny,), infinite where there is no limit.
    - `c`: price of the controls (nu,).
    - `R`: weight of the controls (nu, nu).
    - `u_to`: the preferred control (nu,).
    - `penalty`: of exceeding `y_high`, and of its square.
    - `weighted`: outputs with a q.
    - `limited`: outputs with a limit.
    """

    p: Float[Array, " ny"]
    q: Float[Array, " ny"]
    y_from: Float[Array, " ny"]
    y_high: Float[Array, " ny"]
    c: Float[Array, " nu"]
    R: Float[Array, "nu nu"]
    u_to: Float[Array, " nu"]
    penalty: Float[Array, ""]
    weighted: tuple[int, ...] = eqx.field(static=True)
    limited: tuple[int, ...] = eqx.field(static=True)

    def of(self, ys: Float[Array, "N ny"], us: Float[Array, "N nu"]) -> Float[Array, ""]:
        """Return the cost of scaled outputs and controls."""
        quadratic, linear = self.excess()
        excess, d = jnp.maximum(ys @ self.rows().T - self.limits()[None], 0.0), us - self.u_to[None]
        return (
            jnp.sum(ys @ self.p)
            + jnp.sum(us @ self.c)
            + jnp.sum(d @ self.R * d)
            + jnp.sum(excess @ linear + excess**2 @ quadratic)
        )

    def rows(self) -> Array:
        """Return the rows of the identity of outputs with a weight, then of those with a limit."""
        return jnp.asarray(np.eye(self.p.size, dtype=self.p.dtype)[[*self.weighted, *self.limited]])

    def limits(self) -> Array:
        """Return what those outputs should not exceed."""
        over, high = (jnp.asarray(k, int) for k in (self.weighted, self.limited))
        return jnp.concatenate([self.y_from[over], self.y_high[high]])

    def excess(self) -> tuple[Array, Array]:
        """Return the cost of what they exceed: of its square, and of itself."""
        full = jnp.full(len(self.limited), self.penalty)
        over = self.q[jnp.asarray(self.weighted, int)]
        return jnp.concatenate([over, full]), jnp.concatenate([jnp.zeros_like(over), full])


@dataclasses.dataclass(frozen=True)
class ConvexCost:
    """A stage cost that is convex, and never falls as an output grows.

    ::

        p'y + sum_i q_i max(y_i - y_from_i, 0)^2 + c'u + (u - u_to)' R (u - u_to)

    A quadratic cost of both signs of an error is convex in the output, but not in the plan: where the output is below what is wanted,
    growing costs less, and a convex function of the inputs then has more than one minimum.

    **Arguments:**

    - `y_price`: p, cost of one unit of each output; at least 0.
    - `y_weight`: q, of the square of what an output exceeds `y_from`; at least 0.
    - `y_from`: (ny,).
    - `u_price`: c, cost of one unit of each control, of any sign.
    - `u_weight`: R (nu, nu) or its diagonal, positive semidefinite; a positive definite one makes the plan the only optimum.
    - `u_to`: the preferred control; default the middle of its limits.

    **Raises:** `InvalidModelError` for a negative price or weight of an output, which is not convex in a plan, and numbers that are
    not finite.
    """

    y_price: ArrayLike = 0.0
    y_weight: ArrayLike = 0.0
    y_from: ArrayLike = 0.0
    u_price: ArrayLike = 0.0
    u_weight: ArrayLike = 0.0
    u_to: ArrayLike | None = None

    def __post_init__(self):
        """Refuse what is not convex in a plan."""
        for name in ("y_price", "y_weight"):
            value = np.asarray(fields_of(self)[name], np.float64)
            if not (np.all(value >= 0) and np.isfinite(value).all()):
                raise InvalidModelError(
                    f"{name} must be at least 0 and finite, so that the cost never falls as an output grows and is convex in the plan, got "
                    f"{value.tolist()}; of an output that should be high, train the model on its negative"
                )

    def scaled(
        self,
        moments: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
        u_limits: tuple[np.ndarray, np.ndarray],
        y_high: ArrayLike | None,
        penalty: float,
    ) -> ScaledCost:
        """Return the cost in scaled signals.

        **Arguments:**

        - `moments`: mean and scale of the controls, mean and scale of the outputs.
        - `u_limits`: lowest and highest controls.
        - `y_high`: highest outputs; None for none.
        - `penalty`: of exceeding them, over the largest other weight.

        **Raises:** `InvalidModelError` for other numbers of values than signals, and a cost that never grows with an output.
        """
        u_mean, u_std, y_mean, y_std = moments
        nu, ny = u_mean.size, y_mean.size
        p, q, y_from = (_each(name, fields_of(self)[name], ny) for name in ("y_price", "y_weight", "y_from"))
        high = np.full(ny, np.inf) if y_high is None else _each("y_high", y_high, ny, infinite=True)
        middle = sum(u_limits) / 2 if self.u_to is None else self.u_to
        c, to = _each("u_price", self.u_price, nu), _each("u_to", middle, nu)
        R = np.diag(u_std) @ weight(self.u_weight, nu, "u_weight", definite=False) @ np.diag(u_std)
        p, q, c = y_std * p, y_std**2 * q, u_std * c
        limited = np.isfinite(high)
        if not (p.any() or q.any() or limited.any()):
            raise InvalidModelError(
                "the cost must grow with an output, got y_price and y_weight of 0 and no y_high; give one of them"
            )
        largest = max(*(np.abs(a).max(initial=0.0) for a in (p, q, c, R)), 1e-6)
        arrays = (p, q, (y_from - y_mean) / y_std, (high - y_mean) / y_std, c, R, (to - u_mean) / u_std)
        weighted, limited = (tuple(int(k) for k in np.flatnonzero(rows)) for rows in (q > 0, limited))
        p, q, start, high, c, R, to, above = (as_array(a) for a in (*arrays, penalty * largest))
        return ScaledCost(p, q, start, high, c, R, to, above, weighted=weighted, limited=limited)


def _each(name: str, value: ArrayLike, n: int, infinite: bool = False) -> np.ndarray:
    found = one_each(name, value, n)
    if not (np.isfinite(found) | (infinite & (found == np.inf))).all():
        raise InvalidModelError(f"{name} must be finite, got {found.tolist()}")
    return found
