"""The error of a model over frequency, against errors that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import lfilter

import robustctl as rc
from robustctl.data import Scaling
from robustctl.errors import DataError, RobustctlError
from robustctl.identify.model_error import outside
from robustctl.identify.weight import gains, weight_above
from robustctl.nn.stable_linear import stable_linear_at
from robustctl.train.fitted_model import FittedModel
from robustctl.train.initial_state import ZeroState

ONE = np.ones(1)
POLE, GAIN = 0.9, 0.1  # the model's
RESONANT = np.array([1.0, -1.5, 0.8])  # poles of the error
OMEGA = np.geomspace(1e-3, np.pi, 2000)


def lag(record) -> FittedModel:
    """Return the fitted model `y+ = 0.9 y + 0.1 u` of a record's channels."""
    nu, ny = record.nu, record.ny
    model = stable_linear_at(
        POLE * np.eye(ny), GAIN * np.ones((ny, nu)), np.eye(ny), np.zeros((ny, nu)), np.zeros(ny)
    )
    names = record.dt, record.inputs, record.outputs, record.input_units, record.output_units
    return FittedModel(model, ZeroState(), Scaling.identity(nu, ny), *names)


def logged(u, rng, error=0.05, noise=0.02, dt=1.0):
    """Return a record of the model's plant with a resonant error, an offset and colored noise."""
    lead = lfilter([0, GAIN], [1, -POLE], u[:, 0])
    v = lfilter([1], [1, -0.8], rng.normal(size=len(u)))
    y = lead + lfilter([0, error], RESONANT, u[:, 0]) + noise * v + 3
    return rc.data.from_arrays(u, y, dt)


def true_gain(omega, error=0.05):
    return np.abs(error / np.polyval(RESONANT, np.exp(1j * omega)))


@pytest.mark.parametrize("period", [None, 200])
def test_the_true_error_is_within_the_weight_in_every_draw(period):
    rng, within = np.random.default_rng(0), 0
    for seed in range(6):
        u = (
            rc.data.steps(1000, hold=3, seed=seed)
            if period is None
            else np.tile(rc.data.multisine(period, highest=0.9, seed=seed), (5, 1))
        )
        found = rc.identify.model_error(lag(record := logged(u, rng)), record, period=period)
        seen = outside(OMEGA, found.unseen)
        assert seen.mean() > 0.5
        within += np.all(true_gain(OMEGA[seen]) <= found.weight_gain(OMEGA[seen]))
        assert np.all(found.upper[found.seen] <= found.weight_gain(found.omega[found.seen]))
        assert np.median(found.upper[found.seen] / true_gain(found.omega[found.seen])) < 2
    assert within == 6


def test_frequencies_are_in_rad_per_second():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(800, 1))
    slow, fast = (logged(u, np.random.default_rng(1), dt=dt) for dt in (1.0, 0.1))
    one, ten = (rc.identify.model_error(lag(r), r) for r in (slow, fast))
    np.testing.assert_allclose(10 * one.omega, ten.omega)
    np.testing.assert_allclose(one.upper, ten.upper, rtol=1e-6)
    assert ten.W.dt == 0.1


def test_a_frequency_without_power_is_in_a_band_that_is_named():
    """Levels held for 10 samples have no power at multiples of a tenth of the sampling rate, half of it included."""
    record = logged(rc.data.steps(1000, hold=10, seed=0), np.random.default_rng(0))
    found = rc.identify.model_error(lag(record), record, floor=1e-3)
    assert not found.seen[-1] and any(low < 2 * np.pi * 0.2 < high for low, high in found.unseen)
    assert np.all(found.upper[found.seen] <= found.weight_gain(found.omega[found.seen]))


def test_bands_without_input_are_named():
    """A multisine up to a quarter of the sampling rate shows nothing above it."""
    u = np.tile(rc.data.multisine(400, highest=0.5, seed=0), (4, 1))
    record = logged(u, np.random.default_rng(0))
    for found in (
        rc.identify.model_error(lag(record), record, period=400),
        rc.identify.model_error(lag(record), record),
    ):
        low, high = found.unseen[-1]
        assert low == pytest.approx(np.pi / 2, rel=0.15) and high == pytest.approx(np.pi)
        assert found.unseen[0][0] == 0
        text = repr(found)
        assert "statistics" in text and "assumed" in text and f"{low:.3g} to {high:.3g}" in text


def test_several_channels_are_bounded_by_the_largest_singular_value():
    rng = np.random.default_rng(0)
    error = np.array([[0.3, -0.1], [0.0, 0.2]])  # a static error, in unlike units of the inputs
    units = np.array([1.0, 100.0])
    u = rng.normal(size=(1500, 2)) * units
    x = np.stack([lfilter([0, GAIN], [1, -POLE], u.sum(axis=1))] * 2, axis=1)
    y = x + (u / units) @ error.T + 0.02 * rng.normal(size=x.shape)
    record = rc.data.from_arrays(u, y, 1.0)
    found = rc.identify.model_error(lag(record), record)
    truth = np.linalg.norm(error * u.std(axis=0) / units, 2)
    np.testing.assert_allclose(found.gain, truth, rtol=0.1)
    assert found.W.nu == 2 and np.all(truth <= found.weight_gain(OMEGA))
    # as ModelError reads it: the error's output in its own units is bounded by W of the inputs in theirs
    A, B, C, D = (np.asarray(M) for M in (found.W.A, found.W.B, found.W.C, found.W.D))
    response = D - C @ np.linalg.solve(A + np.eye(len(A)), B)  # at half the sampling rate
    d = rng.normal(size=(1000, 2)) * units
    assert np.all(
        np.linalg.norm(d / units @ error.T, axis=1) <= np.linalg.norm(d @ response.T, axis=1) * (1 + 1e-9)
    )


def test_gaps_and_several_experiments_count():
    rng = np.random.default_rng(0)
    pieces = [logged(rng.normal(size=(500, 1)), rng).experiments[0] for _ in range(3)]
    ys = [p.y.copy() for p in pieces]
    ys[1][100:110] = np.nan
    record = rc.data.from_arrays([p.u for p in pieces], ys, 1.0)
    found = rc.identify.model_error(lag(record), record)
    assert np.all(true_gain(found.omega) <= found.weight_gain(found.omega))


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 5, 6])
def test_the_weight_is_stable_and_of_minimum_phase_and_above(order):
    omega = np.geomspace(0.01, np.pi, 80)
    upper = 0.1 + np.abs(0.1 / np.polyval(RESONANT, np.exp(1j * omega)))
    W = weight_above(omega, upper, 1.0, order=order)
    assert len(W.A) == order
    A, B, C, D = (np.asarray(M) for M in (W.A, W.B, W.C, W.D))
    assert np.abs(np.linalg.eigvals(A)).max(initial=0) < 1
    assert np.abs(np.linalg.eigvals(A - B @ np.linalg.solve(D, C))).max(initial=0) < 1
    excess = np.log(gains(W, omega, ONE) / upper)
    assert excess.min() >= 0
    assert excess.mean() < (0.1 if order >= 2 else 2)


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("order", [2, 4, 6])
def test_the_matrices_that_are_stored_are_above(order, x64):
    """Slow poles near each other: their polynomial, and 32 bits, lose more than the margin for rounding."""
    omega = np.geomspace(1e-3, np.pi, 80)
    upper = np.abs(1 / np.polyval(np.poly([0.998, 0.9979, 0.5]), np.exp(1j * omega)))
    with jax.enable_x64(x64):
        W = weight_above(omega, upper, 1.0, order=order)
        ratio = gains(W, omega, ONE) / upper
    assert ratio.min() >= 1 and np.median(ratio) < 1.5


def test_the_weight_follows_a_simple_bound():
    """A bound that is the gain of a first-order filter is nearly that filter."""
    omega = np.geomspace(0.01, np.pi, 80)
    upper = np.abs(0.1 / (np.exp(1j * omega) - 0.95))
    assert np.max(gains(weight_above(omega, upper, 1.0), omega, ONE) / upper) < 1.2


def test_bad_input_is_refused():
    u = np.random.default_rng(0).normal(size=(300, 1))
    record = logged(u, np.random.default_rng(1))
    model = lag(record)
    with pytest.raises(RobustctlError, match="confidence and floor must be in"):
        rc.identify.model_error(model, record, confidence=1.0)
    with pytest.raises(RobustctlError, match="period must be a whole number"):
        rc.identify.model_error(model, record, period=2)
    with pytest.raises(DataError, match="two periods of 200 samples must follow"):
        rc.identify.model_error(model, record, period=200)
    with pytest.raises(DataError, match=r"\['u'\] are constant|constant"):
        flat = rc.data.from_arrays(np.ones((300, 1)), record.experiments[0].y, 1.0)
        rc.identify.model_error(lag(flat), flat)
    short = rc.data.from_arrays(u[:30], record.experiments[0].y[:30], 1.0)
    with pytest.raises(DataError, match="a model of the error needs 60 samples"):
        rc.identify.model_error(lag(short), short)
    with pytest.raises(DataError, match="must increase"):
        weight_above(np.array([1.0, 0.5]), np.ones(2), 1.0)
    with pytest.raises(DataError, match="positive"):
        weight_above(np.array([0.5, 1.0]), np.zeros(2), 1.0)


def test_it_is_drawn():
    record = logged(rc.data.steps(600, hold=5, seed=0), np.random.default_rng(0))
    figure = rc.plot.model_error(rc.identify.model_error(lag(record), record))
    assert len(figure.axes) == 1 and len(figure.axes[0].lines) == 3


def test_a_stable_linear_model_starts_at_given_matrices():
    rng = np.random.default_rng(0)
    for rate in (1.0, 0.95):
        A = 0.9 * np.array([[np.cos(0.5), np.sin(0.5), 1.0], [-np.sin(0.5), np.cos(0.5), 0.0], [0, 0, 0.7]])
        B, C, D, by = (rng.normal(size=s) for s in ((3, 2), (2, 3), (2, 2), 2))
        system = stable_linear_at(A, B, C, D, by, rate=rate).explicit()
        u = rng.normal(size=(50, 2))
        x, expected = np.zeros(3), []
        for now in u:
            expected.append(C @ x + D @ now + by)
            x = A @ x + B @ now
        np.testing.assert_allclose(rc.rollout(system, jnp.asarray(u)).ys, expected, rtol=1e-7, atol=1e-7)
        assert rc.certify(system, prove=False).holds
    with pytest.raises(rc.errors.InvalidModelError, match="spectral radius below the rate"):
        stable_linear_at(A, B, C, D, by, rate=0.8)


def test_the_weight_has_no_resonance_where_nothing_was_seen():
    # Steep at the last seen frequency, and nothing known above it: the bound is continued as a constant.
    omega = np.geomspace(0.002, 0.1, 50)
    upper = 0.5 + 0.5 / (1 + (omega / 0.005) ** 2) + 3.5 * (omega / 0.1) ** 8
    W = weight_above(omega, upper, 4.0)
    everywhere = np.concatenate([np.linspace(1e-5, np.pi / 4, 20_000), omega])
    gain = gains(W, everywhere, np.ones(1))
    assert gain.max() < 1.5 * upper.max()
    assert (gain[-50:] >= upper).all() and gain.min() >= upper.min() * (1 - 1e-9)
    # Of a balanced realization the dynamics are a contraction in the Euclidean norm.
    assert np.linalg.norm(W.A, 2) <= 1
