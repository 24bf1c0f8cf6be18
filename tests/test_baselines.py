"""The linear and the gated models: stability, shapes, gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from robustctl.errors import InvalidModelError
from robustctl.nn.gated import GRU, LSTM, ParaGRU
from robustctl.nn.initializers import long_memory, random
from robustctl.nn.stable_linear import StableLinear
from robustctl.trajectory import rollout

MODELS = {
    "StableLinear": (StableLinear, {}, 4),
    "LongMemoryLinear": (StableLinear, {"init": long_memory}, 4),
    "GRU": (GRU, {}, 4),
    "ParaGRU": (ParaGRU, {}, 4),
    "LSTM": (LSTM, {}, 8),
}
each_model = pytest.mark.parametrize("name", MODELS)


@each_model
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_shapes_and_dtypes(name, dtype):
    cls, kw, states = MODELS[name]

    @jax.jit
    def run(us):
        system = cls(nu=2, nx=4, ny=3, key=jr.key(0), dtype=dtype, **kw).explicit()
        trajectory = rollout(system, us)
        return system.init_state(), trajectory.x_final, trajectory.ys

    x0, x, ys = run(jnp.ones((5, 2), dtype))
    assert x0.shape == x.shape == (states,)
    assert ys.shape == (5, 3)
    assert x0.dtype == x.dtype == ys.dtype == dtype
    assert not x0.any()
    assert np.isfinite(ys).all()


@each_model
def test_every_free_array_has_a_gradient(name):
    cls, kw, states = MODELS[name]
    us = jr.normal(jr.key(1), (4, 2))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        system = model.explicit()
        return jnp.sum(jnp.sin(rollout(system, us, jnp.ones(states)).ys))

    for path, leaf in jax.tree.leaves_with_path(gradient(cls(nu=2, nx=4, ny=3, key=jr.key(0), **kw))):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize("rate", [1.0, 0.5, 1e-2])
def test_a_stable_linear_model_is_stable_for_every_set_of_free_arrays(rate):
    model = StableLinear(nu=1, nx=5, ny=1, rate=rate, key=jr.key(0))
    rng = np.random.default_rng(1)
    for scale in np.repeat([1.0, 30.0], 25):
        free = tuple(jnp.asarray(scale * rng.normal(size=a.shape)) for a in (model.X, model.p, model.Y))
        system = eqx.tree_at(lambda m: (m.X, m.p, m.Y), model, free).explicit()
        A, P = np.asarray(system.A), np.asarray(system.P)
        M = A.T @ P @ A - rate**2 * P
        assert np.linalg.eigvalsh(P)[0] > 0
        assert np.linalg.eigvalsh(M)[-1] <= 1e-12 * np.abs(M).max()
        assert np.abs(np.linalg.eigvals(A)).max() < rate


@pytest.mark.parametrize("init", [random, long_memory])
def test_a_step_of_the_linear_model_is_that_of_its_matrices(init):
    s = StableLinear(nu=2, nx=3, ny=1, rate=0.9, init=init, key=jr.key(0)).explicit()
    x, u = jnp.arange(3.0), jnp.ones(2)
    x_next, y = s.step(x, u)
    np.testing.assert_allclose(x_next, s.A @ x + s.B @ u + s.bx)
    np.testing.assert_allclose(y, s.C @ x + s.D @ u + s.by)
    if init is long_memory:
        assert np.all(np.abs(np.linalg.eigvals(np.asarray(s.A))) > 0.8 * 0.9)


def test_a_gru_with_diagonal_recurrent_matrices_is_one_of_equinox():
    model = ParaGRU(nu=2, nx=3, ny=1, key=jr.key(0))
    cell = model.system.cell
    full = eqx.nn.GRUCell(2, 3, key=jr.key(1))
    recurrent = jnp.concatenate([jnp.diag(a) for a in jnp.split(cell.weight_hh, 3)])
    full = eqx.tree_at(
        lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n),
        full,
        (cell.weight_ih, recurrent, cell.bias, jnp.zeros(3)),
    )
    us, h = jr.normal(jr.key(2), (20, 2)), jnp.zeros(3)
    for u in us:
        slope = jax.jacobian(lambda h, u=u: cell(u, h))(h)
        np.testing.assert_array_equal(slope, jnp.diag(jnp.diag(slope)))
        np.testing.assert_allclose(cell(u, h), full(u, h), rtol=1e-12)
        h = full(u, h)


@pytest.mark.parametrize("cls", [GRU, ParaGRU, LSTM])
def test_the_input_reaches_the_output_of_a_gated_model_within_the_sample(cls):
    system = cls(nu=1, nx=3, ny=1, key=jr.key(0)).explicit()
    x = system.init_state()
    assert np.any(jax.jacobian(lambda u: system.step(x, u)[1])(jnp.ones(1)) != 0)


@each_model
def test_bad_sizes_are_refused(name):
    cls, kw, _ = MODELS[name]
    with pytest.raises(InvalidModelError, match="nx"):
        cls(nu=1, nx=0, ny=1, key=jr.key(0), **kw)


def test_a_bad_rate_is_refused():
    with pytest.raises(InvalidModelError, match="rate"):
        StableLinear(nu=1, nx=2, ny=1, rate=1.5, key=jr.key(0))
