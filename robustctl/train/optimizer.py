"""The optimizer that training uses unless it is given another."""

import functools

import optax


def clipped_adam(learning_rate: optax.ScalarOrSchedule = 1e-3) -> optax.GradientTransformation:
    """Return Adam with elements of the gradient clipped at 10, whose learning rate the history and the log show.

    A number or a schedule given again returns the same object, so that a second training compiles nothing.
    """
    known = isinstance(learning_rate, float | int) or callable(learning_rate)
    if known:
        return _made_once(learning_rate)  # pyright: ignore[reportArgumentType]
    return _made(learning_rate)


def _made(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    constants = ("b1", "b2", "eps", "eps_root", "mu_dtype", "nesterov")
    adam = optax.inject_hyperparams(optax.adam, static_args=constants)
    return optax.chain(optax.clip(10.0), adam(learning_rate=learning_rate))


_made_once = functools.lru_cache(maxsize=256, typed=True)(_made)


@functools.lru_cache(maxsize=256)
def cosine_adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return `clipped_adam` with a rate that falls to zero along a cosine in so many gradient steps."""
    return clipped_adam(optax.cosine_decay_schedule(learning_rate, steps))
