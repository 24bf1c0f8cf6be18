"""Standard deviations of linear models: slopes by differences, values by python-control, shares of draws."""

import dataclasses
import json
from itertools import product

import control as ct
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

import robustctl as rc
from benchmarks.linear_coverage import COLORS, LEAST, MOST, NOISE, SAMPLES, draw, plants, response
from robustctl.errors import DataError, RobustctlError
from robustctl.linear.covariance import _weighted, noise_of
from robustctl.linear.polish import moved

from .processes import ROOT

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def known():
    rng = np.random.default_rng(0)
    system = plants()["two inputs, two outputs"]
    u = rng.normal(size=(400, 2))
    y = response(system, u) * [2.0, 0.1]
    late = np.concatenate([np.zeros((3, 1)), u[:-3, 1:]])
    y = response(system, np.concatenate([u[:, :1], late], axis=1)) * [2.0, 0.1]
    y += 0.1 * y.std(axis=0) * rng.normal(size=y.shape)
    record = rc.data.from_arrays(
        u, y, 0.1, inputs=["valve", "heater"], outputs=["level", "T"], input_units=["V", "W"], output_units=["m", "K"]
    )  # fmt: skip
    return rc.identify.uncertainty(rc.identify.subspace(record, order=4, delay=(0, 3)), record)


OMEGA = np.array([0.3, 2.0, 20.0])
QUANTITIES = {
    "step": lambda k: k.step_response(25),
    "frequency": lambda k: k.frequency_response(OMEGA),
    "poles": lambda k: k.poles(),
    "zeros": lambda k: k.zeros(1, 0),
}


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_deviations_are_those_of_differences(known, quantity):
    """Where one combination of the numbers alone varies, the deviation is the quantity's derivative along it."""
    rng = np.random.default_rng(1)
    along = rng.normal(size=len(known.covariance))
    once = dataclasses.replace(known, covariance=np.outer(along, along))
    of = QUANTITIES[quantity]

    def at(h):
        found = of(dataclasses.replace(known, model=moved(known.model, h * along))).value
        nearest = [np.argmin(np.abs(found - v)) for v in of(known).value] if found.ndim == 1 else ...
        return found[nearest]

    slope = (at(1e-6) - at(-1e-6)) / 2e-6
    parts = np.stack([slope.real, slope.imag], axis=-1) if np.iscomplexobj(slope) else slope
    np.testing.assert_allclose(of(once).std, np.abs(parts), rtol=1e-4, atol=1e-6 * np.abs(parts).max())


def _sorted(values):
    return values[np.lexsort((values.imag, values.real.round(6)))]


def test_gain_and_phase_deviate_as_their_numbers_do():
    spread = rc.identify.Spread(np.array([3.0j]), np.diag([0.04, 0.09])[None])
    gain, phase, gain_std, phase_std = spread.gain_and_phase()
    np.testing.assert_allclose((gain[0], phase[0]), (3.0, np.pi / 2))
    np.testing.assert_allclose((gain_std[0], phase_std[0]), (0.3 / 3, 0.2 / 3))


def test_values_are_those_of_python_control(known):
    plant = rc.classical.to_control(known.state_space())
    _, y = ct.step_response(plant, 0.1 * np.arange(25), input=0)
    np.testing.assert_allclose(
        known.step_response(25).value[:, :, 0], np.asarray(y)[:, 0].T, rtol=1e-4, atol=1e-4
    )
    G = (
        plant(np.exp(1j * OMEGA * 0.1)).transpose(2, 0, 1)
        * np.stack([np.ones(3), np.exp(-0.3j * OMEGA)], axis=1)[:, None]
    )
    np.testing.assert_allclose(known.frequency_response(OMEGA).value, G, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(_sorted(known.poles().value), _sorted(plant.poles()), atol=1e-4)
    zeros = plant[1, 0].zeros()
    np.testing.assert_allclose(_sorted(known.zeros(1, 0).value), _sorted(zeros), atol=1e-3)


def test_colored_noise_enters_as_its_covariance_does():
    """`J' R J` against the matrix R of all samples, some of them missing."""
    rng = np.random.default_rng(0)
    e = scipy.signal.lfilter([1], [1, -0.8], rng.normal(size=40_000))
    noise = noise_of([e[:20_000, None], e[20_000:, None]])
    np.testing.assert_allclose(noise.F[0].item(), 0.8, atol=0.02)
    np.testing.assert_allclose(noise.S.item(), 1.0, atol=0.03)
    ok = rng.uniform(size=(200, 1)) > 0.1
    J = rng.normal(size=(ok.sum(), 3))
    F, S = noise.F[:, 0, 0], noise.S.item()
    impulse = scipy.signal.lfilter([1], np.append(1, -F), np.eye(1, 400)[0])
    R = S * scipy.linalg.toeplitz([impulse[: 400 - k] @ impulse[k:] for k in range(200)])
    seen = ok[:, 0]
    np.testing.assert_allclose(_weighted(J, ok, noise), J.T @ R[seen][:, seen] @ J, rtol=1e-6, atol=1e-6)


def test_the_direction_that_was_not_excited_is_uncertain():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(500, 1)) @ [[1.0, -1.0]] + 1e-3 * rng.normal(size=(500, 2))
    y = scipy.signal.lfilter([0, 0.1], [1, -0.9], u @ [2.0, 1.0])
    record = rc.data.from_arrays(u, y + 0.1 * y.std() * rng.normal(size=500), 1.0)
    known = rc.identify.uncertainty(rc.identify.subspace(record, order=1, delay=0), record)
    # the gain of each alone, 2 and 1, is not known
    assert np.all(known.step_response(60).std[-1, 0] > 1)
    np.testing.assert_allclose(known.poles().value, 0.9, atol=4 * known.poles().std[0, 0])


def holds(shares):
    assert all(LEAST <= shares[quantity] <= MOST for quantity in QUANTITIES), shares


@pytest.mark.slow
def test_bands_hold_the_truth_in_95_of_100_draws():
    """Of the plant and the noise that are the hardest; the results file has the others."""
    shares = [draw(plants()["one input, one output"], 0.9, seed) for seed in range(200)]
    holds({quantity: np.mean([s[quantity] for s in shares]) for quantity in QUANTITIES})


def test_the_recorded_bands_hold_the_truth_in_95_of_100_draws():
    found = json.loads((ROOT / "results" / "linear_coverage.json").read_text("utf-8"))
    assert found["draws"] == 200 and found["samples"] == SAMPLES and found["noise"] == NOISE
    assert [(row["plant"], row["noise_pole"]) for row in found["rows"]] == list(product(plants(), COLORS))
    for row in found["rows"]:
        holds(row)


def test_bad_input_is_refused(known):
    record = rc.problems.two_tanks(200, seed=0)
    fit = rc.identify.subspace(record, order=1, delay=0)
    with pytest.raises(DataError, match="model's sample time"):
        rc.identify.uncertainty(fit, known.record)
    with pytest.raises(RobustctlError, match="samples must be a whole number"):
        rc.plot.step_response(known, 0)
    with pytest.raises(RobustctlError, match="output must be below 2"):
        rc.plot.pole_zero(known, 2)


def test_figures_show_channels_units_and_bands(known):
    figure = rc.plot.step_response(known, 30)
    figure.draw_without_rendering()
    assert [ax.get_ylabel() for ax in figure.axes] == ["level [m/V]", "", "T [K/V]", ""]
    assert [ax.get_title() for ax in figure.axes][:2] == ["from valve", "from heater"]
    assert all(len(ax.collections) == 1 for ax in figure.axes)
    line, band = figure.axes[0].lines[0], figure.axes[0].collections[0]
    found = known.step_response(30)
    np.testing.assert_allclose(line.get_ydata(), found.value[:, 0, 0])
    top = band.get_paths()[0].vertices[:, 1].max()
    np.testing.assert_allclose(top, (found.value + 1.96 * found.std)[:, 0, 0].max())
    assert len(rc.plot.bode(known).axes) == 8
    figure = rc.plot.pole_zero(known, 1, 0)
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [
        "poles",
        "zeros from valve to T",
    ]
