import contextlib
import dataclasses
import json
import re
import warnings

import numpy as np
import pytest

from robustctl.data import (
    Experiment,
    Record,
    Scaling,
    average_periods,
    detrend,
    from_arrays,
    merge,
    resample,
    retrend,
    select,
    split,
    windows,
)
from robustctl.data.resample import clock_drift, to_grid
from robustctl.errors import DataError, RobustctlWarning

from .data_fixtures import refused

NAN = np.nan


def make(samples=100, nu=2, ny=1, dt=0.1, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    u, y = rng.normal(3.0, 2.0, (samples, nu)), rng.normal(-1.0, 5.0, (samples, ny))
    return from_arrays(u, y, dt, **kwargs)


def test_one_dimensional_arrays_and_default_names():
    record = from_arrays([1, 2, 3], np.array([1.0, 4.0, 9.0]), 0.5)
    assert (record.nu, record.ny, record.samples, record.dt) == (1, 1, 3, 0.5)
    assert record.inputs == ("u[0]",) and record.outputs == ("y[0]",)
    assert record.input_units == ("",)
    experiment = record.experiments[0]
    assert experiment.u.dtype == np.float64 and experiment.u.shape == (3, 1)
    assert experiment.u_mask.all() and experiment.y_mask.dtype == bool
    np.testing.assert_array_equal(record.time(), [0.0, 0.5, 1.0])


def test_several_experiments_of_unequal_length():
    record = from_arrays([np.zeros(5), np.ones(8)], [np.zeros((5, 2)), np.ones((8, 2))], 1.0, name="run")
    assert [e.samples for e in record.experiments] == [5, 8]
    assert [e.name for e in record.experiments] == ["run[0]", "run[1]"]
    assert record.samples == 13 and record.outputs == ("y[0]", "y[1]")


def test_gaps_are_marked_and_filled():
    u = [NAN, 1.0, NAN, 3.0, NAN]
    y = np.array([[NAN, 1.0], [5.0, NAN], [NAN, NAN], [NAN, 2.0], [7.0, 3.0]])
    experiment = from_arrays(u, y, 1.0).experiments[0]
    np.testing.assert_array_equal(experiment.u[:, 0], [1.0, 1.0, 2.0, 3.0, 3.0])
    np.testing.assert_array_equal(experiment.y[:, 0], [5.0, 5.0, 5.0, 5.0, 7.0])
    np.testing.assert_array_equal(experiment.y[:, 1], [1.0, 1.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(experiment.u_mask[:, 0], [False, True, False, True, False])
    np.testing.assert_array_equal(experiment.y_mask, ~np.isnan(y))


def test_an_output_missing_in_one_experiment_only_is_zero_there():
    record = from_arrays([np.ones(3), np.ones(3)], [np.full(3, NAN), np.ones(3)], 1.0)
    np.testing.assert_array_equal(record.experiments[0].y, 0.0)
    assert not record.experiments[0].y_mask.any()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(4, dtype=np.int16),
        np.array([True, False, True, True]),
        np.arange(4, dtype=np.float32),
        np.array([0, 1.5, 2, 3], dtype=object),
        (0, 1, 2, 3),
    ],
)
def test_real_dtypes_become_float64(values):
    u = from_arrays(values, np.arange(4.0), 1.0).experiments[0].u[:, 0]
    assert u.dtype == np.float64
    np.testing.assert_array_equal(u, np.asarray(values, np.float64))


def test_none_and_masked_arrays_are_missing():
    hidden = np.ma.MaskedArray([1, 2, 3], mask=[False, True, False])
    experiment = from_arrays(hidden, np.array([1.0, None, 2.0], object), 1.0).experiments[0]
    assert experiment.u_mask[:, 0].tolist() == experiment.y_mask[:, 0].tolist() == [True, False, True]


def test_the_record_does_not_follow_the_callers_array():
    u = np.zeros(4)
    record = from_arrays(u, np.ones(4), 1.0)
    u[:] = 7.0
    assert record.experiments[0].u.max() == 0.0
    with pytest.raises(ValueError, match="read-only"):
        record.experiments[0].u[0] = 1.0


@pytest.mark.parametrize(
    ("u", "y", "message"),
    [
        (np.ones(3), np.ones(4), "got 3 and 4"),
        (np.ones((3, 1, 1)), np.ones(3), r"\(3, 1, 1\)"),
        (np.ones((3, 0)), np.ones(3), "n >= 1|at least one channel"),
        (np.ones(1), np.ones(1), "at least 2 samples, got 1"),
        ([], [], "at least 2 samples, got 0"),
        (np.ones(3) * 1j, np.ones(3), "real numbers.*complex128"),
        (np.array([1.0, 2j, 3.0], object), np.ones(3), "real numbers"),
        (np.array([1.0, "2", 3.0], object), np.ones(3), "text"),
        (np.array(["1", "2", "3"]), np.ones(3), "real numbers"),
        (np.array(["2020-01-01"] * 3, "datetime64[s]"), np.ones(3), "real numbers"),
        ([[1.0, 2.0], [[1.0], [2.0, 3.0]]], [[1.0, 2.0], [1.0, 2.0]], "rows of one length"),
        ([np.ones(3), np.ones(3)], np.ones(3), "2 and 1"),
        (np.ones(3), [1.0, np.inf, 2.0], r"'y\[0\]' is infinite at sample 1 "),
        (np.array([[1.0, 1.0], [1.0, -np.inf]]), np.ones(2), r"'u\[1\]' is infinite at sample 1 "),
        (np.full(3, NAN), np.ones(3), r"input 'u\[0\]' has no measured"),
        (np.ones(3), np.full(3, NAN), r"output 'y\[0\]' has no measured"),
    ],
)
def test_bad_arrays(u, y, message):
    with refused(message):
        from_arrays(u, y, 1.0)


@pytest.mark.parametrize("dt", [0, -0.1, NAN, np.inf, None, True, "0.1", 1j])
def test_bad_sample_time(dt):
    with refused("dt must be a finite sample time > 0"):
        from_arrays(np.ones(3), np.ones(3), dt)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"inputs": ["a", "a"]}, "given more than once"),
        ({"inputs": ["a", " "]}, "empty name"),
        ({"inputs": ["a", "b"], "outputs": "a"}, "given as both"),
        ({"inputs": ["a"]}, r"2 channel\(s\) and 1 name"),
        ({"inputs": [1, 2]}, "list of names"),
        ({"outputs": []}, "1 channel"),
        ({"input_units": ["V"]}, "1 units for 2 names"),
        ({"t0": NAN}, "t0 must be finite"),
        ({"t0": "now"}, "t0 must be finite"),
    ],
)
def test_bad_names(names, message):
    with refused(message):
        make(**names)


def test_records_built_by_hand_are_checked():
    good = make(5, nu=1).experiments[0]
    lost = good.u.copy()
    lost[2] = NAN
    with refused(r"u\[2, 0\] is nan and measured"):
        dataclasses.replace(good, u=lost)
    mask = good.u_mask.copy()
    mask[2] = False
    with refused("nan and masked"):
        dataclasses.replace(good, u=lost, u_mask=mask)
    with refused("u_mask must be bool"):
        dataclasses.replace(good, u_mask=np.ones((5, 1)))
    with refused(r"shape \(T, n\)"):
        Experiment(good.u[:, 0], good.y, good.u_mask, good.y_mask)
    with refused("at least one experiment"):
        Record((), 1.0, ("u",), ("y",))
    with refused("1 input and 1 output"):
        Record((good,), 1.0, ("u", "v"), ("y",))
    with refused("at least one channel"):
        Record((good,), 1.0, (), ("y",))


def test_summary_says_what_is_there():
    record = from_arrays(
        [1.0, NAN, 2.0, 3.0], np.ones(4), 0.5, inputs="valve", input_units="V", outputs="level"
    )
    text = repr(record)
    assert text == str(record)
    for part in (
        "1 experiment,",
        "4 samples",
        "dt = 0.5 s",
        "2 s in all",
        "valve [V] (25 % missing)",
        "level (0 %",
    ):
        assert part in text


def test_merge_keeps_order():
    a, b = make(10, name="a"), make(20, name="b")
    merged = merge(a, b)
    assert [e.name for e in merged.experiments] == ["a", "b"] and merged.samples == 30
    assert merged.experiments[1] is b.experiments[0]


def test_merge_refuses_what_does_not_match():
    with refused(r"mixed sample times: dt = 0\.1 s and dt = 0\.2 s"):
        merge(make(), make(dt=0.2))
    with refused("share their inputs"):
        merge(make(), make(inputs=["a", "b"]))
    with refused(r"output_units: \('',\) and \('V',\) differ"):
        merge(make(), make(output_units=["V"]))
    with refused(r"input_units: \('V', 'V'\) and \('V', 'mV'\) differ"):
        merge(make(input_units=["V", "V"]), make(input_units=["V", "mV"]))
    with refused("at least one record"):
        merge()


def test_split_cuts_in_time_order():
    record = merge(make(100), make(50, seed=1))
    train, valid, test = split(record)
    assert [e.samples for e in train.experiments] == [60, 30]
    for index, whole in enumerate(record.experiments):
        pieces = [part.experiments[index] for part in (train, valid, test)]
        np.testing.assert_array_equal(np.concatenate([p.u for p in pieces]), whole.u)
        np.testing.assert_array_equal(np.concatenate([p.y_mask for p in pieces]), whole.y_mask)
    assert valid.time(0)[0] == pytest.approx(6.0)


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (1.2, -0.2), (0.5, 0.5, 0.0), (NAN, 1.0), ("a",), 0.5])
def test_bad_fractions(fractions):
    with refused("fractions must be numbers > 0 that sum to 1"):
        split(make(), fractions)


def test_split_of_too_short_a_record():
    with refused("too short to split"):
        split(make(6))


def test_windows_overlap_and_say_where_they_come_from():
    record = make(10, nu=1, name="run")
    parts = windows(record, 4, 3)
    assert [e.name for e in parts.experiments] == ["run@0", "run@3", "run@6"]
    np.testing.assert_array_equal(parts.experiments[1].u, record.experiments[0].u[3:7])
    assert np.shares_memory(parts.experiments[1].u, record.experiments[0].u)
    assert parts.time(2)[0] == pytest.approx(0.6)


def test_windows_drop_short_experiments_with_a_warning():
    with pytest.warns(RobustctlWarning, match="1 of 2 experiments"):
        parts = windows(merge(make(10), make(3)), 5, 5)
    assert len(parts.experiments) == 2
    with refused("as long as the window of 5 samples, the longest has 4"):
        windows(make(4), 5, 1)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (3, 0), (2.5, 1), (True, 1), (3, "1")])
def test_bad_windows(length, stride):
    with refused("must be an integer number of samples"):
        windows(make(), length, stride)


def test_the_mean_of_periods_leaves_out_the_first_and_what_is_missing():
    rng = np.random.default_rng(0)
    u, noise = np.tile(rng.normal(size=(5, 2)), (4, 1)), rng.normal(size=22)
    y = np.tile(np.arange(5.0), 5)[:22] + noise
    y[6], y[[7, 12, 17]] = NAN, NAN
    record = from_arrays(np.vstack([u, u[:2]]), y, 0.1, inputs=["a", "b"], input_units=["V", "A"], name="run")
    (mean,) = (found := average_periods(record, 5)).experiments
    np.testing.assert_allclose(mean.u, u[:5])
    folded = noise[5:20].reshape(3, 5)
    np.testing.assert_allclose(mean.y[0], folded[:, 0].mean())
    np.testing.assert_allclose(mean.y[1], 1 + folded[1:, 1].mean())
    assert mean.y_mask[:, 0].tolist() == [True, True, False, True, True]
    assert (found.inputs, found.input_units, mean.name) == (record.inputs, record.input_units, "run")
    np.testing.assert_allclose(
        average_periods(record, 11, skip=0).experiments[0].u.mean(), record.experiments[0].u.mean()
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(period=1), "period must be an integer >= 2, got 1"),
        (dict(period=2.5), "period must be an integer"),
        (dict(period=5, skip=-1), "skip must be an integer >= 0"),
        (dict(period=60), "must hold 2 periods of 60 samples, 1 of them to skip, and has 100 samples"),
    ],
)
def test_bad_periods(wrong, message):
    with refused(message):
        average_periods(make(100), **wrong)


def test_select_reorders_channels_with_their_units():
    record = make(nu=3, ny=2, inputs=["a", "b", "c"], input_units=["V", "A", "W"])
    part = select(record, inputs=["c", "a"], outputs="y[1]")
    assert part.inputs == ("c", "a") and part.input_units == ("W", "V") and part.outputs == ("y[1]",)
    np.testing.assert_array_equal(part.experiments[0].u[:, 0], record.experiments[0].u[:, 2])
    for wrong in ({"inputs": "d"}, {"outputs": []}, {"inputs": ["a", "a"]}):
        with refused():
            select(record, **wrong)


def test_mean_detrend_pools_measured_samples_of_all_experiments():
    y = [np.array([1.0, NAN, 3.0]), np.array([8.0, 8.0])]
    record = from_arrays([np.zeros(3), np.zeros(2)], y, 1.0)
    flat, trend = detrend(record)
    assert trend.y_offset.tolist() == [[5.0]]
    assert flat.experiments[1].y[:, 0].tolist() == [3.0, 3.0]
    back = retrend(flat, trend)
    for one, two in zip(back.experiments, record.experiments, strict=True):
        np.testing.assert_allclose(one.y, two.y)


def test_linear_detrend_of_the_training_part_continues_into_the_test_part():
    t = np.arange(200) * 0.1
    y = 4.0 - 0.7 * (t + 1.7e9)
    record = from_arrays(np.sin(t), np.where(np.arange(200) % 7 == 3, NAN, y), 0.1, t0=1.7e9)
    train, test = split(record, (0.7, 0.3))
    flat, trend = detrend(train, "linear")
    assert np.abs(flat.experiments[0].y[flat.experiments[0].y_mask]).max() < 1e-5
    later, same = detrend(test, reference=trend)
    assert same is trend
    assert np.abs(later.experiments[0].y[later.experiments[0].y_mask]).max() < 1e-4
    np.testing.assert_allclose(retrend(later, trend).experiments[0].y, test.experiments[0].y)


def test_bad_trends():
    record = merge(make(), make())
    with refused("kind must be"):
        detrend(record, "cubic")  # pyright: ignore[reportArgumentType]
    _, trend = detrend(record, "linear")
    with refused("each of the trend's 2 lines, got 1"):
        detrend(make(), reference=trend)
    with refused("2 inputs and 1 outputs"):
        retrend(make(nu=1), trend)
    lonely = from_arrays(np.ones(3), [1.0, NAN, NAN], 1.0)
    with refused(r"'y\[0\]' must have 2 measured"):
        detrend(lonely, "linear")


def test_resample_reproduces_a_straight_line_and_masks_long_gaps():
    t = np.concatenate([np.sort(np.random.default_rng(0).uniform(0, 5, 80)), np.linspace(8, 10, 40)])
    grid, y = resample(t, 2.0 * t + 1.0, 0.05)
    known = ~np.isnan(y)
    np.testing.assert_allclose(y[known], 2.0 * grid[known] + 1.0)
    gap = (grid > t[79] + 0.1) & (grid < 7.9)
    assert gap.sum() > 40 and not known[gap].any() and known.sum() > 80
    np.testing.assert_allclose(np.diff(grid), 0.05)


def test_resample_interpolates_each_channel_over_its_own_samples():
    values = np.array([[0.0, 0.0], [1.0, NAN], [2.0, 2.0], [3.0, NAN]])
    _, new = resample([0.0, 1.0, 2.0, 3.0], values, 0.5)
    np.testing.assert_allclose(new[:, 0], np.arange(7) * 0.5)
    np.testing.assert_allclose(new[:5, 1], np.arange(5) * 0.5)
    assert resample([0, 1, 2], [1.0, NAN, NAN], 1.0, max_gap=1.0)[1][-1] != 1.0


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ([0.0, 1.0, 1.0], r"row 2 \(counted from 0\) at 1.0 repeats row 1"),
        ([0.0, 1.0, 0.5], r"row 2 \(counted from 0\) at 0.5 goes back from row 1"),
        ([0.0, NAN, 2.0], "row 1 .* holds nan"),
        ([0.0, 1.0, np.inf], "row 2 .* holds inf"),
        ([[0.0, 1.0, 2.0]], "one row or column"),
        ([0.0, 1.0], "T = 2"),
        ([0.0, 1e-9, 1e9], "would make over"),
        ([-1e308, 0.0, 1e308], "above 1e300"),
    ],
)
def test_bad_stamps(t, message):
    with refused(message):
        resample(t, np.ones(3), 0.1)


def test_bad_resampling():
    with refused("dt must be"):
        resample([0, 1], [0, 1], 0.0)
    with refused("max_gap"):
        resample([0, 1], [0, 1], 1.0, max_gap=-1.0)
    with refused("infinite at sample 1"):
        resample([0, 1], [0, np.inf], 1.0)


def test_uniform_stamps_give_dt_and_skipped_steps_become_missing():
    keep = np.array([0, 1, 2, 5, 6, 9])
    dt, t0, values = to_grid(100.0 + 0.02 * keep, keep[:, None].astype(float))
    assert dt == 0.02 and t0 == 100.0
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(values[:, 0])), keep)
    np.testing.assert_array_equal(values[keep, 0], keep)


def test_uneven_stamps_need_dt():
    t = np.array([0.0, 1.0, 2.1, 3.0, 4.0])
    with refused("give dt= as well"):
        to_grid(t, t[:, None])
    dt, _, values = to_grid(t, t[:, None], 0.5)
    assert dt == 0.5
    np.testing.assert_allclose(values[:, 0], np.arange(9) * 0.5)


def test_a_slow_clock_drift_is_not_taken_for_uniform():
    t = 0.10005 * np.arange(2000)
    dt, _, values = to_grid(t, t[:, None], 0.1)
    assert dt == 0.1 and len(values) == 2001
    np.testing.assert_allclose(values[:-1, 0], 0.1 * np.arange(2000), atol=1e-9)
    assert to_grid(t, t[:, None])[0] == pytest.approx(0.10005)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            np.linspace(0.1, 0.103, 400),
            r"go from 0\.100\d+ s at the start to 0\.102\d+ s at the end \(\+2\.2 %\)",
        ),
        (np.round(np.linspace(0.1, 0.097, 400), 3), r"\(-2\.\d %\)"),
        (np.append(np.linspace(0.1, 0.103, 400), 7.5), r"\(\+2\.\d %\)"),
        (
            np.full(2000, 0.10005),
            r"^they run at 0\.10005 s per step, not at dt = 0\.1 s, 1 samples off in all$",
        ),
        (np.full(400, 0.098), "at dt = 0.1 s, 8 samples off in all"),
    ],
)
def test_a_drifting_clock_is_told(steps, said):
    stamps = 1e3 + np.append(0.0, np.cumsum(steps))
    assert re.search(said, clock_drift(stamps, 0.1))
    jittered = stamps + np.random.default_rng(0).normal(0, 1e-3, len(stamps))
    assert clock_drift(jittered, 0.1)


@pytest.mark.parametrize(
    "stamps",
    [
        0.1 * np.arange(1000),
        0.1 * np.delete(np.arange(1000), np.s_[300:340]),
        np.round(np.arange(1000) / 60, 3),
        0.1 * np.arange(1000) + np.random.default_rng(0).uniform(-0.02, 0.02, 1000),
        np.cumsum(np.random.default_rng(0).exponential(0.1, 1000)),
        np.cumsum(np.linspace(0.1, 0.11, 10)),
    ],
    ids=["uniform", "with a gap", "rounded to milliseconds", "jittered", "at random", "too few"],
)
@pytest.mark.parametrize("dt", [0.1, 0.03, 1 / 60])
def test_a_steady_clock_is_not_said_to_drift(stamps, dt):
    assert clock_drift(stamps, dt) == ""


@pytest.mark.parametrize("steps", [[5e-324, 1e299], [1e-300, 1.0], [1e290, 1e299], [5e-324, 5e-324]])
def test_absurd_stamps_are_refused_without_warnings(steps):
    t = np.concatenate([[0.0], np.cumsum(steps)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dt in (None, 0.1, 1e-300):
            with contextlib.suppress(DataError):
                to_grid(t, t[:, None], dt)
        long = np.concatenate([t, t[-1] + t[-1] / 100 * np.arange(1, 40)])
        with contextlib.suppress(DataError):
            clock_drift(long, 0.1)


def test_scaling_uses_measured_samples_and_undoes_itself():
    y = np.array([1.0, NAN, 3.0, 5.0])
    record = from_arrays(np.arange(4.0), y, 1.0, input_units="V")
    scaling = Scaling.fit(record)
    assert scaling.y_mean[0] == 3.0 and scaling.y_std[0] == pytest.approx(np.std([1, 3, 5]))
    scaled = scaling.apply(record)
    assert scaled.input_units == ("",)
    assert scaled.experiments[0].u.std() == pytest.approx(1.0)
    np.testing.assert_array_equal(scaled.experiments[0].y_mask, record.experiments[0].y_mask)
    np.testing.assert_allclose(scaling.undo_y(scaled.experiments[0].y), record.experiments[0].y)
    np.testing.assert_allclose(scaling.undo_u(scaled.experiments[0].u), record.experiments[0].u)


def test_scaling_keeps_dtype_and_takes_batches_lists_and_jax_arrays():
    jnp = pytest.importorskip("jax.numpy")
    scaling = Scaling.fit(make(nu=2, ny=1))
    assert scaling.scale_u(np.ones((3, 5, 2), np.float32)).dtype == np.float32
    assert scaling.scale_u(np.ones((5, 2), np.int32)).dtype == np.float64
    assert scaling.scale_y([[1], [2]]).shape == (2, 1)
    y = scaling.undo_y(jnp.ones((4, 1), jnp.float32))
    assert y.dtype == jnp.float32 and not isinstance(y, np.ndarray)
    with refused("2 channels"):
        scaling.scale_u(np.ones((5, 3)))


def test_a_constant_channel_warns_and_scales_by_one():
    record = from_arrays(np.full(50, 0.1), np.arange(50.0), 1.0)
    with pytest.warns(RobustctlWarning, match=r"\['u\[0\]'\] never change"):
        scaling = Scaling.fit(record)
    assert scaling.u_std.tolist() == [1.0]


def test_scaling_survives_json():
    scaling = Scaling.fit(make(seed=3))
    again = Scaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
    for field in dataclasses.fields(Scaling):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(scaling, field.name))
    same = Scaling.identity(2, 1).apply(make())
    np.testing.assert_array_equal(same.experiments[0].u, make().experiments[0].u)


def test_bad_scalings():
    good = Scaling.identity(1, 1).to_dict()
    for change in (
        {"u_std": [0.0]},
        {"u_std": [NAN]},
        {"y_mean": [0.0, 1.0]},
        {"y_mean": [[0.0]]},
        {"u_mean": ["a"]},
        {"extra": 1},
    ):
        with refused():
            Scaling.from_dict(good | change)
    with refused("keys"):
        Scaling.from_dict({})
    with refused("keys"):
        Scaling.from_dict([])  # pyright: ignore[reportArgumentType]
    with refused("must be finite; change the unit"):
        Scaling.fit(from_arrays([1e308, -1e308, 1e308], np.arange(3.0), 1.0))
    part = windows(from_arrays(np.arange(6.0), [1.0, 2.0, 3.0, NAN, NAN, NAN], 1.0), 3, 3)
    lost = dataclasses.replace(part, experiments=part.experiments[1:])
    with refused("must have a measured sample to be scaled by"):
        Scaling.fit(lost)
