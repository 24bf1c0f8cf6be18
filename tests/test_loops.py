"""Loops: feedback is what its equations say, Youla is affine for linear plants, divergence is told."""

import dataclasses
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
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.loops import (
    Delay,
    Feedback,
    Gain,
    ModelBased,
    PlantScenario,
    Series,
    Youla,
    YoulaMap,
    feedback,
    open_loop,
    simulate,
    zero_gain,
)  # fmt: skip
from robustctl.plants import Imperfections, LinearPlant, Plant, Sampled, Signal, Task, parameter, undisturbed

from . import plants_list


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
    x, u, w = sampled.init_state(), jnp.zeros(1), sampled.undisturbed()

    def after(x1, u1, d1):
        return sampled.advance(x._replace(x=x1), u1, w._replace(d=d1)).x

    A, Bu, Bd = jax.jit(jax.jacobian(after, argnums=(0, 1, 2)))(x.x, u, w.d)
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
    run = rc.rollout(feedback(sampled, gain([[-0.7]])), ws)
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
    wide = rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0)).explicit()
    two = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=2, hidden=(3,), key=jr.key(0)).explicit()
    for policy in (wide, two):
        with pytest.raises(InvalidModelError, match="must take the plant's 1 outputs"):
            feedback(sampled, policy)


@pytest.fixture(scope="module")
def two_outputs():
    return Sampled(
        LinearPlant([[0.0, 1.0], [-1.0, -1.0]], np.eye(2), np.eye(2), outputs=("place", "speed")), DT
    )


@pytest.mark.parametrize(
    ("outputs", "controls", "references", "message"),
    [
        (
            2,
            1,
            0,
            r"2 outputs \(place, speed\) and the 0 references .* reads 1 outputs and, if there are any, 1 references",
        ),
        (1, 2, 1, r"the plant's 1 outputs \(position\) and the 1 references"),
        (1, 1, 2, "the 2 references of w"),
    ],
)
def test_an_output_is_not_taken_for_a_reference(sampled, two_outputs, outputs, controls, references, message):
    """A PID of n channels reads n outputs, or as many and their set points: 2 numbers may be either."""
    plant = two_outputs if outputs == 2 else sampled
    pid = rc.classical.PID(np.ones(controls), dt=DT)
    with pytest.raises(InvalidModelError, match=message):
        feedback(plant, pid, plant.undisturbed(references))


def test_a_controller_that_fits_reads_outputs_with_or_without_references(two_outputs):
    pid = rc.classical.PID([1.0, 2.0], dt=DT)
    for references in (0, 2):
        loop = feedback(two_outputs, pid, two_outputs.undisturbed(references))
        run = rc.rollout(loop, undisturbed(two_outputs, 1, references))
        assert loop.ny == run.ys.y.size + run.ys.u.size == len(loop.outputs)
    exact = feedback(two_outputs, gain(np.ones((2, 3))), two_outputs.undisturbed(1))
    assert exact.outputs[:3] == ("place", "speed", "r[0]")


def test_a_controller_of_another_sample_time_is_refused(sampled):
    pid = rc.classical.PID(1.0, dt=2 * sampled.dt)
    with pytest.raises(InvalidModelError, match="the policy must have the plant's sample time"):
        feedback(sampled, pid)


@pytest.mark.usefixtures("as_installed")
def test_a_policy_that_is_no_system_is_refused(sampled):
    for wrong in (ct.tf([1], [1], sampled.dt), rc.nn.ContractingR2DN(nu=1, nx=1, nv=1, ny=1, key=jr.key(0))):
        with pytest.raises(
            InvalidModelError, match=r"must be a System, got .*explicit\(\) of a parameterization"
        ):
            feedback(sampled, wrong)


@pytest.mark.usefixtures("as_installed")
def test_a_plant_with_a_direct_path_is_refused():
    direct = rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[1.0]], 0.1)
    with pytest.raises(InvalidModelError, match="algebraic"):
        feedback(direct, gain([[1.0]]), jnp.zeros(1))


def test_a_noisy_model_is_no_base(sampled):
    with pytest.raises(InvalidModelError, match="noise"):
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
    with pytest.raises(InvalidModelError, match=message):
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
    with pytest.raises(InvalidModelError, match=message):
        rc.StateSpace(**asked)


def test_nothing_acts_in_an_undisturbed_sample():
    for imperfections in (Imperfections(noise=0.1), Imperfections()):
        P = Sampled(Cart(), DT, imperfections)
        w = jax.tree.map(lambda a: a[0], undisturbed(P, 1, references=2))
        jax.tree.map(np.testing.assert_array_equal, P.undisturbed(2), w)


def test_a_plant_of_ones_own_is_asked_for_one_sample():
    class OwnPlant(rc.StrictlyProper):
        def init_state(self):
            return jnp.zeros(1)

        def output(self, x, w):
            return x + w

        def advance(self, x, u, w):
            return 0.5 * x + u

    class Told(OwnPlant):
        def undisturbed(self, references=0):
            return jnp.zeros(1)

    K = gain([[0.1]])
    assert feedback(OwnPlant(), K, jnp.zeros(1)).policy is K and feedback(Told(), K).policy is K
    with pytest.raises(InvalidModelError, match=r"OwnPlant does not; give the class a method undisturbed"):
        feedback(OwnPlant(), K)


def test_in_open_loop_a_plant_stays_at_its_operating_point():
    P = plants_list.sampled("magnetic suspension")
    loop = feedback(P, open_loop(P))
    run = rc.rollout(loop, undisturbed(P, 3))
    np.testing.assert_allclose(run.ys.u, np.tile(P.plant.operating_point()[1], (3, 1)))
    np.testing.assert_allclose(run.ys.x.x, np.tile(P.plant.operating_point()[0], (3, 1)), atol=1e-9)
    feedback(P, open_loop(P, references=2), P.undisturbed(2))
    assert not rc.rollout(zero_gain(3, 2), jnp.ones((4, 3))).ys.any()


@pytest.fixture(scope="module")
def integral_base():
    """Of a cart pushed away from the middle: unstable, with one output in the second state's direction too."""
    plant = Sampled(LinearPlant([[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.0]], [[1.0, 0.1]]), DT)
    return plant, rc.classical.linear_base(plant, [1.0, 1.0, 1.0], 1.0, [1e-2, 1e-2], 1e-2, integral=True)


@pytest.mark.parametrize("set_point", [None, 0.7])
def test_an_integral_base_leaves_no_error(integral_base, set_point):
    """The final value of y is r whatever the constant push and the learned q; without integrators it is not."""
    plant, base = integral_base
    references = 0 if set_point is None else 1
    ws = undisturbed(plant, 600, references)
    ws = ws._replace(d=jnp.full_like(ws.d, 0.4), r=jnp.full_like(ws.r, set_point or 0.0))
    q = rc.nn.ContractingR2DN(nu=1 + references, nx=2, nv=2, ny=1, hidden=(3,), rate=0.9, key=jr.key(0))
    loop = feedback(plant, Youla(base, q.explicit()), plant.undisturbed(references))
    y = rc.rollout(loop, ws).ys.y[:, 0]
    assert abs(float(y[5])) > 1e-3
    np.testing.assert_allclose(y[-1], set_point or 0.0, atol=1e-6)
    plain = rc.classical.linear_base(plant, [1.0, 1.0], 1.0, [1e-2, 1e-2], 1e-2)
    without = rc.rollout(
        feedback(plant, Youla(plain, zero_gain(1, 1))), ws._replace(r=jnp.zeros((600, 0)))
    ).ys.y
    assert abs(float(without[-1, 0])) > 0.05
    with pytest.raises(InvalidModelError, match="integral must have one column per output, 1, got shape"):
        rc.classical.linear_base(plant, [1.0, 1.0, 1.0], 1.0, 1.0, 1.0, integral=[[1.0, 0.0]])


def test_integral_action_takes_nothing_from_youla_s_form(integral_base):
    """The bound of the loop's gain is still affine in q's, with the H-infinity norm of the loop alone for q = 0."""
    plant, base = integral_base
    bound = rc.classical.youla_gain(plant, base, 2.0)
    alone = rc.classical.linearize(feedback(plant, Youla(base, zero_gain(1, 1))))
    assert bound.certified and bound.gain > bound.norms[0]
    np.testing.assert_allclose(bound.norms[0], rc.classical.hinf_norm(alone[:1, :1]), rtol=1e-5)


def test_a_delay_gives_its_inputs_later():
    us = jr.normal(jr.key(0), (6, 2))
    run = rc.rollout(Delay(jnp.array([1.0, 2.0]), 2), us)
    np.testing.assert_array_equal(run.ys, jnp.concatenate([jnp.array([[1.0, 2.0]] * 2), us[:4]]))
    for samples in (0, 1.5, True):
        with pytest.raises(InvalidModelError, match="samples must be a whole number"):
            Delay(jnp.zeros(1), samples)


def test_a_scenario_builds_its_q_and_its_nominal_loop(sampled, base):
    """The network that it builds fits the plant, with its references; the loop is the one that feedback makes."""
    scenario = PlantScenario(Task(sampled.plant), sampled, base)
    q = scenario.q(gamma=3.0, u_scale=(0.1,), y_scale=(0.5,), nx=2, nv=3, hidden=(4,), key=jr.key(0))
    assert rc.certify(q, prove=False).gamma == pytest.approx(15.0, rel=1e-6)
    loop = scenario.loop(q.explicit())
    by_hand = feedback(sampled, Youla(base, q.explicit()))
    ws = pushed(sampled, 20)
    np.testing.assert_array_equal(rc.rollout(loop, ws).ys.u, rc.rollout(by_hand, ws).ys.u)
    alone = rc.rollout(scenario.loop(zero_gain(1, 1)), ws).ys.u
    loud = dataclasses.replace(q, parameterization=q.parameterization.quiet(1e3)).explicit()
    np.testing.assert_allclose(rc.rollout(loop, ws).ys.u, alone, atol=0.1)
    assert np.abs(rc.rollout(scenario.loop(loud), ws).ys.u - alone).max() > 0.1
    with pytest.raises(InvalidModelError, match="there must be 1 u_scale"):
        scenario.q(gamma=3.0, u_scale=(0.1, 0.1), y_scale=(0.5,), key=jr.key(0))
    with pytest.raises(InvalidModelError, match="must take the plant's 1 outputs"):
        scenario.loop(zero_gain(2, 1))


class Following(Task):
    """A task with two references."""

    def reference(self, key, samples):
        return jnp.ones((samples, 2))


def test_a_scenario_with_references_gives_them_to_its_q(sampled):
    scenario = PlantScenario(Following(sampled.plant), sampled)
    q = scenario.q(gamma=3.0, u_scale=(1.0,) * 3, y_scale=(1.0,), nx=2, nv=3, hidden=(4,), key=jr.key(0))
    loop = scenario.loop(q.explicit())
    assert (scenario.references, loop.outputs) == (2, ("position", "r[0]", "r[1]", "force"))


def test_the_certificate_of_a_loop_is_that_of_its_poles():
    """Contraction of a linear loop: a pendulum upright, with a gain that holds it and with none."""
    upright = Sampled(LinearPlant([[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.0]], [[1.0, 0.0]]), DT)
    for held in (True, False):
        loop = feedback(upright, rc.classical.PID(8.0, 2.0, 4.0, dt=DT) if held else open_loop(upright))
        assert rc.certify(loop, prove=False).holds == held
        assert (np.abs(np.linalg.eigvals(loop.lft().A)).max() < 1) == held
    assert not rc.certify(upright, prove=False).holds
