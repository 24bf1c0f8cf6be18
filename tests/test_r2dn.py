"""The maps from free arrays to models: against definitions, the published form, and bad requests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlError

from .models import MODELS, SIZES, draw, stepped

R2DNS = [name for name in MODELS if name.endswith("R2DN")]


def build(name, size=1, **kw):
    defaults = dict(nx=3, nv=4, rate=0.9, gamma=2.0, key=jr.key(0))
    return MODELS[name](**SIZES[size], **(defaults | kw))


@pytest.mark.parametrize("name", R2DNS)
@pytest.mark.parametrize("size", range(3))
def test_step_equals_the_definition_in_numpy(name, size):
    s = draw(build(name, size), jr.key(1), 1.0).explicit()
    x, u = np.arange(3.0) - 1, np.linspace(-1, 2, SIZES[size]["nu"])
    a = {
        n: np.asarray(getattr(s, n))
        for n in ("A", "B1", "B2", "C1", "C2", "D12", "D21", "D22", "bx", "bv", "by")
    }
    h = a["C1"] @ x + a["D12"] @ u + a["bv"]
    for layer in s.phi.layers:
        h = np.asarray(layer.W_out) @ np.maximum(np.asarray(layer.W_in) @ h + np.asarray(layer.b), 0)
    w = np.asarray(s.phi.W) @ h + np.asarray(s.phi.b)
    x_next = a["A"] @ x + a["B1"] @ w + a["B2"] @ u + a["bx"]
    y = a["C2"] @ x + a["D21"] @ w + a["D22"] @ u + a["by"]
    for found in (
        s.step(x=jnp.asarray(x), u=jnp.asarray(u)),
        s.prepare().step(jnp.asarray(x), jnp.asarray(u)),
    ):
        np.testing.assert_allclose(found[0], x_next, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(found[1], y, rtol=1e-11, atol=1e-12)


def test_contracting_form_equals_the_published_one():
    """[BWM25], eqs. (14)-(16): H, E and the solves, written out for the same free arrays."""
    m = draw(rc.nn.ContractingR2DN(nu=2, nx=4, nv=3, ny=2, hidden=(5,), key=jr.key(0)), jr.key(1), 1.0)
    X, Y, B1, C1 = (np.asarray(a) for a in (m.core.X, m.core.Y, m.core.B1_imp, m.core.C1))
    H = float(m.core.p) ** 2 * X.T @ X / np.sum(X**2)
    H += np.block([[C1.T @ C1, np.zeros((4, 4))], [np.zeros((4, 4)), B1 @ B1.T]])
    E = (H[:4, :4] + H[4:, 4:] + Y - Y.T) / 2
    s = m.explicit()
    np.testing.assert_allclose(s.A, np.linalg.solve(E, H[4:, :4]), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(s.B1, np.linalg.solve(E, B1), rtol=1e-8, atol=1e-10)
    for name in ("B2", "C1", "C2", "D12", "D21", "D22", "bx", "bv", "by"):
        assert np.array_equal(getattr(s, name), getattr(m.core, name))


def test_feedthrough_is_free():
    """D22 reaches gamma, with no gain left for the rest; a model with D22 = 0 could never do so."""
    m = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=2, ny=1, gamma=5.0, hidden=(), key=jr.key(0))
    G = jnp.zeros_like(m.core.G12), jnp.zeros_like(m.core.G21), jnp.asarray([[0.0], [1.0]])
    m = eqx.tree_at(lambda m: (m.core.G12, m.core.G21, m.core.G22), m, G)
    np.testing.assert_allclose(abs(m.explicit().D22), [[5.0]], rtol=1e-10)
    assert rc.certify(m, prove=False).gamma <= 5.0 * (1 + 1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_every_free_array_has_a_gradient(name, size):
    model = build(name, size)
    us = jr.normal(jr.key(2), (20, SIZES[size]["nu"]))

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(model):
        return jnp.sum(rc.rollout(model.explicit(), us).ys ** 2)

    for path, leaf in jax.tree_util.tree_leaves_with_path(slope(model)):
        # A recurrence of one state has no angle.
        assert np.isfinite(leaf).all() and (np.any(leaf != 0) or not leaf.size), jax.tree_util.keystr(path)


def test_gamma_is_trained_only_when_asked():
    held = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=2, ny=1, gamma=3.0, key=jr.key(0))
    trained = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=2, ny=1, gamma=3.0, train_gamma=True, key=jr.key(0))
    assert held.guarantee.log_gamma_ratio is None and float(held.gamma) == float(trained.gamma) == 3.0
    slope = eqx.filter_grad(lambda m: m.gamma)(trained)
    assert float(slope.guarantee.log_gamma_ratio) == 3.0
    moved = eqx.tree_at(lambda m: m.guarantee.log_gamma_ratio, trained, jnp.log(jnp.asarray(2.0)))
    np.testing.assert_allclose(rc.certify(moved, prove=False).gamma, 6.0)


@pytest.mark.parametrize("name", MODELS)
def test_dtype_is_kept(name):
    model = build(name, dtype=jnp.float32)
    s = model.explicit()
    x_next, y = stepped(s, s.init_state(), jnp.zeros(2, jnp.float32))
    arrays = jax.tree.leaves(eqx.filter(s, eqx.is_inexact_array))
    assert {x_next.dtype, y.dtype, *(a.dtype for a in arrays)} == {jnp.dtype("float32")}


def test_map_asks_for_full_precision_whatever_the_default():
    """On a GPU the default product is TF32: every product of the map and its gradient must ask for the highest precision."""
    model = rc.nn.LipschitzR2DN(
        nu=2, nx=3, nv=4, ny=2, gamma=2.0, hidden=(80,), key=jr.key(0), dtype=jnp.float32
    )

    def total(model):
        return sum(jnp.sum(a) for a in jax.tree.leaves(eqx.filter(model.explicit(), eqx.is_inexact_array)))

    with jax.default_matmul_precision("bfloat16"):
        text = str(eqx.filter_make_jaxpr(eqx.filter_value_and_grad(total))(model)[0])
    asked = [line for line in text.splitlines() if "precision=" in line]
    assert asked and all("HIGHEST" in line for line in asked)


@pytest.mark.parametrize("init", [rc.nn.long_memory, rc.nn.resonances(0.5, 3.0, dt=0.05)])
def test_wide_models_start_finite_and_slow(init):
    """The feedthrough of 61 x 61 has a norm of 0.99, which leaves ports of the usual size no room."""
    model = rc.nn.LipschitzR2DN(nu=1, nx=40, nv=60, ny=1, gamma=10.0, init=init, key=jr.key(0))
    certificate = rc.certify(model, prove=False)
    assert certificate.holds, certificate.reason
    moduli = np.abs(np.linalg.eigvals(np.asarray(model.explicit().A, np.float64)))
    assert moduli.min() > 0.94 and moduli.max() < 1


def test_long_memory_starts_slow():
    fast, slow = (
        rc.nn.ContractingR2DN(nu=1, nx=20, nv=5, ny=1, init=init, key=jr.key(0)).explicit().A
        for init in (rc.nn.random, rc.nn.long_memory)
    )
    radius = [max(abs(np.linalg.eigvals(np.asarray(A)))) for A in (fast, slow)]
    assert radius[0] < 0.8 and 0.95 < radius[1] < 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("nx", [1, 8, 9])
def test_resonances_start_as_oscillations_in_the_band(nx, dtype):
    init, dt = rc.nn.resonances(20.0, 100.0, dt=1 / 400), 1 / 400
    model = rc.nn.ContractingR2DN(nu=1, nx=nx, nv=5, ny=1, init=init, key=jr.key(0), dtype=dtype)
    assert rc.certify(model, prove=False).holds
    modes = np.linalg.eigvals(np.asarray(model.explicit().A, np.float64))
    assert np.all((np.abs(modes) > 0.9) & (np.abs(modes) < 1))
    found = np.sort(np.abs(np.angle(modes))) / (2 * np.pi * dt)
    wanted = np.repeat(np.geomspace(20.0, 100.0, nx // 2), 2)
    np.testing.assert_allclose(found[nx % 2 :], wanted, rtol=1e-3)
    assert nx % 2 == 0 or found[0] < 1e-3


@pytest.mark.parametrize("band", [(0.0, 20.0), (20.0, 2.0), (2.0, 200.0), (float("nan"), 20.0)])
def test_a_band_that_cannot_be_is_refused(band):
    with pytest.raises(InvalidModelError, match=r"0 < lowest <= highest < 1 / \(2 dt\) = 200 Hz"):
        rc.nn.resonances(*band, dt=1 / 400)


@pytest.mark.parametrize("hidden", [(), (6,), (7, 3)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_lbdn_is_one_lipschitz(hidden, scale):
    phi = draw(rc.nn.LBDN(4, 5, hidden, key=jr.key(0)), jr.key(1), scale).explicit()
    assert phi.lipschitz_bound() <= 1
    points = jr.normal(jr.key(2), (200, 4))
    jacobians = jax.jit(jax.vmap(jax.jacfwd(phi)))(points)
    assert float(jnp.max(jnp.linalg.norm(jacobians, 2, axis=(1, 2)))) <= phi.lipschitz_bound() + 1e-12


def test_lipschitz_bound_of_equinox_networks():
    mlp = eqx.nn.MLP(3, 3, 8, 2, key=jr.key(0))
    bound = rc.nn.lipschitz_bound(mlp)
    assert bound == pytest.approx(
        np.prod([np.linalg.norm(np.asarray(layer.weight), 2) for layer in mlp.layers])
    )
    assert rc.nn.lipschitz_bound(jnp.tanh) is None
    assert rc.nn.lipschitz_bound(eqx.nn.MLP(3, 3, 8, 2, jnp.sin, key=jr.key(0))) is None


REFUSED = [
    (dict(nx=0), "nx must be a whole number"),
    (dict(nv=2.5), "nv must be a whole number"),
    (dict(rate=0.0), r"rate must be in \(0, 1\]"),
    (dict(rate=1.1), r"rate must be in \(0, 1\]"),
    (dict(rate=float("nan")), r"rate must be in \(0, 1\]"),
    (dict(hidden=(4, 0)), r"hidden\[1\]"),
    (dict(activation=lambda x: 2 * jnp.tanh(x)), "slope"),
    (dict(activation=jnp.sin), "slope"),
    (dict(phi=lambda v: 2 * v), "1-Lipschitz"),
    (dict(phi=lambda v: v[:2]), "nv = 4"),
    (dict(phi=eqx.nn.MLP(3, 3, 8, 1, key=jr.key(0))), "nv = 4"),
    (dict(phi=jax.tree.map(lambda a: 4 * a, eqx.nn.Linear(4, 4, key=jr.key(7)))), "1-Lipschitz"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED)
@pytest.mark.usefixtures("as_installed")
def test_bad_requests_are_refused(wrong, message):
    asked = dict(nu=1, nx=3, nv=4, ny=1, key=jr.key(0)) | wrong
    with pytest.raises(InvalidModelError, match=message):
        rc.nn.ContractingR2DN(**asked)


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("inf"), float("nan"), "2"])
@pytest.mark.usefixtures("as_installed")
def test_bad_gamma_is_refused(gamma):
    with pytest.raises(InvalidModelError, match="gamma must be a positive, finite gain"):
        rc.nn.LipschitzR2DN(nu=1, nx=2, nv=2, ny=1, gamma=gamma, key=jr.key(0))


@pytest.mark.parametrize(
    ("Q", "S", "R", "message"),
    [
        (np.eye(2), np.zeros((1, 2)), np.eye(1), "Q must be negative definite"),
        (-np.eye(2), np.zeros((2, 1)), np.eye(1), "S must have shape"),
        (-np.eye(2), np.zeros((1, 2)), -np.eye(1), "R - S Q"),
        (-np.eye(2), np.zeros((1, 2)), np.full((1, 1), np.nan), "R must be finite"),
        (np.array([[-1.0, 0.5], [0.0, -1.0]]), np.zeros((1, 2)), np.eye(1), "Q must be symmetric"),
    ],
)
def test_bad_supply_rates_are_refused(Q, S, R, message):
    with pytest.raises(InvalidModelError, match=message):
        rc.nn.DissipativeR2DN(nu=1, nx=2, nv=2, ny=2, Q=Q, S=S, R=R, key=jr.key(0))


def test_own_activation_with_a_good_slope_is_taken():
    rc.nn.LBDN(2, 2, (3,), activation=lambda x: jnp.arctan(x), key=jr.key(0))


@pytest.mark.parametrize(
    "model",
    [
        rc.nn.ContractingR2DN(nu=2, nx=3, nv=4, ny=1, hidden=(5,), key=jr.key(0)),
        rc.nn.LipschitzR2DN(nu=2, nx=3, nv=4, ny=1, gamma=3.0, hidden=(5,), key=jr.key(0)),
        rc.nn.LipschitzREN(nu=2, nx=3, nv=4, ny=1, gamma=3.0, key=jr.key(0)),
        rc.nn.StableLinear(nu=2, nx=3, ny=1, key=jr.key(0)),
        rc.nn.LSTM(nu=2, nx=3, ny=1, key=jr.key(0)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_quiet_model_starts_near_silence_and_keeps_its_guarantee(model):
    us = jr.normal(jr.key(1), (50, 2))
    loud, quiet = (jnp.abs(rc.rollout(m.explicit(), us).ys).max() for m in (model, rc.nn.quiet(model, 1e-3)))
    assert 0 < quiet < 1e-2 * loud
    if not isinstance(model, rc.nn.LSTM):
        assert rc.certify(rc.nn.quiet(model, 1e-3), prove=False).holds


def test_a_rescaled_model_is_certified_in_its_signals_units():
    inner = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=3, ny=1, gamma=3.0, hidden=(4,), key=jr.key(0))
    model = rc.Rescaled(rc.nn.quiet(inner), (1e-3,), (2.0,))
    found = rc.certify(model, prove=False)
    assert found.holds and found.gamma == pytest.approx(3.0 * 2.0 / 1e-3)
    us = 1e-3 * jr.normal(jr.key(1), (20, 1))
    expected = 2.0 * rc.rollout(inner.explicit(), us / 1e-3).ys
    np.testing.assert_allclose(
        rc.rollout(rc.Rescaled(inner, (1e-3,), (2.0,)).explicit(), us).ys, expected, rtol=1e-9
    )
    with pytest.raises(RobustctlError, match="u_scale must be positive"):
        rc.Rescaled(inner, (0.0,), (1.0,))
    with pytest.raises(InvalidModelError, match="factor must be positive"):
        rc.nn.quiet(inner, 0.0)
    with pytest.raises(InvalidModelError, match="LipschitzStatic does not"):
        rc.nn.quiet(rc.nn.LipschitzStatic(nu=1, ny=1, gamma=1.0, key=jr.key(0)))


@pytest.mark.usefixtures("as_installed")
def test_scaled_signals_are_not_repeated():
    inner = rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=2, key=jr.key(0))
    sample = r"one sample of u must have the shape of its scales"
    for u_scale, y_scale, us, message in (
        ((1.0, 1.0), (1.0, 1.0), jnp.ones((5, 1)), sample),
        ((1.0, 1.0), (1.0, 1.0), jnp.ones(5), sample),
        ((1.0,), (1.0, 1.0), jnp.ones((5, 2)), "one scale for each channel of u, 2 in the system"),
        ((1.0, 1.0), (1.0,), jnp.ones((5, 2)), "one scale for each channel of y, 2 in the system"),
    ):
        with pytest.raises(RobustctlError, match=message):
            rc.rollout(rc.Rescaled(inner, u_scale, y_scale).explicit(), us)
