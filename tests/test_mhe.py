"""Moving-horizon estimation: against Kalman filters, against SciPy's optimizers on the whole record, and what is refused."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

import robustctl as rc
from robustctl import classical
from robustctl.errors import InvalidModelError
from robustctl.loops import ModelPlant
from robustctl.plants import Imperfections, LinearPlant, Sampled, TwoTanks

W, V = np.diag([1e-3, 1e-2]), 1e-2
A, B, C = np.array([[1.0, 0.1], [-0.2, 0.95]]), np.array([[0.0], [0.1]]), np.array([[1.0, 0.0]])
US, YS = jr.normal(jr.key(0), (30, 1)), jr.normal(jr.key(1), (30, 1))


def cart(**imperfections):
    plant = LinearPlant([[0.0, 1.0], [0.0, -0.5]], [[0.0], [1.0]], [[1.0, 0.0]])
    return Sampled(plant, 0.1, Imperfections(**imperfections))


def estimates(estimator, ys=YS):
    return np.asarray(rc.rollout(estimator, (US[: len(ys)], ys)).ys)


@pytest.mark.parametrize("horizon", [3, 40])
def test_a_linear_model_without_limits_has_the_kalman_filter(horizon):
    sampled = cart(delay=1)
    ys = YS.at[10:14].set(jnp.nan)
    ours = classical.moving_horizon(sampled, W, V, P0=[0.3, 0.2], horizon=horizon)
    theirs = classical.extended_kalman(sampled, W, V, P0=[0.3, 0.2])
    np.testing.assert_allclose(estimates(ours, ys), estimates(theirs, ys), atol=1e-8)


def test_a_covariance_given_for_the_arrival_is_that_of_the_steady_filter():
    linear = classical.kalman(cart(), W, V)
    ours = classical.moving_horizon(cart(), W, V, P0=linear.P, arrival=linear.P, horizon=4)
    np.testing.assert_allclose(estimates(ours), estimates(linear.estimator), atol=1e-8)
    # One that trusts the model more than its filter does gives another estimate.
    other = classical.moving_horizon(cart(), W, V, P0=linear.P, arrival=linear.P / 9, horizon=4)
    assert np.abs(estimates(other) - estimates(linear.estimator)).max() > 1e-2


def test_the_state_of_an_identified_model_with_a_direct_term():
    D = np.array([[0.5]])
    model = rc.StateSpace(A, B, C, D, dt=0.1)
    ours = classical.moving_horizon(ModelPlant(model), W, V, P0=[0.3, 0.2], horizon=3)
    x, P, expected = np.zeros(2), np.diag([0.3, 0.2]), []
    acting = np.append(0.0, np.asarray(US)[:-1, 0])  # a control acts one sample after it is chosen
    for u, y in zip(acting, np.asarray(YS)[:, 0], strict=True):
        M = P @ C.T / (C @ P @ C.T + V)
        x, P = x + (M * (y - C @ x - D * u)).ravel(), P - M @ C @ P
        expected.append(x)
        x, P = A @ x + B[:, 0] * u, A @ P @ A.T + W
    np.testing.assert_allclose(estimates(ours), expected, atol=1e-8)


def test_a_missing_channel_changes_nothing_of_what_the_other_one_measures():
    both, one = (Sampled(LinearPlant(A - np.eye(2), B, rows), 0.1) for rows in (np.eye(2), C))
    covariance = np.array([[0.1, 0.05], [0.05, 0.2]])  # correlated, so that a mere zero would not do
    pair = classical.moving_horizon(both, W, covariance, P0=[0.3, 0.2], horizon=3)
    single = classical.moving_horizon(one, W, 0.1, P0=[0.3, 0.2], horizon=3)
    gaps = jnp.concatenate([YS, jnp.full_like(YS, jnp.inf)], axis=1)
    np.testing.assert_allclose(estimates(pair, gaps), estimates(single), atol=1e-8)


def test_without_process_noise_the_start_alone_is_estimated():
    """The information of all samples about x[0] adds up, whatever left the window."""
    ours = classical.moving_horizon(
        ModelPlant(rc.StateSpace(A, B, C, [[0.0]], dt=0.1)), 0.0, V, P0=[1.0, 1.0], horizon=3
    )
    x, rows, forced = np.zeros(2), [], []
    power = np.eye(2)
    for u in np.append(0.0, np.asarray(US)[:-1, 0]):
        rows.append(C @ power)
        forced.append(C @ x)
        last, response = x, power
        power, x = A @ power, A @ x + B[:, 0] * u
    rows, error = np.concatenate(rows), np.asarray(YS)[:, 0] - np.concatenate(forced)
    start = np.linalg.solve(np.eye(2) + rows.T @ rows / V, rows.T @ error / V)
    np.testing.assert_allclose(estimates(ours)[-1], last + response @ start, atol=1e-8)


def residuals(step, output, z, x0, us, ys):
    """Return the weighted residuals (states, outputs) of a whole record, and its states; z holds x[0] and the noise."""
    x, errors, xs = z[0], [(z[0] - x0) / 0.3], [z[0]]
    for w, u in zip(z[1:], us, strict=False):
        x = step(x, u) + w
        errors.append(w / 0.1)
        xs.append(x)
    errors += [(y - output(x)) / 0.2 for x, y in zip(xs, ys, strict=True)]
    return errors, xs


def test_a_nonlinear_model_has_the_least_squares_of_the_whole_record():
    sampled, T = Sampled(TwoTanks(), 2.0), 5
    start, w = sampled.init_state(), sampled.undisturbed()
    us = jnp.asarray([[2.0], [8.0], [8.0], [0.0], [2.0]])
    ys = float(sampled.plant.output(start.x)[0]) + jnp.asarray([[0.2], [1.5], [-3.0], [2.0], [4.0]])

    @jax.jit
    def errors(z):
        def step(x, u):
            return sampled.advance(start._replace(x=x), u, w).x

        found = residuals(step, sampled.plant.output, z.reshape(T, 2), start.x, us, ys)
        return jnp.concatenate(found[0]), jnp.stack(found[1])

    slopes = jax.jit(jax.jacfwd(lambda z: errors(z)[0]))
    first = np.concatenate([start.x, np.zeros(2 * T - 2)])
    best = scipy.optimize.least_squares(
        lambda z: errors(z)[0], first, slopes, xtol=1e-14, ftol=1e-14, gtol=1e-12
    )
    design = dict(P0=0.09, horizon=6)
    ours = classical.moving_horizon(sampled, 0.01, 0.04, **design, solver=classical.SQP(steps=30))
    got = rc.rollout(ours, (us, ys)).ys[-1]
    np.testing.assert_allclose(got, errors(best.x)[1][-1], atol=1e-6)
    # The filter, which linearizes once, differs from it: the test is one of the iterations.
    once = rc.rollout(classical.extended_kalman(sampled, 0.01, 0.04, P0=0.09), (us, ys)).ys[-1]
    assert np.abs(once - got).max() > 1e-3


def least_squares_within(J, e, G, h):
    """Minimize |J z + e|^2 within G z <= h by the algorithm LDP of Lawson and Hanson, "Solving least squares problems", chapter 23."""
    L = np.linalg.cholesky(J.T @ J)
    free = -np.linalg.solve(J.T @ J, J.T @ e)
    rows, right = -np.linalg.solve(L, G.T).T, G @ free - h
    target = np.append(np.zeros(len(free)), 1.0)
    E = np.vstack([rows.T, right])
    r = E @ scipy.optimize.nnls(E, target)[0] - target
    return free + np.linalg.solve(L.T, -r[:-1] / r[-1])


LIMITED = dict(x_limits=([-0.11, -np.inf], [np.inf, 0.1]), w_limits=([-0.05, -np.inf], 0.04))


def test_with_limits_it_is_the_optimum_of_the_quadratic_program():
    T, model = 6, ModelPlant(rc.StateSpace(A, B, C, [[0.0]], dt=0.1))
    ours = classical.moving_horizon(model, 0.01, 0.04, P0=0.09, horizon=8, **LIMITED)
    acting = np.append(0.0, np.asarray(US)[: T - 1, 0])

    def step(x, u):
        return A @ x + B[:, 0] * u

    def parts(z):
        errors, xs = residuals(
            step, lambda x: C @ x, z.reshape(T, 2), np.zeros(2), acting, np.asarray(YS)[:T]
        )
        return np.concatenate(errors), np.concatenate(xs)

    # Affine in z, so that the differences by unit vectors are exact.
    at_zero = parts(np.zeros(2 * T))
    slopes = [np.stack([parts(unit)[k] - at_zero[k] for unit in np.eye(2 * T)], axis=1) for k in (0, 1)]
    noise = np.eye(2 * T)[2:]
    G = np.concatenate([slopes[1] * np.tile([-1.0, 1.0], T)[:, None], -noise[::2], noise])
    h = np.concatenate(
        [
            np.tile([0.11, 0.1], T) + np.tile([1.0, -1.0], T) * at_zero[1],
            [0.05] * (T - 1),
            [0.04] * (2 * T - 2),
        ]
    )
    best = least_squares_within(slopes[0], at_zero[0], G, h)
    got = rc.rollout(ours, (US[:T], YS[:T])).ys[-1]
    states = parts(best)[1].reshape(T, 2)
    np.testing.assert_allclose(got, states[-1], atol=1e-5)
    at = np.abs(states - [-0.11, 0.1]).min(axis=0)
    assert at.max() < 1e-5, "both limits of states must act in this record"


def test_an_estimate_stays_within_limits_that_no_state_can_meet():
    """The first state may move only down and the measurement asks for more: the program stays solvable, the estimate inside."""
    model = ModelPlant(rc.StateSpace(A, B, C, [[0.0]], dt=0.1))
    ours = classical.moving_horizon(model, [0.01, 0.0], 1e-6, P0=0.0, x0=[1.0, 1.0], horizon=8, **LIMITED)
    got = np.asarray(rc.rollout(ours, (US[:6], YS[:6] - 50)).ys)
    assert np.isfinite(got).all() and got[:, 0].min() >= -0.11 and got[:, 1].max() <= 0.1


def test_a_wrong_start_of_a_network_is_found_from_its_outputs():
    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, hidden=(4,), rate=0.99, key=jr.key(2)).explicit()
    plant, samples = ModelPlant(model), 12
    true = plant.init_state()._replace(model=jnp.asarray([1.0, -2.0]))
    rolled = rc.rollout(
        plant,
        (US[:samples], jax.tree.map(lambda a: jnp.tile(a, (samples, *[1] * a.ndim)), plant.undisturbed())),
        true,
    )
    ours = classical.moving_horizon(plant, 1e-8, 1e-8, P0=4.0, horizon=4)
    got = rc.rollout(ours, (US[:samples], rolled.ys)).ys[-1]
    error = np.abs(got - rolled.xs.model[-1]).max()
    free = rc.rollout(
        plant,
        (US[:samples], jax.tree.map(lambda a: jnp.tile(a, (samples, *[1] * a.ndim)), plant.undisturbed())),
    )
    assert error < 1e-3 * np.abs(free.xs.model[-1] - rolled.xs.model[-1]).max()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(model=TwoTanks()), "must be a Sampled plant or a ModelPlant, got TwoTanks"),
        (
            dict(model=rc.StateSpace(A, B, C, [[0.0]], dt=0.1)),
            "ModelPlant.* makes one of an identified model",
        ),
        (dict(horizon=0), "horizon, steps and iterations must be whole numbers of at least 1, got 0"),
        (dict(horizon=2.5), "must be whole numbers"),
        (dict(solver=classical.SQP(steps=0)), "must be whole numbers of at least 1"),
        (dict(W=np.eye(3)), "W must be 2 by 2"),
        (dict(V=0.0), "V must be positive definite"),
        (dict(P0=-1.0), "P0 must be positive semidefinite"),
        (dict(arrival=[1.0, -1.0]), "arrival must be positive semidefinite"),
        (dict(x0=[1.0]), "x0 must have 2 finite entries"),
        (dict(x0=[1.0, np.nan]), "x0 must have 2 finite entries"),
        (
            dict(x_limits=(0.0, [1.0, 2.0, 3.0])),
            "x_limits must be a pair .low, high. of one number or 2 each",
        ),
        (dict(x_limits=3.0), "x_limits must be a pair"),
        (dict(x_limits=(1.0, 1.0)), "x_limits must have low < high everywhere"),
        (dict(x_limits=(np.nan, 1.0)), "x_limits must have low < high everywhere"),
        (dict(w_limits=(0.1, 1.0)), "w_limits must enclose 0"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(InvalidModelError, match=message):
        classical.moving_horizon(**{"model": cart(), "W": W, "V": V, **given})


def test_limits_need_qpax(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "qpax", None)
    with pytest.raises(rc.errors.RobustctlError, match="qpax must be installed"):
        classical.moving_horizon(cart(), W, V, x_limits=(0.0, 1.0))
    classical.moving_horizon(cart(), W, V)
