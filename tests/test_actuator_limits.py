"""Designs with integrators at the limits of their actuators."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import robustctl as rc
from robustctl import classical
from robustctl.classical.actuator_limits import actuator_limits
from robustctl.classical.model import linear_model
from robustctl.errors import InvalidModelError
from robustctl.plants import Sampled, TwoTanks

Q, LIMITS = [1.0, 1.0, 0.02], (0.5, 6.0)


@pytest.fixture(scope="module")
def tanks():
    return Sampled(TwoTanks(), 2.0)


def simulated(sampled, controller, r, steps):
    """Levels of a linear model of the tanks whose pump is clipped, in NumPy, and its voltages."""
    model = linear_model(sampled)
    A, B, C = (np.asarray(M) for M in (model.system.A, model.system.B, model.system.C))
    x, state = np.zeros(2), controller.init_state()
    levels, voltages = [], []
    for _ in range(steps):
        y = C @ x + model.y
        state, u = controller.step(state, jnp.asarray(np.concatenate([y, [r]])))
        applied = np.clip(np.asarray(u), *LIMITS)
        x = A @ x + B @ (applied - model.u)
        levels.append(y[0])
        voltages.append(u)
    return np.array(levels), np.array(voltages)


def test_integrators_do_not_wind_up(tanks):
    """The limit allows one and a half times the step; without it the level passes the reference by a fifth of the step."""
    model = linear_model(tanks)
    A, B, C = model.system.A, model.system.B, model.system.C
    most = (C @ np.linalg.solve(np.eye(2) - A, B * (LIMITS[1] - model.u)) + model.y)[0, 0]
    r = float(model.y[0] + 0.7 * (most - model.y[0]))
    overshoot = []
    for limits in (None, LIMITS):
        design = classical.lqg(tanks, Q, 1.0, [0.1, 0.1], 0.1, integral=True, limits=limits)
        levels, voltages = simulated(tanks, design.controller, r, 400)
        overshoot.append((levels.max() - r) / (r - levels[0]))
        assert abs(levels[-1] - r) < 1e-3 * r
        assert (voltages.max() > LIMITS[1] + 1e-3) == (limits is None)
    assert overshoot[0] > 0.15 and overshoot[1] < 0.02


@pytest.mark.parametrize("which", ["lqr", "lqg"])
def test_within_the_limits_nothing_changes(tanks, which):
    def controller(limits):
        if which == "lqr":
            return classical.lqr(tanks, Q, 1.0, integral=[[0.0, 1.0]], limits=limits).controller
        return classical.lqg(tanks, Q, 1.0, [0.1, 0.1], 0.1, integral=True, limits=limits).controller

    free, limited = controller(None), controller((-1e3, 1e3))
    us = jnp.asarray(3.0 + np.random.default_rng(0).standard_normal((20, free.nu)))
    np.testing.assert_array_equal(rc.rollout(limited, us).ys, rc.rollout(free, us).ys)
    assert free.lft() is not None and limited.lft() is None
    assert free.output_limits() is None
    np.testing.assert_array_equal(np.ravel(limited.output_limits()), [-1e3, 1e3])


def test_the_integrators_follow_their_equation():
    """Two controls and three integrators: what the limits took, through a pseudoinverse of SciPy's."""
    rng = np.random.default_rng(1)
    A = 0.9 * np.linalg.qr(rng.standard_normal((3, 3)))[0]
    B, Ci = rng.standard_normal((3, 2)), np.eye(3)[:2]
    plant = rc.StateSpace(A, B, np.eye(3), np.zeros((3, 2)), dt=0.1)
    design = classical.lqr(plant, np.ones(5), [1.0, 1.0], integral=Ci, limits=([-0.1, -0.2], 0.05))
    K, Ki = design.K[:, :3], design.K[:, 3:]
    z = np.zeros(2)
    state = design.controller.init_state()
    for _ in range(5):
        x, r = rng.standard_normal(3), rng.standard_normal(2)
        v = -K @ x - Ki @ z
        u = np.clip(v, [-0.1, -0.2], 0.05)
        z = z + Ci @ x - r + scipy.linalg.pinv(Ki) @ (v - u)
        state, found = design.controller.step(state, jnp.asarray(np.concatenate([x, r])))
        np.testing.assert_allclose(found, u, atol=1e-9)
        np.testing.assert_allclose(state, z, atol=1e-9)


def test_limits_that_cannot_be_kept_are_refused(tanks):
    with pytest.raises(InvalidModelError, match="must enclose its operating point"):
        classical.lqr(tanks, [1.0, 1.0], 1.0, limits=(8.0, 10.0))
    with pytest.raises(InvalidModelError, match="a number or 1 numbers"):
        classical.lqg(tanks, [1.0, 1.0], 1.0, [0.1, 0.1], 0.1, limits=([0.0, 0.0], 10.0))
    for wrong in ((1.0, 2.0, 3.0), [6.0], 6.0, False):
        with pytest.raises(InvalidModelError, match="a pair of the lowest and the highest control"):
            actuator_limits(wrong, tanks, linear_model(tanks), np.ones((1, 1)))
    with pytest.raises(InvalidModelError, match="limits must be of a sampled plant"):
        classical.lqg(TwoTanks(), np.ones(2), 1.0, 0.1 * np.ones(2), 0.1, limits=True, dt=2.0)
    design = classical.lqg(tanks, [1.0, 1.0], 1.0, [0.1, 0.1], 0.1, limits=True)
    np.testing.assert_allclose(np.ravel(design.controller.output_limits()), [0.0, 10.0])
