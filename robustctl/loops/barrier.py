"""A discrete-time barrier: a filter of controls that slows down how a state may approach its limit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..affine import is_affine
from ..checks import of_type
from ..errors import InvalidModelError
from ..plants import Imperfections, Sampled
from ..registry import registered
from ..system import Certifiable, StrictlyProper, System
from .filters import Filter, limits_or_none, vector
from .half_spaces import Allowed
from .parts import Of


@registered(name="loops.StateLimits")
class StateLimits(Certifiable):
    """Limits of linear combinations of states as a barrier function: `h(x) = limit - C x`, which must stay at 0 or above.

    **Arguments:**

    - `C`: one row for each limit (k, nx).
    - `limit`: largest values of `C x` (k,).

    **Raises:** `InvalidModelError` for another number of limits than rows.

    **Example:** ::

        h = rc.loops.StateLimits([[1.0, 0.0], [-1.0, 0.0]], [0.5, 0.5])    # |x[0]| <= 0.5
    """

    C: Float[Array, "k nx"]
    limit: Float[Array, " k"]

    def __init__(self, C, limit):
        self.C, self.limit = jnp.atleast_2d(jnp.asarray(C)), vector(limit)
        if self.C.shape[0] != self.limit.shape[0]:
            raise InvalidModelError(
                f"there must be one limit for each row of C, got {self.limit.shape[0]} for {self.C.shape[0]} rows"
            )

    def __call__(self, x: Array) -> Array:
        """Return the distances (k,) from the limits."""
        return self.limit - self.C @ x


@registered(name="loops.Barrier")
class Barrier(Filter):
    """A discrete-time barrier for a model that is affine in the control.

    ::

        h(x_next) >= (1 - alpha) h(x) + margin,      x_next = model(x, u),      low <= u <= high

    While every sample is passed or changed, on the model itself `h` never falls below the smaller of 0 and its start; with a margin that
    bounds the error of `h(x_next)`, by disturbances and by the model, this is so on the plant too. The bound is assumed, not proven, and
    nothing is promised of fallback samples. Source: Agrawal, Sreenath, "Discrete control barrier functions for safety-critical control of
    discrete systems", Robotics: Science and Systems, 2017.

    The measurement must begin with the model's state.

    **Arguments:**

    - `model`: a system whose state is a vector, or a `Sampled` plant without imperfections. With a fixed state its next state, and h of it,
      must be affine in the control: linear plants are, others with the solver `diffrax.Euler` if their rates are.
    - `h`: function or Module from the state (nx,) to (k,) numbers that should stay at 0 or above, for example `StateLimits`.
    - `alpha`: share of the distance from the limit that a sample may use, in (0, 1].
    - `margin`: bounds of the error of `h(x_next)`, at least 0, one number or (k,).
    - `low`: lowest controls (nu,), default none.
    - `high`: highest controls (nu,), default none.

    **Raises:** `InvalidModelError` for a model with imperfections, of another kind, or not shown to be affine in the control, for one
    whose control does not act on h within a sample, and for numbers out of range.

    **Example:** ::

        cart = rc.plants.LinearPlant([[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]])
        h = rc.loops.StateLimits([[0.0, 1.0]], [0.5])
        slow = rc.loops.Barrier(rc.plants.Sampled(cart, 0.1), h, alpha=0.2)
    """

    model: System
    h: PyTree
    alpha: Float[Array, ""]
    margin: Float[Array, " k"]
    low: Float[Array, " nu"]
    high: Float[Array, " nu"]
    dt = Of("model")

    def __init__(self, model: System, h: Any, alpha: float, margin: Any = 0.0, *, low=None, high=None):
        nx, nu = _sizes(model)
        # Prepared here once: a step of the guard would compute a linear plant's matrix exponential in every sample.
        self.model, self.h = model.prepare(), h
        self.alpha = jnp.asarray(alpha, float)
        k = eqx.filter_eval_shape(lambda: _numbers(h, jnp.zeros(nx))).shape[0]
        self.margin = jnp.broadcast_to(vector(margin), (k,))
        self.low, self.high = limits_or_none(low, high, nu)
        self.check_parts()

    @override
    def check_parts(self) -> None:
        nx, nu = _sizes(self.model)
        low, high, margin = (np.asarray(a) for a in (self.low, self.high, self.margin))
        if not (0 < self.alpha <= 1 and (margin >= 0).all() and (low < high).all()):
            raise InvalidModelError(
                f"alpha must be in (0, 1], margin at least 0 and low below high, got alpha = {float(self.alpha):.6g}, margin = "
                f"{margin.tolist()}, low = {low.tolist()}, high = {high.tolist()}"
            )
        if low.shape != (nu,) or high.shape != (nu,):
            raise InvalidModelError(
                f"low and high must have one number for each of {nu} controls, got {low.tolist()}"
            )
        x, u = jnp.zeros(nx), jnp.zeros(nu)
        if not is_affine(lambda u: self._after(x, u), u):
            raise InvalidModelError(
                "h of the model's next state must be affine in the control, and this was not shown; use a linear plant, a plant whose "
                "rates are affine in the control with Sampled(..., solver=diffrax.Euler()), and StateLimits for h"
            )
        # At two states: a product of state and control is zero at the one and not at the other.
        reach = [np.asarray(jax.jacfwd(self._after, argnums=1)(at, u)) for at in (x, x + 1)]
        if not np.abs(reach).max(axis=(0, 2)).all():
            raise InvalidModelError(
                "the control must act on every entry of h within one sample, and on one it does not; let h include the rate too, for "
                "example position plus some seconds of speed"
            )

    def _after(self, x: Array, u: Array) -> Array:
        """Return h of the next state."""
        if isinstance(self.model, Sampled):
            after = self.model.advance(self.model.state_at(x), u, self.model.undisturbed()).x
        else:
            after = self.model.step(x, u)[0]
        return _numbers(self.h, after)

    @override
    def allowed(self, y: Array, before: Array) -> Allowed:
        x = y[: _sizes(self.model)[0]]
        zero = jnp.zeros_like(before)
        free = self._after(x, zero)
        G = jax.jacfwd(self._after, argnums=1)(x, zero)
        alpha, margin, low, high = (
            a.astype(before.dtype) for a in (self.alpha, self.margin, self.low, self.high)
        )
        return Allowed(low, high, G, (1 - alpha) * _numbers(self.h, x) + margin - free)


def _numbers(h: Any, x: Array) -> Array:
    return jnp.atleast_1d(h(x))


def _sizes(model: System) -> tuple[int, int]:
    """Return the numbers of states and controls of a barrier's model, or raise `InvalidModelError`."""
    of_type(model, System, "a barrier's model must be a System", error=InvalidModelError)
    if isinstance(model, Sampled):
        if model.imperfections != Imperfections():
            raise InvalidModelError(
                "a barrier's model must be without imperfections, got some; give Sampled(plant, dt), and the actuator's limits as low "
                "and high"
            )
        return len(model.plant.states), model.nu
    x = model.init_state()
    if isinstance(model, StrictlyProper) or model.nu is None or getattr(x, "ndim", None) != 1:
        raise InvalidModelError(
            f"a barrier's model must have a state that is one vector, and nu, got a {type(model).__name__}; give a StateSpace or a "
            "Sampled plant"
        )
    return x.shape[0], model.nu
