"""Stacks: the same numbers by every way to run them, their gain, training, and bad requests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError
from robustctl.linalg import headroom
from robustctl.nn.diagonal import in_parallel, in_turn
from robustctl.system import step_by_step

from .models import draw
from .test_training_keeps_the_guarantee import train

KEY = jr.key(0)


def stack(**settings):
    given = dict(nu=2, ny=1, states=5, layers=3, nv=4, hidden=(6,), gamma=2.0, rate=0.95, key=KEY)
    return rc.nn.Stack(**(given | settings))


@pytest.mark.parametrize(("dtype", "length"), [(jnp.float32, 300), (jnp.float64, 512), (jnp.float64, 1100)])
def test_layer_by_layer_is_sample_by_sample(dtype, length):
    """The last in three pieces that are padded."""
    system = draw(stack(dtype=dtype), jr.key(1), 0.7).explicit()
    us, x0 = jr.normal(jr.key(2), (length, 2), dtype), jr.normal(jr.key(3), (15,), dtype)

    @jax.jit
    def both(us, x0):
        return rc.rollout(system, us, x0), step_by_step(system.step, x0, us)

    run, (xs, ys, x_final) = both(us, x0)
    near = 200 * float(jnp.finfo(dtype).eps)
    for found, expected in ((run.xs, xs), (run.ys, ys), (run.x_final, x_final)):
        np.testing.assert_allclose(found, expected, rtol=near, atol=near)


@pytest.mark.parametrize("states", [1, 4, 5])
@pytest.mark.parametrize("length", [1, 2, 100])
def test_the_associative_scan_is_the_scan(states, length):
    recurrence = stack(states=states, layers=1).explicit().recurrences[0]
    bs, x0 = jr.normal(jr.key(2), (length, states)), jr.normal(jr.key(3), (states,))

    @eqx.filter_jit
    def both(recurrence):
        """Trajectories and slopes of both, in one program."""
        return [
            (run(recurrence, x0, bs), eqx.filter_grad(lambda r, run=run: sum(jnp.sum(a**2) for a in run(r, x0, bs)))(recurrence))
            for run in (in_parallel, in_turn)
        ]  # fmt: skip

    (found, slopes), (expected, others) = both(recurrence)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(*map(jax.tree.leaves, (slopes, others)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_one_layer_is_the_linear_system_of_its_poles():
    recurrence = stack(layers=1, rate=0.8).explicit().recurrences[0]
    A, *_ = recurrence.matrices()
    re, im = np.asarray(recurrence.re, float), np.asarray(recurrence.im, float)
    poles = np.concatenate([re[:2] + 1j * im, re[:2] - 1j * im, re[2:]])
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(A)), np.sort_complex(poles), atol=1e-12)
    assert np.abs(poles).max() < 0.8


def test_the_gain_is_reached():
    """A direct path alone reaches gamma up to the room for rounding, of W and of the inputs: K1 = K2 = 0 and W = 1."""
    model = stack(nu=1, layers=1, gamma=5.0)
    zero = jax.tree.map(jnp.zeros_like, model.recurrences)
    zero = eqx.tree_at(lambda r: r[0].G0, zero, jnp.asarray([[0.0], [1.0]]))
    model = eqx.tree_at(lambda m: m.recurrences, model, zero)
    expected = 5.0 * (1 - headroom(jnp.float64)) ** 2
    np.testing.assert_allclose(abs(model.explicit().recurrences[0].D), [[expected]], rtol=1e-12)


def test_what_is_proven_is_below_the_product_of_the_layers_gains():
    system = draw(stack(nu=1, layers=2), jr.key(3), 1.0).explicit()
    proven = rc.certify(system).gamma
    each = [rc.certify(rc.StateSpace(*r.matrices(), dt=1.0)).gamma for r in system.recurrences]
    product = float(np.prod([*each, *(f.lipschitz_bound() for f in system.networks)]))
    searched = rc.certificates.gain_lower_bound(
        system, 1, key=jr.key(1), horizon=30, steps=60, starts=2
    ).value
    assert searched <= proven < 0.98 * product and product <= 2.0 * (1 + 1e-3)


def test_training_in_float32_keeps_the_certificate():
    model = stack(nu=1, states=4, layers=2, hidden=(6,), rate=1.0, dtype=jnp.float32)
    us = jr.normal(jr.key(10), (40, 1), jnp.float32)
    trained, losses = train(model, us, 10 * jnp.cumsum(us, axis=0), steps=300)
    certificate = rc.certify(trained, prove=False)
    assert jnp.isfinite(losses).all() and losses[-1] < losses[0]
    assert certificate.dtype == "float32" and certificate.holds, str(certificate)


def test_a_quiet_stack_has_a_small_output():
    us = jr.normal(jr.key(2), (50, 2))
    loud, soft = (jnp.abs(rc.rollout(m.explicit(), us).ys).max() for m in (stack(), rc.nn.quiet(stack())))
    assert 0 < soft < 0.05 * loud


def without_a_network(model):
    return eqx.tree_at(lambda s: s.networks, model.explicit(), ())


BAD = {
    "memory must be two finite": lambda: stack(rate=1.0, memory=(1.0, np.inf)),
    "shortest <= longest": lambda: stack(memory=(5.0, 1.0)),
    "rate must be": lambda: stack(rate=1.01),
    "gamma must be": lambda: stack(gamma=np.inf),
    "layers": lambda: stack(layers=0),
    "at least one width": lambda: stack(hidden=()),
    "a network between each two": lambda: without_a_network(stack()).lft(),
    "must have shape": lambda: stack(states=4).explicit().recurrences[1].check(3),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_requests_are_named(message):
    with pytest.raises(InvalidModelError, match=message):
        BAD[message]()
