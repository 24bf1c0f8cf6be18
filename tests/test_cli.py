"""The command line and the README's example, run as a user runs them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustctl.cli import main
from robustctl.cli.arguments import arguments, parsed
from robustctl.cli.models import Demo, FitLog
from robustctl.cli.reading import Reading
from robustctl.identify.recipe import Recipe
from robustctl.problems import two_tanks

from .processes import ROOT
from .processes import run as run_python

pytestmark = pytest.mark.filterwarnings("ignore:.*outside of the trained range")
"""Short logs leave each other's range; the reports say so."""
QUICK = [
    "--epochs",
    "3",
    "--init",
    "memory",
    "--nx",
    "2",
    "--nv",
    "3",
    "--hidden",
    "4",
    "--warm-up",
    "5",
    "--seeds",
    "1",
]


def write_log(path, samples=60, seed=0):
    e = two_tanks(samples, seed=seed).experiments[0]
    rows = "\n".join(f"{u:.6g},{y:.6g}" for u, y in zip(e.u[:, 0], e.y[:, 0], strict=True))
    path.write_text("pump,level\n" + rows + "\n")
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a log, and the model that `robustctl fit` made of it."""
    folder = tmp_path_factory.mktemp("cli")
    log, model = write_log(folder / "log.csv"), folder / "out" / "model.safetensors"
    columns = ["--inputs", "pump", "--outputs", "level", "--dt", "2"]
    test = ["--test", write_log(folder / "test.csv", seed=1)]
    assert main(["fit", log, *columns, *test, "--model", "lipschitz", *QUICK, "--out", str(model)]) == 0
    return folder, model


def test_fit_leaves_a_model_and_a_report(run):
    _, model = run
    report = model.with_suffix("")
    assert {"report.txt", "report.json", "compare.png", "training.jsonl"} <= {
        p.name for p in report.iterdir()
    }
    assert json.loads((report / "report.json").read_text())["certificate"]["holds"]


def test_fit_does_not_write_over_a_run_and_resumes_a_finished_one(run, capsys):
    folder, model = run
    again = ["fit", str(folder / "log.csv"), "--inputs", "pump", "--outputs", "level", "--dt", "2"]
    again += ["--model", "lipschitz", *QUICK, "--out", str(model)]
    before = (model.with_suffix("") / "training.jsonl").read_bytes()
    assert main(again) == 2 and "holds a run already" in capsys.readouterr().err
    assert main([*again, "--resume"]) == 0
    assert (model.with_suffix("") / "training.jsonl").read_bytes() == before


def test_rerun_gives_the_same_numbers_and_refuses_data_that_changed(run, tmp_path, capsys):
    folder, model = run
    made = model.with_suffix("")
    assert main(["rerun", str(made), "--out", str(tmp_path / "again")]) == 0
    assert "the same numbers in all 3 epochs, to the last bit" in capsys.readouterr().out
    assert (tmp_path / "again" / "model.safetensors").exists()
    log = folder / "log.csv"
    kept = log.read_text()
    try:
        log.write_text(kept + "1.0,2.0\n")
        assert main(["rerun", str(made), "--out", str(tmp_path / "third")]) == 2
        assert "must not have changed, but" in capsys.readouterr().err and not (tmp_path / "third").exists()
    finally:
        log.write_text(kept)


@pytest.mark.parametrize(
    "command",
    [
        Demo(seed=3),
        FitLog((Path("/a b/log.csv"),), ("u", "v"), ("y",), dt=0.1, test=Path("/t.csv"), resume=True),
        FitLog(
            (Path("/l.txt"),),
            ("u",),
            ("y",),
            time=("t",),
            reading=Reading("csv", "latin-1", ",", ("Bad", "-9999", "No Data"), ("u",), 10.0, "ms"),
        ),
        FitLog(
            (Path("/l.mat"),),
            ("u",),
            ("y",),
            time=("t",),
            recipe=Recipe(model="gru", hidden=(3, 4), validation=0.3),
        ),
    ],
    ids=["demo", "fit", "reading", "recipe"],
)
def test_a_command_comes_back_from_its_arguments(command):
    commands = {"fit": FitLog, "demo": Demo}
    name = next(name for name, kind in commands.items() if kind is type(command))
    there = parsed(commands, [name, *arguments(command)])
    assert there == command


def test_certify_checks_again(run, capsys):
    assert main(["certify", str(run[1])]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("HOLDS", "promised", "times the proven one", "searched"))
    assert main(["certify", str(run[1]), "--no-prove", "--no-search", "--json"]) == 0
    promised = json.loads(capsys.readouterr().out)
    assert main(["certify", str(run[1]), "--json"]) == 0
    proven = json.loads(capsys.readouterr().out)
    assert promised["holds"] and promised["gain_proof"] is promised["lower_bound"] is None
    assert 0 < proven["lower_bound"] <= proven["gamma"] * (1 + 1e-9)
    assert (
        0 < proven["gamma"] == proven["gain_proof"]["value"] and proven["promised_gamma"] == promised["gamma"]
    )


def test_simulate_scores_another_log(run, capsys):
    folder, model = run
    log, out = write_log(folder / "other.csv", seed=2), folder / "other.simulated.csv"
    assert main(["simulate", str(model), log, "--out", str(out)]) == 0
    assert "NRMSE" in capsys.readouterr().out
    rows = np.genfromtxt(out, delimiter=",", names=True)
    assert len(rows) == 60 and np.isnan(rows["level_simulated"][:5]).all()
    assert np.isfinite(rows["level_simulated"][5:]).all()


def test_simulate_reads_time_stamps(run, capsys):
    """With them another sample time is seen, and a gap keeps its place."""
    folder, model = run
    rows = Path(write_log(folder / "untimed.csv", seed=2)).read_text().splitlines()
    for name, step, status in (("twice", 1.0, 2), ("same", 2.0, 0)):
        stamped = [f"{step * t},{row}" for t, row in enumerate(rows[1:]) if not 30 <= t < 33]
        log, out = folder / f"{name}.csv", folder / f"{name}.simulated.csv"
        log.write_text("\n".join(["seconds," + rows[0], *stamped]) + "\n")
        assert main(["simulate", str(model), str(log), "--time", "seconds", "--out", str(out)]) == status
        said = capsys.readouterr().err
        assert status == 0 or "must have the model's sample time 2 s, got 1 s" in said
    assert len(np.genfromtxt(out, delimiter=",", names=True)) == 60


@pytest.mark.parametrize("taken", ["log", "model"])
def test_simulate_writes_over_neither_log_nor_model(run, capsys, taken):
    folder, model = run
    log = write_log(folder / "precious.csv", seed=2)
    file = Path(log) if taken == "log" else model
    before = file.read_bytes()
    assert main(["simulate", str(model), log, "--out", str(file)]) == 2
    assert (
        "out must differ from the log and the model" in capsys.readouterr().err
        and file.read_bytes() == before
    )


def german(path, source, mark=""):
    """A log with decimal commas, stamps in ms, an input logged on change, and a mark for a lost output."""
    rows = [row.split(",") for row in Path(source).read_text().splitlines()[1:]]
    changed = [k == 0 or row[0] != rows[k - 1][0] for k, row in enumerate(rows)]
    cells = [
        (f"{2000 * k}", pump if change else "", mark if mark and k == 20 else level)
        for k, ((pump, level), change) in enumerate(zip(rows, changed, strict=True))
    ]
    lines = ["Rig 7", "", "t_ms;pump [V];level [m]", *(";".join(row).replace(".", ",") for row in cells)]
    path.write_bytes("\n".join(lines).encode("utf-16"))
    return str(path)


def test_options_of_reading_give_the_same_record(tmp_path):
    plain = (
        FitLog(Path(write_log(tmp_path / "log.csv")), ("pump",), ("level",), dt=2.0)
        .records()[0]
        .experiments[0]
    )
    log = german(tmp_path / "german.txt", tmp_path / "log.csv", "-9999")
    words = [
        "fit",
        log,
        "--inputs",
        "pump",
        "--outputs",
        "level",
        "--time",
        "t_ms",
        "--hold",
        "pump",
        "--missing",
        "-9999",
    ]
    record = parsed({"fit": FitLog, "demo": Demo}, words).records()[0]
    read = record.experiments[0]
    np.testing.assert_array_equal(read.u, plain.u)
    kept = np.arange(60) != 20
    np.testing.assert_array_equal(read.y[kept], plain.y[kept])
    assert read.y_mask[:, 0].tolist() == kept.tolist()
    assert record.dt == 2.0 and record.input_units == ("V",) and record.output_units == ("m",)
    tested = parsed({"fit": FitLog, "demo": Demo}, [*words, "--test-inputs", "pump [V]"]).records()[1]
    np.testing.assert_array_equal(tested.experiments[0].u, plain.u)  # held in the test log, too
    assert {"decimal commas", "time in ms, by its name", "1 line above the header left out"} <= set(
        record.guesses
    )


def test_fit_shows_what_the_log_shows_before_it_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = Path(write_log(tmp_path / "log.csv")).read_text().splitlines()
    rows[30] = rows[30].split(",")[0] + ",-9999"
    (tmp_path / "lost.csv").write_text("\n".join(rows))
    columns = ["--inputs", "pump", "--outputs", "level", "--dt", "2"]
    assert main(["fit", "lost.csv", *columns, "--model", "lipschitz", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "level: samples of -9999, far from all others" in " ".join(said.split())
    assert said.index("--missing -9999") < said.index("NRMSE"), "before the report"


BAD = [
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--time-unit", "ms"], "time_unit needs time="),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--decimal", ";"], "decimal must be one of"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--encoding", "latin-17"], "encoding must be"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--hold", "level"], "hold must be given for inputs"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--format", "xls"], "format must be one of"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--split-gaps", "0"], "split_gaps must be seconds"),
    (["fit", "LOG", "--inputs", "pumq", "--outputs", "level", "--dt", "2"], "pumq"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level"], "dt"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "-1"], "dt"),
    (["fit", "none.csv", "--inputs", "pump", "--outputs", "level", "--dt", "2"], "none.csv"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--rate", "2"], "rate must be"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--model", "lipschitz", "--gamma", "-1"], "gamma must be"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "pump", "--dt", "2"], "given as both"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--warm-up", "60"], "longer than warm_up = 60 samples, got 60"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--validation", "1.2"], "validation must be a share"),
    (["fit", "LOG", "--inputs", "pump", "--outputs", "level", "--dt", "2", "--minutes", "0"], "minutes must be"),
    (["certify", "LOG"], "safetensors"),
    (["certify", "none.safetensors"], "none.safetensors"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_exit_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = write_log(tmp_path / "log.csv")
    assert main([log if a == "LOG" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("robustctl: ") and message in error and "Traceback" not in error
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"], "nothing half-written"


def test_a_test_log_that_is_too_short_is_refused_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log, test = write_log(tmp_path / "log.csv"), write_log(tmp_path / "test.csv", samples=5)
    columns = ["--inputs", "pump", "--outputs", "level", "--dt", "2"]
    assert main(["fit", log, *columns, "--test", test, *QUICK]) == 2
    assert "longer than warm_up = 5 samples, got 5 in 'test'" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"log.csv", "test.csv"}


@pytest.mark.parametrize(
    ("given", "said"), [(["--model", "lipschitz", "--gamma", "-1"], "gamma"), (["--rate", "2"], "rate")]
)
def test_a_guarantee_out_of_range_is_refused_before_a_folder_is_made(
    tmp_path, capsys, monkeypatch, given, said
):
    monkeypatch.chdir(tmp_path)
    log = write_log(tmp_path / "log.csv")
    columns = ["--inputs", "pump", "--outputs", "level", "--dt", "2"]
    assert main(["fit", log, *columns, *QUICK, *given, "--out", "new/model.safetensors"]) == 2
    assert f"robustctl: {said} must be" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_the_package_runs_as_a_command(tmp_path):
    command = [sys.executable, "-m", "robustctl", "certify", str(tmp_path / "none.safetensors")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("robustctl: ")


def test_the_readme_example_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    said = run_python(tmp_path, "-c", code)
    assert "HOLDS" in said and "(1000, 1)" in said
    assert (tmp_path / "exchanger.safetensors").is_file()
