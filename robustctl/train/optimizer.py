"""The optimizer that training uses unless it is given another."""

import optax


def clipped_adam(learning_rate: optax.ScalarOrSchedule = 1e-3) -> optax.GradientTransformation:
    """Return Adam with elements of the gradient clipped at 10, and its rate where progress and log can read it."""
    constants = ("b1", "b2", "eps", "eps_root", "mu_dtype", "nesterov")
    adam = optax.inject_hyperparams(optax.adam, static_args=constants)
    return optax.chain(optax.clip(10.0), adam(learning_rate=learning_rate))
