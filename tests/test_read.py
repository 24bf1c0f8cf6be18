import importlib.util
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz_readers
from robustctl.data import Format, read
from robustctl.data.readers import child, formats
from robustctl.errors import RobustctlWarning

from .data_fixtures import refused, shared_data  # noqa: F401

h5py = pytest.importorskip("h5py")
pd = pytest.importorskip("pandas")
fastparquet = pytest.importorskip("fastparquet")
savemat = pytest.importorskip("scipy.io").savemat

DT = 0.05
RNG = np.random.default_rng(0)
DATA = {"t": DT * np.arange(30), "u": RNG.normal(size=30), "y": RNG.normal(size=30)}
DATA["y"][4] = np.nan
SUFFIXES = [".csv", ".npz", ".mat", ".h5", ".parquet"]
SLOW_FORMATS = {"mat", "hdf5", "parquet", "xlsx"}


def write(path, data):
    if path.suffix == ".csv":
        pd.DataFrame(data).to_csv(path, index=False)
    elif path.suffix == ".npz":
        np.savez(path, **data)
    elif path.suffix == ".mat":
        savemat(path, data)
    elif path.suffix == ".parquet":
        fastparquet.write(str(path), pd.DataFrame(data))
    else:
        with h5py.File(path, "w") as file:
            for name, values in data.items():
                file[name] = values
    return path


def text(tmp_path, content, name="log.csv", **kwargs):
    path = tmp_path / name
    path.write_text(content, **kwargs)
    return path


def refuse(path, message, inputs="u", outputs="y", dt=DT, **kwargs):
    with refused(message) as caught:
        read(path, inputs=inputs, outputs=outputs, dt=dt, **kwargs)
    if isinstance(path, Path):
        assert path.name in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    path = write(tmp_path / f"log{suffix}", DATA)
    record = read(str(path), inputs="u", outputs=["y"], time="t", units={"u": "V"})
    assert record.dt == DT and record.inputs == ("u",) and record.input_units == ("V",)
    experiment = record.experiments[0]
    assert experiment.name == "log"
    np.testing.assert_array_equal(experiment.u[:, 0], DATA["u"])
    np.testing.assert_array_equal(experiment.y_mask[:, 0], ~np.isnan(DATA["y"]))
    np.testing.assert_array_equal(experiment.y[5:, 0], DATA["y"][5:])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_column_lists_what_there_is(tmp_path, suffix):
    path = write(tmp_path / f"log{suffix}", {"valve": DATA["u"], "y": DATA["y"]})
    refuse(path, r"no column 'Valv'; there are \['valve', 'y'\].*mean 'valve'", inputs="Valv")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\x00" * 3000, b"\x93NUMPY\xff\xfe" * 20, b"PAR1" * 8])
def test_files_that_are_something_else(tmp_path, suffix, content):
    path = tmp_path / f"log{suffix}"
    path.write_bytes(content)
    refuse(path, "log")


def test_several_files_are_several_experiments(tmp_path):
    files = [write(tmp_path / f"{name}.csv", DATA) for name in ("a", "b")]
    record = read(files, inputs="u", outputs="y", dt=DT)
    assert [e.name for e in record.experiments] == ["a", "b"]
    other = write(tmp_path / "c.csv", DATA | {"t": 2 * DATA["t"]})
    refuse([files[0], other], "mixed sample times", dt=None, time="t")
    refuse([], "at least one file")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dt": None}, "needs a sample time"),
        ({"dt": 0.0}, "dt must be"),
        ({"dt": -1.0}, "dt must be"),
        ({"dt": float("nan")}, "dt must be"),
        ({"time": "u"}, "neither an input nor an output"),
        ({"time": 3}, "time must be a name or a list of names"),
        ({"inputs": ["u", "u"]}, "more than once"),
        ({"inputs": "y"}, "given as both"),
        ({"inputs": []}, "at least one channel"),
        ({"inputs": {"u": 1}}, "list of names"),
        ({"format": "xls"}, "format must be one of"),
        ({"units": {"w": "V"}}, r"units must be given for channels of \('u', 'y'\), got \['w'\]"),
        ({"units": ["V"]}, "units must map"),
    ],
)
def test_bad_requests(tmp_path, kwargs, message):
    path = write(tmp_path / "log.csv", DATA)
    request = {"inputs": "u", "outputs": "y", "dt": DT} | kwargs
    with refused(message):
        read(path, **request)


def test_bad_paths(tmp_path):
    refuse(tmp_path / "absent.csv", "no such file")
    refuse(tmp_path, "it is a folder")
    refuse(text(tmp_path, "u,y\n", "log.docx"), "suffix must be one of")
    refuse(text(tmp_path, "u,y\n", "log.npy"), "damaged")
    refuse("log\0.csv", "cannot be opened|no such file")
    refuse(3, "must be a file name")
    assert (
        read(text(tmp_path, "u,y\n1,2\n3,4\n", "log.dat"), inputs="u", outputs="y", dt=1.0, format="csv").nu
        == 1
    )


@pytest.mark.parametrize(
    "content",
    [
        "u,y\n1,2\n3,\n5,6\n",
        '"u","y",\n1,2,\n3,,\n5,6,\n\n\n',
        "\ufeffu;y\r\n1;2\r\n3;NaN\r\n5;6\r\n",
        "# made by hand\n\nu\ty\n# a note\n1\t2\n3\tna\n5\t6",
        "  u   y\n  1   2\n 3e0   nan\n+5.   .6e1\n",
        ',u,y,"u, of old"\n0,1,2,7\n1,3,null,7\n2,5,6,x\n',
    ],
)
def test_dialects_of_csv(tmp_path, content):
    record = read(text(tmp_path, content, encoding="utf-8"), inputs="u", outputs="y", dt=1.0)
    experiment = record.experiments[0]
    assert experiment.u[:, 0].tolist() == [1.0, 3.0, 5.0]
    assert experiment.y[[0, 2], 0].tolist() == [2.0, 6.0] and not experiment.y_mask[1, 0]


def test_one_bare_column_needs_no_separator(tmp_path):
    path = text(tmp_path, "t\n0\n1\n")
    refuse(path, r"there are \['t'\]")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2\n3,4\n", "line 1 must be a header"),
        ("# by hand\n1 2\n3 4\n", "line 2 must be a header"),
        ("# nothing\n\n", "no header and no rows"),
        ("u,y,y\n1,2,3\n4,5,6\n", "2 columns called 'y'"),
        ("u,y\n1,2\n3,oops\n", "line 3, column 'y': 'oops' is not a number"),
        ("u,y\n1,2\n3,1_0\n", "'1_0' is not a number"),
        ("u,y\n1,2\n3,\u0664\n", "is not a number"),
        ("u,y\n1,5,2,0\n", "line 2 must have 2 cells"),
        ("u,y\n1,2\n3\n", "line 3 must have 2 cells.* has 1"),
        ("u,y\n1,2\n", "at least 2 samples, got 1"),
        ("u,y\n", "holds no samples"),
        ("u,y\n1,2\n3,inf\n", "'y' is infinite at sample 1"),
        ("u,y\n1,2\n3,1e999\n", "'y' is infinite at sample 1"),
        ('u,y\n1,"2\n3,4\n', "line 2"),
        ('u,"y\n"\n1,2\n3,4\n', "line 1 must close the quote"),
        ("u,y\n,2\n,4\n", "input 'u' has no measured"),
        ("u,y\n1," + "9" * 200_000 + "\n", "field larger"),
    ],
)
def test_bad_csv(tmp_path, content, message):
    refuse(text(tmp_path, content, encoding="utf-8"), message)


def test_csv_that_is_not_utf8(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"u,y (\xb0C)\n1,2\n")
    refuse(path, "byte 5", format=Format(encoding="utf-8"))


def test_stamps(tmp_path):
    def stamped(*t):
        rows = "\n".join(f"{time},{index},{index}" for index, time in enumerate(t))
        return text(tmp_path, f"t,u,y\n{rows}\n")

    record = read(stamped(10, 10.5, 12, 12.5), inputs="u", outputs="y", time="t")
    assert record.dt == 0.5 and record.experiments[0].t0 == 10.0
    assert record.experiments[0].y_mask[:, 0].tolist() == [True, True, False, False, True, True]
    refuse(stamped(0, 1, 1, 2), "time 't'.*row 2 .* repeats row 1", dt=None, time="t")
    refuse(stamped(0, 1, 0.5, 2), "row 2 .* goes back", dt=None, time="t")
    refuse(stamped(0, 1, "", 2), "row 2 .* holds nan", dt=None, time="t")
    refuse(stamped(0, 1, 2.2, 3), "give dt= as well", dt=None, time="t")
    resampled = read(stamped(0, 1, 2.2, 3), inputs="u", outputs="y", time="t", dt=0.5)
    np.testing.assert_allclose(resampled.experiments[0].u[:4, 0], [0, 0.5, 1.0, 1 + 0.5 / 1.2])


def test_a_drifting_clock_is_warned_of_with_the_file(tmp_path):
    t = np.append(0.0, np.cumsum(np.linspace(0.1, 0.103, 199)))
    good = write(tmp_path / "good.csv", {"t": 0.1 * np.arange(200), "u": t, "y": t})
    slow = write(tmp_path / "slow.csv", {"t": t, "u": t, "y": t})
    with pytest.warns(
        RobustctlWarning, match=r"slow\.csv: time 't': the stamps drift.*give dt= without time="
    ):
        record = read([good, slow], inputs="u", outputs="y", time="t", dt=0.1)
    np.testing.assert_allclose(record.experiments[1].u[:, 0], record.time(1), atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(slow, inputs="u", outputs="y", dt=0.1)
        read(good, inputs="u", outputs="y", time="t", dt=0.1)
        read(good, inputs="u", outputs="y", time="t", dt=0.03)
    refuse(slow, "steps run from 0.1 to 0.103 s.*give dt= as well to resample", dt=None, time="t")


def test_shapes_of_variables(tmp_path):
    two = np.arange(20.0).reshape(10, 2)
    path = tmp_path / "log.npz"
    arrays = {
        "u": two,
        "row": two[:, :1].T,
        "column": two[:, :1],
        "short": np.ones(4),
        "cube": np.ones((2, 2, 2)),
    }
    np.savez(
        path, **arrays, scalar=3.0, complex=two * 1j, text=np.array(["a"]), fortran=np.asfortranarray(two)
    )
    record = read(path, inputs="u", outputs=["row", "column"], dt=1.0, units={"u": "V", "row": "m"})
    assert record.inputs == ("u[0]", "u[1]") and record.input_units == ("V", "V")
    np.testing.assert_array_equal(record.experiments[0].u, two)
    np.testing.assert_array_equal(record.experiments[0].y[:, 0], record.experiments[0].y[:, 1])
    again = read(path, inputs="fortran", outputs="row", dt=1.0)
    np.testing.assert_array_equal(again.experiments[0].u, two)
    for name, message in [
        ("short", "one length.*'short': 4"),
        ("cube", r"\(2, 2, 2\)"),
        ("scalar", r"\(T, k\), got shape"),
        ("complex", "real numbers"),
        ("text", "array of numbers"),
    ]:
        refuse(path, message, inputs=name, outputs="row")
    refuse(path, "must be one column", inputs="row", outputs="column", dt=None, time="u")


def test_npz_never_unpickles_nor_trusts_a_claimed_size(tmp_path):
    path = tmp_path / "log.npz"
    np.savez(path, u=np.array([print, None], object), y=np.ones(2))
    refuse(path, "array of numbers")
    np.savez(path, u=np.ones(30), y=np.ones(30))
    raw = path.read_bytes()
    for claim in (b"(30000000000000,)", b"(99999,)"):
        wide = raw.replace(b"(30,), }" + b" " * (len(claim) - 5), claim + b", }")
        assert len(wide) == len(raw) and wide != raw
        path.write_bytes(wide)
        refuse(path, "damaged")
    path.write_bytes(raw.replace(np.ones(1).tobytes(), np.zeros(1).tobytes(), 1))
    refuse(path, "Bad CRC")


def test_mat_structs_row_vectors_and_text(tmp_path):
    path = tmp_path / "log.mat"
    savemat(path, {"log": {"u": np.arange(5), "label": "tank"}, "y": np.arange(5.0), "z": np.ones(5) * 1j})
    record = read(path, inputs="log/u", outputs="y", dt=1.0)
    assert record.experiments[0].u[:, 0].tolist() == [0, 1, 2, 3, 4]
    refuse(path, r"no column 'log/v'; there are .*'log/u'", inputs=["log/u", "log/v", "log/w"])
    refuse(path, "array of numbers", inputs="log/label")
    refuse(path, "array of numbers", inputs="log")
    refuse(path, "real numbers, not dtype complex", inputs="z")


def test_mat_73_is_read_as_hdf5_with_axes_reversed(tmp_path):
    path = tmp_path / "log.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["u"] = np.arange(20.0).reshape(2, 10)
        file["log/y"] = np.arange(10.0)[None]
        file["label"] = np.arange(10, dtype=np.uint16)
        file["label"].attrs["MATLAB_class"] = np.bytes_("char")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    record = read(path, inputs="u", outputs="log/y", dt=1.0)
    np.testing.assert_array_equal(record.experiments[0].u, np.arange(20.0).reshape(2, 10).T)
    refuse(path, "not text", inputs="label", outputs="log/y")


def test_hdf5_stays_inside_its_own_file(tmp_path):
    secret, path = tmp_path / "secret.h5", tmp_path / "log.h5"
    write(secret, {"u": np.ones(5)})
    (tmp_path / "raw").write_bytes(bytes(40))
    with h5py.File(path, "w") as file:
        file["group/y"] = np.arange(5.0)
        file["linked"] = h5py.ExternalLink("secret.h5", "/u")
        file["detour"] = h5py.SoftLink("/linked")
        file.create_dataset("raw", (5,), "f8", external=[(str(tmp_path / "raw"), 0, 40)])
        layout = h5py.VirtualLayout((5,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "u", (5,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (10**12,), "f8", chunks=(1000,))
        file["empty"] = h5py.Empty("f8")
    good = read(path, inputs="/group/y", outputs="group/y", dt=1.0)
    assert good.samples == 5
    for name, message in [
        ("linked", "link to another file"),
        ("detour", "stored in another file"),
        ("raw", "stored in another file"),
        ("virtual", "stored in another file"),
        ("huge", "claims 8000000000000 bytes"),
        ("empty", "is empty"),
        ("group", "no column 'group'"),
    ]:
        refuse(path, message, inputs=name, outputs="group/y")


def test_parquet_dates_missing_integers_and_text(tmp_path):
    path = tmp_path / "log.parquet"
    frame = pd.DataFrame(
        {"u": pd.array([1, None, 3], dtype="Int64"), "y": [True, False, True], "s": ["a", "b", "c"]}
    )
    frame["t"] = pd.date_range("2024-01-01", periods=3, freq="250ms")
    fastparquet.write(str(path), frame, compression="GZIP")
    record = read(path, inputs="u", outputs="y", time="t")
    assert record.dt == 0.25 and record.experiments[0].u_mask[:, 0].tolist() == [True, False, True]
    refuse(path, "array of numbers", inputs="s")


@pytest.mark.parametrize(("suffix", "package"), [(".parquet", "fastparquet"), (".h5", "h5py")])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, suffix, package):
    path = write(tmp_path / f"log{suffix}", DATA)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))
    refuse(path, rf'needs {package}.*pip install "robustctl\[data\]"')


def test_a_child_that_crashes_hangs_or_cannot_start_is_a_data_error(tmp_path, monkeypatch):
    path = write(tmp_path / "log.mat", DATA)
    real = subprocess.run

    def instead(code):
        def run(command, **kwargs):
            return real([sys.executable, "-S", "-c", code], **kwargs)

        return run

    monkeypatch.setattr(child.subprocess, "run", instead("import os; os.kill(os.getpid(), 11)"))
    refuse(path, "crashed with signal 11")
    monkeypatch.setattr(child.subprocess, "run", instead("raise SystemExit('no such library')"))
    refuse(path, "failed: no such library")
    monkeypatch.setattr(child, "BASE_SECONDS", 0.2)
    monkeypatch.setattr(child.subprocess, "run", instead("while True: pass"))
    refuse(path, "not read in 0 s")
    monkeypatch.setattr(child.subprocess, "run", real)
    monkeypatch.setattr(child.sys, "executable", str(tmp_path / "no-python"))
    refuse(path, "could not start")


def test_the_child_imports_neither_jax_nor_this_package(tmp_path):
    worker = Path(child.__file__).with_name("worker.py")
    code = f"import runpy, sys; runpy.run_path({str(worker)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "robustctl", "scipy", "pandas", "h5py"} & set(done.stdout.split())


def test_cascaded_tanks(shared_data):  # noqa: F811
    path = shared_data / "cascaded_tanks" / "dataBenchmark.csv"
    train = read(path, inputs="uEst", outputs="yEst", dt=4.0, units={"uEst": "V", "yEst": "V"})
    assert train.samples == 1024
    experiment = train.experiments[0]
    assert experiment.u[0, 0] == 3.2567 and experiment.y[-1, 0] == 3.6831 and experiment.y_mask.all()
    with refused("Did you mean 'yEst'"):
        read(path, inputs="uEst", outputs="yest", dt=4.0)


def test_silverbox_is_read_fast(shared_data):  # noqa: F811
    path = shared_data / "silverbox" / "SNLS80mV.csv"
    start = time.process_time()
    record = read(path, inputs="V1", outputs="V2", dt=1 / 610.35)
    assert time.process_time() - start < 5.0
    assert record.samples == 131072
    assert record.experiments[0].u[0, 0] == 0.0057756 and record.experiments[0].y[-1, 0] == -0.0072247


@pytest.mark.parametrize("kind", formats.FORMATS)
def test_damaged_files_give_a_record_or_a_data_error(tmp_path, monkeypatch, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        valid = fuzz_readers.write_valid(tmp_path, kind)
    server, slow = fuzz_readers.ForkServer(), kind in SLOW_FORMATS
    if slow and hasattr(os, "fork"):
        monkeypatch.setattr(child, "subprocess", server)
    result = fuzz_readers.fuzz(kind, valid, 10 if slow else 60, seed=1, workers=1)
    server.close()
    assert result["counts"]["other"] == 0, result["others"]
    assert result["counts"]["DataError"] > 0
