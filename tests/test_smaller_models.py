"""Models made smaller: what is left is the same model, inside the same guarantee, and a lasso finds the order of a known system."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlError

NX, NV = 5, 6
U = np.random.default_rng(0).normal(size=(300, 1))
GUARANTEES = {
    "contracting": rc.nn.Contracting(0.95),
    "Lipschitz": rc.nn.Lipschitz(2.0, 0.98),
    "dissipative": rc.nn.Dissipative(**rc.nn.passive(1, output_excess=0.1)),
}


def built(kind, guarantee, dtype, key=0, **kw):
    sizes = {"nu": 1, "nx": NX, "nv": NV, "ny": 1, "key": jr.key(key), "dtype": dtype} | kw
    if kind == "REN":
        return rc.nn.REN(GUARANTEES[guarantee], **sizes)
    return rc.nn.R2DN(GUARANTEES[guarantee], hidden=(7, 6), **sizes)


def moved(model, rng, size=1.0):
    """Return a model with other free arrays, of a size between its own and ten times that."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    scale = size * 10 ** rng.uniform(-1, 0.5)
    return eqx.combine(
        jax.tree.map(lambda a: a + jnp.asarray(scale * rng.normal(size=a.shape), a.dtype), arrays), rest
    )


def outputs(model, u=U):
    system = model.explicit()
    return np.asarray(rc.rollout(system, jnp.asarray(u, system.bx.dtype)).ys, np.float64)


CASES = [(kind, guarantee) for kind in ("R2DN", "REN") for guarantee in GUARANTEES]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("kind", "guarantee"), CASES)
def test_no_smaller_model_of_random_draws_is_outside_of_its_guarantee(kind, guarantee, dtype):
    rng, start = np.random.default_rng(1), built(kind, guarantee, dtype)
    hidden = (4, 3) if kind == "R2DN" else None
    for _ in range(12):
        model = moved(start, rng)
        small = rc.nn.reduce(model, U, nx=2, nv=3, hidden=hidden)
        system = small.explicit()
        sizes = small.sizes()
        assert (type(small), sizes["nx"], sizes["nv"], system.bx.dtype) == (type(model), 2, 3, dtype)
        certificate = rc.certify(system)
        assert certificate.holds and certificate.rate <= float(model.rate)
        if guarantee == "Lipschitz":
            assert certificate.gamma <= float(model.gamma)


@pytest.mark.parametrize(("kind", "guarantee"), CASES)
def test_with_nothing_left_out_the_model_is_the_same_in_other_coordinates(kind, guarantee):
    model = moved(built(kind, guarantee, jnp.float64), np.random.default_rng(2), 0.3)
    # The state starts at the mean of the simulation, which is forgotten.
    end = outputs(model)[-20:]
    np.testing.assert_allclose(outputs(rc.nn.reduce(model, U))[-20:], end, atol=1e-5 * np.abs(end).max())


def with_dead_groups(model):
    """Return a REN whose last two neurons and an R2DN whose last feature and two hidden neurons act on nothing."""
    core = model.core
    if isinstance(model, rc.nn.REN):
        # H is block diagonal where a column of X is the only one with entries in its rows.
        X = np.asarray(core.X).copy()
        dead = [NX + NV - 2, NX + NV - 1]
        X[dead], X[:, dead] = 0, 0
        X[dead, dead] = 1.0
        D21 = core.D21.at[:, -2:].set(0)
        return eqx.tree_at(lambda m: (m.core.X, m.core.D21), model, (jnp.asarray(X), D21))
    B1, C1 = core.B1_imp.at[:, -1].set(0), core.C1.at[-1].set(0)
    D21, D12 = core.D21.at[:, -1].set(0), core.D12.at[-1].set(0)
    return eqx.tree_at(
        lambda m: (m.core.B1_imp, m.core.C1, m.core.D21, m.core.D12), model, (B1, C1, D21, D12)
    )


@pytest.mark.parametrize("kind", ["R2DN", "REN"])
def test_neurons_that_act_on_nothing_go_without_a_change(kind):
    model = with_dead_groups(built(kind, "contracting", jnp.float64))
    dead = 1 if kind == "R2DN" else 2
    sizes = rc.nn.group_sizes(model, U).neurons
    assert sizes[-dead:].max() < 1e-12 * sizes[0] < sizes[-dead - 1]
    end = outputs(model)[-20:]
    np.testing.assert_allclose(outputs(rc.nn.reduce(model, U, nv=NV - dead))[-20:], end, atol=1e-6)


def test_hidden_neurons_that_never_move_go_without_a_change():
    """A bias far below zero: relu gives zero at every input of the simulation."""
    model = built("R2DN", "Lipschitz", jnp.float64)
    b = model.core.phi.layers[0].b.at[jnp.array([1, 4])].set(-100.0)
    model = eqx.tree_at(lambda m: m.core.phi.layers[0].b, model, b)
    sizes = rc.nn.group_sizes(model, U).hidden[0]
    assert sizes[-2] == 0
    end = outputs(model)[-20:]
    small = rc.nn.reduce(model, U, hidden=(5, 6))
    assert [layer.d.size for layer in small.core.phi.layers] == [5, 6]
    np.testing.assert_allclose(outputs(small)[-20:], end, atol=1e-6)


def test_states_of_a_linear_model_have_its_hankel_singular_values():
    """Against Gramians by SciPy."""
    A, B, C = np.array([[0.8, 0.3], [-0.2, 0.7]]), np.array([[1.0], [0.4]]), np.array([[1.0, -0.5]])
    init = rc.nn.at_linear(A, B, C, [[0.0]])
    model = rc.nn.ContractingR2DN(
        nu=1, nx=2, nv=2, ny=1, hidden=(), init=init, key=jr.key(0), dtype=jnp.float64
    )
    core = model.core
    model = eqx.tree_at(
        lambda m: (m.core.B1_imp, m.core.D21), model, (0 * core.B1_imp, 0 * core.D21)
    )  # the network acts on nothing
    u = np.random.default_rng(0).normal(size=(5000, 1))
    found = rc.nn.group_sizes(model, u).states
    reached = scipy.linalg.solve_discrete_lyapunov(A, B @ B.T)
    seen = scipy.linalg.solve_discrete_lyapunov(A.T, C.T @ C)
    expected = np.sqrt(np.sort(np.linalg.eigvals(reached @ seen))[::-1])
    np.testing.assert_allclose(found, expected, rtol=0.05)  # inputs of 5,000 samples are not quite white


def test_a_lasso_is_the_sum_of_the_groups_and_does_not_depend_on_the_coordinates():
    model = built("REN", "Lipschitz", jnp.float64)
    system = model.explicit()
    lasso = rc.train.GroupLasso(neurons=2.0)
    R = np.linalg.cholesky(np.asarray(system.P)).T
    L, D11 = np.asarray(system.Lambda), np.tril(np.asarray(system.D11), -1)
    expected = sum(
        np.sqrt(
            (np.sum((R @ np.asarray(system.B1)[:, i]) ** 2) + D11[:, i] ** 2 @ L) / L[i]
            + np.sum(np.asarray(system.D21)[:, i] ** 2)
        )
        for i in range(NV)
    )
    np.testing.assert_allclose(float(lasso(model)), 2 * expected, rtol=1e-9)
    both = rc.train.GroupLasso(1.0, 1.0)
    other = rc.nn.reduce(model, U)  # the same model in coordinates in which P is the identity
    np.testing.assert_allclose(float(both(other)), float(both(model)), rtol=1e-6)


def test_the_sum_over_states_is_the_nuclear_norm_and_has_its_derivative():
    model = built("R2DN", "contracting", jnp.float64)
    lasso = rc.train.GroupLasso(states=1.0)
    s = model.explicit()
    R = np.linalg.cholesky(np.asarray(s.P)).T
    A, C = R @ np.asarray(s.A) @ np.linalg.inv(R), np.vstack([s.C1, s.C2]) @ np.linalg.inv(R)
    rows = [C]
    for _ in range(1023):
        rows.append(rows[-1] @ A)
    np.testing.assert_allclose(float(lasso(model)), np.linalg.norm(np.vstack(rows), "nuc"), rtol=1e-6)
    slope = jax.grad(lambda C2: lasso(eqx.tree_at(lambda m: m.core.C2, model, C2)))(model.core.C2)
    h = 1e-5
    ends = [
        float(lasso(eqx.tree_at(lambda m: m.core.C2, model, model.core.C2.at[0, 1].add(d)))) for d in (h, -h)
    ]
    np.testing.assert_allclose(slope[0, 1], (ends[0] - ends[1]) / (2 * h), rtol=1e-4)


def known_system(samples=500):
    """A record of a plant of order two with a saturation, with noise of one per cent."""
    rng = np.random.default_rng(0)
    u, x, ys = rng.normal(size=(samples, 1)), np.zeros(2), []
    for k in range(samples):
        ys.append(x[0] + 0.5 * np.tanh(2 * x[1]))
        x = np.array([[0.9, 0.2], [-0.2, 0.8]]) @ x + np.array([0.3, 1.0]) * u[k]
    y = np.array(ys)[:, None]
    return rc.data.from_arrays(u, y + 0.01 * y.std() * rng.normal(size=y.shape), 1.0)


def trained(problem, start, epochs, rate):
    return rc.train.train(
        problem, start, epochs=epochs, optimizer=rc.train.clipped_adam(rate), monitor=None, key=jr.key(0)
    )


@pytest.fixture(scope="module")
def problem():
    return rc.train.Identification(known_system(), washout=30)


@pytest.fixture(scope="module")
def start():
    return rc.nn.LipschitzR2DN(
        gamma=20.0,
        nu=1,
        nx=5,
        nv=6,
        ny=1,
        hidden=(8,),
        init=rc.nn.long_memory,
        key=jr.key(0),
        dtype=jnp.float64,
    )


@pytest.mark.slow
def test_the_order_of_a_known_system_is_found(problem, start):
    sparse = dataclasses.replace(problem, regularizer=rc.train.GroupLasso(states=0.01, neurons=1e-3))
    fitted = trained(sparse, start, 1000, 1e-2)
    small = rc.train.prune(fitted.model, sparse, start, tolerance=0.01)
    assert small.sizes()["nx"] == 2
    again = trained(problem, small, 300, 3e-3)
    assert rc.certify(again.model.parameterization.explicit()).holds
    assert again.history["loss"][-1] < 0.05  # of a variance of one


def test_largest_weights_are_where_zero_stops_being_a_minimum(problem):
    """Loss of a simulation written here, by central differences: it falls by less than the penalty grows above the limit alone."""
    model = built("R2DN", "contracting", jnp.float64, init=rc.nn.long_memory)
    limits, system = rc.train.largest_weights(problem, model), model.explicit()
    u, y = (np.asarray(a) for a in (problem.record.experiments[0].u, problem.record.experiments[0].y))
    u, y = (u - u.mean()) / u.std(), (y - y.mean()) / y.std()
    R = np.linalg.cholesky(np.asarray(system.P)).T

    @jax.jit
    def loss(columns):
        B1, D21 = jnp.linalg.solve(R, columns[:NX]), columns[NX:]
        changed = eqx.tree_at(lambda s: (s.B1, s.D21), system, (B1, D21))
        return jnp.mean((rc.rollout(changed, jnp.asarray(u)).ys - y)[30:] ** 2)

    zero, h = np.zeros((NX + 1, NV)), 1e-4
    slopes = np.zeros_like(zero)
    for k in np.ndindex(zero.shape):
        d = zero.copy()
        d[k] = h
        slopes[k] = (loss(d) - loss(-d)) / (2 * h)
    assert limits.neurons == pytest.approx(np.linalg.norm(slopes, axis=0).max(), rel=1e-3)


def named_weight(model, problem, start):
    """Return the weight that the error of a model without neurons names."""
    match = r"none does, the largest adds .*largest weight of neurons that leaves one is \d"
    with pytest.raises(RobustctlError, match=match) as refused:
        rc.train.prune(model, problem, start)
    return float(str(refused.value).split("leaves one is ")[1].split(",")[0])


def test_a_model_of_which_nothing_is_left_is_refused(problem, start):
    core = start.core
    silent = eqx.tree_at(
        lambda m: (m.core.B_imp, m.core.G21), start, (core.B_imp.at[:, :6].set(0), 0 * core.G21)
    )
    model = trained(problem, silent, 1, 1e-12).model
    # The linear part is the start's, but for what zeros change in its map.
    limits = rc.train.largest_weights(problem, start)
    assert named_weight(model, problem, start) == pytest.approx(limits.neurons, rel=0.5)
    with pytest.raises(RobustctlError, match="tolerance must be a positive part"):
        rc.train.prune(model, problem, start, tolerance=0.0)


@pytest.mark.slow
def test_the_weight_that_the_error_names_separates_all_from_nothing(problem, start):
    def with_weight(weight):
        sparse = dataclasses.replace(problem, regularizer=rc.train.GroupLasso(neurons=weight))
        return trained(sparse, start, 1000, 1e-2).model, sparse

    named = named_weight(*with_weight(1.0), start)
    assert rc.train.prune(*with_weight(0.1 * named), start).sizes()["nv"] >= 1
    named_weight(*with_weight(10 * named), start)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"nx": 6}, "nx must be at most that of the model, 5, got 6"),
        ({"nv": 0}, "nv must be .* at least 1, got 0"),
        ({"hidden": (3,)}, "a width for each of 2 hidden layers"),
        ({"hidden": (3, 9)}, r"hidden\[1\] must be at most"),
    ],
)
def test_sizes_that_are_not_smaller_are_refused(change, match):
    with pytest.raises(RobustctlError, match=match):
        rc.nn.reduce(built("R2DN", "contracting", jnp.float64), U, **change)


def test_other_models_networks_inputs_and_weights_are_refused(as_installed):
    gru = rc.nn.GRU(nu=1, nx=3, ny=1, key=jr.key(0))
    for use in (
        lambda: rc.nn.reduce(gru, U),
        lambda: rc.nn.group_sizes(gru, U),
        lambda: rc.train.GroupLasso(1.0)(gru),
    ):
        with pytest.raises(InvalidModelError, match="must be an R2DN or a REN, got GRU"):
            use()
    model = built("R2DN", "contracting", jnp.float64)
    with pytest.raises(InvalidModelError, match=r"u must be finite and of shape \(T, 1\)"):
        rc.nn.reduce(model, np.ones((10, 2)))
    phi = rc.nn.Orthogonal(NV, NV, (6,), key=jr.key(0), dtype=jnp.float64)
    other = rc.nn.ContractingR2DN(nu=1, nx=NX, nv=NV, ny=1, phi=phi, key=jr.key(0), dtype=jnp.float64)
    with pytest.raises(
        InvalidModelError, match="the network must be an LBDN to be made smaller, got Orthogonal"
    ):
        rc.nn.reduce(other, U, nv=3)
    for weight in (-1.0, np.inf, "1"):
        with pytest.raises(RobustctlError, match="neurons must be a finite weight of at least 0"):
            rc.train.GroupLasso(neurons=weight)
