"""The recurrence arranged for speed gives what the plain one gives: values, gradients, under every transformation."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from benchmarks.speed import yardstick
from robustctl.loops import Gain
from robustctl.nn import folded_scan, layout
from robustctl.system import step_by_step

from .models import draw

T = 23


def make(dtype=jnp.float64, activation=jnp.tanh, hidden=(6, 5), key=0):
    model = rc.nn.ContractingR2DN(
        nu=2, nx=4, nv=5, ny=3, hidden=hidden, activation=activation, key=jr.key(key), dtype=dtype
    )
    return draw(model, jr.key(key + 1), 0.5)


def data(dtype=jnp.float64, batch=5):
    us, x0 = jr.normal(jr.key(2), (batch, T, 2), dtype), jr.normal(jr.key(3), (batch, 4), dtype)
    return us, x0, jr.normal(jr.key(4), (batch, T, 3), dtype)


def cost(model, us, x0, target, checkpoint=None):
    system = model.explicit()
    run = jax.vmap(lambda u, x: rc.rollout(system, u, x, checkpoint=checkpoint))(us, x0)
    return cost_of(run.xs, run.ys, run.x_final, target)


def cost_of(xs, ys, x_final, target):
    """Depends on all that a rollout returns."""
    return jnp.mean((ys - target) ** 2) + jnp.mean(jnp.sin(xs)) + jnp.mean(x_final**3)


def plain_cost(model, us, x0, target):
    """The same by the yardstick, batch first and time first."""
    e = yardstick.explicit(model)

    def body(x, u):
        x_next, y = yardstick.step(e, x, u)
        return x_next, (x, y)

    x_final, (xs, ys) = jax.lax.scan(body, x0, jnp.swapaxes(us, 0, 1))
    return cost_of(xs, jnp.swapaxes(ys, 0, 1), x_final, target)


def close(ours, theirs, tolerance):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        scale = np.abs(b).max() + tolerance
        np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=0, err_msg=jax.tree_util.keystr(path))


@functools.cache
def folded(activation, hidden):
    """A prepared model, and cost and slopes by the general scan."""
    system = make(activation=activation, hidden=hidden).explicit().prepare()
    return system, slopes(system, lambda s, x, u: step_by_step(s.step, x, u))


def slopes(system, scan):
    def run(system, us, x0, target):
        return cost_of(*jax.vmap(lambda u, x: scan(system, x, u))(us, x0), target)

    return jax.jit(jax.value_and_grad(run, (0, 1, 2)))(system, *data())


def gradient(fn, argnums=0, of=jax.grad):
    """Return `of(fn, argnums)`, of the floating-point arrays of the model that is its first argument."""

    def taken(model, *others):
        free, fixed = eqx.partition(model, eqx.is_inexact_array)
        return of(lambda m, *rest: fn(eqx.combine(m, fixed), *rest), argnums)(free, *others)

    return taken


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
@pytest.mark.parametrize("hidden", [(6,), (6, 5, 7)])
@pytest.mark.parametrize(("few", "many"), [(16, 128), (0, 128), (0, 0)])
@pytest.mark.parametrize("columns", [1, 20, 10_000])
def test_gradients_are_those_of_the_general_scan(monkeypatch, columns, few, many, hidden, activation):
    """Chunks of one sample, of four with three left over, and the whole sequence; rows, columns of a few and of many."""
    system, expected = folded(activation, hidden)
    monkeypatch.setattr(layout, "_FEW", few)
    monkeypatch.setattr(layout, "_MANY", many)
    monkeypatch.setattr(folded_scan, "_VECTORS", {"cpu": columns})
    close(slopes(system, lambda s, x, u: s.scan(x, u)), expected, 1e-9)


def test_gradients_are_those_of_the_yardstick():
    """Through the map from free arrays, too."""
    model = make(hidden=(6, 5, 7))
    found = jax.jit(gradient(cost, (0, 1, 2), jax.value_and_grad))(model, *data())
    close(found, jax.jit(gradient(plain_cost, (0, 1, 2), jax.value_and_grad))(model, *data()), 1e-9)


def test_single_precision_is_about_as_exact_as_plain():
    """In the explicit arrays, so that both start from the same numbers."""
    us, x0, target = data()

    def fast(system, us, x0):
        return jax.vmap(lambda u, x: rc.rollout(system, u, x).ys)(us, x0)

    def plain(system, us, x0):
        return jax.vmap(lambda u, x: jax.lax.scan(lambda x, u: system.step(x, u), x, u)[1])(us, x0)

    def slopes(run, dtype):
        system = jax.tree.map(lambda a: a.astype(dtype), make(jnp.float32).explicit())
        arrays = [a.astype(dtype) for a in (us, x0, target)]
        loss = lambda s, u, x, y: jnp.mean((run(s, u, x) - y) ** 2)  # noqa: E731
        return jax.tree.leaves(jax.jit(jax.grad(loss))(system, *arrays))

    exact = slopes(plain, jnp.float64)

    def error(found):
        return np.sqrt(
            sum(np.sum((np.asarray(a, float) - b) ** 2) for a, b in zip(found, exact, strict=True))
        )

    assert error(slopes(fast, jnp.float32)) <= 3 * error(slopes(plain, jnp.float32))


def test_one_sequence_and_a_checkpoint_agree_with_a_batch():
    model, (us, x0, target) = make(), data()
    batch = jax.jit(gradient(cost))(model, us, x0, target)

    def one_by_one(model, checkpoint):
        def single(u, x, y):
            system = model.explicit()
            run = rc.rollout(system, u, x, checkpoint=checkpoint)
            return jnp.mean((run.ys - y) ** 2) + jnp.mean(jnp.sin(run.xs)) + jnp.mean(run.x_final**3)

        return sum(single(*(a[k] for a in (us, x0, target))) for k in range(2)) / 2

    expected = jax.jit(gradient(cost))(model, us[:2], x0[:2], target[:2])
    close(jax.jit(gradient(one_by_one), static_argnums=1)(model, None), expected, 1e-10)
    close(jax.jit(gradient(one_by_one), static_argnums=1)(model, 1), expected, 1e-10)
    close(jax.jit(gradient(cost), static_argnums=4)(model, us, x0, target, 4), batch, 1e-10)


def test_a_batch_of_models_on_a_batch_of_sequences():
    """As training over seeds does; and each model on a sequence of its own."""
    models = [make(key=k) for k in (0, 7)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    us, x0, target = data()
    both = jax.jit(jax.vmap(gradient(cost), in_axes=(0, None, None, None)))(stacked, us, x0, target)
    single = jax.jit(jax.vmap(lambda m, u, x: rc.rollout(m.explicit(), u, x).ys))(stacked, us[:2], x0[:2])
    for k, model in enumerate(models):
        close(jax.tree.map(lambda a, k=k: a[k], both), gradient(cost)(model, us, x0, target), 1e-10)
        np.testing.assert_allclose(single[k], rc.rollout(model.explicit(), us[k], x0[k]).ys, atol=1e-12)


def test_what_is_not_batched_is_shared():
    system, (us, x0, _) = make().explicit(), data()
    spread = jax.jit(jax.vmap(lambda x: rc.rollout(system, us[0], x).ys))(x0)
    np.testing.assert_allclose(spread[1], rc.rollout(system, us[0], x0[1]).ys, atol=1e-12)
    run = jax.jit(jax.grad(lambda u: jnp.sum(jax.vmap(lambda x: rc.rollout(system, u, x).ys)(x0) ** 2)))
    plain = jax.jit(
        jax.grad(lambda u: jnp.sum(jax.vmap(lambda x: rc.rollout(system, u, x, checkpoint=1).ys)(x0) ** 2))
    )
    np.testing.assert_allclose(run(us[0]), plain(us[0]), atol=1e-10)


def test_forward_mode_goes_with_a_checkpoint():
    system, (us, x0, _) = make().explicit(), data()
    slopes = jax.jacfwd(lambda x: rc.rollout(system, us[0], x, checkpoint=1).ys)(x0[0])
    reverse = jax.jacrev(lambda x: rc.rollout(system, us[0], x).ys)(x0[0])
    np.testing.assert_allclose(slopes, reverse, atol=1e-12)


def test_a_scaled_system_and_two_in_a_row_go_the_same_way():
    system, (us, x0, _) = make().explicit(), data()
    scaled = rc.Scaled(
        system, *(jnp.asarray(a) for a in ([1.0, -2.0], [3.0, 0.5], [1.0, 0.0, 2.0], [2.0, 1.0, 4.0]))
    )
    row = rc.loops.Series(scaled, Gain(jnp.ones((2, 3)), jnp.zeros(3), jnp.ones(2)))
    for each, start in ((scaled, x0[0]), (row, (x0[0], ()))):
        fast, slow = rc.rollout(each, us[0], start), rc.rollout(each, us[0], start, checkpoint=1)
        for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(slow), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_memory_of_a_gradient_is_that_of_the_states():
    """Against the plain one at a size where activations dominate."""
    model = rc.nn.ContractingR2DN(nu=1, nx=4, nv=32, ny=1, hidden=(48,) * 3, key=jr.key(0), dtype=jnp.float32)
    us, x0, target = jnp.zeros((16, 800, 1)), jnp.zeros((16, 4)), jnp.zeros((16, 800, 1))
    single = [a.astype(jnp.float32) for a in (us, x0, target)]

    def temporaries(f):
        free, fixed = eqx.partition(model, eqx.is_inexact_array)
        lowered = jax.jit(jax.grad(lambda m, *a: f(eqx.combine(m, fixed), *a))).lower(free, *single)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries(cost) < temporaries(plain_cost) / 4


def test_a_gradient_of_a_long_record_needs_little_more_than_its_states_and_inputs():
    samples, nx = 100_000, 8
    model = rc.nn.ContractingR2DN(nu=1, nx=nx, nv=16, ny=1, hidden=(32,), key=jr.key(0), dtype=jnp.float32)
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(arrays, us, ys):
        return jnp.mean((rc.rollout(eqx.combine(arrays, rest).explicit(), us).ys - ys) ** 2)

    record = jax.ShapeDtypeStruct((samples, 1), jnp.float32)
    needed = jax.jit(jax.grad(loss)).lower(arrays, record, record).compile().memory_analysis()
    assert needed.temp_size_in_bytes <= 1.3 * 4 * samples * (nx + 1)
