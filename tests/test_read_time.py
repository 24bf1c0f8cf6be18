"""Time stamps as logs have them: units, dates, times of day, gaps, inputs logged on change; every log is written from U, Y and DT."""

import warnings
from datetime import datetime, timedelta

import numpy as np
import pytest

from robustctl.data import read
from robustctl.data.readers import clock
from robustctl.errors import RobustctlWarning

from .data_fixtures import refused

DT, ROWS = 0.1, 40
U = np.round(np.sin(np.arange(ROWS)), 3)
Y = np.round(np.cos(np.arange(ROWS)), 3)
FIRST = datetime(2024, 3, 31, 0, 59, 58)


def stamped(tmp_path, stamps, name="t", u=U, y=Y, sep=","):
    def cell(value):
        return "" if isinstance(value, float) and np.isnan(value) else f"{value}"

    rows = [sep.join(map(cell, row)) for row in zip(stamps, u, y, strict=True)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join([sep.join([name, "u", "y"]), *rows]) + "\n", "utf-8")
    return path


def loaded(path, time="t", dt=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(path, inputs="u", outputs="y", dt=dt, time=time, **options)


def check(record, dt=DT, t0=None):
    experiment = record.experiments[0]
    assert record.dt == pytest.approx(dt, rel=1e-9)
    np.testing.assert_array_equal(experiment.u[:, 0], U)
    np.testing.assert_array_equal(experiment.y[:, 0], Y)
    assert experiment.u_mask.all() and experiment.y_mask.all()
    assert t0 is None or experiment.t0 == pytest.approx(t0)


def refuse(path, message, **options):
    with refused(message):
        read(path, **{"inputs": "u", "outputs": "y", "time": "t"} | options)


SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "days": 86400.0}


@pytest.mark.parametrize("unit", SECONDS)
@pytest.mark.parametrize("dt", [None, DT])
def test_a_time_unit_that_is_given(tmp_path, unit, dt):
    stamps = [f"{(5.0 + DT * k) / SECONDS[unit]:.17g}" for k in range(ROWS)]
    check(loaded(stamped(tmp_path, stamps), dt=dt, time_unit=unit), t0=5.0)
    refuse(tmp_path / "log.csv", "time_unit must be one of", time_unit="weeks")
    refuse(tmp_path / "log.csv", "time_unit needs time=", time_unit=unit, time=None, dt=DT)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("t_ms", "ms"), ("t [ms]", "ms"), ("Time (msec)", "ms"), ("time_us", "us"), ("t [µs]", "us"), ("stamp_ns", "ns"),
        ("t / min", "min"), ("t [h]", "h"), ("uptime_seconds", "s"), ("t [s]", "s"), ("time in days", "days"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dt", [None, DT])
def test_a_time_unit_in_the_name(tmp_path, name, unit, dt):
    stamps = [f"{DT * k / SECONDS[unit]:.17g}" for k in range(ROWS)]
    record = loaded(stamped(tmp_path, stamps, name), name, dt)
    check(record, t0=0.0)
    assert record.guesses == (() if unit == "s" else (f"time in {unit}, by its name",))


def test_a_time_unit_in_a_row_of_units(tmp_path):
    path = stamped(tmp_path, [f"{100 * k}" for k in range(ROWS)])
    path.write_text(path.read_text().replace("t,u,y\n", "t,u,y\nms,V,bar\n"))
    record = loaded(path)
    check(record)
    assert "time in ms, by its name" in record.guesses and record.input_units == ("V",)


@pytest.mark.parametrize(("unit", "per_second"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("dt", [None, DT])
def test_stamps_since_1970(tmp_path, unit, per_second, dt):
    first = 1_711_846_785 * per_second
    path = stamped(tmp_path, [str(first + k * per_second // 10) for k in range(ROWS)])
    with pytest.warns(
        RobustctlWarning, match=rf"log\.csv: time 't': stamps like 17.* are taken as {unit}; if they are not"
    ):
        record = read(path, inputs="u", outputs="y", time="t", dt=dt)
    check(record, t0=0.0)
    assert record.guesses == (f"time in {unit}, by its size",)
    check(loaded(path, dt=dt, time_unit=unit), t0=0.0)


def test_seconds_since_1970_stay_seconds(tmp_path):
    check(loaded(stamped(tmp_path, [f"{1_711_846_785 + DT * k:.1f}" for k in range(ROWS)])), t0=1_711_846_785)


@pytest.mark.parametrize("first", [45382.0, 45382.04, 739342.25])
@pytest.mark.parametrize(("step", "digits"), [(0.1, 12), (1.0, 10), (60.0, 10), (600.0, 10), (86400.0, 3)])
def test_days_of_excel_and_matlab(tmp_path, first, step, digits):
    path = stamped(tmp_path, [f"{first + step * k / 86400:.{digits}f}" for k in range(ROWS)])
    check(loaded(path, time_unit="days"), step, t0=0.0)
    if step < 86400:  # whole days are as round as whole seconds
        with pytest.warns(RobustctlWarning, match="are taken as days"):
            check(read(path, inputs="u", outputs="y", time="t"), step, t0=0.0)


@pytest.mark.parametrize("step", [0.001, 0.1, 0.02, 1.0, 5.0])
def test_seconds_of_a_clock_that_has_run_for_half_a_day(tmp_path, step):
    path = stamped(tmp_path, [f"{45382 + step * k:.3f}" for k in range(ROWS)])
    check(loaded(path), step, t0=45382)


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "ms"), (1e6, "us"), (1e9, "ns")])
def test_stamps_a_thousand_times_too_large_are_refused(tmp_path, factor, unit):
    path = stamped(tmp_path, [f"{factor * DT * k:.0f}" for k in range(ROWS)])
    refuse(path, rf"times dt = 0.1 s; if they are in {unit}, give time_unit='{unit}'", dt=DT)
    check(loaded(path, dt=DT, time_unit=unit))


def written(form):
    return [form(FIRST + timedelta(seconds=DT * k)) for k in range(ROWS)]


@pytest.mark.parametrize(
    "form",
    [
        lambda t: t.isoformat(),
        lambda t: t.isoformat(" ", "milliseconds"),
        lambda t: t.isoformat() + "Z",
        lambda t: t.isoformat() + "+02:00",
        lambda t: t.isoformat(" ") + " UTC",
        lambda t: t.strftime("%Y/%m/%d %H:%M:%S.%f"),
        lambda t: t.strftime("%d.%m.%Y %H:%M:%S.%f"),
        lambda t: t.strftime("%d.%m.%y %H:%M:%S,%f"),
        lambda t: t.strftime("%d-%b-%Y %H:%M:%S.%f"),
        lambda t: t.strftime("%m/%d/%Y %I:%M:%S.%f %p"),
        lambda t: t.strftime("%d/%m/%Y %H:%M:%S.%f"),
        lambda t: t.strftime("%Y%m%d%H%M%S.%f"),
        lambda t: t.strftime("%Y%m%dT%H%M%S.%fZ"),
        lambda t: t.strftime("%H:%M:%S.%f"),
        lambda t: t.strftime("%H:%M:%S,%f"),
        lambda t: t.strftime("%I:%M:%S.%f %p"),
        lambda t: f"0 days {t:%H:%M:%S.%f}",
    ],
)
@pytest.mark.parametrize("dt", [None, DT])
def test_dates_and_times_of_day(tmp_path, form, dt):
    """FIRST + k DT passes a full hour, and the 31st is no month."""
    check(loaded(stamped(tmp_path, written(form), sep=";"), dt=dt), t0=0.0)


def test_times_of_day_continue_after_midnight(tmp_path):
    first = datetime(2024, 3, 31, 23, 59, 58)
    stamps = [f"{first + timedelta(seconds=DT * k):%H:%M:%S.%f}" for k in range(ROWS)]
    record = loaded(stamped(tmp_path, stamps))
    check(record)
    assert record.guesses == ("times of day continued after midnight",)


def test_zones_that_change_with_summer_time(tmp_path):
    """Local time leaps from 02:00 to 03:00; with zones the steps stay DT."""
    leap = datetime(2024, 3, 31, 2)
    times = [leap + timedelta(seconds=DT * (k - 20)) for k in range(ROWS)]
    stamps = [
        (t if t < leap else t + timedelta(hours=1)).isoformat() + ("+01:00" if t < leap else "+02:00")
        for t in times
    ]
    record = loaded(stamped(tmp_path, stamps))
    check(record)
    assert record.guesses == ("time zones converted to UTC",)
    with pytest.warns(RobustctlWarning, match=r"longest gap is 3600.1 s.*split_gaps="):
        read(stamped(tmp_path, [stamp[:-6] for stamp in stamps]), inputs="u", outputs="y", time="t")


@pytest.mark.parametrize(
    ("row", "stamp", "message"),
    [
        (3, "later", "line 5, column 't': 'later' is not a time written as '2024"),
        (3, "", "line 5, column 't': '' is not a time"),
        (3, "2024-02-30T00:00:00", "line 5, column 't': there is no date 2024-02-30"),
        (3, "2024-03-31T00:61:00", "line 5, column 't': there is no time 0:61:0"),
        (3, "2024-03-31T00:59:58+01:00", "must all have a time zone, or none"),
        (3, "2024-03-31T00:59:50", "goes back"),
        (0, "04.05.2024 00:59:58", "is not a time written as '04.05.2024"),
    ],
)
def test_bad_times(tmp_path, row, stamp, message):
    stamps = written(lambda t: t.isoformat())
    stamps[row] = stamp
    refuse(stamped(tmp_path, stamps), message)


@pytest.mark.parametrize("date", ["01/02/2024", "00/00/2024"])
@pytest.mark.parametrize("many", [0, clock.MANY])
def test_days_and_months_that_cannot_be_distinguished(tmp_path, monkeypatch, date, many):
    monkeypatch.setattr(clock, "MANY", many)
    refuse(
        stamped(tmp_path, [f"{date} 00:00:{k:02d}" for k in range(ROWS)]),
        "dates must be written year-month-day",
    )


def test_a_file_with_two_runs(tmp_path):
    t = np.append(DT * np.arange(20), 3600 + DT * np.arange(20))
    path = stamped(tmp_path, [f"{value:.1f}" for value in t])
    with pytest.warns(
        RobustctlWarning,
        match=r"99.9 % of 36020 samples.*longest gap is 3598.1 s, from 1.9 s on.*split_gaps=",
    ):
        assert read(path, inputs="u", outputs="y", time="t").samples == 36020
    for dt in (None, DT):
        record = loaded(path, dt=dt, split_gaps=1.0)
        assert [e.name for e in record.experiments] == ["log[0]", "log[1]"]
        assert [e.t0 for e in record.experiments] == [0.0, 3600.0] and record.dt == pytest.approx(DT)
        np.testing.assert_array_equal(np.concatenate([e.u[:, 0] for e in record.experiments]), U)
    for bad in (0, -1.0, "1", True, np.nan):
        refuse(path, "split_gaps must be seconds > 0", split_gaps=bad)


def test_gaps_within_a_run_stay(tmp_path):
    t = np.concatenate([DT * np.arange(10), 1.5 + DT * np.arange(15), 60 + DT * np.arange(15)])
    record = loaded(stamped(tmp_path, [f"{value:.1f}" for value in t]), split_gaps=5.0)
    first, second = record.experiments
    assert first.samples == 30 and second.samples == 15 and (~first.y_mask).sum() == 5


def test_rows_without_values_are_a_gap_without_stamps(tmp_path):
    gone = np.where((np.arange(ROWS) >= 10) & (np.arange(ROWS) < 25), np.nan, 1.0)
    path = stamped(tmp_path, range(ROWS), u=U * gone, y=Y * gone)
    record = loaded(path, None, DT, split_gaps=1.0)
    assert [e.samples for e in record.experiments] == [10, 15] and record.experiments[1].t0 == pytest.approx(
        2.5
    )
    np.testing.assert_array_equal(record.experiments[1].y[:, 0], Y[25:])


def test_a_run_of_one_sample_is_left_out(tmp_path):
    t = np.concatenate([DT * np.arange(20), [1000.0], 2000 + DT * np.arange(19)])
    record = loaded(stamped(tmp_path, [f"{value:.1f}" for value in t]), split_gaps=5.0)
    assert [e.samples for e in record.experiments] == [20, 19] and record.guesses == (
        "1 run of one sample left out",
    )


CHANGES = np.repeat(U[::8], 8)
ON_CHANGE = np.where(np.arange(ROWS) % 8 == 0, CHANGES, np.nan)


@pytest.mark.parametrize("hold", ["u", ["u"], ("u",)])
@pytest.mark.parametrize("options", [{"dt": DT, "time": None}, {"dt": DT}, {}])
def test_an_input_logged_on_change_is_held(tmp_path, hold, options):
    path = stamped(tmp_path, [f"{DT * k:.1f}" for k in range(ROWS)], u=ON_CHANGE)
    record = loaded(path, **options, hold=hold)
    experiment = record.experiments[0]
    np.testing.assert_array_equal(experiment.u[:, 0], CHANGES)
    assert experiment.u_mask.all() and experiment.y_mask.all()
    with pytest.warns(RobustctlWarning, match=r"input 'u' has no value in 87.5 % of the samples.*hold='u'"):
        ramps = read(path, **{"inputs": "u", "outputs": "y", "time": "t"} | options)
    assert ramps.experiments[0].u[4, 0] == pytest.approx((CHANGES[0] + CHANGES[8]) / 2)


def test_held_inputs_between_rows_of_events(tmp_path):
    """Set points at times of their own, off the grid of dt: each holds from its own stamp on."""
    rows = [(0.0, 1.0, 0.0), (0.1, np.nan, 0.1), (0.2, np.nan, 0.2), (0.25, 5.0, np.nan), (0.3, np.nan, 0.3), (0.4, np.nan, 0.4),
            (0.4000001, 7.0, np.nan), (0.5, np.nan, 0.5), (0.6, np.nan, 0.6)]  # fmt: skip
    t, u, y = zip(*rows, strict=True)
    record = loaded(stamped(tmp_path, t, u=u, y=y), dt=DT, hold="u")
    e = record.experiments[0]
    np.testing.assert_array_equal(e.u[:, 0], [1, 1, 1, 5, 7, 7, 7])
    np.testing.assert_allclose(e.y[:, 0], DT * np.arange(7), atol=1e-12)


def test_a_held_input_before_its_first_value_is_missing(tmp_path):
    late = np.where(np.arange(ROWS) < 8, np.nan, ON_CHANGE)
    e = loaded(stamped(tmp_path, range(ROWS), u=late), None, DT, hold="u").experiments[0]
    assert not e.u_mask[:8].any() and e.u_mask[8:].all() and (e.u[:8] == CHANGES[8]).all()


@pytest.mark.parametrize("bad", ["y", "w", ["u", "w"], "t"])
def test_only_inputs_are_held(tmp_path, bad):
    refuse(
        stamped(tmp_path, [f"{DT * k:.1f}" for k in range(ROWS)]),
        r"hold must be given for inputs of \('u',\), got",
        hold=bad,
    )


def test_an_array_of_inputs_is_held_by_its_name(tmp_path):
    u = np.column_stack([ON_CHANGE, U])
    np.savez(tmp_path / "log.npz", u=u, y=Y)
    for hold in ("u", "u[0]"):
        record = read(tmp_path / "log.npz", inputs="u", outputs="y", dt=DT, hold=hold)
        np.testing.assert_array_equal(record.experiments[0].u, np.column_stack([CHANGES, U]))


def test_guesses_are_kept_by_what_is_made_of_a_record(tmp_path):
    from robustctl.data import merge, select, split

    record = loaded(stamped(tmp_path, [f"{100 * k}" for k in range(ROWS)], "t_ms"), "t_ms")
    for made in (select(record, "u"), *split(record), merge(record, record)):
        assert made.guesses == record.guesses == ("time in ms, by its name",)


@pytest.mark.parametrize("first", [133_500_000_000_000_000, 638_500_000_000_000_000], ids=["Windows", ".NET"])
def test_ticks_of_100_ns_since_1601_and_since_the_year_1(tmp_path, first):
    path = tmp_path / "log.csv"
    path.write_text("t,u,y\n" + "".join(f"{first + k * 1_000_000},{k % 3},{k}\n" for k in range(20)))
    with pytest.warns(RobustctlWarning, match="are taken as ticks"):
        assert read(path, inputs="u", outputs="y", time="t").dt == pytest.approx(0.1, rel=1e-4)
    assert read(path, inputs="u", outputs="y", time="t", time_unit="ticks").dt == pytest.approx(0.1, rel=1e-4)
