"""Input-convex networks: convexity, the exact gain, contraction, and bad requests."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlError

from .models import draw, drawn_systems
from .test_training_keeps_the_guarantee import train

KEY = jr.key(0)
ACTIVATIONS = [jax.nn.relu, jax.nn.leaky_relu, jax.nn.softplus]


def network(**settings):
    given: dict[str, Any] = dict(nu=2, nx=5, ny=2, gamma=2.0, directions=(1, -1), memory=(2.0, 20.0), key=KEY)
    return rc.nn.InputConvexRNN(**(given | settings))


def outputs(system, us):
    return rc.rollout(system, us).ys


def test_the_gain_is_nearly_reached_and_never_exceeded():
    """200 systems with every neuron active: a slow half wave along the largest singular direction at frequency 0, and noise."""
    systems = drawn_systems(network(gamma=1e3), [1.0] * 200)
    certified = np.array([system.gain_bound() for system in systems])
    gains = [
        np.asarray(s.C) @ np.linalg.solve(np.eye(5) - np.asarray(s.U), np.asarray(s.W)) + np.asarray(s.D)
        for s in systems
    ]
    np.testing.assert_allclose(certified, [np.linalg.norm(G, 2) for G in gains], rtol=1e-9)
    toward = jnp.asarray(np.stack([np.linalg.svd(G)[2][0] for G in gains]))
    wave = jnp.concatenate([jnp.sin(jnp.linspace(0.0, jnp.pi, 300)), jnp.zeros(100)])[:, None]
    noise = jr.normal(jr.key(1), (400, 2))

    @jax.jit
    @jax.vmap
    def ratios(system, direction):
        base = jnp.tile(jnp.asarray([100.0, -100.0]), (400, 1))
        found = []
        for d in (wave * direction[None], noise, noise * direction[None]):
            dy = outputs(system, base + d) - outputs(system, base)
            found.append(jnp.linalg.norm(dy) / jnp.linalg.norm(d))
        return jnp.stack(found)

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *systems)
    found = np.asarray(ratios(stacked, toward)) / certified[:, None]
    assert found.max() <= 1 and found.max(axis=1).min() >= 0.95


def test_no_frequency_has_a_larger_gain_and_certify_proves_it():
    system = network(gamma=1e3, activation=jax.nn.identity).explicit()
    U, W, C, D = (np.asarray(M) for M in (system.U, system.W, system.C, system.D))
    response = [
        np.linalg.norm(C @ np.linalg.solve(np.exp(1j * w) * np.eye(5) - U, W) + D, 2)
        for w in np.linspace(0, np.pi, 200)
    ]
    np.testing.assert_allclose(max(response), system.gain_bound(), rtol=1e-12)
    certificate = rc.certify(system)
    assert system.gain_bound() <= certificate.gamma <= 1.001 * system.gain_bound()
    spectrum = np.abs(np.linalg.eigvals(U)).max()
    assert spectrum <= certificate.rate <= spectrum + 0.01


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_a_prescribed_gain_is_what_the_bound_is_scaled_to(rate):
    """Of a gain that would be larger, at the rate of the contraction; a smaller one is left as it is."""
    loud = draw(network(gamma=1e-3, rate=rate), jr.key(1), 1.0).explicit()
    U, W, C, D = (np.abs(np.asarray(M)) for M in (loud.U, loud.W, loud.C, loud.D))
    at_rate = np.linalg.norm(C @ np.linalg.solve(rate * np.eye(5) - U, W) + D, 2)
    np.testing.assert_allclose(at_rate, 1e-3, rtol=1e-4)
    assert at_rate < 1e-3
    free, wide = (draw(network(gamma=g, rate=rate), jr.key(1), 1.0).explicit() for g in (1e4, 1e5))
    assert np.array_equal(free.C, wide.C)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_are_convex_in_the_sequence_of_inputs_and_monotone(activation):
    system = draw(network(nu=3, directions=(1, -1, 0), activation=activation), jr.key(1), 1.0).explicit()
    a, b = 3 * jr.normal(jr.key(2), (2, 200, 30, 3))
    larger = a + jnp.asarray([1.0, -1.0, 0.0])[None, None] * jnp.abs(b)
    run = jax.jit(jax.vmap(lambda us: outputs(system, us)))
    middle, ya, yb, up = (np.asarray(run(us)) for us in ((a + b) / 2, a, b, larger))
    assert np.all(middle <= (ya + yb) / 2 + 1e-12) and np.any(middle < (ya + yb) / 2 - 1e-3)
    assert np.all(up >= ya - 1e-12)


def test_states_approach_each_other_in_the_largest_entry():
    system = draw(network(rate=0.9), jr.key(1), 2.0).explicit()
    us, starts = jr.normal(jr.key(2), (20, 2)), 5 * jr.normal(jr.key(3), (2, 5))
    one, other = (np.asarray(rc.rollout(system, us, x0).xs) for x0 in starts)
    apart = np.abs(one - other).max(axis=1)
    assert np.all(apart[1:] <= 0.9 * apart[:-1] + 1e-14)


def test_training_in_float32_keeps_the_certificate_and_the_signs():
    model = network(nu=1, ny=1, directions=(-1,), dtype=jnp.float32)
    us = jr.normal(jr.key(10), (40, 1), jnp.float32)
    trained, losses = train(model, us, -10 * jnp.cumsum(us, axis=0), steps=60)
    certificate, system = rc.certify(trained, prove=False), trained.explicit()
    assert jnp.isfinite(losses).all() and losses[-1] < losses[0]
    assert certificate.dtype == "float32" and certificate.holds, str(certificate)
    assert np.all(np.asarray(system.W) <= 0)
    system.check_convex()


def test_a_model_is_fitted_to_a_log_and_comes_back_from_a_file(tmp_path):
    record = rc.problems.two_tanks(200, seed=0)
    model = network(nu=1, ny=1, directions=(1,), gamma=10.0, direct=False)
    fitted = rc.fit(model, record, epochs=60, monitor=None, key=KEY)
    losses = fitted.history["loss"]
    assert losses[-1] < 0.6 * losses[0]
    rc.save(tmp_path / "m", fitted.model)
    us = jr.normal(jr.key(1), (20, 1))
    loaded, kept = (rc.rollout(m.explicit(), us).ys for m in (rc.load(tmp_path / "m"), fitted.model))
    np.testing.assert_array_equal(loaded, kept)
    assert not np.any(fitted.model.explicit().system.D)


def test_a_quiet_network_has_an_output_scaled_down():
    us = jr.normal(jr.key(2), (50, 2))
    for model in (
        network(directions=(0, -1), gamma=1e3),
        network(direct=False, gamma=1e3),
        # Of free arrays that the map scales down to its gain.
        network(directions=(0, -1), gamma=1e-3),
        network(direct=False, gamma=1e-3),
    ):
        loud, soft = (outputs(m.explicit(), us) for m in (model, rc.nn.quiet(model)))
        np.testing.assert_allclose(soft, 1e-2 * loud, rtol=1e-9)


def negative(name):
    system = network().explicit()
    return eqx.tree_at(lambda s: getattr(s, name), system, getattr(system, name).at[0, 0].set(-1e-3))


BAD = {
    "nx must be": lambda: network(nx=0),
    "directions must be one of": lambda: network(directions=(1,)),
    "-1, 0 and 1": lambda: network(directions=(1, 2)),
    "convex and nondecreasing": lambda: network(activation=jnp.tanh),
    "gamma must be": lambda: network(gamma=0.0),
    "rate must be": lambda: network(rate=1.1),
    "memory must be two": lambda: network(memory=(1.0, np.inf)),
    "U must have no negative": lambda: negative("U").check_convex(),
    "C must have no negative": lambda: negative("C").gain_bound(),
    "must have shape": lambda: eqx.tree_at(lambda s: s.C, network().explicit(), jnp.ones((2, 4))).lft(),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_requests_are_named(message):
    with pytest.raises(InvalidModelError, match=message):
        BAD[message]()


def test_weights_that_void_the_claim_are_found():
    """Larger weights, and one of the wrong sign: the certificate trusts neither the gain nor the metric."""
    system = network(gamma=1.0).explicit()
    louder = eqx.tree_at(lambda s: s.C, system, 1e3 * system.C)
    unstable = eqx.tree_at(lambda s: s.U, system, 2 * system.U)
    for broken in (louder, unstable):
        assert not rc.certify(broken, prove=False).holds
    assert unstable.gain_bound() == np.inf
    # A small negative weight leaves the proof of the gain, which is one of absolute values, and no convexity.
    assert rc.certify(negative("U"), prove=False).holds


def test_a_file_with_another_activation_is_refused(tmp_path):
    system = network().explicit()
    rc.save(tmp_path / "m", system)
    assert rc.load(tmp_path / "m").activation is jax.nn.relu
    odd = rc.nn.InputConvexSystem(
        *(getattr(system, n) for n in ("U", "W", "b", "C", "D", "by", "gamma", "rate")), jnp.tanh
    )
    with pytest.raises(RobustctlError, match="convex and nondecreasing"):
        rc.save(tmp_path / "m", odd)
