"""Tables with several sheets, with dates and times of day apart, and with units in attributes."""

import numpy as np
import pytest

from robustctl.data import read
from robustctl.errors import DataError

from .test_read_binary import T, U, Y, forked, refuse, same

h5py = pytest.importorskip("h5py")
pd = pytest.importorskip("pandas")
fastparquet = pytest.importorskip("fastparquet")
openpyxl = pytest.importorskip("openpyxl")

__all__ = ["forked"]


def workbook(path, sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def test_any_sheet_of_a_workbook(tmp_path):
    u, y = np.round(U, 6), np.round(Y, 6)
    path = workbook(
        tmp_path / "log.xlsx",
        {
            "Info": [["customer", "site"], ["we", "here"]],
            "Run 1": [["t [ms]", "u [V]", "y"], *zip(1000 * T, u, y, strict=True)],
            "Run 2": [["y"], *zip(2 * y, strict=True)],
        },
    )
    record = read(path, inputs="Run 1/u", outputs="Run 1/y", time="Run 1/t")
    same(record, u, y)
    assert (
        record.inputs == ("Run 1/u",) and record.input_units == ("V",) and "the first of" not in str(record)
    )
    same(read(path, inputs="Run 1/u [V]", outputs="Run 2/y", dt=0.1), u, 2 * y)
    refuse(path, r"sheet 'Info': .*no column 'u'.*\['Info', 'Run 1', 'Run 2'\]")
    refuse(path, r"sheet 'Run 2': .*no column 'u'.*'sheet/column'", "Run 2/u", "Run 2/y")
    empty = workbook(tmp_path / "empty.xlsx", {"Sheet": [], "Data": [["u", "y"], [1, 2], [3, 4]]})
    refuse(empty, r"sheet 'Sheet': the file holds no header.*'Data'")
    assert read(empty, inputs="Data/u", outputs="Data/y", dt=1.0).experiments[0].u[:, 0].tolist() == [1, 3]


def test_dates_and_times_of_day_in_two_columns(tmp_path):
    # 23:59:58.5 and on: the date changes between the 15th and the 16th row
    stamps = pd.date_range("2024-02-28T23:59:58.5", periods=30, freq="100ms")
    dates, times = [s.strftime("%d.%m.%Y") for s in stamps], [s.strftime("%H:%M:%S.%f")[:-3] for s in stamps]
    frame = pd.DataFrame({"Date": dates, "Time": times, "u": U, "y": Y})
    frame.to_csv(tmp_path / "log.csv", index=False)
    fastparquet.write(str(tmp_path / "log.parquet"), frame)
    sheet = [["Date", "Time", "u", "y"], *zip([s.date() for s in stamps], [s.time() for s in stamps], U, Y, strict=True)]  # fmt: skip
    for source in (tmp_path / "log.csv", tmp_path / "log.parquet", frame):
        same(read(source, inputs="u", outputs="y", time=("Date", "Time")))
    path = workbook(tmp_path / "log.xlsx", {"Sheet": sheet})
    assert read(path, inputs="u", outputs="y", time=["Date", "Time"]).dt == pytest.approx(0.1)
    refuse(tmp_path / "log.csv", r"dates repeat.*time=\('Date', \.\.\.\) \(--time Date", time="Date", dt=None)
    refuse(tmp_path / "log.csv", "30 times of day and 30 dates", time=("Time", "Date"), dt=None)
    refuse(tmp_path / "log.csv", "one of dates and one of times of day", time=("Date", "u"), dt=None)


def test_units_in_attributes(tmp_path):
    with h5py.File(tmp_path / "log.h5", "w") as file:
        for name, values, attribute, unit in (
            ("run/u", U, "units", "V"),
            ("y", np.stack([Y, Y], 1), "Unit", b"bar"),
            ("t", 1000 * T, "unit", "ms"),
            ("days", T / 86400, "units", "days since 1970-01-01"),
        ):
            file[name] = values
            file[name].attrs[attribute] = unit
        file["bare"] = Y
        file["bare"].attrs["units"] = [1, 2]
    path = tmp_path / "log.h5"
    record = read(path, inputs="run/u", outputs=["y[1]", "bare"], time="t")
    assert record.input_units == ("V",) and record.output_units == ("bar", "")
    assert record.dt == pytest.approx(0.1)
    assert read(path, inputs="run/u", outputs="y", time="days").output_units == ("bar", "bar")
    frame = pd.DataFrame({"u": U, "y": Y})
    frame.attrs["units"] = {"u": "V", "other": "A"}
    fastparquet.write(
        str(tmp_path / "log.parquet"),
        frame,
        custom_metadata={"PANDAS_ATTRS": '{"units": {"u": "V", "other": "A"}}'},
    )
    record = read(tmp_path / "log.parquet", inputs="u", outputs="y", dt=0.1)
    same(record)
    assert record.input_units == ("V",) and record.output_units == ("",)


def test_arrays_in_place_of_a_file_are_refused_in_one_line():
    with pytest.raises(DataError, match=r"(?s)got \{'u': array.* of type dict; .*from_arrays") as error:
        read({"u": np.zeros((300, 3))}, inputs="u", outputs="y", dt=0.1)  # pyright: ignore[reportArgumentType]
    assert len(str(error.value)) < 200
