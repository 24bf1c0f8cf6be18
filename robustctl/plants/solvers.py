"""A fixed-step Runge-Kutta method without loops and without error estimate, for steps with constant input."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..registry import registered
from .plant import Plant


@registered(name="plants.RK4")
class RK4(dfx.AbstractSolver):
    """The classical four-stage Runge-Kutta method.

    ::

        k1 = f(t, y),  k2 = f(t + h/2, y + h k1/2),  k3 = f(t + h/2, y + h k2/2),  k4 = f(t + h, y + h k3)
        y+ = y + h (k1 + 2 k2 + 2 k3 + k4) / 6

    Order 4, no error estimate: for `dfx.ConstantStepSize`, or to call directly. Diffrax's own Runge-Kutta
    methods loop over a tableau, which costs 2.6 to 4.4 times as much for a step under `jax.vmap`.
    Source: Hairer, Norsett, Wanner, "Solving Ordinary Differential Equations I", II.1.
    """

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., dfx.LocalLinearInterpolation]] = dfx.LocalLinearInterpolation

    def order(self, terms):
        """Return 4."""
        return 4

    def init(self, terms, t0, t1, y0, args):
        """Return the solver's state: none."""
        return None

    def func(self, terms, t0, y0, args):
        """Return the vector field."""
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """Return Diffrax's five values for the step from t0 to t1."""
        # `vf_prod` multiplies by the step: each slope below is h k.
        control = terms.contr(t0, t1)
        middle = t0 + (t1 - t0) / 2

        def slope(t, y):
            return terms.vf_prod(t, y, args, control)

        k1 = slope(t0, y0)
        k2 = slope(middle, jax.tree.map(lambda y, k: y + k / 2, y0, k1))
        k3 = slope(middle, jax.tree.map(lambda y, k: y + k / 2, y0, k2))
        k4 = slope(t1, jax.tree.map(lambda y, k: y + k, y0, k3))
        y1 = jax.tree.map(lambda y, a, b, c, d: y + (a + 2 * b + 2 * c + d) / 6, y0, k1, k2, k3, k4)
        return y1, None, {"y0": y0, "y1": y1}, None, dfx.RESULTS.successful


def _term(plant: Plant) -> dfx.ODETerm:
    return dfx.ODETerm(lambda t, y, args: plant.rates(y, *args))


def adaptive_steps(
    plant: Plant,
    solver: Any,
    steps: tuple[int, Any, Any],
    x: Array,
    inputs: tuple[Array, Array],
    length: Array,
) -> Array:
    """Return a plant's state after `length` seconds of held inputs, by steps that Diffrax chooses.

    **Arguments:**

    - `plant`: the plant.
    - `solver`: a Diffrax solver.
    - `steps`: number of the first, equal ones, their controller, and how they are differentiated.
    - `x`: the state (nx,).
    - `inputs`: controls (nu,) and disturbances (nd,).
    - `length`: seconds.
    """
    substeps, controller, adjoint = steps
    solution = dfx.diffeqsolve(
        _term(plant), solver, jnp.zeros_like(length), length, length / substeps, x, inputs,
        stepsize_controller=controller, adjoint=adjoint,
        saveat=dfx.SaveAt(t1=True), max_steps=4096,  # Diffrax's default: more per sample is a stiff plant
    )  # fmt: skip
    assert solution.ys is not None
    return plant.constrain(solution.ys[0])


def fixed_steps(
    plant: Plant, solver: Any, substeps: int, x: Array, inputs: tuple[Array, Array], length: Array
) -> Array:
    """Return a plant's state after `length` seconds of held inputs, by equal steps; arguments as of `adaptive_steps`."""
    # Stepped directly, without the loop and the bookkeeping of diffeqsolve.
    term, h = _term(plant), length / substeps
    zero = jnp.zeros_like(h)

    def body(carry, _):
        y, state = carry
        y, _, _, state, _ = solver.step(term, zero, h, y, inputs, state, made_jump=False)
        return (plant.constrain(y), state), None

    start = x, solver.init(term, zero, h, x, inputs)
    (x, _), _ = lax.scan(body, start, None, length=substeps, unroll=min(substeps, 8))
    return x
