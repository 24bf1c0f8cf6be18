"""Activations with slope in [0, 1], the class that every guarantee here assumes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ModelError

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]

ACTIVATIONS: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "hard_tanh": jax.nn.hard_tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "identity": jax.nn.identity,
}
"""Known activations by the name a model file stores."""

IN_NUMPY: dict[Activation, Callable] = {
    jax.nn.relu: lambda z: np.maximum(z, 0),
    jnp.tanh: np.tanh,
    jax.nn.leaky_relu: lambda z: np.maximum(z, z * z.dtype.type(0.01)),
    jax.nn.hard_tanh: lambda z: np.clip(z, -1, 1),
    jax.nn.sigmoid: lambda z: 1 / (1 + np.exp(-z)),
    jax.nn.softplus: lambda z: np.logaddexp(z, 0),
    jax.nn.identity: lambda z: z,
}
"""The known activations on NumPy arrays."""

_PROBES = np.concatenate([-np.logspace(2, -3, 400), np.zeros(1), np.logspace(-3, 2, 400)])


def check_activation(activation: Activation) -> None:
    """Raise `ModelError` unless the activation is elementwise with slope in [0, 1].

    The named ones in `ACTIVATIONS` are known to be; any other is checked on difference quotients over
    [-100, 100], which finds a slope outside the interval but cannot prove that there is none.
    """
    if any(activation is known for known in ACTIVATIONS.values()):
        return
    with jax.enable_x64(True):
        values = np.asarray(jax.jit(activation)(jnp.asarray(_PROBES)))
        single = np.asarray(activation(jnp.asarray(_PROBES[3])))
    if values.shape != _PROBES.shape or not np.isclose(values[3], single):
        raise ModelError(
            "activation must act on each entry by itself, got one that does not keep the shape or mixes entries"
        )
    slopes = np.diff(values) / np.diff(_PROBES)
    low, high = float(slopes.min()), float(slopes.max())
    if not (low >= -1e-9 and high <= 1 + 1e-9):
        raise ModelError(
            f"activation must have slope in [0, 1], got slopes from {low:.4g} to {high:.4g}; "
            f"use one of {', '.join(ACTIVATIONS)} or scale yours"
        )
