"""The guarantee of every model, from its explicit matrices, by search and by exact arithmetic."""

import dataclasses
import json

import control as ct
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates.dissipation import inequality
from robustctl.errors import RobustctlError

from .exact import proves
from .models import AVERAGES, EVERY, MODELS, SIZES, draw, drawn_systems
from .responses import largest_gain

each_model = pytest.mark.parametrize("name", EVERY)
# An average adds nothing that depends on the sizes: each has one here, all three among them, and the others in the slow tests.
each_model_and_size = pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(name, size, marks=[pytest.mark.slow] if name in AVERAGES and k % 3 != size else [])
        for k, name in enumerate(EVERY)
        for size in range(3)
    ],
)


def rates_and_gains(count: int, seed: int) -> list[tuple[float, float]]:
    """The ends of both ranges, and pairs drawn over their decades: 1e-4 to 1, and 0.01 to 100."""
    drawn = 10 ** np.random.default_rng(seed).uniform([-4, -2], [0, 2], (count - 2, 2))
    return [(1.0, 0.01), (1e-4, 100.0), *((float(rate), float(gamma)) for rate, gamma in drawn)]


SCALES = [1.0, 30.0] * 2


def one_system(name, size, **settings):
    """A system at normal free arrays, by the program that others of its name and size have compiled."""
    return drawn_systems(make(name, size, **settings), SCALES)[0]


def make(name, size, *, rate=1.0, gamma=1.0, seed=0, scale=None, dtype=None, nx=3, nv=4):
    key, draw_key = jr.split(jr.key(seed))
    model = EVERY[name](**SIZES[size], nx=nx, nv=nv, rate=rate, gamma=gamma, key=key, dtype=dtype)
    return model if scale is None else draw(model, draw_key, scale)


@each_model_and_size
def test_every_set_of_free_arrays_is_certified(name, size):
    for k, (rate, gamma) in enumerate(rates_and_gains(8, seed=size)):
        for system in drawn_systems(make(name, size, rate=rate, gamma=gamma), SCALES, seed=k):
            certificate = rc.certify(system, prove=False)
            assert certificate.margin <= 1e-10
            assert certificate.holds, str(certificate)
            assert certificate.rate == rate
            assert certificate.rate_found <= certificate.rate * (1 + 1e-9)


@each_model
@pytest.mark.parametrize("rate", [0.5, 0.95, 1.0])
def test_float32_models_are_certified_in_float64(name, rate):
    model = make(name, 1, rate=rate, gamma=5.0, dtype=jnp.float32)
    for system in drawn_systems(model, [0.3, 1.0, 3.0] * 4):
        certificate = rc.certify(system, prove=False)
        assert certificate.dtype == "float32"
        assert certificate.holds, str(certificate)


@each_model
@pytest.mark.parametrize("ports", [2, 20])
def test_float32_models_with_free_arrays_of_unlike_sizes_are_certified(name, ports):
    """Feedthroughs near the boundary beside large and small matrices: where rounding costs the most gain."""
    model = EVERY[name](
        nu=ports, ny=ports, nx=20, nv=20, rate=1.0, gamma=2.0, key=jr.key(0), dtype=jnp.float32
    )
    for k, system in enumerate(drawn_systems(model, [(0.1, 10.0)] * 20)):
        certificate = rc.certify(system, prove=False)
        assert certificate.holds, f"draw {k}: {certificate}"


@pytest.mark.parametrize("name", MODELS)
def test_no_certificate_is_false_in_exact_arithmetic(name):
    scales = 10 ** np.random.default_rng(0).uniform(-6, 6, (10, 2))
    for k, (rate, gamma) in enumerate(rates_and_gains(10, seed=3)):
        for system in drawn_systems(make(name, 1, rate=rate, gamma=gamma, nx=2, nv=2), scales[k], seed=k):
            certificate = rc.certify(system, prove=False)
            if certificate.holds:
                assert proves(system, certificate)


@pytest.mark.parametrize("name", ["LipschitzR2DN", "LipschitzREN", "LongMemoryR2DN"])
@pytest.mark.parametrize("size", range(3))
def test_searched_gain_stays_below_gamma(name, size):
    gamma = 3.0
    system = one_system(name, size, gamma=gamma, seed=size)
    found = rc.certificates.gain_lower_bound(
        system, SIZES[size]["nu"], key=jr.key(1), horizon=20, steps=150, starts=4
    )
    assert found.sampled < found.value <= gamma


@each_model
@pytest.mark.parametrize("rate", [0.7, 1.0])
def test_searched_contraction_stays_below_rate(name, rate):
    system = one_system(name, 0, rate=rate, gamma=2.0)
    certificate = rc.certify(system, prove=False)
    found = rc.certificates.contraction_lower_bound(
        system, 1, certificate.P, key=jr.key(2), steps=100, starts=4
    )
    assert found.sampled <= found.value <= certificate.rate_found * (1 + 1e-9) <= rate * (1 + 1e-8)


@each_model
def test_two_trajectories_approach_each_other_in_the_metric(name):
    rate = 0.8
    us = jr.normal(jr.key(0), (30, 3))
    start, most = jr.normal(jr.key(1), (2, 3)), 0
    for system in drawn_systems(make(name, 2, rate=rate, gamma=4.0), SCALES):
        runs = [rc.rollout(system, us, x0) for x0 in start]
        d = np.asarray(runs[0].xs - runs[1].xs)
        V = np.einsum("ti,ij,tj->t", d, system.claim.P, d)
        kept = 1e-20 * V[0] < V
        most = max(most, kept.sum())
        assert np.all(V[1:][kept[1:]] <= rate**2 * V[:-1][kept[1:]] * (1 + 1e-9))
    assert most > 3


class Orthogonal(eqx.Module):
    """A network that is an orthogonal matrix: the model around it is linear."""

    Q: jax.Array

    def __call__(self, v):
        return self.Q @ v

    def lipschitz_bound(self):
        return float(np.linalg.norm(np.asarray(self.Q, np.float64), 2))


@pytest.mark.parametrize("size", range(3))
@pytest.mark.parametrize("gamma", [0.1, 10.0])
def test_linear_case_has_an_h_infinity_norm_below_gamma(size, gamma):
    Q, _ = np.linalg.qr(np.random.default_rng(size).normal(size=(4, 4)))
    model = rc.nn.LipschitzR2DN(
        **SIZES[size], nx=3, nv=4, gamma=gamma, phi=Orthogonal(jnp.asarray(Q)), key=jr.key(3)
    )
    drawn = draw(model, jr.key(size), 1.0)
    s = eqx.tree_at(lambda m: m.core.phi, drawn, model.core.phi).explicit()
    assert np.array_equal(s.phi.Q, Q), "a network that was passed in is held fixed"
    matrices = (
        s.A + s.B1 @ Q @ s.C1,
        s.B2 + s.B1 @ Q @ s.D12,
        s.C2 + s.D21 @ Q @ s.C1,
        s.D22 + s.D21 @ Q @ s.D12,
    )
    plant = ct.ss(*(np.asarray(M) for M in matrices), 1.0)
    norm = largest_gain(plant, np.exp(1j * np.linspace(0, np.pi, 400)))
    if SIZES[size]["nu"] == SIZES[size]["ny"] == 1:
        norm = max(norm, ct.system_norm(plant, "inf"))
    assert 0.05 * gamma < norm <= gamma * (1 + 1e-9)


def test_gamma_of_a_dissipative_model_bounds_its_gain():
    model = make("DissipativeR2DN", 1, gamma=2.0, scale=1.0)
    certificate = rc.certify(model, prove=False)
    found = rc.certificates.gain_lower_bound(
        model.explicit(), 2, key=jr.key(0), horizon=20, steps=100, starts=2
    )
    assert found.value <= certificate.gamma < 10


def test_the_gain_is_that_of_the_supply_rate_in_any_units_of_the_outputs():
    """With a full Q of outputs in unlike units the matrix that is inverted has a condition number of 1e18."""
    Q = np.asarray([[-4.4, 0.4, -0.4], [0.4, -2.4, -2.3], [-0.4, -2.3, -3.1]])
    model = rc.nn.DissipativeR2DN(nu=1, nx=2, nv=2, ny=3, Q=Q, S=np.zeros((1, 3)), R=np.eye(1), key=jr.key(0))
    for units in ((1.0, 1.0, 1.0), (1.3e3, 1e5, 1e-4), (1.35e3, 1e4, 1e-5)):
        found = rc.certify(rc.Rescaled(model, (1.0,), units), prove=False)
        wanted = np.linalg.norm(np.diag(units) @ np.linalg.inv(-Q) @ np.diag(units), 2) ** 0.5
        assert found.holds, str(found)
        np.testing.assert_allclose(found.gamma, wanted, rtol=1e-6)


def test_passive_model_takes_in_what_it_gives_back():
    model = draw(
        rc.nn.DissipativeR2DN(nu=2, nx=3, nv=4, ny=2, hidden=(5,), **rc.nn.passive(2), key=jr.key(0)),
        jr.key(1),
        1.0,
    )
    assert rc.certify(model, prove=False).holds
    system = model.explicit()
    us = jr.normal(jr.key(2), (2, 50, 2))
    y1, y2 = (rc.rollout(system, u).ys for u in us)
    assert float(jnp.sum((us[0] - us[1]) * (y1 - y2))) >= 1e-3 * float(jnp.sum((y1 - y2) ** 2))


def test_a_system_whose_own_metric_fails_gets_another():
    system = make("LipschitzR2DN", 1, gamma=2.0, seed=5).explicit()
    spoiled = eqx.tree_at(lambda s: s.P, system, jnp.eye(3) * 1e6)
    assert rc.certify(spoiled, prove=False).holds


@pytest.mark.parametrize("decades_apart", [3, 10])
def test_a_metric_is_found_whatever_the_units_of_the_states(decades_apart):
    s = make("LipschitzR2DN", 1, gamma=2.0, seed=5).explicit()
    T = jnp.diag(10 ** jnp.linspace(-decades_apart / 2, decades_apart / 2, 3))
    inverse = jnp.linalg.inv(T)
    arrays = inverse @ s.A @ T, inverse @ s.B1, inverse @ s.B2, s.C1 @ T, s.C2 @ T, jnp.eye(3)
    in_units = eqx.tree_at(lambda s: (s.A, s.B1, s.B2, s.C1, s.C2, s.P), s, arrays)
    assert rc.certify(in_units, prove=False).margin < -1e-5


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: eqx.tree_at(lambda s: s.A, s, s.A + 3 * jnp.eye(3)),
        lambda s: eqx.tree_at(lambda s: s.D22, s, s.D22 + 3.0),
        lambda s: eqx.tree_at(lambda s: s.phi.W, s, s.phi.W * 50),
        lambda s: eqx.tree_at(lambda s: s.phi.layers[0].W_out, s, s.phi.layers[0].W_out * 50),
        lambda s: eqx.tree_at(lambda s: s.phi.layers[0].psi, s, -s.phi.layers[0].psi),
        lambda s: eqx.tree_at(lambda s: s.B1, s, s.B1.at[0, 0].set(jnp.nan)),
        lambda s: dataclasses.replace(s, rate=1e-3),
    ],
)
def test_a_broken_model_is_not_certified(spoil):
    system = make("LipschitzR2DN", 1, gamma=2.0, seed=5, scale=1.0).explicit()
    assert rc.certify(system, prove=False).holds
    certificate = rc.certify(spoil(system), prove=False)
    assert not certificate.holds
    assert certificate.reason in str(certificate)


def test_a_network_without_a_bound_is_not_certified():
    class Sine(eqx.Module):
        def __call__(self, v):
            return jnp.sin(v)

    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, phi=Sine(), key=jr.key(0))
    certificate = rc.certify(model, prove=False)
    assert not certificate.holds and "lipschitz_bound" in certificate.reason


def test_models_without_a_claim_say_so():
    certificate = rc.certify(rc.nn.GRU(nu=1, nx=3, ny=1, key=jr.key(0)), prove=False)
    assert not certificate.holds and "no claim" in certificate.reason
    assert json.loads(certificate.to_json())["margin"] is None


@pytest.mark.parametrize("name", ["LipschitzR2DN", "ContractingREN"])
def test_json_keeps_every_digit_and_the_metric_proves_again(name):
    model = make(name, 0, gamma=2.0, seed=7)
    certificate = rc.certify(model, prove=False)
    again = rc.certificates.Certificate.from_json(certificate.to_json())
    assert np.array_equal(again.P, certificate.P)
    assert dataclasses.replace(again, P=None) == dataclasses.replace(certificate, P=None)
    assert rc.certify(model, prove=False).weights_sha256 == certificate.weights_sha256
    other = make(name, 0, gamma=2.0, seed=8)
    assert rc.certify(other, prove=False).weights_sha256 != certificate.weights_sha256


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "holds": true}'])
def test_what_is_no_certificate_is_refused(text):
    with pytest.raises(RobustctlError, match="certificate"):
        rc.certificates.Certificate.from_json(text)


@pytest.mark.usefixtures("as_installed")
def test_only_models_are_certified():
    with pytest.raises(RobustctlError, match="parameterization or a system"):
        rc.certify("model", prove=False)  # pyright: ignore


def test_stable_linear_model_is_certified():
    model = rc.nn.StableLinear(nu=2, nx=4, ny=1, rate=0.9, key=jr.key(0))
    certificate = rc.certify(model, prove=False)
    assert certificate.holds
    eigenvalues = np.linalg.eigvals(np.asarray(model.explicit().A))
    assert max(abs(eigenvalues)) <= certificate.rate_found + 1e-12 <= 0.9 + 1e-9


class Unknown(rc.System):
    """A user's own system that does not describe itself."""

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return 0.5 * x + u, x


def test_a_system_of_an_unknown_class_makes_no_claim():
    assert inequality(Unknown()) is None


def test_an_identified_model_is_certified_in_the_units_of_its_log():
    inner = make("LipschitzR2DN", 1, gamma=2.0, scale=1.0).explicit()
    one = jnp.ones(2)
    scaled = rc.Scaled(inner, 7 * one, jnp.asarray([0.1, 10.0]), -3 * one, jnp.asarray([5.0, 0.5]))
    certificate = rc.certify(scaled, prove=False)
    assert certificate.holds and certificate.model == "ExplicitR2DN"
    np.testing.assert_allclose(certificate.gamma, 2.0 * 5.0 / 0.1)
    found = rc.certificates.gain_lower_bound(scaled, 2, key=jr.key(0), horizon=20, steps=100, starts=2)
    assert found.value <= certificate.gamma


def test_a_static_network_is_certified_by_its_bound():
    model = rc.nn.LipschitzStatic(nu=2, ny=1, gamma=3.0, hidden=(8, 8), key=jr.key(0))
    found = rc.certify(draw(model, jr.key(1), 30.0), prove=False)
    assert found.holds and found.gamma == 3.0 and found.rate is None
    system = draw(model, jr.key(1), 30.0).explicit()
    a, b = jr.normal(jr.key(2), (2, 500, 2))
    ya, yb = rc.rollout(system, a).ys, rc.rollout(system, b).ys
    assert np.max(np.linalg.norm(ya - yb, axis=1) / np.linalg.norm(a - b, axis=1)) <= 3.0
    broken = eqx.tree_at(
        lambda s: s.phi.W, system, 1.01 / rc.certify(system, prove=False).phi_bound * system.phi.W
    )
    assert not rc.certify(broken, prove=False).holds
