"""The optimizer that training uses unless it is given another."""

import functools
from typing import Any

import equinox as eqx
import optax

from ..checks import is_positive
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
