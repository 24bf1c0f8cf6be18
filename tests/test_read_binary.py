"""Binary files and DataFrames: what is in them is read by name, or refused with what to do."""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from benchmarks._fork_server import ForkServer
from robustctl.data import from_arrays, read
from robustctl.data.readers import child

from .data_fixtures import refused
from .matlab_bytes import numbers, structure, thing, write_mat, write_mat73

h5py = pytest.importorskip("h5py")
pd = pytest.importorskip("pandas")
fastparquet = pytest.importorskip("fastparquet")
openpyxl = pytest.importorskip("openpyxl")
savemat = pytest.importorskip("scipy.io").savemat

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "files"
T = 0.1 * np.arange(30)
U, Y = np.sin(3 * T), np.cos(2 * T)


@pytest.fixture(scope="module", autouse=True)
def forked():
    """Children forked from one that has loaded its libraries: a hundredth of the time, the same code and limits."""
    if not hasattr(os, "fork"):
        yield
        return
    server, real = ForkServer(), child.subprocess
    child.subprocess = server
    yield
    child.subprocess = real
    server.close()


def refuse(path, message, inputs="u", outputs="y", **kwargs):
    with refused(message):
        read(path, inputs=inputs, outputs=outputs, **{"dt": 0.1, **kwargs})


def same(record, u=U, y=Y, dt=0.1):
    assert record.dt == pytest.approx(dt, rel=1e-9)
    (experiment,) = record.experiments
    np.testing.assert_array_equal(experiment.u[:, 0], u)
    np.testing.assert_array_equal(experiment.y[:, 0], y)
    assert experiment.u_mask.all() and experiment.y_mask.all()


@pytest.mark.parametrize(
    ("file", "t", "u", "y"),
    [
        ("workspace_with_string.mat", "t", "u", "y"),
        ("iddata_like.mat", None, "id/InputData", "id/OutputData"),
        ("struct_T.mat", None, "d/u", "d/y"),
        ("dspace.mat", "rec1/X/Data", "rec1/Y(1)/Data", "rec1.Y(2).Data"),
        ("simulink_struct.mat", "simout/time", "simout/signals/values[0]", "simout/signals/values[1]"),
        ("one_matrix.mat", "data[0]", "data[1]", "data[2]"),
        ("tables.h5", "data[0]", "data[1]", "data[2]"),
        ("tables.h5", "log/t", "log/u", "log/y"),
        ("pq_ms_naive.parquet", "t", "u", "y"),
        ("pq_us_UTC.parquet", "t", "u", "y"),
        ("pq_ms_UTC_arrow_index.parquet", "t", "u", "y"),
    ],
)
def test_files_of_others_hold_the_common_signals(file, t, u, y):
    if not (CASES / file).is_file():
        pytest.skip(f"{file} is not in {CASES}")
    right = np.load(CASES / "one_matrix.npz")["data"]
    times = {"dt": 0.1} if t is None else {"time": t}
    same(read(CASES / file, inputs=u, outputs=y, **times), right[:, 1], right[:, 2])


@pytest.mark.parametrize("packed", [False, True])
def test_objects_beside_the_signals_of_a_workspace(tmp_path, packed):
    path = tmp_path / "log.mat"
    log = structure("log", u=numbers("", U), y=numbers("", Y), start=thing("", "datetime"))
    write_mat(path, thing("note", "string"), log, thing("run", "timetable"), numbers("t", T), packed=packed)
    same(read(path, inputs="log/u", outputs="log.y", time="t"))
    refuse(
        path,
        r"'run' is a MATLAB timetable; save its columns as arrays: u = run\.u; y = run\.y; t = sec",
        "run/u",
    )
    refuse(path, r"is a MATLAB datetime.*t = seconds\(log\.start - log\.start\(1\)\)", "log/start", "log/y")
    refuse(path, "'note' is a MATLAB string", "note", "log/y")
    refuse(path, r"there are \['note', 'log', 'run', 't', 'log/u', 'log/y', 'log/start'\]", "log/v", "log/y")


def test_objects_cells_and_struct_arrays_of_v73(tmp_path):
    path = tmp_path / "log.mat"
    write_mat73(
        path,
        arrays={"u": U, "y": Y, "s/u": U},
        objects={"run": "timetable", "pump": "string", "when": "datetime"},
        cells={"us": [U, U[:20]], "ys": [Y, Y[:20]]},
        struct_arrays={"d": {"u": list(U), "y": list(Y)}, "e": {"u": [U, U], "y": [Y, Y]}},
        sparse=["thin"],
    )
    same(read(path, inputs="u", outputs="y", dt=0.1))
    same(read(path, inputs="d/u", outputs="d.y", dt=0.1))
    same(read(path, inputs="e(2)/u", outputs="us{1}", dt=0.1), U, U)
    record = read(path, inputs="us", outputs="ys", dt=0.1)
    assert [e.samples for e in record.experiments] == [30, 20]
    for name, message in [
        ("run", "'run' is a MATLAB timetable; save its columns as arrays: u = run.u"),
        ("run/u", "'run' is a MATLAB timetable"),
        ("pump", "is a MATLAB string"),
        ("when", "t = seconds"),
        ("thin", r"sparse matrix.*full\(thin\)"),
        ("s", "not a struct; name a field, as 's/u'"),
        ("e/u", r"'e' has 2 elements; name one, counted from 1, as 'e\(1\)'"),
        ("e(3)/u", "there is no element 3"),
        ("u(1)", "is no cell or struct array"),
    ]:
        refuse(path, message, name)


def test_references_that_go_in_a_circle(tmp_path):
    path = tmp_path / "log.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["y"] = np.ones((1, 5))
        loop = file.create_dataset("u", (2,), h5py.ref_dtype)
        loop[:] = [loop.ref, loop.ref]
    refuse(path, "damaged.*RecursionError")


def cell(*items):
    array = np.empty(len(items), object)
    array[:] = [np.asarray(item)[:, None] if np.ndim(item) else item for item in items]
    return array


def test_cells_are_experiments(tmp_path):
    path = tmp_path / "log.mat"
    variables = {"us": cell(U, U[:20]), "ys": cell(Y, Y[:20]), "three": cell(U, U, U), "id": {"u": cell(U)}}
    savemat(path, variables | {"y": Y, "one": cell(*Y), "deep": cell(cell(U, U), cell(U, U))})
    record = read(path, inputs="us", outputs="ys", dt=0.1)
    assert [(e.name, e.samples) for e in record.experiments] == [("log[0]", 30), ("log[1]", 20)]
    assert str(record).count("2 experiments, one for each cell") == 1
    np.testing.assert_array_equal(record.experiments[1].u[:, 0], U[:20])
    np.testing.assert_array_equal(record.experiments[1].y[:, 0], Y[:20])
    same(read(path, inputs="us{1}", outputs="ys(1)", dt=0.1))
    same(read(path, inputs="id/u", outputs="one", dt=0.1))
    refuse(path, r"got cells \{'us': 2, 'three': 3\}", "us", "three")
    refuse(path, r"one array for \['y'\]; name one cell, as 'us\{1\}'", "us", "y")
    refuse(path, "'us' has 2 elements, there is no element 3", "us{3}", "ys")
    refuse(path, "cells in cells", "deep", "ys")


def test_struct_arrays_of_numbers_are_signals_and_of_arrays_are_named(tmp_path):
    path = tmp_path / "log.mat"
    samples = np.array(list(zip(U, Y, strict=True)), [("u", "O"), ("y", "O")])
    signals = np.array([("pump", U[:, None]), ("level", Y[:, None])], [("Name", "O"), ("Data", "O")])
    savemat(path, {"d": samples, "rec": {"X": {"Data": T}, "Y": signals}})
    same(read(path, inputs="d/u", outputs="d/y", dt=0.1))
    same(read(path, inputs="rec/Y(1)/Data", outputs="rec/Y(2)/Data", time="rec/X/Data"))
    refuse(path, r"'rec/Y\(1\)' \(1 is 'pump', 2 is 'level'\).*u = \{s\.u\}", "rec/Y/Data", "d/y")
    refuse(path, "must be an array of numbers, not a struct; name a field, as 'd/u'", "d", "d/y")


def write_matrix(path, **arrays):
    if path.suffix == ".npy":
        np.save(path, arrays["data"])
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".mat":
        savemat(path, arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5"])
def test_columns_of_a_matrix_by_the_names_that_a_record_gives_them(tmp_path, suffix):
    path = write_matrix(tmp_path / f"log{suffix}", data=np.stack([T, U, Y], axis=1))
    record = read(path, inputs="data[1]", outputs="data[2]", time="data[0]")
    same(record)
    assert record.inputs == ("data[1]",)
    refuse(path, r"'data\[2\]'", "data", "data[2]")  # among the inputs already
    refuse(
        path,
        r"'data' has 3 column\(s\), there is no 'data\[3\]'; the first is 'data\[0\]'",
        "data[3]",
        "data[0]",
    )


def test_a_name_with_brackets_in_the_file_comes_first(tmp_path):
    path = write_matrix(tmp_path / "log.npz", **{"u": np.ones((30, 2)), "u[1]": U, "y": Y})
    same(read(path, inputs="u[1]", outputs="y", dt=0.1))


@pytest.mark.parametrize("shape", [(2, 300), (3, 2000), (3, 1, 300), (3, 1_000_000)])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5"])
def test_signals_as_rows_are_refused_and_fast(tmp_path, suffix, shape):
    path = write_matrix(tmp_path / f"log{suffix}", data=np.zeros(shape, np.int8))
    start = time.perf_counter()
    refuse(path, rf"time first.*got shape \({shape[0]}, .*transpose it: x = squeeze", "data", "data[0]")
    refuse(path, "transpose", "data[0]", "data[1]")
    assert time.perf_counter() - start < 10.0


def test_arrays_with_signals_as_rows():
    with refused(r"time first, got \(3, 100000\).*transpose"):
        from_arrays(np.zeros((3, 100_000)), np.zeros((3, 100_000)), 0.1)


def test_axes_of_length_one_carry_nothing(tmp_path):
    path = write_matrix(tmp_path / "log.npz", u=U.reshape(1, 1, -1), y=Y.reshape(-1, 1, 1))
    same(read(path, inputs="u", outputs="y", dt=0.1))


def test_structured_arrays_and_dates_of_numpy(tmp_path):
    dates = np.datetime64("2024-01-01T00:00:00", "ms") + (1000 * T).round().astype("timedelta64[ms]")
    rows = np.array(list(zip(dates, U, Y, strict=True)), [("t_ms", "M8[ms]"), ("u", "f8"), ("y", "f8")])
    np.save(tmp_path / "log.npy", rows)
    np.savez(tmp_path / "log.npz", log=rows, t=dates, u=U, y=Y)
    same(read(tmp_path / "log.npy", inputs="data/u", outputs="data/y", time="data/t_ms"))
    same(read(tmp_path / "log.npz", inputs="log/u", outputs="y", time="t"))
    refuse(tmp_path / "log.npy", r"there are \['data/t_ms', 'data/u', 'data/y'\]", "u", "y")
    refuse(
        tmp_path / "log.npz", r"holds the columns \['t_ms', 'u', 'y'\]; name one, as 'log/t_ms'", "log", "y"
    )
    np.save(tmp_path / "list.npy", np.array([print, None], object), allow_pickle=True)
    refuse(tmp_path / "list.npy", "not of Python objects", "data", "data[0]")


def test_dates_in_text(tmp_path):
    texts = [f"2024-01-01 23:59:{58 + t:04.1f}" for t in T[:20]] + [
        f"2024-01-02 00:00:{t - 2:04.1f}" for t in T[20:]
    ]
    write_matrix(tmp_path / "log.h5", t=[text.encode() for text in texts], u=U, y=Y)
    write_matrix(tmp_path / "log.npz", t=texts, u=U, y=Y)
    write_matrix(tmp_path / "log.mat", t=texts, c=cell(*map(np.array, texts)), u=U, y=Y)
    frame = pd.DataFrame({"t": texts, "u": U, "y": Y})
    for source in (*(tmp_path / f"log.{suffix}" for suffix in ("h5", "npz", "mat")), frame):
        same(read(source, inputs="u", outputs="y", time="t"))
    same(read(tmp_path / "log.mat", inputs="u", outputs="y", time="c"))
    refuse(frame.assign(t="soon"), "row 1 must be a number, a date or a time of day, got 'soon'", time="t")
    refuse(frame, "'t' must be an array of numbers, not text", "t")


def test_packed_values_of_hdf5_are_unpacked(tmp_path):
    path = tmp_path / "log.h5"
    counts = np.arange(30, dtype=np.int16)
    with h5py.File(path, "w") as file:
        file["u"], file["y"], file["text"] = counts, np.where(counts == 4, -999.9, Y).astype("f4"), ["a"] * 30
        file["u"].attrs.update(scale_factor=0.5, add_offset=np.array([10.0]), _FillValue=np.int16(29))
        file["y"].attrs["missing_value"] = np.float32(-999.9)
    (experiment,) = read(path, inputs="u", outputs="y", dt=0.1).experiments
    np.testing.assert_array_equal(experiment.u[:29, 0], 0.5 * counts[:29] + 10)
    assert np.flatnonzero(~experiment.u_mask).tolist() == [29]
    assert np.flatnonzero(~experiment.y_mask).tolist() == [4]
    refuse(path, "array of numbers, not text", "text")


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.filterwarnings("ignore")  # of fastparquet and pandas, while writing
def test_time_zones_of_parquet(tmp_path, zone, unit):
    # Clocks in Berlin go back one hour within these three seconds.
    stamps = pd.date_range("2024-10-27T00:59:58.5", periods=30, freq="100ms", tz="UTC", unit=unit)
    stamps = stamps.tz_localize(None) if zone is None else stamps.tz_convert(zone)
    path = tmp_path / "log.parquet"
    fastparquet.write(str(path), pd.DataFrame({"t_us": stamps, "u": U, "y": Y}))
    same(read(path, inputs="u", outputs="y", time="t_us"))


def test_excel_sheets(tmp_path):
    path = tmp_path / "log.xlsx"
    book = openpyxl.Workbook()
    dates = pd.date_range("2024-01-01", periods=30, freq="100ms").to_pydatetime()
    u, y = np.round(U, 6), np.round(Y, 6)  # openpyxl writes 16 digits
    cells = list(u)
    cells[3], cells[4] = None, "#N/A"
    for row in [
        ["when", "u", "y", "note, of the shift"],
        *zip(dates, cells, y, ["# ok; fine"] * 30, strict=True),
    ]:
        book.active.append(row)
    book.create_sheet("other").append([1, 2])
    book.save(path)
    record = read(path, inputs="u", outputs="y", time="when")
    (experiment,) = record.experiments
    assert record.dt == pytest.approx(0.1) and np.flatnonzero(~experiment.u_mask).tolist() == [3, 4]
    np.testing.assert_array_equal(experiment.y[:, 0], y)
    np.testing.assert_array_equal(experiment.u[5:, 0], u[5:])
    assert "sheet 'Sheet', the first of 2" in str(record)
    refuse(path, "'note, of the shift'", "note, of the shift")
    (tmp_path / "text.xlsx").write_text("u,y\n1,2\n")
    refuse(tmp_path / "text.xlsx", "damaged or of another format")


def test_data_frames():
    index = pd.date_range("2024-01-01", periods=30, freq="100ms", tz="Europe/Rome", name="stamp")
    frame = pd.DataFrame({"u": pd.array(U, "Float64"), "y": Y, "s": "a", 7: 1.0, "t": T}, index=index)
    frame.attrs["units"] = {"u": "V", "s": "-"}
    record = read(frame, inputs="u", outputs=["y", "7"], units={"y": "m"})
    same(record)
    assert record.input_units == ("V",) and record.output_units == ("m", "")
    same(read(frame, inputs="u", outputs="y", time="stamp"))
    same(read(frame, inputs="u", outputs="y", time="t"))
    same(read(frame.reset_index(drop=True), inputs="u", outputs="y", dt=0.1))
    assert len(read([frame, frame], inputs="u", outputs="y").experiments) == 2
    refuse(frame, r"DataFrame: there is no column 'v'; there are \['u', 'y', 's', '7', 't', 'stamp'\]", "v")
    refuse(frame, "DataFrame: variable 's' must be an array of numbers, not text", "s")
    refuse(frame.reset_index(drop=True), "needs a sample time", dt=None)


def test_modules_of_the_child_import_neither_jax_nor_this_package():
    worker = Path(child.__file__).with_name("worker.py")
    code = (
        f"import runpy, sys; worker = runpy.run_path({str(worker)!r})\n"
        "for module in {module for module, *_ in worker['LOADERS'].values()} | {'shapes', 'limits'}:\n"
        "    worker['sibling'](module)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "robustctl", "scipy", "pandas", "h5py"} & set(done.stdout.split())


def test_warnings_of_libraries_do_not_leak(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_mat(
            tmp_path / "log.mat", thing("a", "string"), thing("b", "table"), numbers("u", U), numbers("y", Y)
        )
        same(read(tmp_path / "log.mat", inputs="u", outputs="y", dt=0.1))
