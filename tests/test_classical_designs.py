"""Designs against python-control, published examples, and what theory says of the loops they close."""

from typing import ClassVar

import control as ct
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

import robustctl as rc
from robustctl import classical
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.loops import Feedback, Youla, feedback, internal_model
from robustctl.plants import Imperfections, LinearPlant, Plant, Sampled, Signal, undisturbed

from .responses import largest_gain
from .test_classical_convert import Pendulum, random_system

# SLICOT documentation: SB10FD (D), SB10HD (D_H2) in continuous, SB10DD and SB10ED in discrete time
CONTINUOUS = """
 -1 0 4 5 -3 -2  -2 4 -7 -2 0 3  -6 9 -5 0 2 -1  -8 4 7 -1 -3 0  2 5 8 -9 1 -4  3 -5 8 0 2 -6
 -3 -4 -2 1 0  2 0 1 -5 2  -5 -7 0 7 -2  4 -6 1 1 -2  -3 9 -8 0 5  1 -2 3 -6 -2
 1 -1 2 -4 0 -3  -3 0 5 -1 1 1  -7 5 0 -8 2 -2  9 -3 4 0 3 7  0 1 -2 1 -6 -2
"""
D_HINF = "1 -2 -3 0 0  0 4 0 1 0  5 -3 -4 0 1  0 1 0 1 -3  0 0 1 7 1"
D_H2 = "0 0 0 -4 -1  0 0 0 1 0  0 0 0 0 1  3 1 0 1 -3  -2 0 1 7 1"
DISCRETE = """
 -0.7 0 0.3 0 -0.5 -0.1  -0.6 0.2 -0.4 -0.3 0 0  -0.5 0.7 -0.1 0 0 -0.8  -0.7 0 0 -0.5 -1 0
 0 0.3 0.6 -0.9 0.1 -0.4  0.5 -0.8 0 0 0.2 -0.9
 -1 -2 -2 1 0  1 0 1 -2 1  -3 -4 0 2 -2  1 -2 1 0 -1  0 1 -2 0 3  1 0 3 -1 -2
 1 -1 2 -2 0 -3  -3 0 1 -1 1 0  0 2 0 -4 0 -2  1 -3 0 0 3 1  0 1 -2 1 0 -2
"""
D_DISCRETE = "1 -1 -2 0 0  0 1 0 1 0  2 -1 -3 0 1  0 1 0 1 -1  0 0 1 2 1"


def numbers(text, *shape):
    return np.array(text.split(), float).reshape(shape)


def slicot_plant(matrices, D, dt):
    M = numbers(matrices + D, 36 + 30 + 30 + 25)
    parts = np.split(M, [36, 66, 96])
    return ct.ss(*(p.reshape(s) for p, s in zip(parts, [(6, 6), (6, 5), (5, 6), (5, 5)], strict=True)), dt)


def peak(system, count=4000):
    """Largest singular value of the frequency response on a fine grid."""
    w = np.linspace(0, np.pi, count) if system.dt else np.append(0, np.geomspace(1e-4, 1e4, count))
    return largest_gain(system, np.exp(1j * w) if system.dt else 1j * w)


class Line(Plant):
    """x' = A x + B u + d, one output."""

    A: jax.Array
    B: jax.Array
    states: ClassVar = (Signal("position", "m"), Signal("velocity", "m/s"))
    controls: ClassVar = (Signal("force", "N", -1.0, 1.0),)
    disturbances: ClassVar = (Signal("load", "N"),)
    outputs: ClassVar = (Signal("position", "m"),)

    def rates(self, x, u, d):
        return self.A @ x + self.B @ (u + d)


def cart(**imperfections):
    return Sampled(
        Line(jnp.asarray([[0.0, 1.0], [0.0, -0.2]]), jnp.asarray([[0.0], [1.0]])),
        0.1,
        Imperfections(**imperfections),
    )


def run(sampled, controller, x0, samples, d=None, r=None):
    """Return physical states, outputs and controls of a loop."""
    w = undisturbed(sampled, samples, 0 if r is None else r.shape[1])
    w = w if d is None else w._replace(d=jnp.asarray(d))
    w = w if r is None else w._replace(r=jnp.asarray(r))
    loop = feedback(sampled, controller, sampled.undisturbed(0 if r is None else r.shape[1]))
    start = sampled.state_at(jnp.asarray(x0)), controller.init_state()
    out = rc.rollout(loop, w, start).ys
    return out.x.x, out.y, out.u


class Full(Line):
    """The same with both states measured."""

    outputs: ClassVar = (Signal("position", "m"), Signal("velocity", "m/s"))


def full(sampled):
    return Sampled(Full(sampled.plant.A, sampled.plant.B), sampled.dt, sampled.imperfections)


# ---- regulators and filters; poles as the polynomial of these roots, since rounding decides in which order a pair comes


@pytest.mark.parametrize("dt", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 2), (4, 3, 2)])
def test_lqr_and_kalman_equal_python_control(shape, dt):
    sys = random_system(*shape, dt=0.1)
    plant = ct.ss(sys.A * 1.3, sys.B, sys.C, 0 * sys.D, dt)
    nx, nu, ny = shape
    rng = np.random.default_rng(0)
    Q, R, W, V = (M @ M.T + 0.1 * np.eye(len(M)) for M in (rng.normal(size=(n, n)) for n in (nx, nu, nx, ny)))
    # An installed Slycot would return the reference's poles in single precision.
    ours, theirs = classical.lqr(plant, Q, R), (ct.dlqr if dt else ct.lqr)(plant, Q, R, method="scipy")
    for a, b in zip((ours.K, ours.S, np.poly(ours.E)), (*theirs[:2], np.poly(theirs[2])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    filtered = classical.kalman(plant, W, V)
    theirs = (ct.dlqe if dt else ct.lqe)(
        plant.A, np.eye(nx), plant.C, W, V, method="scipy"
    )  # fmt: skip
    np.testing.assert_allclose(filtered.L, theirs[0], rtol=1e-9)
    np.testing.assert_allclose(filtered.P, theirs[1], rtol=1e-9)


def test_riccati_solutions_of_the_slicot_documentation():
    double = ct.ss([[0, 1], [0, 0]], [[0], [1]], np.eye(2), np.zeros((2, 1)))
    np.testing.assert_allclose(classical.lqr(double, [1, 2], 1).S, [[2, 1], [1, 2]], atol=1e-12)  # SB02MD
    np.testing.assert_allclose(
        classical.lqr(double, [1, 1], 1).S, [[1.7321, 1], [1, 1.7321]], atol=5e-5
    )  # SB02OD


def test_lqr_cost_is_the_riccati_solutions():
    sampled, x0 = full(cart()), np.array([1.0, 0.5])
    design = classical.lqr(sampled, [1, 0.1], 0.3)
    xs, _, us = run(sampled, design.controller, x0, 400)
    cost = np.sum(xs**2 @ np.array([1, 0.1])) + 0.3 * np.sum(us**2)
    np.testing.assert_allclose(cost, x0 @ design.S @ x0, rtol=1e-8)


def test_integral_action_leaves_no_error():
    d, r = np.full((400, 1), 0.3), np.full((400, 1), 2.0)
    model = classical.lqg(cart(), [1, 0.1, 0.02], 0.3, [1e-3, 1e-2], 1e-3, integral=True)
    xs, _, _ = run(cart(), model.controller, [0.0, 0.0], 400, d, r)
    np.testing.assert_allclose(xs[-1], [2, 0], atol=1e-4)
    without = classical.lqg(cart(), [1, 0.1], 0.3, [1e-3, 1e-2], 1e-3)
    assert abs(run(cart(), without.controller, [0.0, 0.0], 400, d)[0][-1, 0]) > 0.1
    state = classical.lqr(full(cart()), [1, 0.1, 0.02], 0.3, integral=[[1.0, 0.0]])
    np.testing.assert_allclose(
        run(full(cart()), state.controller, [1.0, 0.0], 400, d)[0][-1], [0, 0], atol=1e-4
    )


@pytest.mark.parametrize("integral", [None, True])
def test_continuous_lqg_is_implemented_at_its_sample_time(integral):
    plant = cart().plant
    Q = [1, 0.1] if integral is None else [1, 0.1, 0.02]
    design = classical.lqg(plant, Q, 0.3, [1e-3, 1e-2], 1e-3, integral=integral, dt=0.005)
    sampled = Sampled(plant, 0.005)
    xs, _, _ = run(sampled, design.controller, [1.0, 0.0], 6000)
    np.testing.assert_allclose(xs[-1], [0, 0], atol=1e-3)
    poles = np.log(classical.closed_loop_poles(sampled, design.controller)) / 0.005
    estimator = np.linalg.eigvals(plant.A - design.L @ np.array([[1.0, 0.0]]))
    expected = np.append(design.E, estimator)
    assert max(min(abs(p - q) for q in poles) for p in expected) < 0.05


def test_discrete_lqg_is_the_h2_controller():
    sampled = cart()
    A, B = (
        np.asarray(M)
        for M in (classical.linear_model(sampled).system.A, classical.linear_model(sampled).system.B)
    )
    design = classical.lqg(sampled, [1, 0.1], 0.3, [1e-3, 1e-2], 1e-3)
    B1, C1 = (
        np.hstack([np.diag(np.sqrt([1e-3, 1e-2])), np.zeros((2, 1))]),
        np.vstack([np.diag(np.sqrt([1, 0.1])), np.zeros((1, 2))]),
    )
    D12, D21 = np.array([[0], [0], [np.sqrt(0.3)]]), np.array([[0, 0, np.sqrt(1e-3)]])
    P = ct.ss(
        A, np.hstack([B1, B]), np.vstack([C1, [[1, 0]]]), np.block([[np.zeros((3, 3)), D12], [D21, 0]]), 0.1
    )
    h2 = classical.h2(P, 1, 1)
    ys = jr.normal(jr.key(0), (50, 1))
    np.testing.assert_allclose(
        rc.rollout(h2.controller, ys).ys, rc.rollout(design.controller, ys).ys, atol=1e-9
    )


def test_separation_of_poles():
    sampled = cart()
    design = classical.lqg(sampled, [1, 0.1], 0.3, [1e-3, 1e-2], 1e-3)
    poles = classical.closed_loop_poles(sampled, design.controller)
    A = classical.linear_model(sampled).system.A
    expected = np.append(design.E, np.linalg.eigvals(A - design.L @ np.array([[1.0, 0.0]])))
    np.testing.assert_allclose(np.poly(poles), np.poly(expected), atol=1e-9)


def test_pole_placement_places():
    sampled = cart()
    design = classical.pole_placement(sampled, [0.8, 0.7], [0.3 + 0.1j, 0.3 - 0.1j])
    poles = classical.closed_loop_poles(sampled, design.controller)
    np.testing.assert_allclose(np.poly(poles), np.poly([0.3 - 0.1j, 0.3 + 0.1j, 0.7, 0.8]), atol=1e-8)
    np.testing.assert_allclose(
        np.sort(classical.pole_placement(sampled, [0.8, 0.7]).E), [0.7, 0.8], atol=1e-10
    )


FILTERS = pytest.mark.parametrize("design", [classical.extended_kalman, classical.unscented_kalman])


@FILTERS
def test_nonlinear_filters_are_the_kalman_filter_on_a_linear_plant(design):
    sampled, W, V = cart(), np.diag([1e-3, 1e-2]), 1e-2
    linear = classical.kalman(sampled, W, V)
    extended = design(sampled, W, V, P0=linear.P)
    us, ys = jr.normal(jr.key(0), (60, 1)), jr.normal(jr.key(1), (60, 1))
    theirs, ours = (rc.rollout(f, (us, ys)) for f in (linear.estimator, extended))
    np.testing.assert_allclose(ours.ys, theirs.ys, atol=1e-10)
    np.testing.assert_allclose(ours.x_final.P, linear.P, atol=1e-10)


@FILTERS
def test_nonlinear_filters_go_on_where_nothing_is_measured(design):
    sampled, W, V = cart(), np.diag([1e-3, 1e-2]), 1e-2
    extended = design(sampled, W, V)
    before, u = extended.init_state(), jnp.asarray([0.3])
    after = extended.advance(before, u, jnp.asarray([jnp.nan]))
    A = classical.linear_model(sampled).system.A
    np.testing.assert_allclose(after.P, A @ before.P @ A.T + W, atol=1e-12)
    np.testing.assert_allclose(extended.output(after, jnp.asarray([jnp.inf])), after.plant.x, atol=1e-12)


@FILTERS
def test_a_missing_channel_leaves_what_the_other_one_says(design):
    A, B = [[0.0, 1.0], [-2.0, -0.3]], [[0.0], [1.0]]
    both, one = (Sampled(LinearPlant(A, B, C), 0.1) for C in (np.eye(2), [[1.0, 0.0]]))
    W, P0 = [1e-3, 1e-2], [[0.3, 0.1], [0.1, 0.5]]
    pair, single = design(both, W, [0.1, 0.2], P0=P0), design(one, W, [0.1], P0=P0)
    u = jnp.asarray([0.3])
    theirs = single.advance(single.init_state(), u, jnp.asarray([0.7]))
    ours = pair.advance(pair.init_state(), u, jnp.asarray([0.7, jnp.nan]))
    np.testing.assert_allclose(ours.plant.x, theirs.plant.x, atol=1e-12)
    np.testing.assert_allclose(ours.P, theirs.P, atol=1e-12)


@FILTERS
def test_nonlinear_filters_follow_a_nonlinear_plant_and_stabilise_it(design):
    sampled = Sampled(Pendulum(), 0.02, Imperfections(noise=0.01, delay=1))
    estimator = design(sampled, [1e-6, 1e-4], 1e-4, P0=[0.1, 0.1])
    K = classical.lqr(Sampled(Pendulum(), 0.02), [10, 1], 0.1).controller
    controller = classical.EstimateFeedback(estimator, K)
    noise = jr.normal(jr.key(0), (400, 1))
    w = undisturbed(sampled, 400)._replace(noise=noise)
    start = sampled.state_at(jnp.asarray([0.4, 0.0])), controller.init_state()
    out = rc.rollout(feedback(sampled, controller), w, start)
    assert np.abs(out.ys.x.x[-50:, 0]).max() < 0.03
    error = np.asarray(out.xs[1][0].plant.x - out.ys.x.x)[-200:]
    assert np.sqrt(np.mean(error[:, 0] ** 2)) < 0.006  # the sensor's own noise is 0.01


# ---- synthesis


def test_hinf_meets_the_slicot_example_sb10fd():
    P = slicot_plant(CONTINUOUS, D_HINF, 0)
    design = classical.hinf(P, 2, 2, gamma=15.0)
    A = numbers(
        """-2.8043 14.7367 4.6658 8.1596 0.0848 2.5290  4.6609 3.2756 -3.5754 -2.8941 0.2393 8.2920
        -15.3127 23.5592 -7.1229 2.7599 5.9775 -2.0285  -22.0691 16.4758 12.5523 -16.3602 4.4300 -3.3168
        30.6789 -3.9026 -1.3868 26.2357 -8.8267 10.4860  -5.7429 0.0577 10.8216 -11.2275 1.5074 -10.7244""",
        6, 6,
    )  # fmt: skip
    B = numbers(
        "-0.1581 -0.0793 -0.9237 -0.5718 0.7984 0.6627 0.1145 0.1496 -0.6743 -0.2376 0.0196 -0.7598", 6, 2
    )
    C = numbers(
        "-0.2480 -0.1713 -0.0880 0.1534 0.5016 -0.0730 2.8810 -0.3658 1.3007 0.3945 1.2244 2.5690", 2, 6
    )
    published = ct.ss(A, B, C, numbers("0.0554 0.1334 -0.3195 0.0333", 2, 2))
    for w in (0.0, 1.0, 5.0, 30.0, 1e3):
        np.testing.assert_allclose(design.K(1j * w), published(1j * w), rtol=5e-3, atol=5e-4)
    real = [
        -107.31,
        -66.556,
        -38.269,
        -38.269,
        -20.089,
        -7.6437,
        -6.2557,
        -6.2557,
        -4.1466,
        -3.2405,
        -3.2405,
        -1.7178,
    ]
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(design.CL.A).real), real, rtol=5e-5)
    assert peak(design.CL) <= 15


def test_hinf_bisection_reaches_the_published_optima():
    continuous = classical.hinf(slicot_plant(CONTINUOUS, D_HINF, 0), 2, 2, rtol=1e-6)
    assert (
        abs(continuous.gamma / 10.18425636157899 - 1) < 1e-5
    )  # NICONET report 1999-12, as used in Scilab's hinf
    discrete = classical.hinf(slicot_plant(DISCRETE, D_DISCRETE, 1.0), 2, 2, rtol=1e-6)
    assert abs(discrete.gamma / 111.294 - 1) < 1e-5  # SB10DD
    for gamma in (112, 150):
        design = classical.hinf(slicot_plant(DISCRETE, D_DISCRETE, 1.0), 2, 2, gamma=gamma)
        assert np.abs(np.linalg.eigvals(design.CL.A)).max() < 1
        assert 111 < peak(design.CL) <= gamma


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dt", [0.0, 0.5])
def test_hinf_holds_its_bound_and_is_tight(seed, dt):
    rng = np.random.default_rng(seed)
    nx, m, p, nu, ny = 4, 3, 3, 1 + seed % 2, 1 + seed // 2
    A = rng.normal(size=(nx, nx)) * (0.6 if dt else 1.0)
    D = rng.normal(size=(p + ny, m + nu))
    P = ct.ss(A, rng.normal(size=(nx, m + nu)), rng.normal(size=(p + ny, nx)), D, dt)
    design = classical.hinf(P, ny, nu)
    poles = np.linalg.eigvals(design.CL.A)
    assert (np.abs(poles) < 1).all() if dt else (poles.real < 0).all()
    assert peak(design.CL) <= design.gamma * (1 + 1e-6)
    with pytest.raises(InvalidModelError, match="above the smallest"):
        classical.hinf(P, ny, nu, gamma=design.gamma * 0.998)


def test_hinf_equals_slycot():
    pytest.importorskip("slycot")
    P = slicot_plant(CONTINUOUS, D_HINF, 0)
    assert abs(classical.hinf(P, 2, 2, rtol=1e-6).gamma / ct.hinfsyn(P, 2, 2)[2] - 1) < 1e-3


def test_h2_equals_the_slicot_examples():
    design = classical.h2(slicot_plant(CONTINUOUS, D_H2, 0), 2, 2)
    AK = [88.0015, -145.7298, -46.2424, 82.2168, -45.2996, -31.1407]  # SB10HD
    np.testing.assert_allclose(design.K.A[0], AK, atol=6e-5)
    np.testing.assert_allclose(
        design.K.B[:, 0], [3.7345, -0.3020, 3.4735, 4.3198, -3.9424, 2.1784], atol=6e-5
    )
    np.testing.assert_allclose(design.K.C[1], [7.6899, -8.4558, -2.9642, 7.0365, -4.2844, 0.1390], atol=6e-5)
    design = classical.h2(slicot_plant(DISCRETE, D_DISCRETE, 1.0), 2, 2)  # SB10ED
    np.testing.assert_allclose(
        design.K.A[0], [-0.0551, -2.1891, -0.6607, -0.2532, 0.6674, -1.0044], atol=6e-5
    )
    np.testing.assert_allclose(design.K.D, [[-0.2181, -0.2070], [0.1094, 0.1159]], atol=6e-5)
    p = ct.ss(-1, [[1, 1]], [[1], [1]], [[0, 1], [1, 0]])  # Octave's h2syn, in python-control's tests
    K = classical.h2(p, 1, 1).K
    np.testing.assert_allclose([K.A, K.B, K.C, K.D], np.reshape([-3, 1, -1, 0], (4, 1, 1)), atol=1e-12)


def test_h2_is_optimal_among_its_neighbors():
    P = slicot_plant(DISCRETE, D_DISCRETE, 1.0)
    best = classical.h2(P, 2, 2)
    rng = np.random.default_rng(0)
    for _ in range(5):
        K = best.K
        other = ct.ss(
            K.A, K.B, K.C + 1e-3 * rng.normal(size=K.C.shape), K.D + 1e-3 * rng.normal(size=K.D.shape), 1.0
        )
        assert ct.system_norm(classical.closed_loop(P, other), 2) > best.norm


def test_mixed_sensitivity_shapes_the_loop():
    # Skogestad and Postlethwaite, "Multivariable Feedback Control", 2005, example 2.17: their gamma is 1.37
    G = ct.tf([200], np.polymul([10, 1], np.polymul([0.05, 1], [0.05, 1])))
    W1 = ct.tf([1 / 1.5, 10], [1, 10 * 1e-4])
    design = classical.mixed_sensitivity(G, W1, 1.0, rtol=1e-4)
    assert abs(design.gamma - 1.37) < 0.005
    S = 1 / (1 + G * ct.tf(ct.ss(design.K)))
    for w in np.geomspace(1e-2, 1e3, 40):
        assert abs(W1(1j * w) * S(1j * w)) <= design.gamma * (1 + 1e-6)


def test_mixed_sensitivity_of_a_sampled_plant_is_a_policy():
    plant = Line(jnp.asarray([[0.0, 1.0], [-1.0, -0.4]]), jnp.asarray([[0.0], [1.0]]))
    sampled = Sampled(plant, 0.1)
    W1 = ct.c2d(ct.tf([0.5, 1], [1, 1e-3]), 0.1, "tustin")
    design = classical.mixed_sensitivity(sampled, W1, 0.3, rtol=1e-3)
    xs, _, _ = run(sampled, design.controller, [0.0, 0.0], 400, r=np.ones((400, 1)))
    np.testing.assert_allclose(xs[-1, 0], 1.0, atol=5e-3)
    classical.require_stable(sampled, design.controller)


# ---- PID and model-predictive control


def test_pid_tracks_and_back_calculation_shortens_the_overshoot():
    r = np.full((600, 1), 3.0)

    def overshoot(tt):
        pid = classical.PID(2.0, 0.5, 2.0, dt=0.1, low=-1.0, high=1.0, tt=tt)
        xs, _, us = run(cart(), pid, [0.0, 0.0], 600, r=r)
        assert np.abs(us).max() <= 1
        np.testing.assert_allclose(xs[-1, 0], 3.0, atol=0.02)
        return float(xs[:, 0].max()) - 3

    assert overshoot(1.0) < 0.5 * overshoot(1e9)


def test_pid_in_its_linear_range_is_its_transfer_function():
    kp, ki, kd, dt, tf = 2.0, 0.7, 0.4, 0.1, 0.05
    pid = classical.PID(kp, ki, kd, dt=dt, tf=tf)
    z = ct.tf("z")
    z.dt = dt
    theirs = -(kp + ki * dt / (z - 1) + kd * (z - 1) / ((tf + dt) * z - tf))
    ys = np.random.default_rng(0).normal(size=(80, 1))
    expected = ct.forced_response(ct.tf(theirs.num, theirs.den, dt), inputs=ys.T).outputs
    np.testing.assert_allclose(rc.rollout(pid, jnp.asarray(ys)).ys[:, 0], np.ravel(expected), atol=1e-8)


def brute_force(A, B, Q, R, S, x0, horizon, x_high):
    """The constrained plan by SciPy, in the controls themselves."""

    def simulate(us):
        xs = [x0]
        for u in us:
            xs.append(A @ xs[-1] + B @ [u])
        return np.array(xs)

    free = simulate(np.zeros(horizon))
    of_u = np.stack([simulate(e) - free for e in np.eye(horizon)], axis=-1)  # (N + 1, 2, N)
    weights = np.concatenate([np.tile(Q, (horizon, 1, 1)), S[None]])
    H = np.einsum("kia,kij,kjb->ab", of_u, weights, of_u) + R * np.eye(horizon)
    f = np.einsum("kia,kij,kj->a", of_u, weights, free)
    limit = scipy.optimize.LinearConstraint(of_u[1:, 1], -np.inf, x_high - free[1:, 1])
    found = scipy.optimize.minimize(
        lambda u: u @ H @ u / 2 + f @ u, np.zeros(horizon), jac=lambda u: H @ u + f, hess=lambda u: H, method="trust-constr",
        bounds=[(-1, 1)] * horizon, constraints=limit, options={"gtol": 1e-12, "xtol": 1e-12, "barrier_tol": 1e-12, "maxiter": 2000},
    )  # fmt: skip
    return found.x


@pytest.mark.parametrize("start", [[-3.0, 0.0], [2.0, -0.5], [-1.0, 0.6]])
def test_mpc_equals_a_general_solver(start):
    sampled = cart()
    design = classical.mpc(sampled, [1, 0.1], 0.3, horizon=12, x_high=[np.inf, 0.7])
    system = classical.linear_model(sampled).system
    plan = brute_force(system.A, system.B, np.diag([1, 0.1]), 0.3, design.S, np.array(start), 12, 0.7)
    _, u = design.controller.step((), jnp.asarray(start))
    np.testing.assert_allclose(u, plan[:1], atol=2e-5)


def test_mpc_is_the_lqr_where_no_limit_acts():
    sampled = full(cart())
    mpc = classical.mpc(sampled, [1, 0.1], 0.3, horizon=6, x_low=[-9, -9], x_high=9)
    lqr = classical.lqr(sampled, [1, 0.1], 0.3)
    states = 0.1 * jr.normal(jr.key(0), (50, 2))
    law = jax.vmap(lambda x: mpc.controller.step((), x)[1])
    plain = jax.vmap(lambda x: lqr.controller.step(jnp.zeros(0), x)[1])
    np.testing.assert_allclose(law(states), plain(states), atol=1e-6)


def test_nonlinear_mpc_on_a_linear_plant_is_the_linear_one():
    sampled = full(cart())
    keys = {"horizon": 8, "x_high": [np.inf, 0.7]}
    linear, nonlinear = (
        classical.mpc(sampled, [1, 0.1], 0.3, **keys),
        classical.nonlinear_mpc(sampled, [1, 0.1], 0.3, **keys),
    )
    xs, _, us = run(sampled, nonlinear.controller, [-3.0, 0.0], 60)
    same = jax.vmap(lambda x: linear.controller.step((), x)[1])(xs)
    np.testing.assert_allclose(us, same, atol=1e-4)
    assert xs[:, 1].max() < 0.7 + 1e-4
    assert np.abs(us).max() <= 1


def test_gradients_go_through_a_plan():
    design = classical.mpc(full(cart()), [1, 0.1], 0.3, horizon=4)

    def control(x):
        return design.controller.step((), x)[1][0]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # qpax's own backward pass
        inside, beyond = map(jax.jit(jax.grad(control)), jnp.asarray([[0.1, 0.0], [-3.0, 0.0]]))
    np.testing.assert_allclose(inside, -design.K[0], rtol=1e-2)
    assert np.abs(beyond).max() < 1e-2


class Upright(Pendulum):
    """A pendulum whose torque cannot lift it at once, both states measured."""

    controls: ClassVar = (Signal("torque", "1/s^2", -6, 6),)
    outputs: ClassVar = Pendulum.states


def test_nonlinear_mpc_reaches_what_the_linear_law_cannot():
    sampled = Sampled(Upright(), 0.05, Imperfections(delay=1))
    nonlinear = classical.nonlinear_mpc(sampled, [10, 1], 0.1, horizon=25)
    xs, _, us = run(sampled, nonlinear.controller, [0.25, 0.0], 80)
    assert np.abs(us).max() <= 6
    np.testing.assert_allclose(xs[-1], [0, 0], atol=1e-2)


# ---- base controllers


def test_linear_base_stabilises_and_youla_keeps_it():
    sampled = Sampled(Pendulum(), 0.02, Imperfections(noise=0.01, saturate=True))
    base = classical.linear_base(sampled, [10, 1], 0.1, [1e-4, 1e-2], 1e-4)
    poles = classical.stabilizes(base, sampled)
    assert np.abs(poles).max() < 1
    q = rc.nn.ContractingR2DN(nu=1, nx=3, nv=4, ny=1, hidden=(4,), rate=0.9, key=jr.key(0)).explicit()
    classical.require_stable(sampled, Youla(base, q))


def test_base_controllers_that_do_not_stabilise_are_refused():
    late = Sampled(Pendulum(), 0.05, Imperfections(delay=12))
    with pytest.raises(
        InvalidModelError, match=r"closed loop has the poles .*design it for this plant, with its delay"
    ):
        classical.linear_base(late, [10, 1], 0.1, [1e-4, 1e-2], 1e-4)
    with pytest.raises(InvalidModelError, match=r"open-loop stable .* poles 1\.\d+.*linear_base"):
        internal_model(Sampled(Pendulum(), 0.02))
    damped = Line(jnp.asarray([[0.0, 1.0], [-1.0, -0.4]]), jnp.asarray([[0.0], [1.0]]))
    base = internal_model(Sampled(damped, 0.1, Imperfections(noise=0.1)))
    classical.stabilizes(base, Sampled(damped, 0.1))


# ---- bad input

UNSTABLE = ct.ss(np.diag([1.2, 0.5]), [[0], [1]], [[1, 0]], 0, 0.1)
HIDDEN = ct.ss(np.diag([1.2, 0.5]), [[1], [1]], [[0, 1]], 0, 0.1)
OPEN = ct.ss(-1, [[1, 1]], [[1], [1]], [[0, 0], [1, 0]])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: classical.lqr(UNSTABLE, 1, 1), r"lambda = 1.2 \(\|lambda\| = 1.2\) is uncontrollable"),
        (lambda: classical.kalman(HIDDEN, 1, 1), r"\(C, A\) must be detectable, but the mode lambda = 1.2"),
        (lambda: classical.lqg(HIDDEN, 1, 1, 1, 1), "unobservable"),
        (lambda: classical.lqr(HIDDEN, [1, 1, 1], 1), "Q must be 2 by 2"),
        (lambda: classical.lqr(HIDDEN, 1, -1), "R must be positive definite"),
        (lambda: classical.lqr(ct.ss(0, 1, 1, 0), 0, 1), "the plant as weighted by the cost"),
        (lambda: classical.lqr(ct.ss(1, 1, 1, 1, 0.1), 1, 1), "algebraic"),
        (lambda: classical.lqr(ct.ss(1, 1, 1, 0, True), 1, 1), "dt must be a number"),
        (lambda: classical.lqg(Pendulum(), 1, 1, 1, 1), "give dt in seconds"),
        (lambda: classical.lqg(cart(), 1, 1, 1, 1, dt=0.2), "plant's own, 0.1 s, got 0.2 s"),
        (lambda: classical.pole_placement(HIDDEN, [0.1, 0.2], [0.1, 0.2]), "unobservable"),
        (lambda: classical.pole_placement(HIDDEN, [0.1, 0.2, 0.3]), "must be 2 values inside the unit circle"),
        (lambda: classical.pole_placement(HIDDEN, [0.1, 0.1]), "repeated"),
        (lambda: classical.hinf(OPEN, 1, 1), "D12 must have full column rank"),
        (lambda: classical.hinf(ct.ss(0, [[0, 1]], [[1], [1]], [[0, 1], [1, 0]]), 1, 1), "no zero on the boundary"),
        (lambda: classical.hinf(OPEN, 2, 1), "nmeas must be in 1..1"),
        (lambda: classical.hinf(OPEN, 1, 1, rtol=0.0), "rtol must be a positive, finite number"),
        (lambda: classical.hinf(OPEN, 1, 1, gamma=np.nan), "gamma must be a positive, finite number"),
        (lambda: classical.h2(ct.ss(-1, [[1, 1]], [[1], [1]], [[1, 1], [1, 0]]), 1, 1), "D11 must be zero"),
        (lambda: classical.mixed_sensitivity(cart(), ct.tf(1, [1, 1]), 1), "W1 must have the plant's dt, 0.1, got 0"),
        (lambda: classical.mixed_sensitivity(cart()), "must be a weight"),
        (lambda: classical.mpc(Pendulum(), 1, 1), "the plant must be discrete; Sampled"),
        (lambda: classical.mpc(cart(), 1, 1, u_low=0.5), "must enclose its operating point"),
        (lambda: classical.PID(1, dt=0.1, low=1, high=-1), "low below high"),
        (lambda: classical.policy(ct.ss(0.5, 1, 1, 0, 0.2), cart()), "0.2 s for the controller and 0.1 s for the plant"),
        (lambda: classical.policy(ct.ss(-1, 1, 1, 0), cart()), "control.c2d"),
        (lambda: classical.policy(ct.ss(0.5, 1, 1, 0, 0.1, inputs="speed", outputs="force"), cart()), r"inputs must be \['position'\]"),
        (lambda: classical.closed_loop(ct.ss([], [], [], np.ones((2, 2))), ct.ss([], [], [], 1)), "well posed"),
    ],
)  # fmt: skip
def test_what_cannot_be_designed_is_refused(make, said):
    with pytest.raises(RobustctlError, match=said):
        make()


def test_a_controller_from_python_control_as_a_policy():
    K = ct.ss(0.5, 1, 1, 3, 0.1, inputs="position", outputs="force")
    policy = classical.policy(K, cart())
    ours = classical.linearize(Feedback(cart(), policy)).A
    plant = classical.linear_model(cart()).system
    loop = ct.feedback(plant, ct.ss(K.A, K.B, K.C, K.D, 0.1))
    np.testing.assert_allclose(np.poly(ours), np.poly(loop.poles()), atol=1e-10)


def test_mpc_without_qpax_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "qpax", None)
    with pytest.raises(RobustctlError, match=r"pip install 'robustctl\[mpc\]'"):
        classical.mpc(cart(), 1, 1)
