"""Predictions a few samples ahead: against a loop in NumPy, against the theory of the Kalman filter, and what is refused."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg

import robustctl as rc
from robustctl.errors import DataError, RobustctlError
from robustctl.identify import innovation_form, predict, residual_correlations
from robustctl.nn.stable_linear import stable_linear_at
from robustctl.observers import for_prediction
from robustctl.train import FittedModel, LearnedState, ZeroState

A, B = np.array([[0.9, 0.2], [-0.2, 0.8]]), np.array([[1.0], [0.5]])
C, D = np.array([[1.0, 0.3]]), np.array([[0.1]])
W, V = np.array([[0.5, 0.1], [0.1, 0.3]]), np.array([[0.8]])


def kalman():
    """Gain of the predictor and variance of its innovations, from the Riccati equation of process and sensor noise."""
    P = scipy.linalg.solve_discrete_are(A.T, C.T, W, V)
    S = C @ P @ C.T + V
    return A @ P @ C.T @ np.linalg.inv(S), S


def noisy(samples=3000, seed=0, lost=()):
    """A log of the plant with process and sensor noise."""
    rng = np.random.default_rng(seed)
    u, x = rng.normal(size=(samples, 1)), np.zeros(2)
    w, v = rng.multivariate_normal(np.zeros(2), W, samples), rng.normal(size=(samples, 1)) * np.sqrt(V[0, 0])
    y = np.empty((samples, 1))
    for t in range(samples):
        y[t] = C @ x + D @ u[t] + v[t]
        x = A @ x + B @ u[t] + w[t]
    y[list(lost)] = np.nan
    return rc.data.from_arrays(u, y, 1.0, inputs=["u"], outputs=["y"])


def true_model(initial=None, **more):
    # On scaled signals, u = 2 us and y = 4 ys + 0.1.
    inner = stable_linear_at(A, 2 * B, C / 4, D / 2, np.array([-0.1 / 4]))
    scaling = rc.data.Scaling(np.array([0.0]), np.array([2.0]), np.array([0.1]), np.array([4.0]))
    return FittedModel(inner, initial or ZeroState(), scaling, 1.0, ("u",), ("y",), ("",), ("",), **more)


def in_a_loop(model, record, steps):
    """Predictions with the textbook's recursion, restarted at every sample, in the units of the log."""
    inner, s, K = model.parameterization.explicit(), model.scaling, np.asarray(model.innovation_gain)
    M = [np.asarray(a) for a in (inner.A, inner.B, inner.C, inner.D, inner.bx, inner.by)]
    (e,) = record.experiments
    u, y, x = s.scale_u(e.u), s.scale_y(e.y), np.zeros(2)
    found = np.full(e.y.shape, np.nan)
    for t in range(e.samples - steps + 1):
        ahead = x
        for k in range(steps):
            found[t + steps - 1] = M[2] @ ahead + M[3] @ u[t + k] + M[5]
            ahead = M[0] @ ahead + M[1] @ u[t + k] + M[4]
        error = e.y_mask[t] * (y[t] - (M[2] @ x + M[3] @ u[t] + M[5]))
        x = M[0] @ x + M[1] @ u[t] + M[4] + K @ error
    return s.undo_y(found)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_predictions_are_those_of_the_recursion(steps):
    model = true_model(innovation_gain=jnp.asarray([[0.3], [-0.2]]))
    record = noisy(40, lost=(5, 6, 20))
    predicted = predict(model, record, steps)
    assert predicted.skipped == steps - 1
    np.testing.assert_allclose(predicted.y_hat[0], in_a_loop(model, record, steps), rtol=1e-5, atol=1e-5)


def test_the_gain_is_that_of_the_kalman_filter():
    record = noisy()
    model = innovation_form(true_model(), record)
    K, S = kalman()
    states = model.parameterization.explicit()
    # The states of the fitted model have other coordinates: C A^i K, the response to an innovation, has none.
    M, N, L = (np.asarray(a) for a in (states.A, states.C, model.innovation_gain))
    ours = [float((N @ np.linalg.matrix_power(M, i) @ L)[0, 0]) for i in range(6)]
    theirs = [float((C @ np.linalg.matrix_power(A, i) @ K)[0, 0]) for i in range(6)]
    np.testing.assert_allclose(ours, theirs, atol=0.06)
    np.testing.assert_array_equal(
        rc.simulate(model, record).y_hat[0], rc.simulate(true_model(), record).y_hat[0]
    )
    # The error k samples ahead has the variance S (1 + sum over i < k - 1 of (C A^i K)^2).
    for steps in (1, 2, 5):
        mse = predict(model, record, steps).scores().rmse[0] ** 2
        assert mse == pytest.approx(S[0, 0] * (1 + np.sum(np.square(theirs[: steps - 1]))), rel=0.08)


def test_one_step_residuals_are_white_and_those_of_a_free_run_are_not():
    record = noisy()
    model = innovation_form(true_model(), record)
    assert residual_correlations(predict(model, record)).whiteness()[0] > 0.01
    assert residual_correlations(predict(model, record, 2)).whiteness()[0] < 1e-6
    assert residual_correlations(rc.simulate(model, record)).whiteness()[0] < 1e-6


def test_white_residuals_are_called_white_as_often_as_promised():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        record = rc.data.from_arrays(np.ones(400), rng.normal(size=400), 1.0)
        run = rc.identify.Simulation(record, (np.zeros((400, 1)),), 0, "")
        found.append(residual_correlations(run, max_lag=10).whiteness()[0])
    assert 0.01 < np.mean(np.asarray(found) < 0.05) < 0.1


def test_a_network_without_noise_model_gets_one():
    record = noisy(300)
    core = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
    initial, names = LearnedState(x0=jnp.zeros((1, 2)), horizon=10), (("u",), ("y",), ("",), ("",))
    plain = FittedModel(core, initial, rc.data.Scaling.fit(record), 1.0, *names)
    predicted = predict(innovation_form(plain, record), record)
    assert predicted.skipped == 10
    assert predicted.scores().rmse[0] < 0.9 * rc.simulate(plain, record).scores().rmse[0]


def test_delays_and_several_experiments_are_predicted():
    record = rc.data.merge(noisy(60, 1), noisy(40, 2))
    late = rc.data.delay(record, 4)
    gain = {"innovation_gain": jnp.asarray([[0.3], [-0.2]])}
    whole, direct = predict(true_model(delay=(4,), **gain), record, 3), predict(true_model(**gain), late, 3)
    assert whole.skipped == 6
    for a, b in zip(whole.y_hat, direct.y_hat, strict=True):
        np.testing.assert_allclose(a[4:], b, rtol=1e-9)


def test_an_innovation_model_predicts_from_the_plain_log():
    log = noisy(50, lost=(7, 8))
    record, scaling = for_prediction(log)
    core = rc.nn.InnovationR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
    names = record.inputs, record.outputs, record.input_units, record.output_units
    model = FittedModel(core, ZeroState(), scaling, 1.0, *names)
    one = predict(model, log)
    np.testing.assert_allclose(one.y_hat[0], rc.simulate(model, record).y_hat[0], rtol=1e-6)
    assert one.record.outputs == ("y",)
    # Three samples ahead of sample 20: what follows sample 17 is not seen.
    (e,) = record.experiments
    flags = np.where(np.arange(50) < 18, e.u[:, 2], 0.0)
    hidden = dataclasses.replace(
        record, experiments=(dataclasses.replace(e, u=np.column_stack([e.u[:, :2], flags])),)
    )
    three = predict(model, log, 3)
    assert three.y_hat[0][20, 0] == pytest.approx(rc.simulate(model, hidden).y_hat[0][20, 0], rel=1e-6)


def test_a_gain_for_many_samples_ahead_is_never_worse_than_the_free_run():
    # A model with half of the plant's states: its best gain one sample ahead is not that of ten.
    record = noisy(600)
    small = rc.identify.subspace(record, order=1, delay=0).model
    one, ten = innovation_form(small, record), innovation_form(small, record, steps=10)
    errors = [predict(m, record, 10).scores().rmse[0] for m in (one, ten)]
    free = predict(dataclasses.replace(small, innovation_gain=jnp.zeros((1, 1), small.dtype)), record, 10)
    assert errors[1] <= errors[0] and errors[1] <= free.scores().rmse[0]


def test_files_keep_the_gain(tmp_path):
    model = true_model(innovation_gain=jnp.asarray([[0.3], [-0.2]]))
    rc.save(tmp_path / "m.safetensors", model)
    loaded = rc.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.innovation_gain, model.innovation_gain)


def test_what_cannot_be_predicted_is_refused():
    record, model = noisy(30), true_model(innovation_gain=jnp.zeros((2, 1)))
    for steps in (0, -1, 1.5, True):
        with pytest.raises((RobustctlError, TypeError), match=r"steps|annotations"):
            predict(model, record, steps)
        with pytest.raises((RobustctlError, TypeError), match=r"steps|annotations"):
            innovation_form(true_model(), record, steps)
    with pytest.raises(RobustctlError, match="can be simulated alone"):
        predict(true_model(), record)
    with pytest.raises(DataError, match="use fewer steps or a longer record"):
        predict(model, record, 31)
    with pytest.raises(DataError, match="sample time"):
        predict(model, dataclasses.replace(record, dt=2.0))
    flags = rc.nn.InnovationR2DN(nu=1, nx=2, nv=2, ny=1, key=jr.key(0))
    read, scaling = for_prediction(record)
    names = read.inputs, read.outputs, read.input_units, read.output_units
    with pytest.raises(RobustctlError, match="a model must be without an innovation gain"):
        innovation_form(FittedModel(flags, ZeroState(), scaling, 1.0, *names), read)
    with pytest.raises(ValueError, match="innovation gain must be of the states"):
        true_model(innovation_gain=jnp.zeros((3, 1))).check_parts()
