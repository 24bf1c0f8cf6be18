"""Training in float32, far too fast: the certificate must hold wherever it leads."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
from jax import lax

import robustctl as rc

STEPS, RATE = 1000, 1e-2  # ten times the default learning rate of `fit`


@eqx.filter_jit
def train(model, us, target, steps=STEPS):
    """Fit a model to a target that it cannot reach, so that training runs into the boundary of the guarantee."""
    params, static = eqx.partition(model, eqx.is_inexact_array)
    optimizer = optax.adam(RATE)

    def loss(params):
        ys = rc.rollout(eqx.combine(params, static).explicit(), us).ys
        return jnp.mean((ys - target) ** 2)

    def step(carry, _):
        params, state = carry
        value, slope = jax.value_and_grad(loss)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = lax.scan(step, (params, optimizer.init(params)), None, length=steps)
    return eqx.combine(params, static), losses


@pytest.mark.parametrize("name", ["ContractingR2DN", "LipschitzR2DN"])
def test_float32_models_stay_certified(name):
    bound = {"gamma": 2.0} if name.startswith("Lipschitz") else {}
    for seed in range(5):
        model = getattr(rc.nn, name)(
            nu=1, nx=4, nv=6, ny=1, hidden=(8,), key=jr.key(seed), dtype=jnp.float32, **bound
        )
        us = jr.normal(jr.key(seed + 10), (40, 1), jnp.float32)
        trained, losses = train(model, us, 10 * jnp.cumsum(us, axis=0))
        certificate = rc.certify(trained, prove=False)
        assert jnp.isfinite(losses).all() and losses[-1] < losses[0]
        assert certificate.dtype == "float32" and certificate.holds, str(certificate)
