"""Linear models of measured frequency responses of plants that are known."""

import dataclasses

import numpy as np
import pytest
import scipy.signal

import robustctl as rc
from robustctl.errors import DataError, RobustctlError
from robustctl.identify import BestLinear

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
DT = 0.1


def plant(rng, order, ny, nu):
    """Return a plant of lightly damped pairs of poles, in modal form."""
    radius, angle = rng.uniform(0.85, 0.97, order // 2), rng.uniform(0.2, 2.8, order // 2)
    pairs = [r * np.array([[np.cos(w), -np.sin(w)], [np.sin(w), np.cos(w)]]) for r, w in zip(radius, angle, strict=True)]  # fmt: skip
    A = np.kron(np.eye(order // 2), np.zeros((2, 2)))
    for k, pair in enumerate(pairs):
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = pair
    return rc.StateSpace(A, rng.normal(size=(order, nu)), rng.normal(size=(ny, order)), rng.normal(size=(ny, nu)), DT)  # fmt: skip


def response(model, omega):
    A, B, C, D = (np.asarray(m) for m in (model.A, model.B, model.C, model.D))
    z = np.exp(1j * omega * DT)[:, None, None]
    return C @ np.linalg.inv(z * np.eye(len(A)) - A) @ B + D


def measured(rng, model, deviation, lines=150):
    """Return a response with complex normal errors of a standard deviation (n, ny, nu) or a scalar."""
    omega = np.linspace(0.2, 31, lines)
    G = response(model, omega)
    deviation = np.broadcast_to(deviation, G.shape)
    error = (rng.normal(size=G.shape) + 1j * rng.normal(size=G.shape)) / np.sqrt(2)
    inputs, outputs = tuple(f"u{k}" for k in range(G.shape[2])), tuple(f"y{k}" for k in range(G.shape[1]))
    unknown, share = np.full(G.shape, np.nan), np.zeros(len(outputs))
    return BestLinear(
        omega, G + deviation * error, deviation, unknown, share, share, 2, 2, inputs, outputs, ("",) * len(inputs),
        ("",) * len(outputs), DT,
    )  # fmt: skip


@pytest.mark.parametrize("seed, order, ny, nu", [(0, 2, 1, 1), (1, 4, 2, 1), (2, 6, 3, 2), (3, 4, 1, 3)])
def test_without_noise_order_and_response_are_the_plants(seed, order, ny, nu):
    rng = np.random.default_rng(seed)
    truth = plant(rng, order, ny, nu)
    units = 10.0 ** rng.uniform(-4, 4, (ny, nu)).round()[:, :1]
    scaled = dataclasses.replace(truth, C=truth.C * units, D=truth.D * units)
    found = rc.identify.fit_response(measured(rng, scaled, 0.0))
    assert found.order == order
    omega, G = np.linspace(0.1, 31, 40), found.state_space()
    error = (response(G, omega) - response(scaled, omega)) / units
    assert np.abs(error).max() < 1e-6
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(G.A)), np.sort_complex(np.linalg.eigvals(truth.A)), atol=1e-6
    )


def test_noise_leaves_a_misfit_of_one_and_bands_that_hold_the_plant():
    """Twenty draws: error over standard deviation has the mean square of two normal numbers, one."""
    rng = np.random.default_rng(5)
    truth = plant(rng, 4, 2, 1)
    deviation = 0.05 * np.abs(response(truth, np.linspace(0.2, 31, 150)))
    omega, squares, misfits = np.linspace(0.5, 30, 30), [], []
    for _ in range(20):
        found = rc.identify.fit_response(measured(rng, truth, deviation), 4)
        misfits.append(found.misfit)
        band = found.frequency_response(omega)
        error = band.value - response(truth, omega)
        inverse = np.linalg.inv(band.covariance)
        parts = np.stack([error.real, error.imag], axis=-1)
        squares.append(np.mean(np.einsum("...i,...ij,...j->...", parts, inverse, parts)) / 2)
    # The mean of 300 squares deviates by 8 %; over frequencies the errors of a draw are dependent, 12 numbers in each.
    np.testing.assert_allclose(np.mean(misfits), 1.0, atol=0.05)
    np.testing.assert_allclose(np.mean(squares), 1.0, atol=0.25)


def test_weights_count():
    """Where half of the frequencies are a hundred times noisier, the error is that of the other half."""
    rng = np.random.default_rng(7)
    truth = plant(rng, 4, 1, 1)
    deviation = np.where(np.arange(150) % 2, 0.01, 1.0)[:, None, None] * np.abs(
        response(truth, np.linspace(0.2, 31, 150))
    )
    given = measured(rng, truth, deviation)
    flat = dataclasses.replace(given, noise=np.full(given.G.shape, 0.1))
    omega = np.linspace(0.5, 30, 60)
    errors = [
        np.linalg.norm(response(rc.identify.fit_response(b, 4).state_space(), omega) - response(truth, omega))
        for b in (given, flat)
    ]
    assert errors[0] < 0.1 * errors[1]


def test_a_record_of_a_nonlinear_plant():
    """A lag before a cubic: the best linear approximation is the lag times a constant (Bussgang), of order one."""
    period = 256
    us = [np.tile(rc.data.multisine(period, highest=1.0, seed=s), (4, 1)) for s in range(10)]
    inner = [np.asarray(scipy.signal.lfilter([0, 0.3], [1, -0.7], u, axis=0)) for u in us]
    record = rc.data.from_arrays(us, [x + 0.5 * x**3 for x in inner], DT)
    found = rc.identify.fit_response(rc.identify.best_linear(record, period))
    assert found.order == 1 and 0.7 < found.misfit < 1.6
    np.testing.assert_allclose(found.state_space().A, 0.7, atol=0.02)
    assert "misfit by order" in repr(found)
    assert "fitted model" in rc.plot.best_linear(found.best, found).legends[0].get_texts()[3].get_text()


def test_bad_orders():
    rng = np.random.default_rng(0)
    given = measured(rng, plant(rng, 2, 1, 1), 0.1, lines=8)
    for wrong in (0, -1):
        with pytest.raises(RobustctlError, match="whole number of at least 1"):
            rc.identify.fit_response(given, wrong)
    with pytest.raises(DataError, match=r"at most .* frequencies determine"):
        rc.identify.fit_response(given, 30)
