"""Losses: against their formulas in NumPy, on records with outliers, and settings out of range."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.signal

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.train import ChannelWeights, Huber, Prefilter, mean_squared_error


def batch(seed=0, samples=50):
    rng = np.random.default_rng(seed)
    y_hat, y = rng.normal(size=(2, 3, samples, 2))
    return y_hat, y, rng.random((3, samples, 2)) < 0.8


def test_huber_is_its_formula():
    y_hat, y, mask = batch()
    size = np.abs(y_hat - y)[mask]
    expected = np.mean(np.where(size <= 0.7, size**2, 0.7 * (2 * size - 0.7)))
    assert float(Huber(0.7)(*map(jnp.asarray, (y_hat, y, mask)))) == pytest.approx(expected)
    assert float(Huber(1e6)(*map(jnp.asarray, (y_hat, y, mask)))) == pytest.approx(np.mean(size**2))


def test_weights_multiply_squares():
    y_hat, y, mask = batch()
    expected = np.sum(np.where(mask, np.array([2.0, 0.5]) * (y_hat - y) ** 2, 0)) / mask.sum()
    assert float(ChannelWeights((2.0, 0.5))(*map(jnp.asarray, (y_hat, y, mask)))) == pytest.approx(expected)
    # A weight of zero leaves the channel free.
    slope = jax.grad(ChannelWeights((1.0, 0.0)))(*map(jnp.asarray, (y_hat, y, mask)))
    assert not slope[..., 1].any() and slope[..., 0].any()


@pytest.mark.parametrize(
    ("low", "high", "kind"), [(None, 1.0, "low"), (1.0, None, "high"), (0.5, 2.0, "band")]
)
def test_a_prefilter_is_the_filter_of_the_error(low, high, kind):
    y_hat, y, mask = batch()
    edges = [f for f in (low, high) if f]
    sections = scipy.signal.butter(3, edges if len(edges) > 1 else edges[0], kind, fs=10.0, output="sos")
    error = scipy.signal.sosfilt(sections, np.where(mask, y_hat - y, 0), axis=1)
    found = Prefilter(0.1, low, high, order=3)(*map(jnp.asarray, (y_hat, y, mask)))
    assert float(found) == pytest.approx(np.sum(np.where(mask, error, 0) ** 2) / mask.sum(), rel=1e-9)


@pytest.mark.parametrize("loss", [Huber(0.5), ChannelWeights((1.0, 2.0)), Prefilter(0.1, high=1.0)])
def test_what_was_not_measured_does_not_count(loss):
    y_hat, y, mask = map(jnp.asarray, batch())
    wild = jnp.where(mask, y_hat, jnp.inf)
    assert float(loss(wild, y, mask)) == pytest.approx(float(loss(y_hat, y, mask)))
    slope = jax.grad(loss)(y_hat, y, mask)
    assert jnp.isfinite(slope).all() and not slope[~mask].any()


def test_losses_of_equal_settings_are_equal_and_combine():
    assert Prefilter(0.1, 1.0) == Prefilter(0.1, 1.0) and hash(Huber(0.1)) == hash(Huber(0.1))
    both = ChannelWeights((1.0, 4.0), Huber(0.5))
    y_hat, y, mask = map(jnp.asarray, batch())
    scale = jnp.asarray([[[1.0, 2.0]]])
    assert float(both(y_hat, y, mask)) == pytest.approx(float(Huber(0.5)(scale * y_hat, scale * y, mask)))


def test_outliers_spoil_the_squared_loss_and_not_hubers():
    rng = np.random.default_rng(0)
    u, y = rng.normal(size=200), np.zeros(200)
    for t in range(199):
        y[t + 1] = 0.8 * y[t] + 0.6 * u[t]
    struck, dirty = rng.random(200) < 0.05, y.copy()
    dirty[struck] += 20.0
    record, clean = (rc.data.from_arrays(u, values, 1.0) for values in (dirty, y))
    error = {}
    for loss in (mean_squared_error, Huber(0.1)):
        model = rc.nn.StableLinear(nu=1, nx=1, ny=1, init=rc.nn.long_memory, key=jr.key(0))
        problem = rc.train.Identification(record, loss=loss)
        fitted = rc.train.train(
            problem, model, epochs=200, optimizer=rc.train.clipped_adam(3e-2), monitor=None, key=jr.key(1)
        )
        error[loss] = rc.simulate(fitted.model, clean).scores().nrmse[0]
    assert error[Huber(0.1)] < 0.02 and error[mean_squared_error] > 0.5


@pytest.mark.parametrize("width", [0, -1.0, np.inf, np.nan, True, "1"])
def test_a_width_out_of_range_is_refused(width):
    with pytest.raises((RobustctlError, TypeError), match=r"width"):
        Huber(width)


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.0, 0.0), (np.nan, 1.0), (), (np.inf,)])
def test_weights_out_of_range_are_refused(weights):
    with pytest.raises(RobustctlError, match="weights must be finite numbers of at least 0"):
        ChannelWeights(weights)


def test_weights_of_another_number_of_outputs_are_refused():
    with pytest.raises(RobustctlError, match="a weight for each of 2 outputs"):
        ChannelWeights((1.0,))(*map(jnp.asarray, batch()))


@pytest.mark.parametrize(
    "band", [(None, None), (None, 5.0), (6.0, None), (2.0, 1.0), (1.0, 1.0), (0.0, 1.0), (None, -1.0)]
)
def test_bands_without_meaning_are_refused(band):
    with pytest.raises(RobustctlError, match="Nyquist frequency 5 Hz"):
        Prefilter(0.1, *band)
