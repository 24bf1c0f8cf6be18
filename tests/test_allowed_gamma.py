"""The largest gain of a learned system about an imperfect model, against the small-gain theorem of linear systems."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates import ModelError, allowed_gamma
from robustctl.errors import RobustctlError

LAG = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1)
PLANT = rc.loops.ModelPlant(LAG)
BASE = rc.loops.ParallelModel(PLANT)
HIGH_PASS = rc.StateSpace([[0.5]], [[1.0]], [[-0.3]], [[0.8]], dt=0.1)


@pytest.mark.parametrize(("gain", "weight", "norm"), [(0.2, None, 0.2), (0.5, HIGH_PASS, None)])
def test_an_additive_error_allows_the_inverse_of_its_gain(gain, weight, norm):
    """With the model in parallel q sees the error alone: |Delta W| gamma < 1."""
    found = allowed_gamma(PLANT, BASE, ModelError(gain, "output", weight))
    if norm is None:
        z = np.exp(1j * np.linspace(0, np.pi, 2000))
        norm = gain * np.abs(0.8 - 0.3 / (z - 0.5)).max()
    assert found.gamma == pytest.approx(1 / norm, rel=2e-3) and found.gamma <= 1 / norm


def test_without_an_error_any_gain_is_allowed():
    assert allowed_gamma(PLANT, BASE).gamma == np.inf


def test_a_q_of_the_allowed_gain_is_proven_and_one_twice_as_large_is_not():
    error = ModelError(0.2, "output")
    gamma = allowed_gamma(PLANT, BASE, error).gamma

    def loop(gain):
        return rc.loops.feedback(
            PLANT, rc.loops.Youla(BASE, rc.loops.Gain(jnp.full((1, 1), gain), jnp.zeros(1), jnp.zeros(1)))
        )

    assert rc.certificates.certify_loop(loop(0.99 * gamma), gains=[("d", "y")], error=error).holds
    assert not rc.certificates.certify_loop(loop(2 * gamma), gains=[("d", "y")], error=error).holds
    q = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=3, ny=1, gamma=0.95 * gamma, hidden=(4,), key=jr.key(0)).explicit()
    whole = rc.loops.feedback(PLANT, rc.loops.Youla(BASE, q))
    assert rc.certificates.certify_loop(whole, gains=[("d", "y")], error=error).holds


def test_the_parallel_model_gives_an_innovation_that_no_q_changes():
    q = rc.loops.Gain(jnp.full((1, 1), 3.0), jnp.zeros(1), jnp.zeros(1))
    loop = rc.loops.feedback(PLANT, rc.loops.Youla(rc.loops.ParallelModel(PLANT, [0.5]), q))
    w = PLANT.undisturbed()
    x = loop.init_state()
    for _ in range(20):
        x, out = loop.step(x, w)
        np.testing.assert_allclose(out.u, [0.5])
    with pytest.raises(rc.errors.InvalidModelError, match="u0 must have the shape"):
        rc.loops.ParallelModel(PLANT, [0.5, 1.0])


def test_bad_input_is_refused():
    with pytest.raises(RobustctlError, match="seconds must be positive"):
        allowed_gamma(PLANT, BASE, seconds=0.0)
    with pytest.raises(RobustctlError, match="sample time"):
        allowed_gamma(
            PLANT, BASE, ModelError(0.1, "output", rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], dt=1.0))
        )
