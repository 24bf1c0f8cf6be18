"""Losses of a simulation: `(y_hat, y, mask) -> number`, arrays (B, T, ny), mask False where nothing was measured."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Loss = Callable[[Array, Array, Array], Array]


def mean_squared_error(
    y_hat: Float[Array, "B T ny"], y: Float[Array, "B T ny"], mask: Bool[Array, "B T ny"]
) -> Float[Array, ""]:
    """Mean of the squared simulation error over the measured entries.

    **Arguments:**

    - `y_hat`: simulated outputs, scaled.
    - `y`: measured outputs, scaled.
    - `mask`: False where nothing was measured.
    """
    error = jnp.where(mask, y_hat - y, 0)
    return jnp.sum(error**2) / jnp.maximum(jnp.sum(mask.astype(y.dtype)), 1)


def summed_squared_error(
    y_hat: Float[Array, "B T ny"], y: Float[Array, "B T ny"], mask: Bool[Array, "B T ny"]
) -> Float[Array, ""]:
    """Mean over time of the squared error summed over experiments and channels, as published for the F-16 [BWM25].

    **Arguments:**

    - `y_hat`: simulated outputs, scaled.
    - `y`: measured outputs, scaled.
    - `mask`: False where nothing was measured.
    """
    error = jnp.where(mask, y_hat - y, 0)
    return jnp.sum(error**2) / y.shape[1]
