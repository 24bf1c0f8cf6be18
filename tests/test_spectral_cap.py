"""Norms of matrices that a step must not raise above a limit: against NumPy's decomposition, and through a certificate."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import RobustctlError


def largest(W):
    return np.linalg.norm(np.asarray(W, np.float64), 2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_no_norm_is_above_the_limit_in_a_thousand_random_steps(dtype):
    limit = 0.7
    keys = jr.split(jr.key(0), 2)
    net = {"weight": jr.normal(keys[0], (6, 4), dtype), "weight_hh": jnp.eye(5, dtype=dtype)}
    cap = rc.train.spectral_cap(limit)

    def body(net, key):
        size = 10 ** jr.uniform(key, (), dtype, -3, 1)
        steps = {
            n: size * jr.normal(jr.fold_in(key, k), W.shape, dtype) for k, (n, W) in enumerate(net.items())
        }
        updates, _ = cap.update(steps, optax.EmptyState(), net)
        net = optax.apply_updates(net, updates)
        return net, net

    _, seen = jax.lax.scan(body, net, jr.split(keys[1], 1000))
    for W in seen.values():
        norms = np.linalg.norm(np.asarray(W, np.float64), 2, axis=(1, 2))
        assert norms.max() <= limit
        assert np.median(norms) > 0.99 * limit


def test_a_step_is_the_projection_and_leaves_all_else():
    net = {"weight": jnp.diag(jnp.array([3.0, 0.5, 1.0])), "bias": jnp.ones(3), "x0": 5 * jnp.eye(3)}
    step = jax.tree.map(jnp.zeros_like, net) | {"bias": jnp.full(3, 2.0)}
    updates, _ = rc.train.spectral_cap(0.8).update(step, optax.EmptyState(), net)
    after = optax.apply_updates(net, updates)
    np.testing.assert_allclose(after["weight"], np.diag([0.8, 0.5, 0.8]), atol=1e-12)
    np.testing.assert_array_equal(after["bias"], 3.0)
    np.testing.assert_array_equal(after["x0"], net["x0"])


def test_a_network_of_equinox_keeps_a_bound_that_its_certificate_finds():
    """A steep map: with the cap the proven constant is below limit^layers, without it above."""
    x, limit = jnp.linspace(-1, 1, 64)[:, None], 1.2
    y = jnp.tanh(20 * x)
    mlp = eqx.nn.MLP(1, 1, 8, 2, jnp.tanh, key=jr.key(0))

    def trained(optimizer):
        arrays, rest = eqx.partition(mlp, eqx.is_inexact_array)

        def loss(arrays):
            return jnp.mean((jax.vmap(eqx.combine(arrays, rest))(x) - y) ** 2)

        def body(carry, _):
            arrays, state = carry
            with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
                updates, state = optimizer.update(jax.grad(loss)(arrays), state, arrays)
            return (optax.apply_updates(arrays, updates), state), None

        run = jax.jit(lambda a: jax.lax.scan(body, (a, optimizer.init(a)), None, 400)[0][0])
        return eqx.combine(run(arrays), rest)

    free = trained(optax.adam(0.05))
    capped = trained(optax.chain(optax.adam(0.05), rc.train.spectral_cap(limit)))
    assert all(largest(layer.weight) <= limit for layer in capped.layers)
    assert rc.certificates.lipschitz(capped).upper <= limit**3 < rc.certificates.lipschitz(free).lower


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf])
def test_a_bad_limit_is_refused(limit):
    with pytest.raises(RobustctlError, match="limit must be a positive"):
        rc.train.spectral_cap(limit)


def test_an_update_without_the_arrays_is_refused():
    with pytest.raises(RobustctlError, match="give params"):
        rc.train.spectral_cap().update({"weight": jnp.eye(2)}, optax.EmptyState())
