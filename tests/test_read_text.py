"""Text files as loggers, spreadsheets and people write them: the right values, or a refusal that says what to do.

Every file is written from the signals U and Y, so the values expected are known without a reader.
"""

import codecs
import warnings

import numpy as np
import pytest

from benchmarks import fuzz_text
from robustctl.data import Format, read
from robustctl.errors import RobustctlWarning

from .data_fixtures import refused

DT, ROWS = 0.1, 12
U = [round(0.5 - 0.25 * (k % 3), 2) for k in range(ROWS)]
Y = [round(1000 * np.sin(k + 1), 3) for k in range(ROWS)]
PLAIN = [[f"{DT * k:.1f}", f"{u}", f"{y}"] for k, (u, y) in enumerate(zip(U, Y, strict=True))]


def lines(rows=PLAIN, header=("t", "u", "y"), sep=","):
    return [sep.join(header), *(sep.join(row) for row in rows)]


def log(tmp_path, text, name="log.csv", encoding="utf-8"):
    path = tmp_path / name
    content = text if isinstance(text, str) else "\n".join(text) + "\n"
    path.write_bytes(content.encode(encoding))
    return path


def check(path, dt=DT, *, missing=(), guess=None, inputs="u", outputs="y", **options):
    """Read without a warning; the record must hold U and Y, except that Y is missing at the samples `missing`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = read(path, inputs=inputs, outputs=outputs, dt=dt, **options)
    experiment, known = record.experiments[0], ~np.isin(np.arange(ROWS), missing)
    assert record.dt == pytest.approx(DT, rel=1e-9) and experiment.samples == ROWS
    np.testing.assert_array_equal(experiment.u[:, 0], U)
    np.testing.assert_array_equal(experiment.y_mask[:, 0], known)
    np.testing.assert_array_equal(experiment.y[known, 0], np.array(Y)[known])
    assert record.guesses == () if guess is None else any(guess in g for g in record.guesses), record.guesses
    assert guess is None or guess in str(record)
    return record


def refuse(path, message, dt=DT, **options):
    with refused(message):
        read(path, **{"inputs": "u", "outputs": "y", "dt": dt} | options)


@pytest.mark.parametrize(
    ("encoding", "mark", "guess"),
    [
        ("utf-8", codecs.BOM_UTF8, None),
        ("utf-16-le", codecs.BOM_UTF16_LE, None),
        ("utf-16-be", codecs.BOM_UTF16_BE, None),
        ("utf-32-le", codecs.BOM_UTF32_LE, None),
        ("utf-16-le", b"", "encoding utf-16-le"),
        ("utf-16-be", b"", "encoding utf-16-be"),
        ("latin-1", b"", "encoding cp1252"),
        ("cp1252", b"", "encoding cp1252"),
        ("utf-8", b"", None),
    ],
)
def test_encodings(tmp_path, encoding, mark, guess):
    path = tmp_path / "log.csv"
    path.write_bytes(mark + "\r\n".join(lines(header=("t", "u [°]", "y [µm]"))).encode(encoding))
    record = check(path, guess=guess)
    assert record.inputs == ("u",) and record.input_units == ("°",) and record.output_units == ("µm",)


def test_an_encoding_is_given(tmp_path):
    path = log(tmp_path, lines(header=("t", "вход", "выход")), encoding="cp1251")
    check(path, inputs="вход", outputs="выход", format=Format(encoding="cp1251"))
    refuse(path, "text must be utf-8, byte 2 is not", format=Format(encoding="utf-8"))
    refuse(path, "no column 'вход'", inputs="вход")
    path.write_bytes(b"u,y\n\x81\xff,2\n")
    refuse(path, "byte 4 is not UTF-8 and byte 4 not Windows-1252; give the encoding")
    for name in ("latin-17", "rot13", 3):
        with refused("encoding must be"):
            read(path, inputs="u", outputs="y", dt=1.0, format=Format(encoding=name))  # pyright: ignore


@pytest.mark.parametrize("sep", [";", "\t", "|", " "])
def test_decimal_commas(tmp_path, sep):
    rows = [[cell.replace(".", ",") for cell in row] for row in PLAIN]
    check(log(tmp_path, lines(rows, sep=sep)), guess="decimal commas")
    check(log(tmp_path, lines(rows, sep=sep)), dt=None, time="t", guess="decimal commas")
    check(log(tmp_path, lines(rows, sep=sep)), format=Format(decimal=","))
    refuse(
        log(tmp_path, lines(rows, sep=sep)), "'0,5' is not a number with a decimal point.*decimal=','",
        format=Format(decimal="."),
    )  # fmt: skip


def test_quoted_decimal_commas_among_commas(tmp_path):
    rows = [[f'"{cell.replace(".", ",")}"' for cell in row] for row in PLAIN]
    check(log(tmp_path, lines(rows)), guess="decimal commas")
    bare = [[cell.replace(".", ",") for cell in row] for row in PLAIN]
    refuse(log(tmp_path, lines(bare)), "line 2 must have 3 cells.* has 6; decimal commas cannot be used")


@pytest.mark.parametrize(
    ("sep", "cell", "decimal", "guess"),
    [
        (";", lambda v: f"{v:,.3f}", None, "commas between thousands"),
        ("\t", lambda v: f"{v:,.3f}", ".", None),
        (";", lambda v: f"{v:,.3f}".translate({44: ".", 46: ","}), None, "decimal commas"),
        (";", lambda v: f"{v:,.3f}".translate({44: ".", 46: ","}), ",", None),
        (";", lambda v: f"{v:,.3f}".replace(",", " "), ".", None),
        (";", lambda v: f"{v:,.3f}".replace(",", "\u2009"), ".", None),
        (";", lambda v: f"{v:,.3f}".replace(",", "'"), ".", None),
    ],
)
def test_thousands_separators(tmp_path, sep, cell, decimal, guess):
    values = [1234.5 + 1_000_000 * k for k in range(ROWS)]
    rows = [[cell(v), cell(v + 0.125)] for v in values]
    path = log(tmp_path, lines(rows, ("u", "y"), sep))
    record = read(path, inputs="u", outputs="y", dt=DT, format=Format(decimal=decimal))
    np.testing.assert_array_equal(record.experiments[0].u[:, 0], values)
    np.testing.assert_array_equal(record.experiments[0].y[:, 0], np.array(values) + 0.125)
    assert record.guesses == (() if guess is None else (guess,))


def test_numbers_that_mean_one_thing_or_another(tmp_path):
    path = log(tmp_path, ["u;y", "2;49,987", "2;50,812"])
    refuse(path, "'49,987' may have a decimal comma or group thousands.*decimal=','.* or '.' for the second")
    for decimal, first in ((",", 49.987), (".", 49987.0)):
        record = read(path, inputs="u", outputs="y", dt=DT, format=Format(decimal=decimal))
        assert record.experiments[0].y[0, 0] == first
    refuse(log(tmp_path, ["u;y", "1,5;1,234.5", "2;3"]), "one decimal sign: '1,5' .* '1,234.5'")
    points = log(tmp_path, ["u;y", "2;49.987", "2;50.812"])
    with pytest.warns(RobustctlWarning, match=r"'49.987' is read as 49.987.*decimal=','"):
        read(points, inputs="u", outputs="y", dt=DT)
    record = read(points, inputs="u", outputs="y", dt=DT, format=Format(decimal=","))
    assert record.experiments[0].y[0, 0] == 49987.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 0.812 has no thousands
        read(log(tmp_path, ["u;y", "2;49.987", "2;0.812"]), inputs="u", outputs="y", dt=DT)


@pytest.mark.parametrize(
    "above",
    [
        ["Test bench 3", "Date,2024-05-01", "Operator,A", ""],
        ["\ufffd\0\x1b[starting..."],
        ["% a comment", "# another", "Channels: u and y of rig 7"],
        ["1,2,3"],
        [f"line {k}" for k in range(300)],
    ],
)
def test_lines_above_the_header(tmp_path, above):
    check(log(tmp_path, [*above, *lines()]), guess="above the header left out")


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_separator_that_the_file_names(tmp_path, first):
    header = ("t", "u", "y", "a,b,c,d")
    check(log(tmp_path, [first, *lines([[*row, "7"] for row in PLAIN], header, ";")]))


@pytest.mark.parametrize("mark", ["#", "%", "# ", "%% "])
@pytest.mark.parametrize("sep", [" ", ",", "\t"])
def test_names_in_a_comment(tmp_path, mark, sep):
    """As numpy.savetxt(header=...) and Octave write them."""
    header, *rows = lines(sep=sep)
    path = log(tmp_path, [f"{mark}logged by bench", mark + header, *rows], "log.txt")
    check(path, guess="names from the comment in line 2")


def test_a_header_with_fewer_names_than_columns(tmp_path):
    rows = [[*row, "7", ""] for row in PLAIN]
    refuse(
        log(tmp_path, lines(rows)), "line 2 must have 3 cells.*it has 5; the header must name every column"
    )
    check(log(tmp_path, lines(rows, ("t", "u", "y", "state", ""))))


def test_lines_of_a_console(tmp_path):
    header, *rows = lines()
    check(
        log(tmp_path, [header, "INFO  [logger] started", *rows]), guess="1 line without numbers left out (2)"
    )
    check(
        log(tmp_path, [header, *rows, "", "-- stopped by user"]), guess="1 line without numbers left out (15)"
    )
    between = log(tmp_path, [header, *rows[:5], "W buffer full", *rows[5:]])
    refuse(between, "line 7 holds no number and is between samples; delete it, or give time=")
    check(between, dt=None, time="t", guess="1 line without numbers left out (7)")
    twice = log(tmp_path, [header, *rows[:5], header, *rows[5:]])
    refuse(twice, "line 7 holds no number")
    check(twice, dt=None, time="t", guess="1 line without numbers left out (7)")


@pytest.mark.parametrize("word", ["Average", "Mean", "", "Mittelwert", "total:"])
def test_closing_lines(tmp_path, word):
    path = log(tmp_path, [*lines(), f"{word},0.0687,0.05589"])
    refuse(path, rf"line 14 begins with '{word}' where all lines above begin with a number")
    refuse(path, "line 14|time stamps must be finite", dt=None, time="t")
    header, *rows = lines([row[1:] for row in PLAIN], ("u", "y"))
    if word:
        refuse(
            log(tmp_path, [header, *rows, f"{word},0.05589"]),
            f"line 14, column 'u': '{word}' is not a number",
        )


def test_a_closing_line_may_be_a_sample(tmp_path):
    rows = [[*PLAIN[k]] for k in range(ROWS)]
    rows[-1][0] = "Overflow"
    check(log(tmp_path, lines(rows)), format=Format(missing="Overflow"))
    notes = [[row[0], *row[1:], "ok" if k < ROWS - 1 else "stopped"] for k, row in enumerate(PLAIN)]
    check(log(tmp_path, lines(notes, ("t", "u", "y", "note"))))


@pytest.mark.parametrize(
    "word",
    ["#N/A", "#DIV/0!", "#VALUE!", "#NV", "NaN", "nan", "NA", "<NA>", "null", "1.#QNAN", "-1.#IND", "?", "-", "", "NaT", " "],
)  # fmt: skip
def test_usual_spellings_of_a_missing_sample(tmp_path, word):
    rows = [row[1:] for row in PLAIN]
    rows[3] = [rows[3][0], word]
    check(log(tmp_path, lines(rows, ("u", "y"))), missing=[3])
    # In a first cell, where # begins a comment elsewhere.
    swapped = [[y, u] for u, y in rows]
    check(log(tmp_path, ["# a comment", *lines(swapped, ("y", "u")), "# another, comment"]), missing=[3])


def test_a_row_of_errors_of_a_spreadsheet_is_a_sample(tmp_path):
    rows = [row[1:] for row in PLAIN]
    rows[3] = ["#N/A", "#DIV/0!"]
    record = read(log(tmp_path, lines(rows, ("u", "y"))), inputs="u", outputs="y", dt=DT)
    e = record.experiments[0]
    assert e.samples == ROWS and not e.u_mask[3, 0] and not e.y_mask[3, 0] and e.u[4, 0] == U[4]


@pytest.mark.parametrize("word", ["No Data", "Bad", "I/O Timeout", "Comm Fail", "9999", "-9999.0"])
def test_words_and_numbers_named_as_missing(tmp_path, word):
    rows = [row[1:] for row in PLAIN]
    rows[3][1] = word
    rows[7][1] = word.upper()
    path = log(tmp_path, lines(rows, ("u", "y")))
    for marks in (word, [word], ("else", word.lower())):
        check(path, missing=[3, 7], format=Format(missing=marks))
    if not word[-1].isdigit():
        refuse(path, rf"line 5, column 'y': '{word}' is not a number; if it marks .*missing='{word}'")


def test_marks_that_are_numbers_count_in_every_format(tmp_path):
    y = np.array(Y)
    y[3] = -9999
    np.savez(tmp_path / "log.npz", u=np.array(U), y=y)
    check(tmp_path / "log.npz", missing=[3], format=Format(missing=-9999))
    with refused("missing must be a word or number"):
        Format(missing=[None])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("12.5 V", "write the unit into the header"),
        ("12%", "write the unit into the header"),
        ("12:30", "hours:minutes:seconds"),
        ("1.2.3", "correct it, or leave the cell empty"),
        ("0.5\0\0", "NUL characters"),
        ("Mean", "a closing line is no sample"),
        ("ERR", "if it marks a missing sample"),
        ("0x1F", "correct it"),
    ],
)
def test_the_message_names_the_likely_cause(tmp_path, cell, message):
    rows = [list(row) for row in PLAIN]
    rows[4][2] = cell
    refuse(log(tmp_path, lines(rows)), f"line 6, column 'y': .* is not a number.*{message}")
    assert "decimal" not in message


def test_cut_off_rows_and_padding(tmp_path):
    text = "\n".join(lines())
    refuse(
        log(tmp_path, text + "\n1.2"), "line 14 must have 3 cells.* has 1; it is the last one and was cut off"
    )
    refuse(
        log(tmp_path, text.replace("\n0.5,", "\n0.5\n")),
        "line 7 must have 3 cells.*complete it, or delete it",
    )
    check(log(tmp_path, text + "\n" + "\0" * 100), guess="100 NUL characters at the end left out")
    check(log(tmp_path, text + "\n" + ",,\n" * 3))


def test_rows_of_tabs_are_samples_without_measurements(tmp_path):
    rows = [row[1:] for row in PLAIN]
    rows[3] = ["", ""]
    record = read(log(tmp_path, lines(rows, ("u", "y"), "\t")), inputs="u", outputs="y", dt=DT)
    assert record.experiments[0].samples == ROWS and not record.experiments[0].y_mask[3, 0]


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("y [degC]", "degC"), ("y (degC)", "degC"), ("y[degC]", "degC"), ("y / degC", "degC"), ("y in degC", "degC"),
        ("y [m/s^2]", "m/s^2"),
        ("y (m/s²)", "m/s²"), ("y [bar(g)]", "bar(g)"), ("y (N m)", "N m"), ("y [-]", ""), ("y (1/min)", "1/min"), ("y (%)", "%"),
    ],
)  # fmt: skip
def test_units_in_names(tmp_path, header, unit):
    path = log(tmp_path, lines(header=("t", "u", header)))
    for asked in ("y", header):
        record = check(path, outputs=asked)
        assert record.outputs == ("y",) and record.output_units == (unit,)
        assert str(record).count(f"[{unit}]") == bool(unit)
    assert check(path, outputs=header, units={header: "K"}).output_units == ("K",)
    assert check(path, outputs=header, units={"y": "K"}).output_units == ("K",)


def test_names_that_only_look_like_units(tmp_path):
    path = log(tmp_path, lines([[*row, "1"] for row in PLAIN], ("t", "u (raw 2)", "y[0]", "y[1]")))
    record = check(path, inputs="u (raw 2)", outputs="y[0]")
    assert record.inputs == ("u (raw 2)",) and record.outputs == ("y[0]",) and record.output_units == ("",)
    path = log(tmp_path, lines([[*row, "1"] for row in PLAIN], ("t", "u", "T [degC]", "T [K]")))
    refuse(path, "2 columns called 'T'", outputs="T")
    both = read(path, inputs="u", outputs=["T [degC]", "T [K]"], dt=DT)
    assert both.outputs == ("T [degC]", "T [K]") and both.output_units == ("degC", "K")


@pytest.mark.parametrize(
    "units", [("s", "V", "bar"), ("[s]", "[V]", "[bar]"), ("", "V", "bar"), ("s", "(V)", "(bar)")]
)
def test_a_row_of_units(tmp_path, units):
    header, *rows = lines()
    record = check(
        log(tmp_path, [header, ",".join(units), *rows]), guess="units from the line under the header"
    )
    assert record.input_units == ("V",) and record.output_units == ("bar",)
    nothing = read(log(tmp_path, [header, "-,-,-", *rows]), inputs="u", outputs="y", dt=DT)
    assert nothing.samples == ROWS + 1 and not nothing.experiments[0].y_mask[0, 0]
    refuse(log(tmp_path, [header, "float,float,float", *rows]), "line 2, column 'u': 'float' is not a number")


@pytest.mark.parametrize("decimal", [".", ","])
def test_labview_measurements(tmp_path, decimal):
    head = f"""LabVIEW Measurement\t
Writer_Version\t2
Separator\tTab
Decimal_Separator\t{decimal}
***End_of_Header***\t

Channels\t2\t\t
Samples\t12\t12\t
Date\t2024/03/31\t2024/03/31\t
X0\t0\t0\t
Delta_X\t0{decimal}1\t0{decimal}1\t
***End_of_Header***\t\t\t"""
    rows = [[cell.replace(".", decimal) for cell in row] for row in PLAIN]
    text = [*head.split("\n"), *lines(rows, ("X_Value", "u", "y"), "\t")]
    text[-ROWS - 1] += "\tComment"
    check(log(tmp_path, text, "log.lvm"), dt=None, time="X_Value", guess="lines above the header left out")


@pytest.mark.parametrize("suffix", [".dat", ".txt", ".tsv", ".DAT", ".CSV"])
def test_suffixes_of_text(tmp_path, suffix):
    check(log(tmp_path, lines(sep="\t"), f"log{suffix}"))


def test_random_mistakes_give_a_record_or_an_error_of_ours(tmp_path):
    result = fuzz_text.fuzz(tmp_path, 150, seed=1)
    assert result["counts"]["other"] == 0, result["others"]
    assert result["counts"]["ok"] > 10 and result["counts"]["RobustctlError"] > 10


def test_values_in_other_spellings(tmp_path):
    for cells, values in [
        (["1.5D+02", "2d-1"], [150.0, 0.2]),
        (["\u22121.5", "+2"], [-1.5, 2.0]),
        (["True", "FALSE"], [1.0, 0.0]),
        (["1e3", ".5"], [1000.0, 0.5]),
    ]:
        path = log(tmp_path, ["u,y", *(f"{cell},0" for cell in cells)])
        record = read(path, inputs="u", outputs="y", dt=DT)
        assert record.experiments[0].u[:, 0].tolist() == values


def test_a_markdown_table_has_no_sample_of_dashes(tmp_path):
    rows = ["| " + " | ".join(row) + " |" for row in PLAIN]
    check(log(tmp_path, ["| t | u | y |", "|---|:--|--:|", *rows], "log.txt"))
    check(log(tmp_path, ["t u y", "=== === ===", *(" ".join(row) for row in PLAIN)], "log.txt"))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("log.csv.gz", "unpack it"),
        ("log.json", "read it with pandas"),
        ("log.xls", "save it as xlsx"),
        ("log.mf4", "export"),
    ],
)
def test_files_that_are_not_read_are_refused_with_what_to_do(tmp_path, name, advice):
    refuse(log(tmp_path, lines(), name), rf"a \{name[name.rindex('.') :]} file .*{advice}")


def test_json_lines_and_words_of_two_states(tmp_path):
    refuse(
        log(tmp_path, ['{"t": 0, "u": 1, "y": 2}', '{"t": 1, "u": 1, "y": 2}']),
        "is JSON; read it with pandas",
    )
    rows = [[t, "ON" if k % 2 else "OFF", y] for k, (t, _, y) in enumerate(PLAIN)]
    refuse(log(tmp_path, lines(rows)), "line 2, column 'u': 'OFF' is not a number; write 1 and 0")
