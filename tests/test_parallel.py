"""Rollouts that are parallel in time: the scan's trajectory and gradients, whatever converges."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.parallel import parallel_rollout

from .models import MODELS, draw

METHODS = ["picard", "mean-slope", "newton"]


def system_of(name, dtype, seed=0):
    model = MODELS[name](gamma=3.0, nu=2, ny=2, nx=3, nv=4, key=jr.key(seed), dtype=dtype)
    return draw(model, jr.key(seed + 1), 1.0).explicit()


def linear_loss(run):
    """Reaches every sample of every sequence, with weights of both signs."""
    return sum(
        jnp.sum(jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)) * leaf.ravel())
        for leaf in jax.tree.leaves(run)
    )


@eqx.filter_jit
def values_and_gradients(arguments, method, limit=50):
    def loss(arguments):
        if method is None:
            run, effort = rc.rollout(*arguments), None
        else:
            run, effort = parallel_rollout(*arguments, method=method, limit=limit)
        return jnp.asarray(linear_loss(jax.tree.map(lambda a: a.astype(float), run))), (run, effort)

    return eqx.filter_grad(loss, has_aux=True)(arguments)


def assert_near(got, expected, tolerance):
    """Relative to the largest entry of each array."""
    scale = np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale + np.finfo(got.dtype).tiny)


@pytest.fixture(scope="module")
def scans():
    """The scan's answers, one compilation for all methods."""
    found = {}

    def scan(key, arguments):
        if key not in found:
            found[key] = values_and_gradients(arguments, None)
        return found[key]

    return scan


CASES = [
    ("ContractingR2DN", jnp.float64, 64),
    ("LipschitzR2DN", jnp.float32, 257),
    ("DissipativeR2DN", jnp.float64, 257),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "dtype", "length"), CASES)
def test_trajectory_and_gradients_are_those_of_the_scan(scans, name, dtype, length, method):
    near, gradients_near = (1e-11, 1e-9) if dtype == jnp.float64 else (5e-6, 2e-5)
    for seed in (0, 10):
        us = jr.normal(jr.key(seed + 2), (length, 2), dtype)
        arguments = system_of(name, dtype, seed), us, jr.normal(jr.key(seed + 3), (3,), dtype)
        expected, (scan, _) = scans((name, seed), arguments)
        gradients, (run, effort) = values_and_gradients(arguments, method)
        assert effort.converged
        assert effort.iterations <= {"picard": 20, "mean-slope": 20, "newton": 7}[method]
        jax.tree.map(lambda a, b: assert_near(a, b, near), run, scan)
        jax.tree.map(lambda a, b: assert_near(a, b, gradients_near), gradients, expected)
        assert jnp.any(gradients[0].phi.layers[0].W_in != 0)


def slow_system():
    """Contracts by one in a thousand a sample, with a gain near one about phi."""
    one = jnp.ones((1, 1))
    return rc.nn.ExplicitR2DN(
        A=0.1 * one, B1=0.899 * one, B2=one, C1=one, C2=one, D12=0 * one, D21=one, D22=one, bx=jnp.ones(1),
        bv=jnp.zeros(1), by=jnp.zeros(1), phi=jnp.tanh, P=one, supply=None, rate=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_converges_the_scan_answers(method):
    us = jr.normal(jr.key(0), (64, 1))
    expected, (scan, _) = values_and_gradients((slow_system(), us, jnp.zeros(1)), None)
    gradients, (run, effort) = values_and_gradients((slow_system(), us, jnp.zeros(1)), method, limit=2)
    assert not effort.converged
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), run, scan)
    jax.tree.map(lambda a, b: assert_near(a, b, 1e-12), gradients, expected)


@pytest.mark.parametrize("method", METHODS)
def test_divergence_is_noticed(method):
    """A phi of slope 40 voids every guarantee: iterations overflow, where the scan stays bounded."""
    system = eqx.tree_at(lambda s: s.phi, slow_system(), lambda v: jnp.sin(40 * v))
    us = jr.normal(jr.key(1), (200, 1))
    run, _ = parallel_rollout(system, us, method=method)
    scan = rc.rollout(system, us)
    assert jnp.all(jnp.isfinite(run.ys))
    np.testing.assert_allclose(run.ys[:10], scan.ys[:10], atol=1e-3)  # chaotic beyond


@pytest.mark.parametrize(("method", "limit"), [*((method, 50) for method in METHODS), ("mean-slope", 5)])
def test_batches_go_through_vmap(method, limit):
    """At the low limit some of the batch converge and some do not."""
    system = system_of("LipschitzR2DN", jnp.float64)
    us = jr.normal(jr.key(5), (3, 64, 2)) * jnp.array([0.0, 0.1, 3.0])[:, None, None]

    @jax.jit
    @jax.vmap
    def together(us):
        def loss(us):
            run, effort = parallel_rollout(system, us, method=method, limit=limit)
            return linear_loss(run), (run, effort)

        gradients, (run, effort) = jax.grad(loss, has_aux=True)(us)
        return run, effort, gradients

    @jax.jit
    @jax.vmap
    def scans(us):
        return rc.rollout(system, us), jax.grad(lambda us: linear_loss(rc.rollout(system, us)))(us)

    run, effort, gradients = together(us)
    scan, expected = scans(us)
    assert effort.converged.all() if limit == 50 else len(set(effort.converged.tolist())) == 2
    jax.tree.map(lambda a, b: assert_near(a, b, 1e-10), (run, gradients), (scan, expected))


def test_a_scaled_r2dn_is_one_too():
    ones = jnp.ones(2)
    system = rc.Scaled(system_of("ContractingR2DN", jnp.float64), 3.0 * ones, 2.0 * ones, ones, 5.0 * ones)
    us = jr.normal(jr.key(5), (64, 2))
    run, effort = parallel_rollout(system, us)
    assert effort.converged
    jax.tree.map(lambda a, b: assert_near(a, b, 1e-11), run, rc.rollout(system, us))


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_short_sequences(length):
    system, us, x0 = slow_system(), jnp.ones((length, 1)), jnp.full(1, 0.5)
    run, _ = parallel_rollout(system, us, x0, method="picard")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), run, rc.rollout(system, us, x0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(system=rc.nn.ContractingREN),
            r"must have a state_matrix\(\), as an ExplicitR2DN.*got ExplicitREN.*scan",
        ),
        (dict(system=None), "got R2DN.*call explicit"),
        (dict(method="deer"), "method must be one of picard, mean-slope, newton, got 'deer'"),
        (dict(limit=0), "limit must be.*got 0"),
    ],
)
def test_bad_input_is_named(as_installed, change, message):
    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
    system = model.explicit()
    if "system" in change:
        other = change["system"]
        system = model if other is None else other(nu=1, nx=2, nv=2, ny=1, key=jr.key(0)).explicit()
    options = {name: value for name, value in change.items() if name != "system"}
    with pytest.raises(RobustctlError, match=message):
        parallel_rollout(system, jnp.ones((5, 1)), **options)
