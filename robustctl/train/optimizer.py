"""The optimizer that training uses unless it is given another."""

import functools
from collections.abc import Hashable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from ..checks import check_whole, is_positive
from ..errors import RobustctlError
from ..pytrees import traced


def clipped_adam(learning_rate: optax.ScalarOrSchedule = 1e-3) -> optax.GradientTransformation:
    """Return Adam with elements of the gradient clipped at 10, whose learning rate the history and the log show.

    A number or a schedule given again returns the same object, so that a second training compiles nothing.

    **Raises:** `RobustctlError` for a rate that is no schedule and no positive, finite number.
    """
    check_learning_rate(learning_rate)
    if callable(learning_rate) or is_positive(learning_rate):
        return _made_once(learning_rate)  # pyright: ignore[reportArgumentType]
    return _made(learning_rate)


def check_learning_rate(value: Any) -> None:
    """Raise `RobustctlError` unless a learning rate is a schedule or a positive, finite number; a traced one is not known."""
    if callable(value) or traced(value):
        return
    number = value.item() if eqx.is_array(value) and value.ndim == 0 else value
    if not is_positive(number):
        raise RobustctlError(f"learning_rate must be a positive, finite number or a schedule, got {value!r}")


def _made(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    constants = ("b1", "b2", "eps", "eps_root", "mu_dtype", "nesterov")
    adam = optax.inject_hyperparams(optax.adam, static_args=constants)
    return optax.chain(optax.clip(10.0), adam(learning_rate=learning_rate))


_made_once = functools.lru_cache(maxsize=256, typed=True)(_made)


@functools.lru_cache(maxsize=256)
def cosine_adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return `clipped_adam` with a rate that falls to zero along a cosine in so many gradient steps."""
    check_learning_rate(learning_rate)
    return clipped_adam(optax.cosine_decay_schedule(learning_rate, steps))


LINEAR = frozenset(
    {"X", "p", "Y", "B_imp", "B2", "C2", "D22", "B2_imp", "B2_free", "C2_free", "G22", "A", "B", "C", "D"}
)
"""Names of the free arrays of linear parts, in all parameterizations of `rc.nn`."""

RAMP = 100
"""Steps in which a rate grows to its value, so that Adam's second moments are known before it moves far."""

FLAT = 0.5
"""Share of a training at the full rate; then it falls to zero along a cosine."""


@functools.lru_cache(maxsize=256)
def two_rate_adam(
    steps: int, linear: float = 3e-4, network: float = 3e-3, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Return Adam with a smaller rate for the linear part of a model than for its network and initial states.

    A model that starts at a linear one keeps what it starts with. Both rates grow over the first 100 steps, are constant until half of
    them, and then fall to zero along a cosine; elements of the gradient are clipped at 10. The same arguments give the same object, so
    that a second training compiles nothing.

    **Arguments:**

    - `steps`: gradient steps of the whole training.
    - `linear`: learning rate of the arrays of the linear part.
    - `network`: learning rate of all others.
    - `weight_decay`: of the arrays of the network, per unit of learning rate.

    **Raises:** `RobustctlError` for a rate that is no positive, finite number, and steps that are no whole number of at least 1.
    """
    check_whole(1, steps=steps)
    for rate in (linear, network):
        check_learning_rate(rate)
    each: dict[Hashable, optax.GradientTransformation] = {
        "linear": clipped_adam(flat_then_cosine(linear, steps)),
        "network": _with_decay(flat_then_cosine(network, steps), weight_decay),
    }
    return optax.multi_transform(each, _parts)


def _with_decay(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    if not weight_decay:
        return clipped_adam(schedule)
    constants = ("b1", "b2", "eps", "eps_root", "mu_dtype", "nesterov", "mask")
    adam = optax.inject_hyperparams(optax.adamw, static_args=constants)
    return optax.chain(optax.clip(10.0), adam(learning_rate=schedule, weight_decay=weight_decay))


@functools.lru_cache(maxsize=256)
def flat_then_cosine(rate: float, steps: int) -> optax.Schedule:
    """Return a learning rate that grows over the first 100 steps, is constant until half of them, and falls to zero along a cosine."""
    ramp = max(min(RAMP, steps // 10), 1)
    return lambda count: rate * rate_share(count, steps, ramp)


def rate_share(step: Int[Array, ""] | int, steps: Int[Array, ""] | int, ramp: int) -> Float[Array, ""]:
    """Return the share of the full rate in a step, or an epoch, of so many: it rises in the first `ramp` of them, stays and falls."""
    now, of_all = (jnp.asarray(number, jnp.float32) for number in (step, steps))
    rising = jnp.minimum(1, (now + 1) / ramp)
    falling = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((now / of_all - FLAT) / (1 - FLAT), 0, 1)))
    return rising * falling


def _parts(trained: PyTree) -> PyTree:
    """Return "linear" or "network" for each array."""
    return jax.tree.map_with_path(lambda path, _: "linear" if in_linear_part(path) else "network", trained)


def in_linear_part(path: tuple) -> bool:
    """Return whether the free array at a path is one of a linear part."""
    match path:
        case (*_, jax.tree_util.GetAttrKey(name=name)):
            return name in LINEAR
        case _:
            return False
