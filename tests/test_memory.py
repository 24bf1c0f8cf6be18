"""Memories: their identities, delays, polynomials of the past, and what models start from them."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError
from robustctl.nn.memory import lagt, legs, legt, stepped


def frequency_response(s, z):
    A, B, C, D = (np.asarray(M) for M in (s.A, s.B, s.C, s.D))
    return (C @ np.linalg.solve(z * np.eye(len(A)) - A, B) + D)[:, 0]


@pytest.mark.parametrize("order", [1, 4, 16, 64])
@pytest.mark.parametrize("dt", [1e-3, 0.1, 10.0])
def test_each_step_keeps_its_identity(order, dt):
    rng = np.random.default_rng(order)
    for memory, own in ((legs, 1.0), (legt, 0.0), (lagt, 0.0)):
        A, q, *s = memory(order)
        Ad, Bd = stepped(A, q, dt)
        x, u = rng.normal(size=order), rng.normal()
        x_next = Ad @ x + Bd * u
        m = (x + x_next) / 2
        lost = own * m @ m + (q @ m - u) ** 2 + sum((row @ m) ** 2 for row in s)
        assert abs(x_next @ x_next - x @ x + dt * lost - dt * u**2) < 1e-12 * (1 + x @ x)


@pytest.mark.parametrize(("order", "error"), [(4, 5e-2), (12, 6e-5)])
def test_the_sliding_window_delays_a_sine(order, error):
    """0.7 Hz, a window of one second in 500 samples: what the literature's order 4 and 12 leave."""
    window, z = 500.0, np.exp(2j * np.pi * 0.7 / 500)
    (found,) = frequency_response(rc.nn.sliding_window(window, order=order), z)
    assert abs(found - z**-window) < error
    between = rc.nn.sliding_window(window, order=12, delays=(0.0, 123.0, 500.0))
    np.testing.assert_allclose(frequency_response(between, z), z ** -np.array([0.0, 123.0, 500.0]), atol=6e-5)


@pytest.mark.parametrize("system", [rc.nn.sliding_window(20.0, order=7), rc.nn.sliding_window(2.5, order=3)])
def test_the_delay_of_a_window_has_gain_one(system):
    """By all frequencies, and in the metric `window I`: the identity as a dissipation inequality."""
    responses = [abs(frequency_response(system, z)[0]) for z in np.exp(1j * np.linspace(0, np.pi, 300))]
    assert max(responses) < 1 + 1e-12 and abs(responses[0] - 1) < 1e-12
    proven = rc.certify(system).gamma
    assert proven is not None and 1 <= proven < 1 + 1e-3


def test_laguerre_filters_are_those_of_the_definition():
    bank, z = rc.nn.laguerre(10.0, order=4), np.exp(0.07j)
    s = 2 * (z - 1) / (z + 1) * 10.0
    expected = ((s - 0.5) / (s + 0.5)) ** np.arange(4) / (2 * s + 1)
    np.testing.assert_allclose(frequency_response(bank, z), expected, rtol=1e-9)


def test_the_long_memory_is_the_polynomial_of_the_past():
    """The state at rest for a constant input is that of the constant: the first coefficient alone."""
    A, q = legs(6)
    np.testing.assert_allclose(np.linalg.solve(-A, q), np.eye(6)[0], atol=1e-12)
    Ad, Bd = stepped(A, q, 0.01)
    np.testing.assert_allclose(np.linalg.solve(np.eye(6) - Ad, Bd), np.eye(6)[0], atol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("rate", [0.9, 1.0])
def test_models_start_at_the_memory_inside_their_guarantee(rate, dtype):
    init = rc.nn.hippo(5.0, 200.0, order=4)
    model = rc.nn.LipschitzR2DN(
        nu=2, nx=10, nv=6, ny=1, gamma=2.0, rate=rate, init=init, key=jr.key(0), dtype=dtype
    )
    assert rc.certify(model, prove=False).holds
    poles = np.linalg.eigvals(np.asarray(model.explicit().A, np.float64))
    each = [
        np.linalg.eigvals(stepped(*legs(n), 1 / t)[0])
        for n, t in zip((4, 4, 2), np.geomspace(200, 5, 3), strict=True)
    ]
    expected = rate * np.concatenate(each)
    np.testing.assert_allclose(
        np.sort(poles.real), np.sort(expected.real), atol=2e-3 if dtype == jnp.float32 else 1e-6
    )


def test_delayed_inputs_cost_a_policy_the_gain_that_is_proven():
    past = rc.nn.sliding_window(20.0, order=6, delays=(0.0, 10.0, 20.0), dt=0.1)
    policy = rc.nn.LipschitzStatic(nu=3, ny=1, gamma=2.0, hidden=(4,), key=jr.key(0)).explicit()
    certificate = rc.certify(rc.loops.Series(past, policy))
    worst = max(np.linalg.norm(frequency_response(past, z)) for z in np.exp(1j * np.linspace(0, np.pi, 200)))
    assert certificate.gamma is not None and certificate.gamma < 2.0 * worst * 1.01


BAD = {
    "holds no more of the past": lambda: rc.nn.sliding_window(10.0, delays=(11.0,)),
    "positive, finite number of samples": lambda: rc.nn.sliding_window(0.0),
    "order": lambda: rc.nn.sliding_window(10.0, order=0),
    "shortest <= longest": lambda: rc.nn.hippo(10.0, 5.0),
    "finite": lambda: rc.nn.hippo(10.0, np.inf),
    "tau must be": lambda: rc.nn.laguerre(-1.0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_requests_are_named(message):
    with pytest.raises(InvalidModelError, match=message):
        BAD[message]()
