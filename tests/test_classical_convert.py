"""To and from python-control: exact both ways, nonlinear systems, linearization, equilibria."""

import subprocess
import sys
from typing import ClassVar

import control as ct
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import Array

import robustctl as rc
from robustctl import classical
from robustctl.errors import RobustctlError
from robustctl.loops import Feedback, Gain
from robustctl.plants import Imperfections, Plant, Sampled, Signal, parameter

SHAPES = [(0, 2, 3), (1, 1, 1), (2, 1, 3), (3, 2, 2), (4, 3, 1), (6, 2, 5)]  # nx, nu, ny


class Pendulum(Plant):
    """A damped pendulum with a torque and a push."""

    length: Array = parameter(0.5, "m")
    damping: Array = parameter(0.3, "1/s")
    states: ClassVar = (Signal("angle", "rad"), Signal("speed", "rad/s"))
    controls: ClassVar = (Signal("torque", "1/s^2", -20, 20),)
    disturbances: ClassVar = (Signal("push", "1/s^2"),)
    outputs: ClassVar = (Signal("angle", "rad"),)

    def rates(self, x, u, d):
        pull = 9.81 / self.length * jnp.sin(x[:1])
        return jnp.concatenate([x[1:], pull - self.damping * x[1:] + u + d])


def random_system(nx, nu, ny, seed=0, dt=0.1):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(nx, nx))
    A = 0.9 * A / max(np.abs(np.linalg.eigvals(A)), default=1.0)
    names = {"inputs": [f"in {k}" for k in range(nu)], "outputs": [f"out {k}" for k in range(ny)]}
    B, C, D = rng.normal(size=(nx, nu)), rng.normal(size=(ny, nx)), rng.normal(size=(ny, nu))
    return ct.StateSpace(A, B, C, D, dt, states=[f"s{k}" for k in range(nx)], **names)


def equal(a, b):
    assert a.dt == b.dt
    for letter in "ABCD":
        np.testing.assert_array_equal(getattr(a, letter), getattr(b, letter))
    for kind in ("input_labels", "output_labels", "state_labels"):
        assert getattr(a, kind) == getattr(b, kind)


def response(system, frequencies=(0.0, 0.4, 2.0)):
    z = np.exp(1j * np.asarray(frequencies)) if system.dt else 1j * np.asarray(frequencies)
    return np.stack([np.atleast_2d(system(s)) for s in z])


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_is_exact(shape):
    there = classical.from_control(
        random_system(*shape), input_units=["V"] * shape[1], output_units=["m"] * shape[2]
    )
    assert (there.input_units, there.output_units) == (("V",) * shape[1], ("m",) * shape[2])
    equal(classical.to_control(there), random_system(*shape))
    again = classical.from_control(classical.to_control(there))
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(again), strict=True)
    )


def test_continuous_systems_become_plants_and_come_back():
    system = random_system(3, 2, 2)
    system = ct.ss(system.A - np.eye(3), system.B, system.C, 0 * system.D, 0, inputs=["a", "b"])
    plant = classical.from_control(system, input_units=["V", "A"])
    assert [s.unit for s in plant.controls] == ["V", "A"]
    equal(classical.to_control(plant), system)
    sampled = classical.linear_model(Sampled(plant, 0.01, substeps=4)).system
    np.testing.assert_allclose(sampled.A, ct.c2d(system, 0.01).A, atol=1e-11)
    np.testing.assert_allclose(sampled.B, ct.c2d(system, 0.01).B, atol=1e-11)
    linearized = classical.linearize(plant)  # from controls and disturbances, which act where the controls do
    np.testing.assert_array_equal(linearized.B, np.hstack([system.B, system.B]))


@pytest.mark.parametrize("shape", SHAPES)
def test_responses_equal_python_controls(shape):
    system = random_system(*shape, seed=3)
    us = np.random.default_rng(1).normal(size=(60, shape[1]))
    theirs = ct.forced_response(system, inputs=us.T, squeeze=False).outputs.T
    ours = rc.rollout(classical.from_control(system), jnp.asarray(us)).ys
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("dt", [0.1, 0.0])
def test_transfer_functions_are_realised_exactly(dt):
    num = [[[1.0, 0.5], [2.0]], [[0.3], [1.0, 0.2]], [[0.0], [3.0]]]
    den = [[[1.0, -0.2, 0.1], [1.0, 0.4]], [[1.0, -0.2, 0.1], [2.0, 1.0, 0.3]], [[1.0], [1.0]]]
    tf = ct.TransferFunction(num, den, dt, inputs=["a", "b"], outputs=["c", "d", "e"])
    ss = classical.convert.realize(tf)
    assert (ss.input_labels, ss.output_labels, ss.dt, ss.nstates) == (["a", "b"], ["c", "d", "e"], dt, 5)
    np.testing.assert_allclose(response(ss), response(tf), rtol=1e-12)


def test_learned_linear_systems_go_over():
    system = rc.nn.StableLinear(nu=2, nx=3, ny=1, rate=0.9, key=jr.key(0)).explicit()
    there = classical.to_control(system, dt=0.05)
    us = jr.normal(jr.key(1), (40, 2))
    theirs = ct.forced_response(there, inputs=np.asarray(us).T, squeeze=False).outputs.T
    np.testing.assert_allclose(rc.rollout(system, us).ys, theirs, atol=1e-12)


@pytest.mark.parametrize("discrete", [False, True])
def test_norms_of_what_was_brought_over_and_matlabs(discrete):
    # the system and its norms by MATLAB: python-control, control/tests/sysnorm_test.py
    A = [
        [-1.017041847539126, -0.224182952826418, 0.042538079149249],
        [-0.310374015319095, -0.516461581407780, -0.119195790221750],
        [-1.452723568727942, 1.7995860837102088, -1.491935830615152],
    ]
    B = [
        [0.312858596637428, -0.164879019209038],
        [-0.864879917324456, 0.627707287528727],
        [-0.030051296196269, 1.093265669039484],
    ]
    C = [
        [1.109273297614398, 0.077359091130425, -1.113500741486764],
        [-0.863652821988714, -1.214117043615409, -0.006849328103348],
    ]
    system = ct.ss(A, B, C, np.zeros((2, 2)))
    hinf, h2 = 4.276759162964244, 2.237461821810309
    if discrete:
        system, h2 = ct.sample_system(system, 0.1), 0.707434962289554
        there = classical.from_control(ct.ss(system.A, system.B, system.C, system.D, 0.1))
    else:
        there = classical.from_control(system)
    back = classical.to_control(there)
    assert abs(ct.system_norm(back, "inf", tol=1e-10) - hinf) < 1e-8
    assert abs(ct.system_norm(back, 2) - h2) < 1e-12
    assert ct.system_norm(back, "inf") == ct.system_norm(system, "inf")


AUTONOMOUS = rc.StateSpace(np.diag([0.5, 0.9]), np.zeros((2, 0)), np.ones((1, 2)), np.zeros((1, 0)), 0.1)


def test_a_system_without_inputs_steps_and_is_certified():
    ys = rc.rollout(AUTONOMOUS, jnp.zeros((5, 0)), jnp.array([1.0, 2.0])).ys[:, 0]
    np.testing.assert_allclose(ys, 0.5 ** np.arange(5) + 2 * 0.9 ** np.arange(5))
    assert rc.certify(AUTONOMOUS).holds


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: classical.from_control(ct.ss(1, 1, 1, 0, True)), "dt must be a number, got True"),
        (lambda: classical.from_control(ct.ss(1, 1, 1, 0, None)), "dt must be a number, got None"),
        (lambda: classical.from_control(ct.ss(-1, 1, 1, 2)), "must have D = 0"),
        (lambda: classical.from_control(ct.tf([1, 0, 0], [1, 1], 0.1)), "degree 2 over 1 from input 0 to output 0"),
        (lambda: classical.from_control(ct.ss(-1, 1, 1, 0), input_units=["V", "A"]), "input_units must be 1 units"),
        (lambda: classical.from_control(np.eye(2)), "control.StateSpace or control.TransferFunction, got ndarray"),
        (lambda: classical.to_control(rc.nn.StableLinear(nu=1, nx=1, ny=1, key=jr.key(0)).explicit()), "give dt in seconds"),
        (lambda: classical.to_control(rc.StateSpace(0, 1, 1, 0, 0.1), dt=0.2), "0.1 s, got 0.2 s"),
        (lambda: classical.to_control(Pendulum()), "linearize"),
        (lambda: classical.to_nonlinear_io(Unsized(), dt=0.1), "input's width must be known"),
        (lambda: classical.to_nonlinear_io(small_r2dn(), inputs=1), "give dt in seconds"),
        (lambda: classical.to_nonlinear_io(Pendulum(), inputs=["a"]), "2 different names of inputs"),
        (lambda: classical.linearize(Pendulum(), x0=np.zeros(3)), "x0 must have 2 entries, got 3"),
        (lambda: classical.to_control(AUTONOMOUS), "at least one input for python-control, got none"),
        (lambda: classical.linearize(AUTONOMOUS), "at least one input for python-control, got none"),
        (lambda: classical.linearize(3.0), "System or Plant of robustctl, got float"),
        (lambda: classical.linearize_along(Pendulum(), np.zeros((5, 2))), "Sampled"),
    ],
)  # fmt: skip
def test_what_cannot_be_brought_over_is_refused(make, said):
    with pytest.raises(RobustctlError, match=said):
        make()


class Unsized(rc.System):
    """A system that does not say how many inputs it has."""

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return 0.5 * x + u, x


def test_a_fitted_model_is_linearized_with_its_own_sample_time_and_names():
    model = rc.nn.StableLinear(nu=1, nx=2, ny=1, rate=0.9, key=jr.key(0))
    scaling = rc.data.Scaling(np.ones(1), np.full(1, 2.0), np.ones(1), np.full(1, 3.0))
    fitted = rc.train.FittedModel(
        model, rc.train.ZeroState(), scaling, 0.5, ("flow",), ("level",), ("l/s",), ("m",)
    )
    found, s = classical.linearize(fitted), model.explicit()
    assert (found.dt, found.input_labels, found.output_labels) == (0.5, ["flow"], ["level"])
    np.testing.assert_allclose(found.B, np.asarray(s.B) / 2, rtol=1e-12)
    np.testing.assert_allclose(found.C, np.asarray(s.C) * 3, rtol=1e-12)


def small_r2dn():
    return rc.nn.ContractingR2DN(nu=1, nx=3, nv=4, ny=2, hidden=(4,), rate=0.9, key=jr.key(0)).explicit()


@pytest.mark.parametrize("kind", ["R2DN", "LSTM"])
def test_learned_systems_in_python_control(kind):
    system = small_r2dn() if kind == "R2DN" else rc.nn.LSTM(nu=1, nx=3, ny=2, key=jr.key(0)).explicit()
    there = classical.to_nonlinear_io(system, dt=0.1, inputs=["v"], outputs=["a", "b"])
    us = np.random.default_rng(0).normal(size=(50, 1))
    theirs = ct.input_output_response(there, np.arange(50) * 0.1, us.T, squeeze=False).outputs.T
    np.testing.assert_allclose(rc.rollout(system, jnp.asarray(us)).ys, theirs, atol=1e-9)
    assert (there.input_labels, there.output_labels) == (["v"], ["a", "b"])


def test_interconnect_a_learned_controller_with_a_sampled_plant():
    sampled = Sampled(Pendulum(), 0.02)
    policy = rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, hidden=(3,), rate=0.9, key=jr.key(3)).explicit()
    plant = classical.to_nonlinear_io(sampled, name="plant")
    controller = classical.to_nonlinear_io(
        policy, dt=0.02, inputs=["angle"], outputs=["torque"], name="controller"
    )
    loop = ct.interconnect([plant, controller], inputs=["push"], outputs=["angle", "torque"])
    push = np.random.default_rng(0).normal(size=(40, 1))
    theirs = ct.input_output_response(loop, np.arange(40) * 0.02, push.T, squeeze=False).outputs.T
    ours = classical.to_nonlinear_io(Feedback(sampled, policy))
    direct = ct.input_output_response(ours, np.arange(40) * 0.02, push.T, squeeze=False).outputs.T
    np.testing.assert_allclose(theirs, direct, atol=1e-9)


def test_continuous_plants_and_operating_points():
    there = classical.to_nonlinear_io(Pendulum())
    assert (there.dt, there.input_labels, there.state_labels) == (0, ["torque", "push"], ["angle", "speed"])
    found = ct.find_operating_point(there, [0.3, 0.0], [-5.0, 0.0], y0=[0.4], iu=[1], iy=[0])
    np.testing.assert_allclose(found.inputs[0], -9.81 / 0.5 * np.sin(0.4), rtol=1e-6)
    theirs = ct.linearize(there, [0.4, 0.0], [0.0, 0.0])
    ours = classical.linearize(Pendulum(), [0.4, 0.0])
    np.testing.assert_allclose(theirs.A, ours.A, atol=1e-5)
    np.testing.assert_allclose(ours.A, [[0, 1], [9.81 / 0.5 * np.cos(0.4), -0.3]], rtol=1e-14)


def test_linearisation_of_a_linear_system_is_itself():
    system = random_system(4, 2, 3)
    equal(classical.linearize(classical.from_control(system)), system)


@pytest.mark.parametrize(
    "imperfections", [Imperfections(), Imperfections(delay=2), Imperfections(delay=1, rate_limit=50.0)]
)
def test_a_loop_is_linearised_with_its_delay(imperfections):
    sampled, gain = Sampled(Pendulum(), 0.02, imperfections), jnp.asarray([[-40.0]])
    loop = Feedback(sampled, Gain(gain, jnp.zeros(1), jnp.zeros(1)))
    closed = classical.linearize(loop)
    plant = classical.linearize(sampled)
    assert plant.nstates == 2 + imperfections.delay + (imperfections.rate_limit is not None)
    expected = plant.A + plant.B[:, :1] @ np.asarray(gain) @ plant.C
    np.testing.assert_allclose(closed.A, expected, atol=1e-14)
    assert (closed.input_labels, closed.output_labels, closed.dt) == (["push"], ["angle", "torque"], 0.02)


def test_along_a_trajectory_each_point_is_its_own_linearization():
    sampled = Sampled(Pendulum(), 0.02)
    us = np.random.default_rng(0).normal(size=(12, 2))
    along = classical.linearize_along(sampled, us, [0.3, 0.0])
    one = classical.linearize(sampled, along.xs[7], us[7])
    for letter in "ABCD":
        np.testing.assert_allclose(getattr(along, letter)[7], getattr(one, letter), atol=1e-14)


def test_equilibria_and_where_there_are_none():
    torque = -9.81 / 0.5 * np.sin(0.4)
    found = classical.equilibrium(Pendulum(), [torque, 0.0], [0.3, 0.1])
    np.testing.assert_allclose(found.x, [0.4, 0.0], atol=1e-12)
    sampled = classical.equilibrium(Sampled(Pendulum(), 0.02), [torque, 0.0], [0.3, 0.1])
    np.testing.assert_allclose(sampled.x.x, [0.4, 0.0], atol=1e-12)
    stays = classical.equilibrium(small_r2dn(), jnp.ones(1))
    np.testing.assert_allclose(small_r2dn().step(stays.x, jnp.ones(1))[0], stays.x, atol=1e-12)
    with pytest.raises(RobustctlError, match="there must be an equilibrium"):
        classical.equilibrium(Pendulum(), [30.0, 0.0])


def test_float64_where_the_user_has_32_bits():
    code = """
import jax.numpy as jnp, numpy as np, control as ct, jax.random as jr, warnings
import robustctl as rc
from robustctl import classical
system = rc.nn.ContractingR2DN(nu=1, nx=3, nv=4, ny=2, hidden=(4,), rate=0.9, key=jr.key(0)).explicit()
there = classical.to_nonlinear_io(system, dt=0.1, inputs=1)
x, u = np.array([0.1, -0.2, 0.3]), np.array([0.5])
assert there.updfcn(0, x, u, {}).dtype == np.float64
theirs, ours = ct.linearize(there, x, u), classical.linearize(system, x, u, dt=0.1)
for a, b in ((theirs.A, ours.A), (theirs.B, ours.B), (theirs.C, ours.C)):
    assert abs(a - b).max() < 1e-6, abs(a - b).max()
assert jnp.zeros(1).dtype == jnp.float32
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    brought = classical.from_control(ct.ss(1 / 3, 1.0, 1.0, 0.0, 0.1))
assert [str(w.message)[:24] for w in caught] == ["A is rounded to 32 bits "], [str(w.message) for w in caught]
assert brought.A.dtype == jnp.float32
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
