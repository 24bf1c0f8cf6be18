"""Large text tables: read a block at a time as they are cell by cell."""

import random
import warnings

import numpy as np
import pytest

from benchmarks import fuzz_text
from robustctl.data import Format, read
from robustctl.data.readers import regular
from robustctl.data.readers.request import Wanted
from robustctl.errors import RobustctlError

pd = pytest.importorskip("pandas")

ROWS = 60
RNG = np.random.default_rng(0)
U, Y = RNG.normal(size=ROWS), RNG.normal(size=ROWS) * 10.0 ** RNG.integers(-20, 20, ROWS)
ODD = (
    "1.", ".5", "+1", "1e5", "1d5", "1_0", "0x1F", " 1", "1 ", "1e400", "1e-400", "inf", "Infinity", "nAn", "nan(1)", "NA", "--", "---",
    "True", "1,5", "1.234", "1 234", "\u0661", "\u22125", "1\x0c", "1\xa0", "12:00:00", "9" * 400, "4.9e-324", "1.#QNAN", "u",
    "0.1" + "0" * 60,
    "9007199254740993", "1.7976931348623159e308", "1e", "", '"1"', "# 1", "50%",
)  # fmt: skip
STAMPS = (
    lambda k: f"{0.1 * k:.1f}",
    lambda k: f"2024-03-31T00:00:{k:02d}",
    lambda k: f"2024-03-31 00:00:{k:02d}.{37 * k % 100:03d}",
    lambda k: f"31.03.2024 00:{k:02d}:00,5",
    lambda k: f"03/31/2024 11:{k:02d}:00 PM",
    lambda k: f"03/04/2024 11:{k:02d}:00",
    lambda k: f"20240331T00{k:02d}00+02:00",
    lambda k: f"{k // 24 + 1} days {k % 24:02d}:00:00",
    lambda k: f"{23 if k < 30 else 0:02d}:{30 + k if k < 30 else k - 30:02d}:00",
    lambda k: f"31 Mar 2024 00:{k:02d}:00",
    lambda k: f"2024-02-{1 + k:02d}",
)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(regular, "FEWEST_BYTES", 0)
    monkeypatch.setattr(regular, "FEWEST_IMPORTED", 0)
    monkeypatch.setattr(regular, "BLOCK", 300)


def write(tmp_path, rows, separator=",", newline="\n", encoding="utf-8"):
    path = tmp_path / "log.csv"
    path.write_bytes((newline.join(separator.join(row) for row in rows) + newline).encode(encoding))
    return path


def rows(stamp=STAMPS[0], show=repr):
    cells = zip(U.tolist(), Y.tolist(), strict=True)
    return [["t", "u [V]", "y"], *([stamp(k), show(u), show(y)] for k, (u, y) in enumerate(cells))]


def blocks(path, **options):
    """What is found a block at a time, None where the file is left to be read cell by cell."""
    with path.open("rb") as file:
        return regular.read_regular(file, Wanted(("u", "y", "t"), ("t",), Format(**options)))


def outcome(path, **given):
    """All of a record and its warnings, or the error's text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            r = read(path, inputs="u", outputs="y", **given)
        except RobustctlError as error:
            return str(error)
    arrays = [(e.t0, *(a.tobytes() for a in (e.u, e.y, e.u_mask, e.y_mask))) for e in r.experiments]
    return str(r), r.dt, r.input_units, arrays, [str(w.message) for w in caught]


def same(monkeypatch, path, **given):
    found = outcome(path, **given)
    with monkeypatch.context() as patch:
        patch.setattr(regular, "FEWEST_BYTES", 10**12)
        patch.setattr(regular, "FEWEST_IMPORTED", 10**12)
        assert found == outcome(path, **given)


@pytest.mark.parametrize("show", [repr, "{:.17e}".format, "{:.6g}".format, "{:.30f}".format])
@pytest.mark.parametrize(
    ("separator", "decimal"), [(",", "."), (";", ","), ("\t", "."), (" ", ","), ("|", ".")]
)
def test_numbers_are_those_of_python_and_pandas_to_the_last_bit(tmp_path, show, separator, decimal):
    table = [[c.replace(".", decimal) for c in row] for row in rows(show=show)]
    path = write(tmp_path, [["t", "u", "y"], *table[1:]], separator)
    found = blocks(path)
    precise = {} if pd.__version__ >= "3.1" else {"float_precision": "round_trip"}
    frame = pd.read_csv(path, sep=separator, decimal=decimal, **precise)
    for place, name in enumerate("tuy"):
        expected = np.array([float(row[place].replace(",", ".")) for row in table[1:]])
        np.testing.assert_array_equal(found.arrays[name], expected, strict=True)
        np.testing.assert_array_equal(found.arrays[name], frame[name].to_numpy(np.float64), strict=True)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("kind", ["plain", "gaps", "words", "units", "spare", "text", "above"])
def test_ordinary_logs_are_read_in_blocks(tmp_path, monkeypatch, kind, newline, encoding):
    table = rows()
    table[0][2] = "y [°C]"
    if kind in ("gaps", "words"):
        for k in range(5, ROWS, 7):
            table[k][2] = "" if kind == "gaps" else ("NaN", "NA", "#N/A!", "null", "BAD", "-9999")[k % 6]
        table = [[c.replace("#N/A!", "n/a") for c in row] for row in table]
    elif kind == "units":
        table.insert(1, ["s", "[V]", "bar"])
    elif kind == "spare":
        table = [[*row, ""] for row in table]
    elif kind == "text":
        table = [[row[0], "note" if k == 0 else f"event {k}", *row[1:]] for k, row in enumerate(table)]
    elif kind == "above":
        table[:0] = [["Bench 7"], ["# a note"], [""]]
    path = write(tmp_path, table, ";", newline, encoding)
    form = Format(missing=("bad", -9999))
    assert blocks(path, missing=("bad", -9999)) is not None
    same(monkeypatch, path, time="t", format=form)
    same(monkeypatch, path, dt=0.1, format=form)


@pytest.mark.parametrize("stamp", STAMPS, ids=[stamp(1) for stamp in STAMPS])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_dates_and_times_are_read_in_blocks(tmp_path, monkeypatch, stamp, separator):
    path = write(tmp_path, rows(stamp), separator)
    real = all(part not in stamp(40) for part in ("03/04", "2024-02"))
    assert (blocks(path) is not None) == real  # day or month, and a day that no February has
    same(monkeypatch, path, time="t")


@pytest.mark.parametrize("cell", ODD, ids=repr)
def test_an_odd_cell_is_read_the_same(tmp_path, monkeypatch, cell):
    for separator in (",", ";", " "):
        for place, at in ((0, 30), (1, 1), (2, ROWS)):
            table = rows()
            table[at][place] = cell
            path = write(tmp_path, table, separator)
            same(monkeypatch, path, dt=0.1)
            if place == 0:
                same(monkeypatch, path, time="t")


def test_rows_of_other_lengths_are_read_the_same(tmp_path, monkeypatch):
    for separator in (",", " "):
        for change in (
            lambda r: r.pop(),
            lambda r: r.append("1"),
            lambda r: r.append(""),
            lambda r: r.clear(),
        ):
            for at in (1, 30, ROWS):
                table = rows()
                change(table[at])
                if at == 30:
                    table[31 if len(table[at]) < 3 else 29][-1:] = ["1", "1"]  # as many separators in all
                path = write(tmp_path, table, separator)
                same(monkeypatch, path, time="t")
                same(monkeypatch, path, dt=0.1)


def test_mistakes_are_found_the_same(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    for index in range(100):
        rng = random.Random(f"regular {index}")
        path.write_bytes(fuzz_text.content(rng))
        same(monkeypatch, path, **rng.choice([{"time": "t"}, {"dt": 0.1}, {"time": "t", "dt": 1.0}]))
