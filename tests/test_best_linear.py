"""The best linear approximation of plants whose response, noise and distortion are known in closed form."""

import numpy as np
import pytest
import scipy.signal

import robustctl as rc
from robustctl.errors import DataError, RobustctlError

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
PERIOD, PERIODS, DT = 256, 6, 0.1


def record(plant, seeds, noise=0.0, channels=1, rms=1.0):
    """Return a record of a plant under multisines of all frequencies, one experiment a seed, with white noise."""
    rng = np.random.default_rng(0)
    us = [
        np.tile(rc.data.multisine(PERIOD, rms=rms, channels=channels, highest=1.0, seed=s), (PERIODS, 1))
        for s in seeds
    ]
    ys = [plant(u) for u in us]
    return rc.data.from_arrays(us, [y + noise * rng.normal(size=y.shape) for y in ys], DT)


def lag(u):
    return scipy.signal.lfilter([0, 0.3], [1, -0.7], u, axis=0)


def lag_response(omega):
    z = np.exp(1j * omega * DT)
    return 0.3 / (z - 0.7)


def test_a_linear_plant_has_the_noise_that_was_added_and_no_distortion():
    found = rc.identify.best_linear(record(lag, range(10), noise=0.2), PERIOD)
    lines = len(found.omega)
    assert lines == PERIOD // 2 and (found.periods, found.experiments) == (PERIODS - 1, 10)
    error = found.G[:, 0, 0] - lag_response(found.omega)
    # E|error|^2 = noise^2 of each line; the sum of 128 exponentials deviates by 9 %
    np.testing.assert_allclose(np.mean(np.abs(error) ** 2 / found.noise[:, 0, 0] ** 2), 1.0, atol=0.35)
    np.testing.assert_allclose(np.mean(found.total**2) / np.mean(found.noise**2), 1.0, atol=0.15)
    # the noise in a period, 0.2, over the response's root mean square, 0.3 / sqrt(1 - 0.49)
    np.testing.assert_allclose(found.noise_share, 0.2 / (0.3 / np.sqrt(0.51)), rtol=0.05)
    assert found.distortion_share[0] < 0.1


def test_noise_is_known_to_the_variance_of_a_line():
    """White noise of variance s^2 gives each line of a period the variance N s^2, means over P periods and M experiments less."""
    found = rc.identify.best_linear(record(lag, range(10), noise=0.2), PERIOD)
    amplitude = np.abs(np.fft.rfft(rc.data.multisine(PERIOD, highest=1.0), axis=0))[1:-1, 0] ** 2
    expected = PERIOD * 0.2**2 / (PERIODS - 1) / 10 / amplitude
    np.testing.assert_allclose(np.mean(found.noise[:-1, 0, 0] ** 2 / expected), 1.0, atol=0.06)


def test_a_cubic_has_the_distortion_of_a_gaussian_input():
    """With y = u + a u^3 and white Gaussian u: G = 1 + 3 a, and y - G u is white with the variance 6 a^2."""
    a = 0.1
    found = rc.identify.best_linear(record(lambda u: u + a * u**3, range(20), noise=0.05), PERIOD)
    np.testing.assert_allclose(np.mean(found.G.real), 1 + 3 * a, rtol=0.01)
    np.testing.assert_allclose(found.distortion_share, np.sqrt(6) * a / (1 + 3 * a), rtol=0.05)
    np.testing.assert_allclose(found.noise_share, 0.05 / (1 + 3 * a), rtol=0.05)
    assert "nonlinear distortion 18" in repr(found) or "nonlinear distortion 19" in repr(found)


def test_a_wiener_hammerstein_plant_is_the_product_of_its_lags():
    """Behind a lag the input of the cubic is Gaussian, too: G = H1 H2 (1 + 3 a var), by Bussgang's theorem."""
    a = 0.1
    inner = lambda u: lag(u) + a * lag(u) ** 3  # noqa: E731
    found = rc.identify.best_linear(record(lambda u: lag(inner(u)), range(20)), PERIOD)
    var = 0.09 / 0.51
    error = found.G[:, 0, 0] - lag_response(found.omega) ** 2 * (1 + 3 * a * var)
    # Noise-free: all of the error is distortion, within its deviation; the multisine is Gaussian to one percent.
    slow = found.omega * DT < 1.5
    assert np.mean(np.abs(error[slow]) < 2.5 * found.total[slow, 0, 0] + 0.01) > 0.9
    assert np.all(found.noise < 1e-3 * np.abs(found.G))
    assert 0.005 < found.distortion_share[0] < 0.1


def test_several_inputs_in_unlike_units():
    size = np.array([1e3, 1e-2])

    def plant(u):
        v = u / size
        return np.stack([lag(v[:, 0]) + v[:, 1], v[:, 0] - 2 * lag(v[:, 1])], axis=1)

    us = [
        np.tile(rc.data.multisine(PERIOD, channels=2, highest=1.0, seed=s) * size, (3, 1)) for s in range(6)
    ]
    rng = np.random.default_rng(0)
    given = rc.data.from_arrays(us, [plant(u) + 0.05 * rng.normal(size=u.shape) for u in us], DT)
    found = rc.identify.best_linear(given, PERIOD)
    H, one = lag_response(found.omega), np.ones(len(found.omega))
    G = np.stack([np.stack([H, one], 1), np.stack([one, -2 * H], 1)], axis=1) / size
    share = np.mean(np.abs(found.G - G) < 2.5 * found.total)
    # 2.5 deviations hold a complex normal number in 99.8 %, with four degrees of freedom of the deviation in 97 %
    assert share > 0.9
    np.testing.assert_allclose(np.mean(found.total**2 * size**2), np.mean(found.noise**2 * size**2), rtol=0.2)
    figure = rc.plot.best_linear(found)
    assert len(figure.axes) == 4 and len(figure.legends[0].get_texts()) == 3


def test_one_experiment_tells_noise_alone():
    found = rc.identify.best_linear(record(lag, [0], noise=0.1), PERIOD)
    assert np.isnan(found.total).all() and np.isfinite(found.noise).all()
    assert "more experiments than inputs" in repr(found)
    assert "more experiments than inputs" in rc.plot.best_linear(found).get_suptitle()


def test_bad_input_is_refused():
    given = record(lag, [0])
    with pytest.raises(RobustctlError, match="period must be a whole number"):
        rc.identify.best_linear(given, 2)
    with pytest.raises(DataError, match="two periods of 256 samples"):
        rc.identify.best_linear(given, PERIOD, skip=5)
    with pytest.raises(DataError, match="experiment of other phases for each of 2 inputs"):
        rc.identify.best_linear(record(lag, [0], channels=2), PERIOD)
    e = given.experiments[0]
    with pytest.raises(DataError, match="must vary"):
        rc.identify.best_linear(rc.data.from_arrays(0 * e.u + 1, e.y, DT), PERIOD)
    gap = np.where(np.arange(len(e.y))[:, None] == 900, np.nan, e.y)
    with pytest.raises(DataError, match="no sample of a period may be missing"):
        rc.identify.best_linear(rc.data.from_arrays(e.u, gap, DT), PERIOD)
