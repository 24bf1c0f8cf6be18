"""The equilibrium layer and the REN: solution, derivatives, guarantee."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax

from robustctl.errors import InvalidModelError
from robustctl.linalg import frobenius
from robustctl.nn import equilibrium
from robustctl.nn.activations import ACTIVATIONS
from robustctl.nn.equilibrium import equilibrium_layer
from robustctl.nn.initializers import long_memory, random, resonances
from robustctl.nn.ren import ContractingREN, DissipativeREN, LipschitzREN
from robustctl.trajectory import rollout

SIZES = (dict(nu=1, nx=3, nv=4, ny=3), dict(nu=2, nx=2, nv=5, ny=2), dict(nu=3, nx=4, nv=6, ny=1))


def triangular(nv, seed=0, dtype=float):
    D_key, b_key = jr.split(jr.key(seed))
    D11 = jnp.tril(jr.normal(D_key, (nv, nv), dtype), -1) / jnp.sqrt(jnp.asarray(nv, dtype))
    return D11, jr.normal(b_key, (nv,), dtype)


def unrolled(D11, b, activation):
    w = jnp.zeros_like(b)
    for i in range(b.size):
        w = w.at[i].set(activation(D11[i] @ w + b[i]))
    return w


def substitution(D11, b, activation):
    """Row by row, in NumPy."""
    w = np.zeros_like(b)
    for i in range(len(b)):
        w[i] = activation(D11[i, :i] @ w[:i] + b[i])
    return w


def close(tree, expected, tolerance):
    jax.tree.map(
        lambda a, r: np.testing.assert_allclose(a, r, rtol=tolerance, atol=tolerance), tree, expected
    )


@pytest.mark.parametrize("nv", [1, 5, 16, 50])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_equilibrium_layer_solves_its_equation(nv, dtype):
    D11, b = triangular(nv, dtype=dtype)
    w = jax.jit(equilibrium_layer, static_argnums=2)(D11, b, jnp.tanh)
    expected = substitution(np.asarray(D11), np.asarray(b), np.tanh)
    assert w.dtype == dtype
    np.testing.assert_allclose(w, expected, atol=50 * np.finfo(dtype).eps)


def test_the_equilibrium_layer_reads_only_below_the_diagonal():
    D11, b = triangular(20)
    upper = jnp.triu(jnp.ones((20, 20)))
    f = jax.jit(jax.value_and_grad(lambda D11, b: jnp.sum(equilibrium_layer(D11, b, jnp.tanh)), (0, 1)))
    (value, (gD, gb)), (other, (hD, hb)) = f(D11, b), f(D11 + upper, b)
    np.testing.assert_allclose(value, other)
    np.testing.assert_allclose(gD, hD)
    np.testing.assert_allclose(gb, hb)
    assert not np.triu(gD).any()


@pytest.mark.parametrize("name", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize("nv", [1, 7])
def test_derivatives_of_the_equilibrium_layer_are_those_of_the_unrolled_loop(name, nv, monkeypatch):
    monkeypatch.setattr(equilibrium, "_BLOCK", 3)
    activation = ACTIVATIONS[name]
    D11, b = triangular(nv)
    dD11, db = triangular(nv, seed=1)
    c = jnp.cos(jnp.arange(nv, dtype=b.dtype))

    def derivatives(layer):
        def f(D11, b):
            return c @ jnp.sin(layer(jnp.tril(D11, -1), b, activation))

        second = jax.jvp(jax.grad(f, (0, 1)), (D11, b), (dD11, db))[1]
        return f(D11, b), jax.grad(f, (0, 1))(D11, b), jax.jvp(f, (D11, b), (dD11, db))[1], second

    ours, theirs = jax.jit(lambda: derivatives(equilibrium_layer))(), jax.jit(lambda: derivatives(unrolled))()
    close(ours, theirs, 1e-10)


def test_the_equilibrium_layer_batches_over_inputs_and_over_matrices():
    D11, b = (jnp.stack(batch) for batch in zip(*(triangular(7, seed) for seed in range(3)), strict=True))

    def f(D11, b):
        return jnp.sum(equilibrium_layer(D11, b, jnp.tanh) ** 2)

    g = jax.grad(f, (0, 1))
    both, inputs, one = jax.jit(jax.vmap(g))(D11, b), jax.jit(jax.vmap(g, (None, 0)))(D11[0], b), jax.jit(g)
    for k in range(3):
        close(jax.tree.map(lambda a, k=k: a[k], both), one(D11[k], b[k]), 1e-12)
        close(jax.tree.map(lambda a, k=k: a[k], inputs), one(D11[0], b[k]), 1e-12)


def test_the_graph_of_the_equilibrium_layer_does_not_grow_with_its_width():
    def equations(nv):
        D11, b = triangular(nv)
        graph = jax.make_jaxpr(jax.grad(lambda D11, b: jnp.sum(equilibrium_layer(D11, b, jnp.tanh))))(D11, b)
        return str(graph).count(" = ")

    assert equations(400) == equations(48)


def build(cls, gamma=2.0, **kw):
    nu, ny = kw["nu"], kw["ny"]
    if cls is LipschitzREN:
        return cls(gamma=gamma, **kw)
    if cls is DissipativeREN:
        return cls(Q=-np.eye(ny) / gamma, S=0.3 * np.ones((nu, ny)), R=gamma * np.eye(nu), **kw)
    return cls(**kw)


def redraw(model, seed, scale):
    """Every free array anew with entries of the given size, far from any initial value."""
    rng = np.random.default_rng(seed)
    free, rest = eqx.partition(model, eqx.is_inexact_array)
    drawn = jax.tree.map(lambda a: jnp.asarray(scale * rng.normal(size=a.shape), a.dtype), free)
    return eqx.combine(drawn, rest)


def core_of(model):
    return model.core


def float64(*arrays):
    return [np.asarray(a, np.float64) for a in arrays]


def dissipation(system) -> np.ndarray:
    """M, term by term."""
    A, B1, B2, C1, C2 = float64(system.A, system.B1, system.B2, system.C1, system.C2)
    D11, D12, D21, D22, P = float64(system.D11, system.D12, system.D21, system.D22, system.P)
    nx, nv, nu = len(A), B1.shape[1], B2.shape[1]
    X0, W, U = np.split(np.eye(nx + nv + nu), [nx, nx + nv])
    S, V, Y = np.hstack([A, B1, B2]), np.hstack([C1, D11, D12]), np.hstack([C2, D21, D22])
    LW = np.diag(np.asarray(system.Lambda, np.float64)) @ W
    M = S.T @ P @ S - float(system.rate) ** 2 * X0.T @ P @ X0 + V.T @ LW + LW.T @ V - 2 * W.T @ LW
    if system.supply is None:
        return M[: nx + nv, : nx + nv]
    Q, Suy, R = float64(system.supply.Q, system.supply.S, system.supply.R)
    return M - Y.T @ Q @ Y - U.T @ Suy @ Y - Y.T @ Suy.T @ U - U.T @ R @ U


def margin(system) -> float:
    assert np.linalg.eigvalsh(np.asarray(system.P, np.float64))[0] > 0
    assert np.all(np.asarray(system.Lambda) > 0)
    assert not np.triu(system.D11).any()
    M = dissipation(system)
    return float(np.linalg.eigvalsh((M + M.T) / 2)[-1] / np.abs(M).max())


each_class = pytest.mark.parametrize("cls", [ContractingREN, LipschitzREN, DissipativeREN])


@each_class
@pytest.mark.parametrize("rate", [1.0, 0.9, 1e-2])
@pytest.mark.parametrize("sizes", SIZES)
def test_every_set_of_free_arrays_keeps_the_guarantee(cls, sizes, rate):
    for seed, (gamma, scale) in enumerate(itertools.product((0.1, 1.0, 100.0), (1.0, 1.0, 30.0))):
        model = redraw(build(cls, gamma, rate=rate, key=jr.key(0), **sizes), seed, scale)
        assert margin(model.explicit()) <= 1e-10


@each_class
@pytest.mark.parametrize("rate", [1.0, 0.9])
def test_float32_models_keep_the_guarantee_in_float64(cls, rate):
    for seed in range(10):
        model = redraw(build(cls, rate=rate, key=jr.key(0), dtype=jnp.float32, **SIZES[1]), seed, 1.0)
        # As p nears zero H keeps fewer digits than the guarantee needs: such a model is not certified.
        system = eqx.tree_at(lambda m: core_of(m).p, model, frobenius(core_of(model).X)).explicit()
        assert system.A.dtype == jnp.float32
        assert margin(system) <= 0


def small(cls, init=None, **kw):
    """A model of each kind with every free array away from zero."""
    kw = dict(nu=2, nx=3, nv=5, ny=2, activation=jnp.tanh, init=init, key=jr.key(3)) | kw
    return build(cls, **kw)


@pytest.mark.parametrize("cls", [ContractingREN, LipschitzREN])
@pytest.mark.parametrize("rate", [1.0, 0.7])
def test_two_trajectories_approach_each_other_in_the_metric(cls, rate):
    system = redraw(small(cls, rate=rate), 4, 1.0).explicit()

    def step(pair, u):
        pair = jax.vmap(lambda x: system.step(x, u)[0])(pair)
        d = pair[0] - pair[1]
        return pair, d @ system.P @ d

    us, x0 = 3 * jr.normal(jr.key(5), (40, 2)), jr.normal(jr.key(6), (2, 3))
    start = (x0[0] - x0[1]) @ system.P @ (x0[0] - x0[1])
    V = np.concatenate([[start], jax.jit(lambda x0, us: lax.scan(step, x0, us)[1])(x0, us)])
    assert np.all(V[1:] <= rate**2 * V[:-1] * (1 + 1e-9) + 1e-12 * V[0])


def test_the_gain_of_a_lipschitz_model_is_kept_along_trajectories():
    model = redraw(small(LipschitzREN, gamma=0.5), 4, 1.0)

    @eqx.filter_jit
    def energies(us):
        system = model.explicit()
        ys = jax.vmap(lambda u: rollout(system, u).ys)(us)
        return jnp.sum((us[0] - us[1]) ** 2), jnp.sum((ys[0] - ys[1]) ** 2)

    for key in jr.split(jr.key(7), 5):
        du, dy = energies(jr.normal(key, (2, 30, 2)))
        assert 0 < dy <= 0.25 * float(model.gamma / 0.5) ** 2 * du


@each_class
def test_a_step_is_that_of_dense_matrices(cls):
    system = redraw(small(cls), 4, 1.0).explicit()
    x, u = np.asarray(jr.normal(jr.key(1), (3,))), np.asarray(jr.normal(jr.key(2), (2,)))
    s = jax.tree.map(np.asarray, eqx.filter(system, eqx.is_array))
    w = substitution(s.D11, s.C1 @ x + s.D12 @ u + s.bv, np.tanh)
    x_next, y = system.step(jnp.asarray(x), jnp.asarray(u))
    np.testing.assert_allclose(x_next, s.A @ x + s.B1 @ w + s.B2 @ u + s.bx, atol=1e-11)
    np.testing.assert_allclose(y, s.C2 @ x + s.D21 @ w + s.D22 @ u + s.by, atol=1e-11)
    assert not system.init_state().any()


@pytest.mark.parametrize(
    ("cls", "init"),
    [
        (ContractingREN, None),
        (LipschitzREN, None),
        (DissipativeREN, random),
        (LipschitzREN, long_memory),
        (ContractingREN, resonances(0.1, 1.0, dt=0.1)),
    ],
)
def test_every_free_array_has_a_gradient(cls, init):
    model = small(cls, init, **(dict(train_gamma=True) if cls is LipschitzREN else {}))
    us = jr.normal(jr.key(8), (4, 2))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        system = model.explicit()
        return jnp.sum(jnp.sin(rollout(system, us, jnp.ones(3)).ys))

    for path, leaf in jax.tree.leaves_with_path(gradient(model)):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)


@each_class
@pytest.mark.parametrize(("rate", "dtype"), [(1.0, jnp.float32), (1e-2, jnp.float64)])
def test_long_memory_starts_near_the_rate_and_keeps_the_guarantee(cls, rate, dtype):
    system = small(cls, long_memory, rate=rate, dtype=dtype).explicit()
    assert margin(system) <= 0
    modes = np.abs(np.linalg.eigvals(np.asarray(system.A, np.float64)))
    assert np.all(modes > 0.8 * rate)
    assert np.all(modes < rate)
    assert np.abs(system.B1).max() > 0


@each_class
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (dict(nx=0), "nx"), (dict(nv=0), "nv"), (dict(rate=0.0), "rate"), (dict(rate=1.1), "rate"),
        (dict(activation=lambda v: 2 * v), "slope"), (dict(activation=lambda v: v - v.mean()), "itself"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(cls, wrong, named):
    with pytest.raises(InvalidModelError, match=named):
        small(cls, **wrong)


@pytest.mark.parametrize("gamma", [0.0, -1.0, np.inf])
def test_a_gain_that_is_not_positive_and_finite_is_refused(gamma):
    with pytest.raises(InvalidModelError, match="gamma"):
        small(LipschitzREN, gamma=gamma)


def test_a_supply_rate_that_no_model_satisfies_is_refused():
    kw = dict(nu=1, nx=2, nv=3, ny=1, key=jr.key(0))
    with pytest.raises(InvalidModelError, match="Q must be negative definite"):
        DissipativeREN(Q=[[0.0]], S=[[0.5]], R=[[0.0]], **kw)
    with pytest.raises(InvalidModelError, match="R - S Q"):
        DissipativeREN(Q=[[-1.0]], S=[[0.0]], R=[[-1.0]], **kw)


def test_the_number_of_free_entries_is_the_published_one():
    model = eqx.filter_eval_shape(lambda: ContractingREN(nu=2, nx=75, nv=150, ny=3, key=jr.key(0)))
    free = [leaf for leaf in jax.tree.leaves(model) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    count = sum(leaf.size for leaf in free)
    # Published: 96,995, of which 10 (X3, Y3, Z3) shape D22 under a gain bound and are idle without one.
    assert count == 96_995 - 10
