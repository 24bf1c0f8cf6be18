import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import RobustctlError


@pytest.fixture(scope="module")
def model():
    return rc.nn.LipschitzR2DN(nu=2, nx=3, nv=4, ny=1, hidden=(5,), gamma=3.0, key=jr.key(0))


@pytest.fixture(scope="module")
def us():
    return jr.normal(jr.key(1), (23, 2))


def test_rollout_is_the_loop_it_stands_for(model, us):
    system = model.explicit()
    x, xs, ys = system.init_state(), [], []
    for u in us:
        xs.append(x)
        x, y = system.step(x, u)
        ys.append(y)
    run = rc.rollout(system, us)
    np.testing.assert_allclose(run.xs, np.stack(xs), atol=1e-13)
    np.testing.assert_allclose(run.ys, np.stack(ys), atol=1e-13)
    np.testing.assert_allclose(run.x_final, x, atol=1e-13)


def test_a_rollout_goes_on_from_the_final_state(model, us):
    system = model.explicit()
    whole = rc.rollout(system, us)
    first = rc.rollout(system, us[:10])
    second = rc.rollout(system, us[10:], first.x_final)
    np.testing.assert_allclose(jnp.concatenate([first.ys, second.ys]), whole.ys, atol=1e-14)


@eqx.filter_jit
@eqx.filter_value_and_grad
def loss(args, checkpoint):
    model, us, x0 = args
    run = rc.rollout(model.explicit(), us, x0, checkpoint=checkpoint)
    return jnp.sum(run.ys**2) + jnp.sum(run.xs) + jnp.sum(run.x_final)


@pytest.mark.parametrize("checkpoint", [1, 5, 22, 23, 100])
def test_checkpointed_rollout_has_the_same_outputs_and_gradients(model, us, checkpoint):
    args = model, us, jnp.ones(3)
    (a, da), (b, db) = loss(args, None), loss(args, checkpoint)
    np.testing.assert_allclose(a, b, rtol=1e-12)
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-11), da, db)


def test_checkpointing_bounds_the_memory_of_a_gradient():
    model, us = rc.nn.GRU(nu=2, nx=16, ny=1, key=jr.key(0)), jnp.zeros((4096, 2))

    def temporaries(checkpoint):
        params, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(params):
            return jnp.sum(
                rc.rollout(eqx.combine(params, static).explicit(), us, checkpoint=checkpoint).ys ** 2
            )

        return jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(64) < temporaries(None) / 3


def test_in_parallel_it_is_the_same(model):
    us = jr.normal(jr.key(2), (40, 2))
    scan, parallel = (rc.rollout(model.explicit(), us, method=method) for method in ("scan", "parallel"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), scan, parallel)


@pytest.mark.parametrize(
    ("platform", "samples", "iterates"), [("cpu", 2001, False), ("gpu", 2002, True), ("gpu", 1000, False)]
)
def test_auto_is_parallel_for_a_long_sequence_off_the_cpu(monkeypatch, model, platform, samples, iterates):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    system, us = model.explicit(), jnp.ones((samples, 2))
    jaxpr = str(jax.make_jaxpr(lambda u: rc.rollout(system, u, method="auto").ys)(us))
    assert ("while[" in jaxpr) == iterates
    static = rc.loops.Gain(jnp.ones((1, 2)), jnp.zeros(2), jnp.zeros(1))
    assert rc.rollout(static, us, method="auto").ys.shape == (samples, 1)  # no R2DN: by the scan


def test_batches_go_through_vmap(model):
    us = jr.normal(jr.key(2), (6, 10, 2))
    system = model.explicit()
    together = jax.vmap(lambda u: rc.rollout(system, u).ys)(us)
    alone = rc.rollout(system, us[4]).ys
    np.testing.assert_allclose(together[4], alone, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, s, us: (m, us, None, None), "explicit"),
        (lambda m, s, us: (s, us[:, :1], None, None), "time first"),
        (lambda m, s, us: (s, us[None], None, None), "jax.vmap"),
        (lambda m, s, us: (s, us[:, 0], None, None), "time first"),
        (lambda m, s, us: (s, us, jnp.zeros(2), None), "must fit"),
        (lambda m, s, us: (s, us, None, 0), "checkpoint must be"),
        (lambda m, s, us: (s, jnp.asarray(1.0), None, None), "leading time axis"),
        (lambda m, s, us: (s, (us, us[:-1]), None, None), "same number of samples"),
    ],
)
def test_bad_input_is_named(as_installed, model, us, change, message):
    system, inputs, x0, checkpoint = change(model, model.explicit(), us)
    with pytest.raises(RobustctlError, match=message):
        rc.rollout(system, inputs, x0, checkpoint=checkpoint)
