"""Proven gains and rates: against norms of linear systems, exact arithmetic and searched lower bounds."""

import dataclasses
import time

import control as ct
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates.coordinates import balance, opened
from robustctl.certificates.interior_point import Program, metric, rank_two
from robustctl.certificates.proof import Proof, gain_margin, rate_margin
from robustctl.certificates.prove import least_gain, least_rate
from robustctl.errors import RobustctlError
from robustctl.lft import Bounded, Slopes, linear
from robustctl.linalg import cancellation
from robustctl.scaled import Rescaled

from .exact import network_gain_proven, network_rate_proven
from .models import draw


def random_linear(rng, nx=None):
    """Lightly damped poles, and states, inputs and outputs in unlike units."""
    nx, nu, ny = nx or rng.integers(1, 6), rng.integers(1, 3), rng.integers(1, 3)
    A = np.zeros((nx, nx))
    for k in range(0, nx - 1, 2):
        angle = rng.uniform(0, np.pi)
        A[k : k + 2, k : k + 2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    A[-1, -1] = A[-1, -1] or 1.0
    A *= 1 - 10 ** rng.uniform(-3, -0.5)
    T = 10 ** rng.uniform(-2, 2, (nx, 1)) * rng.normal(size=(nx, nx))
    B, C = (
        rng.normal(size=(nx, nu)) * 10 ** rng.uniform(-2, 2),
        rng.normal(size=(ny, nx)) * 10 ** rng.uniform(-2, 2),
    )
    return T @ A @ np.linalg.inv(T), T @ B, C @ np.linalg.inv(T), rng.normal(size=(ny, nu)) * (nx % 2)


def small_r2dn(seed=0, **settings):
    model = rc.nn.LipschitzR2DN(
        gamma=10.0, nu=1, nx=2, nv=2, ny=1, hidden=(3, 2), key=jr.key(seed), dtype=jnp.float64, **settings
    )
    return draw(model, jr.key(seed), 1.0)


@pytest.mark.parametrize("n", [1, 3])
def test_structured_terms_are_those_of_dense_matrices(n):
    rng = np.random.default_rng(n)
    N = n + 4
    X0, S, E, A = (rng.normal(size=(k, N)) for k in (n, n, 3, 3))
    F = rng.normal(size=(N, N))
    program = Program(np.zeros(1), np.zeros((N, N)), (F + F.T,), (metric(X0, S, 0.9), rank_two(E, A)))
    count = 1 + n * (n + 1) // 2 + 3
    dense = [program.value(row) for row in np.eye(count)]
    P = np.zeros((n, n))
    P[np.triu_indices(n)] = y = rng.normal(size=count - 4)
    P = P + np.triu(P, 1).T
    whole = sum(a * b for a, b in zip(y, dense[1:-3], strict=True))
    np.testing.assert_allclose(whole, 0.81 * X0.T @ P @ X0 - S.T @ P @ S, atol=1e-12)
    np.testing.assert_allclose(dense[-1], np.outer(E[2], A[2]) + np.outer(A[2], E[2]), atol=1e-12)
    X, Y = (M @ M.T for M in rng.normal(size=(2, N, N)))
    np.testing.assert_allclose(program.inner(X), [np.trace(D @ X) for D in dense], rtol=1e-9)
    expected = [[np.trace(D @ X @ G @ Y) for G in dense] for D in dense]
    np.testing.assert_allclose(program.newton_matrix(X, Y), expected, rtol=1e-8, atol=1e-8)


def test_linear_systems_have_their_norm_and_their_spectral_radius():
    rng = np.random.default_rng(0)
    for _ in range(8):
        A, B, C, D = random_linear(rng)
        form, norm = linear(A, B, C, D), rc.classical.hinf_norm(ct.ss(A, B, C, D, 1.0))
        proof, radius = least_gain(form).proof, np.abs(np.linalg.eigvals(A)).max()
        assert norm * (1 - 1e-7) <= proof.value <= 1.01 * norm
        assert gain_margin(form, proof) < 0
        assert not gain_margin(form, dataclasses.replace(proof, value=0.99 * norm)) < 0
        rate = least_rate(form).proof
        assert radius < rate.value <= 1 - 0.98 * (1 - radius) and rate_margin(form, rate) < 0


def test_a_map_without_state_has_its_spectral_norm():
    D = np.random.default_rng(0).normal(size=(3, 2))
    proof = least_gain(linear(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((3, 0)), D)).proof
    assert np.linalg.norm(D, 2) <= proof.value <= 1.0002 * np.linalg.norm(D, 2)


def test_balanced_coordinates_change_nothing_but_the_coordinates():
    form = opened(small_r2dn().explicit().lft())
    balanced = balance(form)
    d, (inner,) = np.concatenate(balanced.d), balanced.forms
    np.testing.assert_allclose(balanced.T @ inner.A @ np.linalg.inv(balanced.T), form.A, atol=1e-12)
    np.testing.assert_allclose(d[:, None] * inner.D11 / d, form.D11, atol=1e-12)
    np.testing.assert_allclose(balanced.size * inner.D22, form.D22, atol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_a_proof_holds_in_exact_arithmetic(seed):
    """With every neuron of the network a row, built from its weights and not from its form."""
    model = small_r2dn(seed)
    system, certificate = model.explicit(), rc.certify(model)
    assert network_gain_proven(system, certificate.gain_proof)
    assert network_rate_proven(system, certificate.rate_proof)
    smaller = dataclasses.replace(certificate.gain_proof, value=0.99 * certificate.gamma)
    assert not network_gain_proven(system, smaller)
    found = rc.certificates.gain_lower_bound(system, 1, key=jr.key(1), horizon=20, steps=50, starts=2)
    assert found.value <= certificate.gamma < certificate.promised_gamma == pytest.approx(10)
    assert certificate.rate < certificate.promised_rate == 1


def test_a_contracting_model_gets_a_gain_and_a_text_that_is_checked_without_a_search(monkeypatch):
    model = rc.nn.ContractingREN(nu=1, nx=2, nv=3, ny=1, key=jr.key(0), dtype=jnp.float64)
    certificate = rc.certify(model)
    plain = rc.certify(model, prove=False)
    assert plain.gamma is None and plain.gain_proof is None and plain.rate == plain.promised_rate
    assert certificate.holds == plain.holds and 0 < certificate.gamma == certificate.gain_proof.value
    assert "promised" in str(certificate) and "promised" not in str(plain)
    monkeypatch.setattr("robustctl.certificates.prove.solve", None)
    read = rc.certificates.Certificate.from_json(certificate.to_json())
    rc.certificates.recheck(read, model)
    assert rc.certificates.Certificate.from_json(plain.to_json()).gain_proof is None
    proof = read.gain_proof
    faults = {
        "other weights": (read, eqx.tree_at(lambda m: m.core.bx, model, replace_fn=lambda b: b + 1)),
        "must have proofs": (plain, model),
        "multipliers, got": (dataclasses.replace(read, gain_proof=dataclasses.replace(proof, multipliers=())), model),
        "not negative definite": (dataclasses.replace(read, gain_proof=dataclasses.replace(proof, value=0.9 * proof.value)), model),
        "what is proven": (dataclasses.replace(read, gamma=0.9 * read.gamma), model),
    }  # fmt: skip
    for text, (wrong, of) in faults.items():
        with pytest.raises(RobustctlError, match=text):
            rc.certificates.recheck(wrong, of)


def test_a_gain_is_in_the_units_of_the_signals():
    model = rc.nn.ContractingREN(nu=1, nx=2, nv=3, ny=1, key=jr.key(0), dtype=jnp.float64)
    inner, outer = (rc.certify(m) for m in (model, Rescaled(model, (5.0,), (2e-3,))))
    assert outer.gamma == pytest.approx(inner.gamma * 2e-3 / 5, rel=1e-3)
    assert outer.scaled_gamma == pytest.approx(inner.gamma, rel=1e-3) and inner.scaled_gamma is None


def test_what_cannot_be_proven_says_why():
    slow = rc.StateSpace(np.diag([1.2, 0.5]), np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)), dt=1.0)
    found = rc.certify(slow)
    assert found.gamma is found.rate is None and all("poles 1.2, 0.5" in text for text in found.unproven)
    gated = rc.certify(rc.nn.GRU(nu=1, nx=2, ny=1, key=jr.key(0)))
    assert "no lft()" in gated.unproven[0]
    model = small_r2dn()
    broken = eqx.tree_at(lambda s: s.A, model.explicit(), jnp.full((2, 2), jnp.nan))
    assert "must be finite" in rc.certify(broken).unproven[0]
    large = linear(0.5 * np.eye(60), np.ones((60, 1)), np.ones((1, 60)), np.zeros((1, 1)))
    assert "give more seconds" in least_gain(large, time.monotonic() + 0.5).reason
    loose = Bounded(1, 1, np.inf, reason="its slope is unknown")
    ones = np.ones((1, 1))
    form = linear(ones / 2, ones, ones, ones)._replace(
        B1=ones, C1=ones, D11=0 * ones, D12=ones, D21=ones, blocks=(loose,)
    )
    assert least_gain(form).reason == "its slope is unknown"
    steep = form._replace(
        blocks=(Slopes(np.zeros(1), np.ones(1)),)
    )  # a slope of 1/2 makes an integrator of it
    assert least_gain(steep).proof is None and "spectral radius of 1.5" in least_rate(steep).reason
    with pytest.raises(RobustctlError, match="seconds must be positive"):
        rc.certify(slow, seconds=0.0)


@pytest.mark.parametrize("gain", [0.3, 2.0])
def test_small_gain_with_a_bounded_block_is_exact(gain):
    """`y = u + w` with `|dw| <= gain |du|`: the gain is `1 + gain`."""
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    form = linear(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), one)._replace(
        B1=np.zeros((0, 1)), C1=np.zeros((1, 0)), D11=zero, D12=one, D21=one, blocks=(Bounded(1, 1, gain),)
    )
    assert 1 + gain <= least_gain(form).proof.value <= 1.0002 * (1 + gain)


def test_a_metric_that_is_not_positive_definite_proves_nothing():
    form = linear(2 * np.eye(1), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)))
    assert not gain_margin(form, Proof(10.0, -np.eye(1), ())) < 0
    assert not rate_margin(form, Proof(0.9, -np.eye(1), ())) < 0


def test_products_that_cancel_are_an_assumption():
    """An upper layer that reads the difference of two neurons which the layer below hardly distinguishes."""
    a = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-13]])
    assert cancellation([(a @ a, np.abs(a) @ np.abs(a))]) == ()
    difference = np.array([[1.0, -1.0]])
    (assumed,) = cancellation([(difference @ a, np.abs(difference) @ np.abs(a))])
    assert "cancel" in assumed
