"""A learned system beside a controller: what it leaves as it was, and the gain that it cannot pass."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.classical import PID, hinf_norm, linearize, youla_gain
from robustctl.errors import RobustctlError
from robustctl.loops import Alongside, Feedback, Gain, PlantScenario, feedback, noiseless, zero_gain
from robustctl.plants import Imperfections, LinearPlant, Sampled, Task, undisturbed
from robustctl.robustness.certified import certified_gain
from robustctl.robustness.linear_loop import linear_loop

DT = 0.1
SILENT = zero_gain(1, 1)


@pytest.fixture(scope="module")
def plant():
    """A mass pushed away from its rest, which the controller holds; two disturbances."""
    return Sampled(LinearPlant([[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.0]], [[1.0, 0.0]], Bd=np.eye(2)), DT)


@pytest.fixture(scope="module")
def pid():
    return PID(8.0, 2.0, 4.0, dt=DT)


def network(nu=1, ny=1, gamma=30.0, seed=9):
    return rc.nn.LipschitzR2DN(nu=nu, nx=3, nv=4, ny=ny, hidden=(5,), gamma=gamma, key=jr.key(seed))


def test_with_a_silent_q_it_is_the_controller(plant, pid):
    ys = jr.normal(jr.key(0), (40, 1))
    both = rc.rollout(Alongside(pid, plant, SILENT), ys).ys
    np.testing.assert_array_equal(both, rc.rollout(pid, ys).ys)


def test_without_disturbance_nobody_hears_q(plant, pid):
    """Under set points, from rest: a q that would answer any surprise a hundredfold has none to answer."""
    ws = undisturbed(plant, 80)._replace(r=jnp.repeat(jr.normal(jr.key(1), (4, 1)), 20, axis=0))
    loud = Gain(
        jnp.array([[100.0, 0.0]]), jnp.zeros(2), jnp.zeros(1)
    )  # of the surprise, not of the set point
    runs = [rc.rollout(Feedback(plant, policy), ws).ys for policy in (pid, Alongside(pid, plant, loud))]
    assert np.abs(runs[0].y[:, 0]).max() > 0.5
    np.testing.assert_allclose(runs[1].y, runs[0].y, atol=1e-9)
    np.testing.assert_allclose(runs[1].u, runs[0].u, atol=1e-9)


def test_the_surprise_does_not_depend_on_q(plant, pid):
    """With disturbances and from another state too: what makes any stable q safe."""
    ws = undisturbed(plant, 60)._replace(d=jr.normal(jr.key(2), (60, 2)))

    def surprise(q):
        loop = Feedback(plant, Alongside(pid, plant, q))
        start = plant.state_at(jnp.array([0.5, -1.0])), loop.policy.init_state()
        run = rc.rollout(loop, ws, start)
        twin = run.xs[1][0][1]
        return run.ys.y - jax.vmap(lambda x: plant.output(x, plant.undisturbed()))(twin)

    with_q, without = surprise(network().explicit()), surprise(SILENT)
    np.testing.assert_allclose(with_q, without, atol=1e-9)
    assert np.abs(without).max() > 0.1


class Seen(rc.System):
    """A loop from its disturbance to its output alone."""

    loop: Feedback

    def init_state(self):
        return self.loop.init_state()

    def step(self, x, u):
        x_next, out = self.loop.step(x, self.loop.plant.undisturbed()._replace(d=u))
        return x_next, out.y


def test_no_disturbance_passes_the_bound(plant, pid):
    q = network()
    bound = youla_gain(plant, pid, rc.certify(q, prove=False).gamma)
    assert bound.certified and "every two disturbances" in bound.statement
    loop = Feedback(plant, Alongside(pid, plant, q.explicit()))
    found = rc.certificates.gain_lower_bound(Seen(loop), 2, key=jr.key(1), horizon=80, steps=150, starts=3)
    assert bound.norms[0] < found.value <= bound.gain


def test_the_maps_are_those_of_the_loop_without_q(plant, pid):
    bound = youla_gain(plant, pid, 1.0)
    alone = linearize(feedback(plant, pid))  # [d, u alone] -> [y, u]
    norm = hinf_norm(alone[:1, :2])
    np.testing.assert_allclose([bound.norms[0], bound.norms[2]], norm, rtol=1e-6)
    np.testing.assert_allclose(
        bound.norms[1], hinf_norm(alone[:1, 1:2]), rtol=1e-6
    )  # B is the second column of Bd
    assert bound.gain == pytest.approx(norm + bound.norms[1] * norm)


def certified(loop):
    """What the report says of a loop's gain, without the rest of it."""

    def performance(x, u):
        return loop.plant.output(loop.plant.state_at(x), loop.plant.undisturbed())

    return certified_gain(loop, linear_loop(loop, performance, np.zeros(0)), performance)


def test_the_report_knows_the_bound(plant, pid):
    q = network()
    alone = certified(feedback(plant, pid))
    both = certified(feedback(plant, Alongside(pid, plant, q.explicit())))
    assert alone.gain == pytest.approx(youla_gain(plant, pid, 0.0).gain)
    assert both.gain == pytest.approx(youla_gain(plant, pid, 30.0).gain, rel=1e-5)


def test_what_is_not_linear_has_no_certified_gain(plant):
    limited = PID(8.0, 2.0, 4.0, dt=DT, low=-5.0, high=5.0)
    found = certified(feedback(plant, Alongside(limited, plant, network().explicit())))
    assert found.gain is None and "is not known to be linear" in found.statement
    assert certified(feedback(plant, limited)).gain is None
    assert not youla_gain(plant, limited, 1.0).certified


def test_a_wrong_model_is_told(plant, pid):
    heavier = Sampled(LinearPlant([[0.0, 1.0], [2.0, -0.3]], [[0.0], [0.8]], [[1.0, 0.0]], Bd=np.eye(2)), DT)
    found = certified(feedback(plant, Alongside(pid, heavier, network().explicit())))
    assert found.gain is None and "must not depend on Q's output" in found.statement


def test_a_scenario_takes_any_controller_for_its_base(plant, pid):
    noisy = dataclasses.replace(plant, imperfections=Imperfections(noise=0.1, delay=1))
    scenario = PlantScenario(Task(noisy.plant), noisy, pid)
    loop = scenario.loop(network().explicit(), noisy.plant)
    assert isinstance(loop.policy, Alongside)
    assert (
        loop.policy.model.imperfections == noiseless(noisy).imperfections
        and loop.plant.imperfections.noise == 0.1
    )
    episode = scenario.draw(jr.key(0), 30)
    run = rc.rollout(loop, episode.ws, scenario.initial(loop, episode.x0))
    assert np.isfinite(run.ys.y).all()


def test_a_fault_in_the_plant_is_not_in_the_twin(plant, pid):
    slow = dataclasses.replace(plant, imperfections=Imperfections(delay=2))
    scenario = PlantScenario(Task(plant.plant), plant, pid)
    changed = dataclasses.replace(scenario, sampled=slow)
    loop = changed.loop(network().explicit(), plant.plant)
    assert loop.plant.imperfections.delay == 2 and loop.policy.model.imperfections.delay == 0
    told = dataclasses.replace(changed, model=slow).loop(network().explicit(), plant.plant)
    assert told.policy.model.imperfections.delay == 2


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(model=Imperfections(noise=0.1)), "the twin's model must be without noise"),
        (dict(model=Imperfections(jitter=0.1)), "the twin's model must be without noise and jitter"),
        (
            dict(controller=PID(8.0, dt=0.2)),
            "controller must have the model's sample time of 0.1 s, got 0.2 s",
        ),
        (
            dict(q=rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], 0.05)),
            "q must have the model's sample time",
        ),
        (dict(controller=PID([8.0, 8.0], dt=DT)), "the controller must take 1 signals"),
        (dict(controller=Gain(jnp.ones((2, 1)), jnp.zeros(1), jnp.zeros(2))), "give 1 controls, got .*2"),
        (dict(q=network(nu=2).explicit()), "q must take 1 signals"),
        (dict(q=network(ny=2).explicit()), "q must take 1 signals.*got controls of shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(plant, pid, change, message):
    parts = {"controller": pid, "model": plant, "q": SILENT} | change
    if isinstance(parts["model"], Imperfections):
        parts["model"] = dataclasses.replace(plant, imperfections=parts["model"])
    with pytest.raises(RobustctlError, match=message):
        rc.rollout(Alongside(**parts), jnp.zeros((3, 1)))


def test_a_plant_with_fewer_outputs_than_the_twin_is_refused(pid):
    two = Sampled(LinearPlant([[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.0]], np.eye(2)), DT)
    with pytest.raises(RobustctlError, match="must have the 2 outputs of the twin's model, got 1"):
        rc.rollout(Alongside(pid, two, SILENT), jnp.zeros((3, 1)))
