"""Fitted models know the range of the record they were trained on, and say where another record leaves it."""

import dataclasses
import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import RobustctlWarning
from robustctl.train import FittedModel, TrainedRange, ZeroState


def record(u, y=None, dt=0.01):
    y = 0.5 * np.asarray(u)[:, :1] if y is None else y
    names = {"inputs": ["force", "heat"], "outputs": ["speed"]}
    return rc.data.from_arrays(u, y, dt, input_units=["N", ""], output_units=["m/s"], **names)


def sines(*frequencies, samples=1000, size=1.0):
    """Two inputs, sums of sines of equal amplitude at these frequencies in Hz, sampled every 10 ms."""
    t = 0.01 * np.arange(samples)[:, None]
    one = sum(np.sin(2 * np.pi * f * t + [0.0, 1.0] + f) for f in frequencies)
    return size * one / np.sqrt(len(frequencies))


def model_of(trained):
    model = rc.nn.StableLinear(nu=2, nx=1, ny=1, key=jr.key(0))
    names = trained.inputs, trained.outputs, trained.input_units, trained.output_units
    scaling = rc.data.Scaling.fit(trained)
    return FittedModel(model, ZeroState(), scaling, trained.dt, *names, trained=TrainedRange.of(trained))


def test_the_range_is_that_of_the_measured_samples():
    u, y = sines(2, 5), np.linspace(-1.0, 3.0, 1000)
    u[10, 0], y[0] = np.nan, np.nan
    u[11, 0] = 7.0
    found = TrainedRange.of(record(u, y))
    assert found.u[0] == (np.nanmin(u[:, 0]), 7.0) and found.y == ((y[1], 3.0),)


def test_the_band_holds_nearly_all_power():
    found = TrainedRange.of(record(sines(2, 5, 9)))
    for low, high in found.band:
        assert low == pytest.approx(2.0, abs=0.2) and high == pytest.approx(9.0, abs=0.2)
    # A slow drift does not fill all frequencies by its jump from the last sample to the first.
    drift = record(np.column_stack([np.linspace(0, 1, 1000), np.ones(1000)]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert TrainedRange.of(drift).band[1] is None
    assert TrainedRange.of(drift).band[0][1] < 0.5


def test_a_record_of_the_same_kind_is_inside():
    rng = np.random.default_rng(0)
    trained = record(rng.normal(size=(1000, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(20):
            other = record(np.random.default_rng(seed + 1).normal(size=(1000, 2)))
            assert rc.simulate(model_of(trained), other).outside == ()


def test_values_outside_are_named_with_their_share():
    u = sines(2, 5)
    trained, other = record(u), u.copy()
    other[100:300, 0] = 9.0
    with pytest.warns(
        RobustctlWarning,
        match=r"'force' is outside of the trained range.* N, in 20 % of its samples, by up to",
    ):
        found = rc.simulate(model_of(trained), record(other, y=0.5 * u[:, :1])).outside
    force = found[0]
    assert (force.channel, force.kind, force.share) == ("force", "values", 0.2)
    assert force.excess == pytest.approx(9.0 - u[:, 0].max())


def test_another_band_is_named_with_its_share():
    trained, other = record(sines(2, 5, 9)), record(sines(5, 30))
    with pytest.warns(RobustctlWarning, match="of its power outside of the trained band, 1.9"):
        found = rc.simulate(model_of(trained), other).outside
    assert [(d.channel, d.kind) for d in found] == [("force", "band"), ("heat", "band")]
    assert found[0].share == pytest.approx(0.5, abs=0.05)


def test_outputs_count_too_and_single_far_samples():
    u = sines(2, 5)
    y = 0.5 * u[:, :1]
    y[3] = 100.0
    found = TrainedRange.of(record(u)).departures(record(u, y))
    assert [d.channel for d in found] == ["speed"] and found[0].share == 0.001


def test_a_fit_keeps_the_range_and_files_and_the_report_say_it(tmp_path):
    trained = record(sines(2, 5))
    core = rc.nn.StableLinear(nu=2, nx=1, ny=1, key=jr.key(0))
    model = rc.fit(core, trained, epochs=1, monitor=None, key=jr.key(0)).model
    assert (
        model.trained
        == TrainedRange.of(trained)
        == rc.identify.subspace(trained, order=1, delay=0).model.trained
    )
    rc.save(tmp_path / "m.safetensors", model)
    loaded = rc.load(tmp_path / "m.safetensors")
    assert loaded.trained == model.trained
    rc.save(tmp_path / "explicit.safetensors", model.explicit())
    assert rc.load(tmp_path / "explicit.safetensors").trained_ranges() == model.trained_ranges()
    with pytest.warns(RobustctlWarning):
        report = rc.fit_report(loaded, record(sines(2, 5, size=3.0)))
    assert "outside of the trained range" in str(report)
    assert report.to_dict()["outside"][0]["channel"] == "force"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unknown = dataclasses.replace(loaded, trained=None)
        assert "trained range" not in str(rc.fit_report(unknown, record(sines(2, 5, size=3.0))))


def test_a_stream_says_it_once():
    trained = record(sines(2, 5))
    model = model_of(trained)
    stream = rc.observers.Stream(model, "heat")
    stream(0.1, 0.1)
    assert stream.outside() == ()
    with pytest.warns(RobustctlWarning, match="'heat' is outside"):
        stream(0.0, 50.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream(0.0, np.nan)
        stream(0.0, 50.0)
    (heat,) = stream.outside()
    # Of three measured samples of the heat two were outside; one that was not measured is neither.
    assert heat.share == pytest.approx(2 / 3) and heat.excess == pytest.approx(
        50 - trained.experiments[0].u[:, 1].max()
    )
    stream.reset()
    assert stream.outside() == ()
    silent = rc.observers.Stream(dataclasses.replace(model, trained=None), "heat")
    silent(jnp.asarray(1e3), 1e3)
    assert silent.outside() == ()


def test_windows_of_a_record_hide_nothing_slower_than_them():
    slow = np.cumsum(np.random.default_rng(0).normal(size=(1000, 2)), axis=0)
    whole = record(slow)
    assert TrainedRange.of(rc.data.windows(whole, 100, stride=50)).departures(whole) == ()
