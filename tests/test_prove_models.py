"""Proofs of switching systems, supply rates and networks of Equinox, and gains searched from below."""

import dataclasses

import control as ct
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates.coordinates import at_slopes
from robustctl.certificates.interior_point import estimate
from robustctl.certificates.proof import Proof, gain_margin, rate_margin, supply_margin
from robustctl.certificates.prove import largest_margin, least_gain, least_rate
from robustctl.errors import RobustctlError
from robustctl.lft import linear
from robustctl.nn.lipschitz import bounded

from .exact import network_gain_proven, network_rate_proven
from .models import draw


def scalar(a):
    one = np.ones((1, 1))
    return linear(a * one, one, one, 0 * one)


def test_modes_share_a_metric():
    """Switching between x+ = a x + u of a in [0, a_max] is no worse than staying at a_max: gain 1 / (1 - a_max), rate a_max."""
    modes = [scalar(0.2), scalar(0.5), scalar(0.0)]
    gain, rate = least_gain(modes).proof, least_rate(modes).proof
    assert 2 <= gain.value <= 2.001 and 0.5 < rate.value <= 0.51
    assert gain_margin(modes, gain) < 0 and rate_margin(modes, rate) < 0


def test_two_stable_modes_that_switching_destabilizes_have_no_proof():
    """Each is zero after two samples, and one after the other grows by 1.5^2 in two."""
    A = np.array([[0.0, 1.5], [0.0, 0.0]])
    modes = [linear(M, np.eye(2), np.eye(2), np.zeros((2, 2))) for M in (A, A.T)]
    assert least_gain(modes[0]).proof and least_rate(modes[0]).proof
    assert least_gain(modes).proof is None and least_rate(modes).proof is None


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_predictor_has_a_gain_under_every_pattern_of_lost_samples(dtype):
    model = rc.nn.InnovationR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0), dtype=dtype)
    model = draw(model, jr.key(1), 1.0)
    certificate = rc.certify(model)
    assert certificate.holds and certificate.promised_gamma is None and certificate.gamma > 0
    blocks = len(certificate.gain_proof.multipliers) // 2
    for k, mode in enumerate(model.explicit().modes()):
        for proof, proven in (
            (certificate.gain_proof, network_gain_proven),
            (certificate.rate_proof, network_rate_proven),
        ):
            one = Proof(proof.value, proof.P, proof.multipliers[k * blocks : (k + 1) * blocks])
            assert proven(mode, one)
    found = rc.certificates.lower_bound(model, steps=0).value
    assert 0.3 * certificate.gamma < found <= certificate.gamma
    rc.certificates.recheck(rc.certificates.Certificate.from_json(certificate.to_json()), model)


def test_the_margin_of_a_supply_rate_is_that_of_the_frequency_response():
    """Of a linear system the largest m is the least eigenvalue of `R + S G + G*S' + G*Q G` over all frequencies."""
    rng = np.random.default_rng(0)
    A = np.diag([0.8, -0.5, 0.3])
    B, C, D = rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), rng.normal(size=(2, 2))
    S = rng.normal(size=(2, 2))
    for Q, R in ((-0.1 * np.eye(2), np.eye(2)), (np.zeros((2, 2)), np.zeros((2, 2)))):
        form, least = linear(A, B, C, D), np.inf
        for angle in np.linspace(0, np.pi, 4001):
            G = D + C @ np.linalg.solve(np.exp(1j * angle) * np.eye(3) - A, B)
            M = R + S @ G + (S @ G).conj().T + G.conj().T @ Q @ G
            least = min(least, np.linalg.eigvalsh(M)[0])
        proof = largest_margin(form, (Q, S, R)).proof
        assert proof is not None and least - 0.01 * (1 + abs(least)) <= proof.value <= least + 1e-6
        assert supply_margin(form, proof, (Q, S, R)) < 0
        more = Proof(least + 0.01, proof.P, proof.multipliers)
        assert not supply_margin(form, more, (Q, S, R)) < 0


def test_a_dissipative_model_gets_a_margin_that_is_checked_without_a_search():
    one = jnp.eye(1)
    model = rc.nn.DissipativeREN(
        nu=1, nx=2, nv=2, ny=1, Q=-0.1 * one, S=one / 2, R=0.2 * one, key=jr.key(0), dtype=jnp.float64
    )
    certificate = rc.certify(model)
    assert certificate.holds and certificate.supply_margin > 0 and "supply rate" in str(certificate)
    read = rc.certificates.Certificate.from_json(certificate.to_json())
    rc.certificates.recheck(read, model)
    more = Proof(10.0, certificate.supply_proof.P, certificate.supply_proof.multipliers)
    with pytest.raises(RobustctlError, match="supply rate 10"):
        rc.certificates.recheck(dataclasses.replace(read, supply_proof=more), model)
    lipschitz = rc.nn.LipschitzREN(nu=1, nx=2, nv=2, ny=1, gamma=2.0, key=jr.key(0), dtype=jnp.float64)
    assert rc.certify(lipschitz).supply_proof is None


def test_an_mlp_inside_of_a_model_is_opened_to_its_neurons():
    mlp = eqx.nn.MLP(3, 3, 4, 2, jax.nn.relu, key=jr.key(0), dtype=jnp.float64)
    mlp = jax.tree.map(lambda a: 0.7 * a if eqx.is_inexact_array(a) else a, mlp)
    inside = bounded(mlp, 3, 3)[0].inside
    whole = np.linalg.multi_dot([np.asarray(layer.weight) for layer in reversed(mlp.layers)])
    np.testing.assert_allclose(at_slopes(inside, 1.0)[3], whole, atol=1e-12)
    assert [block.nv for block in inside.blocks] == [4, 4]
    ending = eqx.nn.MLP(3, 3, 4, 1, jnp.tanh, jnp.tanh, key=jr.key(0))
    assert [block.nv for block in bounded(ending, 3, 3)[0].inside.blocks] == [4, 3]
    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, phi=mlp, key=jr.key(1), dtype=jnp.float64)
    opened, closed = rc.certify(model), least_gain(_closed(model.explicit().lft()))
    assert opened.gamma < 0.99 * closed.proof.value
    assert rc.certificates.lower_bound(model, steps=0).value <= opened.gamma


def _closed(form):
    return form._replace(blocks=tuple(dataclasses.replace(block, inside=None) for block in form.blocks))


def test_the_search_from_below_reaches_the_norm_of_a_linear_system():
    rng = np.random.default_rng(0)
    A = np.array([[0.95 * np.cos(0.7), 0.95 * np.sin(0.7)], [-0.95 * np.sin(0.7), 0.95 * np.cos(0.7)]])
    B, C, D = rng.normal(size=(2, 2)), rng.normal(size=(1, 2)), rng.normal(size=(1, 2))
    norm = rc.classical.hinf_norm(ct.ss(A, B, C, D, 1.0))
    found = rc.certificates.lower_bound(rc.StateSpace(A, B, C, D, dt=1.0), steps=0).value
    assert 0.9999 * norm <= found <= norm * (1 + 1e-9)


def test_the_search_from_below_works_in_the_units_of_the_signals():
    model = rc.nn.LipschitzR2DN(
        nu=1, nx=2, nv=2, ny=1, hidden=(3,), gamma=2.0, key=jr.key(0), dtype=jnp.float64
    )
    model = draw(model, jr.key(1), 1.0)
    certificate = rc.certify(rc.Rescaled(model, (5e-4,), (2e3,)), search=True)
    # Adam starts at the equilibria's: what it finds may only add.
    inner = rc.certificates.lower_bound(model, steps=0).value
    assert 0.99 * inner * 2e3 / 5e-4 <= certificate.lower_bound <= certificate.gamma
    assert "searched" in str(certificate) and rc.certify(model, prove=False).lower_bound is None


def test_a_search_from_below_needs_inputs():
    class Free(rc.System):
        nu, ny = 0, 1

        def init_state(self):
            return jnp.zeros(1)

        def step(self, x, u):
            return x / 2, x

    with pytest.raises(RobustctlError, match="nu = 0"):
        rc.certificates.lower_bound(Free())


def test_estimates_grow_with_the_size():
    small, large, two = estimate(100, 70), estimate(1000, 300), estimate(100, 70, 2)
    assert small[0] < large[0] and small[1] < large[1] and small[0] < two[0]
