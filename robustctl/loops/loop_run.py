"""Run a loop, and report where it left its bounds."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..errors import RobustctlError
from ..plants import Exogenous
from ..trajectory import rollout
from .feedback import Feedback


class LoopRun(NamedTuple):
    """A simulated loop about a sampled plant; every number in it is finite.

    **Arguments:**

    - `t`: time in seconds (T,).
    - `x`: the plant's physical state (T, nx).
    - `y`: what the policy read, references included, (T, ny).
    - `u`: what the policy chose (T, nu).
    - `applied`: what the actuator applied (T, nu).
    - `w`: what acted from outside.
    - `diverged`: whether the state left its bounds.
    - `escape_time`: when, in seconds; infinite if it did not. From then on all signals are held at their last values inside.
    """

    t: Float[Array, " T"]
    x: Float[Array, "T nx"]
    y: Float[Array, "T ny"]
    u: Float[Array, "T nu"]
    applied: Float[Array, "T nu"]
    w: Exogenous
    diverged: Bool[Array, ""]
    escape_time: Float[Array, ""]


@eqx.filter_jit
def simulate(
    loop: Feedback, ws: Exogenous, x0: Float[Array, " nx"] | None = None, *, bound: float = 1e6
) -> LoopRun:
    """Simulate a feedback loop about a `Sampled` plant from the physical state `x0`.

    The run counts as diverged from the first sample at which a state is not finite or larger than `bound`
    in magnitude. A batch goes through `jax.vmap`.

    **Arguments:**

    - `loop`: of `feedback`, about a `Sampled` plant.
    - `ws`: what acts from outside, time first: `rc.plants.undisturbed` or `rc.plants.draw`.
    - `x0`: physical state (nx,) at the start; default the operating point.
    - `bound`: largest magnitude of a state or output.

    **Raises:** `RobustctlError` for a loop about something else than a `Sampled` plant and for a bound that is not
    positive.

    **Example:** ::

        tanks = rc.plants.Sampled(rc.plants.TwoTanks(), dt=2.0)
        loop = rc.loops.feedback(tanks, rc.classical.PID(0.5, 0.01, dt=2.0, y0=10.0, u0=3.0))
        run = rc.loops.simulate(loop, rc.plants.undisturbed(tanks, 100), jnp.array([8.0, 12.0]))
    """
    plant = loop.plant.sampled
    if plant is None:
        raise RobustctlError(
            f"simulate needs a loop about a Sampled plant, got {type(loop.plant).__name__}; use rollout"
        )
    if not bound > 0:
        raise RobustctlError(f"bound must be positive, got {bound}")
    start = plant.init_state() if x0 is None else plant.state_at(x0)
    run = rollout(loop, ws, (start, loop.policy.init_state()))
    x, y, u = run.ys.x.x, run.ys.y, run.ys.u
    applied = jnp.concatenate([run.ys.x.applied[1:], run.x_final[0].applied[None]])
    inside = _inside(x, bound) & _inside(y, bound) & jnp.all(jnp.isfinite(u), axis=-1)
    good = jnp.cumprod(inside.astype(jnp.int32)).astype(bool)
    count = jnp.sum(good, dtype=jnp.int32)
    last = jnp.maximum(jnp.where(good, jnp.arange(len(good), dtype=count.dtype), count - 1), 0)
    x, y, u, applied = (jnp.nan_to_num(a[last]) for a in (x, y, u, applied))
    dt = jnp.asarray(plant.dt, x.dtype)
    t = jnp.arange(len(good), dtype=x.dtype) * dt
    diverged = count < len(good)
    escape = jnp.where(diverged, count.astype(x.dtype) * dt, jnp.asarray(jnp.inf, x.dtype))
    return LoopRun(t, x, y, u, applied, ws, diverged, escape)


def _inside(a: Array, bound: float) -> Array:
    return jnp.all(jnp.isfinite(a) & (jnp.abs(a) <= bound), axis=-1)
