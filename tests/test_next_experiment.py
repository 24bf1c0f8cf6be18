"""What an input would determine of a model's weights: against differences of simulations, identities and a fit with it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import robustctl as rc
from robustctl.data import Scaling
from robustctl.errors import DataError, RobustctlError
from robustctl.identify import next_experiment
from robustctl.nn.stable_linear import stable_linear_at
from robustctl.train.fitted_model import FittedModel
from robustctl.train.initial_state import ZeroState

rng = np.random.default_rng(0)
A, B, C = np.array([[0.9, 0.2], [-0.2, 0.9]]), np.array([[0.1], [0.3]]), np.array([[1.0, 0.0]])


def outputs(u):
    x, ys = np.zeros(2), []
    for now in u:
        ys.append(C @ x)
        x = A @ x + B @ now
    return np.array(ys)


def record_of(u, noise=0.05):
    return rc.data.from_arrays(u, outputs(u) + noise * rng.normal(size=(len(u), 1)), 1.0)


def fitted(parameterization, record):
    names = record.dt, record.inputs, record.outputs, record.input_units, record.output_units
    scaling = Scaling(np.array([0.1]), np.array([2.0]), np.array([0.2]), np.array([0.5]))
    return FittedModel(parameterization, ZeroState(), scaling, *names, delay=(1,))


@pytest.fixture(scope="module")
def known():
    record = record_of(rng.normal(size=(60, 1)))
    return fitted(rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0)), record), record


def test_information_is_that_of_slopes_by_differences(known):
    model, record = known
    arrays, rest = eqx.partition(model.parameterization, eqx.is_inexact_array)
    flat, restore = ravel_pytree(arrays)

    @jax.jit
    def simulated(flat, u):
        return rc.rollout(fitted(eqx.combine(restore(flat), rest), record).explicit(), u).ys[:, 0]

    def slopes(u):
        h, directions = 1e-6, np.eye(flat.size)
        run = jax.vmap(lambda d: simulated(flat + d, jnp.asarray(u)))
        return np.asarray(run(h * directions) - run(-h * directions)).T / (2 * h)

    e = record.experiments[0]
    noise = np.sqrt(np.nanmean(rc.simulate(model, record).errors()[0] ** 2))
    u, prior = 2 * rng.normal(size=(20, 1)), 0.7
    J, Jc = slopes(e.u) / noise, slopes(u) / noise
    H = np.eye(flat.size) / prior**2 + J.T @ J
    expected = (np.linalg.slogdet(H + Jc.T @ Jc)[1] - np.linalg.slogdet(H)[1]) / 2
    found = next_experiment(model, record, [u], prior=prior)
    np.testing.assert_allclose(found.noise, noise, rtol=1e-6)
    np.testing.assert_allclose(found.candidates[0].information, expected, rtol=1e-5)
    std = noise * np.sqrt(np.diag(Jc @ np.linalg.inv(H) @ Jc.T))
    y = np.asarray(simulated(flat, jnp.asarray(u)))
    np.testing.assert_allclose(found.candidates[0].high, (y + 2 * std).max(), rtol=1e-5)
    np.testing.assert_allclose(found.candidates[0].low, (y - 2 * std).min(), rtol=1e-5)


def test_the_same_experiment_again_halves_the_variance_of_every_weight_that_it_determines():
    """Of r determined combinations: r log(2) / 2. Twelve numbers of A, B, C, D and two offsets are known up to four of coordinates."""
    record = record_of(3 * rng.normal(size=(400, 1)))
    model = fitted(stable_linear_at(A, B, C, np.zeros((1, 1)), np.zeros(1)), record)
    again, rest = next_experiment(
        model, record, [record.experiments[0].u, np.full((400, 1), 0.1)], prior=1e3
    ).candidates
    np.testing.assert_allclose(again.information, 8 * np.log(2) / 2, rtol=1e-2)
    assert rest.information < again.information


def test_what_tells_more_is_chosen_and_a_limit_takes_it_out(known):
    model, record = known
    small, large = 0.1 * np.ones((30, 1)), 5 * rng.normal(size=(30, 1))
    found = next_experiment(model, record, [small, large])
    assert found.best == 1 and found.candidates[1].information > found.candidates[0].information > 0
    limit = found.candidates[0].high + 1e-3
    kept = next_experiment(model, record, [small, large], y_high=limit)
    assert kept.best == 0 and not kept.candidates[1].allowed and "beyond a limit" in str(kept)
    assert next_experiment(model, record, [large], y_high=limit).best is None


def test_a_missing_output_tells_nothing(known):
    model, record = known
    e = record.experiments[0]
    y = np.where(np.arange(60)[:, None] < 30, e.y, np.nan)
    half = rc.data.from_arrays(e.u, y, 1.0)
    u = [rng.normal(size=(20, 1))]
    less, more = (next_experiment(model, r, u).candidates[0].information for r in (record, half))
    assert more > less


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, "one or more inputs"),
        ({"inputs": [np.ones(5)]}, "input 0 must be finite"),
        ({"inputs": [np.ones((5, 1)), np.full((5, 1), np.nan)]}, "input 1 must be finite"),
        ({"y_low": [1.0], "y_high": [0.0]}, "y_low must be below y_high"),
        ({"y_low": [1.0, 2.0]}, "y_low must be below y_high"),
        ({"prior": 0.0}, "prior must be a positive"),
    ],
)
def test_bad_input_is_refused(known, change, message):
    model, record = known
    given = {"inputs": [np.ones((5, 1))]} | change
    with pytest.raises((DataError, RobustctlError), match=message):
        next_experiment(model, record, given.pop("inputs"), **given)
