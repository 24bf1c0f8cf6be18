"""Loops: feedback is what its equations say, Youla is affine for linear plants, divergence is told."""

from typing import ClassVar

import control as ct
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

import robustctl as rc
from robustctl.errors import ModelError, RobustctlError
from robustctl.loops import Feedback, Gain, ModelBased, Series, Youla, YoulaMap, feedback, simulate
from robustctl.plants import Imperfections, Plant, Sampled, Signal, parameter, undisturbed


class Cart(Plant):
    """A mass on a spring: linear, so that everything about it can be computed by hand."""

    states: ClassVar = (Signal("position", "m"), Signal("speed", "m/s"))
    controls: ClassVar = (Signal("force", "N", -2.0, 2.0),)
    disturbances: ClassVar = (Signal("push", "N"),)
    outputs: ClassVar = (Signal("position", "m"),)
    stiffness: Array = parameter(1.0, "N/m")

    def rates(self, x, u, d):
        return jnp.stack([x[1], -self.stiffness * x[0] - 0.4 * x[1] + u[0] + d[0]])


DT = 0.1


@pytest.fixture(scope="module")
def sampled():
    return Sampled(Cart(), DT)


@pytest.fixture(scope="module")
def matrices(sampled):
    """The sampled cart as A, Bu, Bd, C, by Jacobians."""
    x, u, w = sampled.init_state(), jnp.zeros(1), jax.tree.map(lambda a: a[0], undisturbed(sampled, 1))

    def after(x1, u1, d1):
        return sampled.advance(x._replace(x=x1), u1, w._replace(d=d1)).x

    A, Bu, Bd = jax.jacobian(after, argnums=(0, 1, 2))(x.x, u, w.d)
    return np.asarray(A), np.asarray(Bu), np.asarray(Bd), np.array([[1.0, 0.0]])


@pytest.fixture(scope="module")
def q():
    return rc.nn.LipschitzR2DN(nu=1, nx=3, nv=4, ny=1, gamma=2.0, hidden=(5,), key=jr.key(3)).explicit()


def gain(K):
    return Gain(jnp.asarray(K), jnp.zeros(np.shape(K)[1]), jnp.zeros(np.shape(K)[0]))


def pushed(sampled, samples):
    return undisturbed(sampled, samples)._replace(d=jr.normal(jr.key(5), (samples, 1)))


def test_feedback_is_the_matrices_closed_loop(sampled, matrices):
    A, Bu, Bd, C = matrices
    ws = pushed(sampled, 30)
    run = rc.rollout(feedback(sampled, gain([[-0.7]]), jax.tree.map(lambda a: a[0], ws)), ws)
    x = np.zeros(2)
    for t in range(30):
        np.testing.assert_allclose(run.ys.x.x[t], x, atol=1e-12)
        u = -0.7 * C @ x
        np.testing.assert_allclose(run.ys.u[t], u, atol=1e-12)
        x = A @ x + Bu @ u + Bd @ np.asarray(ws.d[t])


def test_series_feeds_the_first_into_the_second(q):
    us = jr.normal(jr.key(0), (20, 1))
    both = rc.rollout(Series(q, gain([[3.0]])), us).ys
    np.testing.assert_allclose(both, 3.0 * rc.rollout(q, us).ys, atol=1e-12)


def test_prepared_parts_give_the_same_loop(sampled, q):
    ws = pushed(sampled, 20)
    loop = Feedback(sampled, Series(q, gain([[0.5]])))
    x, ys = loop.init_state(), []
    for t in range(20):
        x, y = loop.step(x, jax.tree.map(lambda a: a[t], ws))  # noqa: B023
        ys.append(y.u)
    np.testing.assert_allclose(rc.rollout(loop, ws).ys.u, jnp.stack(ys), rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def base(sampled):
    """An observer and a law that leave the spring stable."""
    L, K = jnp.array([[0.5], [0.3]]), jnp.array([[0.4, 0.6]])
    return ModelBased(sampled, _Times(L), _Times(-K))


class _Times(eqx.Module):
    M: Array

    def __call__(self, *args):
        return self.M @ args[-1]


def test_without_disturbance_the_innovation_does_not_depend_on_q(sampled, base, q):
    """What makes Youla safe: q sees the initial error alone, whatever it does with it."""

    def error(policy):
        loop = Feedback(sampled, Youla(base, policy))
        start = (sampled.state_at(jnp.array([1.0, -0.5])), loop.policy.init_state())
        run = rc.rollout(loop, undisturbed(sampled, 60), start)
        return run.xs[0].x - run.xs[1][0].x

    with_q, without = error(q), error(gain([[0.0]]))
    np.testing.assert_allclose(with_q, without, atol=1e-12)
    assert np.abs(with_q[-1]).max() < 1e-2 * np.abs(with_q[0]).max()


def test_youla_about_a_linear_plant_is_affine_in_what_q_says(sampled, matrices, base):
    """z = T0 d + T1 q(T2 d), with the T from the matrices of plant, observer and law."""
    A, Bu, Bd, C = matrices
    L, K = np.asarray(base.correct.M), -np.asarray(base.law.M)
    # States (x, x - x_hat): the error is driven by d alone, the state by both.
    big = np.block([[A - Bu @ K, Bu @ K], [np.zeros((2, 2)), A - L @ C]])
    drive_d, drive_u = np.vstack([Bd, Bd]), np.vstack([Bu, 0 * Bu])
    see_z, see_e = np.hstack([C, 0 * C]), np.hstack([0 * C, C])
    t0, t1, t2 = (
        rc.StateSpace(big, drive, see, np.zeros((1, 1)), DT)
        for drive, see in ((drive_d, see_z), (drive_u, see_z), (drive_d, see_e))
    )
    q = rc.nn.LipschitzR2DN(nu=1, nx=3, nv=4, ny=1, gamma=2.0, hidden=(5,), key=jr.key(8)).explicit()
    ws = pushed(sampled, 50)
    run = rc.rollout(Feedback(sampled, Youla(base, q)), ws)
    affine = rc.rollout(YoulaMap(t0, t1, t2, q, np.inf), ws.d)
    np.testing.assert_allclose(run.ys.y, affine.ys.z, atol=1e-10)


def test_a_policy_that_does_not_fit_is_refused(sampled):
    w = jax.tree.map(lambda a: a[0], undisturbed(sampled, 1))
    wide = rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0)).explicit()
    two = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=2, hidden=(3,), key=jr.key(0)).explicit()
    for policy in (wide, two):
        with pytest.raises(ModelError, match="must take the plant's 1 outputs"):
            feedback(sampled, policy, w)


def test_a_controller_of_another_sample_time_is_refused(sampled):
    pid = rc.classical.PID(1.0, dt=2 * sampled.dt)
    w = jax.tree.map(lambda a: a[0], undisturbed(sampled, 1))
    with pytest.raises(ModelError, match="the policy must have the plant's sample time"):
        feedback(sampled, pid, w)


@pytest.mark.usefixtures("as_installed")
def test_a_policy_that_is_no_system_is_refused(sampled):
    w = jax.tree.map(lambda a: a[0], undisturbed(sampled, 1))
    for wrong in (ct.tf([1], [1], sampled.dt), rc.nn.ContractingR2DN(nu=1, nx=1, nv=1, ny=1, key=jr.key(0))):
        with pytest.raises(ModelError, match=r"must be a System, got .*explicit\(\) of a parameterization"):
            feedback(sampled, wrong, w)


@pytest.mark.usefixtures("as_installed")
def test_a_plant_with_a_direct_path_is_refused():
    direct = rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[1.0]], 0.1)
    with pytest.raises(ModelError, match="algebraic"):
        feedback(direct, gain([[1.0]]), jnp.zeros(1))


def test_a_noisy_model_is_no_base(sampled):
    with pytest.raises(ModelError, match="noise"):
        ModelBased(
            Sampled(Cart(), DT, Imperfections(noise=0.1)),
            _Times(jnp.zeros((2, 1))),
            _Times(jnp.zeros((1, 2))),
        )


def test_divergence_is_told_with_its_time_and_finite_numbers(sampled):
    run = simulate(
        Feedback(sampled, gain([[400.0]])), undisturbed(sampled, 400), jnp.array([0.1, 0.0]), bound=1e3
    )
    assert bool(run.diverged) and 0 < float(run.escape_time) < 40
    first = round(float(run.escape_time) / DT)
    assert all(np.isfinite(a).all() for a in (run.x, run.y, run.u, run.applied))
    assert np.abs(run.x[:first]).max() <= 1e3
    np.testing.assert_array_equal(run.x[first:], np.broadcast_to(run.x[first - 1], run.x[first:].shape))
    calm = simulate(Feedback(sampled, gain([[-0.5]])), undisturbed(sampled, 50), jnp.array([0.1, 0.0]))
    assert not bool(calm.diverged) and np.isinf(calm.escape_time)


def test_simulate_names_what_it_cannot_run(sampled):
    with pytest.raises(RobustctlError, match="bound must be positive"):
        simulate(Feedback(sampled, gain([[0.0]])), undisturbed(sampled, 5), bound=0.0)


@pytest.mark.parametrize(
    ("t2", "limit", "message"),
    [
        (rc.StateSpace([[0.5]], [[1.0, 0.0]], [[1.0]], [[0.0, 0.0]], 1.0), 1.0, "shapes"),
        (rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], 2.0), 1.0, "one sample time"),
        (rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], 1.0), 0.0, "limit must be positive"),
    ],
)
def test_maps_that_do_not_fit_are_refused(t2, limit, message, q):
    t = rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], 1.0)
    with pytest.raises(ModelError, match=message):
        YoulaMap(t, t, t2, q, limit)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(A=[[1.0, 2.0]]), "A must have shape"),
        (dict(B=[[np.nan]]), "B must be finite"),
        (dict(dt=0.0), "dt must be a positive"),
        (dict(dt=float("nan")), "dt must be a positive"),
        (dict(inputs=["a", "b"]), "1 different names"),
        (dict(output_units=["m", "s"]), "1 units"),
    ],
)
def test_state_space_refuses_what_does_not_fit(given, message):
    asked = dict(A=[[0.5]], B=[[1.0]], C=[[1.0]], D=[[0.0]], dt=1.0) | given
    with pytest.raises(ModelError, match=message):
        rc.StateSpace(**asked)
