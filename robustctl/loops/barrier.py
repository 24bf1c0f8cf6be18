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
from ..plants import Imperfections
from ..pytrees import shape_of
from ..registry import registered
from ..system import System
from .filters import Filter, limits_or_none, vector
from .half_spaces import Allowed
from .parts import Of
from .state_sets import StateLimits, columns


@registered(name="loops.Barrier")
class Barrier(Filter):
    """A discrete-time barrier for a model that is affine in the control.

    ::

        h(x_next) >= (1 - alpha) h(x) + margin,      x_next = model(x, u),      low <= u <= high

    While every sample is passed or changed, on the model itself `h` never falls below the smaller of 0 and its start; with a margin that
    bounds the error of `h(x_next)`, by disturbances and by the model, this is so on the plant too. The bound is assumed, not proven, and
    nothing is promised of fallback samples. Source: Agrawal, Sreenath, "Discrete control barrier functions for safety-critical control of
    discrete systems", Robotics: Science and Systems, 2017.

    The measurement must begin with the model's state, or with an estimate of it: then `error` bounds its error e, and what e can do to the
    condition is added to the margin, for a linear model and linear limits exactly,

    ::

        |e_i| <= error_i:      margin + sum_i |d/dx_i (h(model(x, u)) - (1 - alpha) h(x))| error_i

    and for others to first order.

    **Arguments:**

    - `model`: a system whose state is a vector, or a `Sampled` plant without imperfections. With a fixed state its next state, and h of it,
      must be affine in the control: linear plants are, others with the solver `diffrax.Euler` if their rates are.
    - `h`: function or Module from the state (nx,) to (k,) numbers that should stay at 0 or above, for example `StateLimits`.
    - `alpha`: share of the distance from the limit that a sample may use, in (0, 1].
    - `margin`: bounds of the error of `h(x_next)`, at least 0, one number or (k,).
    - `error`: bounds (nx,) of the error of the state that is read, for example `ErrorBound.ultimate()`; default None, it is measured.
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
    error: Float[Array, " nx"] | None
    low: Float[Array, " nu"]
    high: Float[Array, " nu"]
    dt = Of("model")

    def __init__(
        self, model: System, h: Any, alpha: float, margin: Any = 0.0, *, error=None, low=None, high=None
    ):
        nx, nu = sizes(model)
        # Prepared here once: a step of the guard would compute a linear plant's matrix exponential in every sample.
        self.model, self.h = model.prepare(), h
        self.alpha = jnp.asarray(alpha, float)
        k = eqx.filter_eval_shape(lambda: _numbers(h, jnp.zeros(nx))).shape[0]
        self.margin = jnp.broadcast_to(vector(margin), (k,))
        self.error = error_bound(error, nx)
        self.low, self.high = limits_or_none(low, high, nu)
        self.check_parts()

    @override
    def check_parts(self) -> None:
        nx, nu = sizes(self.model)
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
        self._check_reach(x, u)

    def _check_reach(self, x: Array, u: Array) -> None:
        # At two states: a product of state and control is zero at the one and not at the other.
        reach = [np.asarray(jax.jacfwd(self._after, argnums=1)(at, u)) for at in (x, x + 1)]
        if not np.abs(reach).max(axis=(0, 2)).all():
            raise InvalidModelError(
                "the control must act on every entry of h within one sample, and on one it does not; let h include the rate too, for "
                "example position plus some seconds of speed"
            )

    def _after(self, x: Array, u: Array) -> Array:
        """Return h of the next state."""
        return _numbers(self.h, predicted_state(self.model, x, u))

    @override
    def allowed(self, y: Array, before: Array) -> Allowed:
        x = y[: sizes(self.model)[0]]
        zero = jnp.zeros_like(before)
        free = self._after(x, zero)
        G = jax.jacfwd(self._after, argnums=1)(x, zero)
        alpha, margin, low, high = (
            a.astype(before.dtype) for a in (self.alpha, self.margin, self.low, self.high)
        )
        if self.error is not None:
            margin = margin + jnp.abs(self._slopes(x, before, alpha)) @ self.error.astype(before.dtype)
        return Allowed(low, high, G, (1 - alpha) * _numbers(self.h, x) + margin - free)

    def _slopes(self, x: Array, u: Array, alpha: Array) -> Array:
        """Return how the condition depends on the state, (k, nx)."""
        return jax.jacfwd(lambda x: self._after(x, u) - (1 - alpha) * _numbers(self.h, x))(x)

    @property
    @override
    def unbounded_state(self) -> bool:
        """Whether no bound was given of the error of the state."""
        return self.error is None


@registered(name="loops.InvariantSet")
class InvariantSet(Barrier):
    """The next state stays in a polytope that the fallback is proven to keep.

    ::

        C (model(x, u) + E d) <= limit   for all |d_j| <= 1,      low <= u <= high

    With the set of `maximal_invariant_set` for the fallback's loop and the same disturbance, the fallback's control is allowed at every
    state of the set: the filter always finds a control there, and on the model with such disturbances the state never leaves the set,
    whichever of both is applied. Both hold where the state is measured, the fallback is the loop's state feedback, within its limits,
    and no `RateLimit` acts.

    **Arguments:**

    - `model`: a linear system or plant, as for `Barrier`.
    - `h`: the set, `StateLimits`.
    - `disturbance`: E (nx, nd); default none.
    - `error`: bounds (nx,) of the error of the state that is read; default None, it is measured.
    - `low`: lowest controls (nu,), default none.
    - `high`: highest controls (nu,), default none.

    **Raises:** `InvalidModelError` as `Barrier`; the control need not act on every half-space within a sample.

    **Example:** ::

        plant = rc.StateSpace([[1.0, 0.1], [0.0, 1.0]], [[0.005], [0.1]], [[1.0, 0.0], [0.0, 1.0]], [[0.0], [0.0]], dt=0.1)
        K, disturbance = np.array([[1.0, 1.5]]), [0.0, 0.02]
        limits = rc.loops.StateLimits(np.vstack([np.eye(2), -np.eye(2), -K, K]), [1.0, 0.5, 1.0, 0.5, 1.0, 1.0])
        largest = rc.loops.maximal_invariant_set(np.asarray(plant.A - plant.B @ K), limits, disturbance)
        filter = rc.loops.InvariantSet(plant, largest, disturbance, low=[-1.0], high=[1.0])
    """

    def __init__(self, model: System, h: StateLimits, disturbance=None, *, error=None, low=None, high=None):
        of_type(
            h,
            StateLimits,
            "the set must be StateLimits, half-spaces",
            "for an ellipsoid use Predicted with horizon=1",
            InvalidModelError,
        )
        margin = h.box_margin(columns(disturbance, h.C.shape[1]))
        super().__init__(model, h, 1.0, margin, error=error, low=low, high=high)

    @override
    def _check_reach(self, x: Array, u: Array) -> None:
        """Nothing: the fallback keeps the half-spaces on which the control does not act."""


def error_bound(error: Any, nx: int) -> Array | None:
    """Return bounds (nx,) of a state's error, None where there are none.

    **Raises:** `InvalidModelError` for bounds of another number, negative or not finite ones.
    """
    if error is None:
        return None
    given = np.asarray(error, np.float64)
    if given.shape != (nx,) or not (np.isfinite(given) & (given >= 0)).all():
        raise InvalidModelError(
            f"the observer must have a bound, finite and at least 0 for each of {nx} states, got {given.tolist()}"
        )
    return vector(given)


def _numbers(h: Any, x: Array) -> Array:
    return jnp.atleast_1d(h(x))


def predicted_state(model: System, x: Array, u: Array) -> Array:
    """Return the next state (nx,) of a filter's model."""
    sampled = model.sampled
    if sampled is not None:
        return sampled.advance(sampled.state_at(x), u, sampled.undisturbed()).x
    return model.step(x, u)[0]


def sizes(model: System) -> tuple[int, int]:
    """Return the numbers of states and controls of a filter's model, or raise `InvalidModelError`."""
    sampled = of_type(
        model, System, "the model of a filter must be a System", error=InvalidModelError
    ).sampled
    if sampled is not None:
        if sampled.imperfections != Imperfections():
            raise InvalidModelError(
                "the model of a filter must be without imperfections, got some; give Sampled(plant, dt), and the actuator's limits as low "
                "and high"
            )
        return len(sampled.plant.states), sampled.nu
    x = model.init_state()
    if model.input_size is None or len(shape_of(x) or ()) != 1:
        raise InvalidModelError(
            f"the model of a filter must have a state that is one vector, and nu, got a {type(model).__name__}; give a StateSpace or a "
            "Sampled plant"
        )
    return x.shape[0], model.input_size
