"""The commands advise and compare, and a fit of several logs, run as a user runs them."""

import json

import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.cli.arguments import arguments, parsed, rebuilt
from robustctl.cli.models import FitLog
from robustctl.errors import DataError, RobustctlError
from robustctl.identify.scores import channel_scores
from robustctl.problems import two_tanks
from robustctl.reports import compare_models
from robustctl.runs import watchers
from robustctl.store.json_text import parse_object

COLUMNS = ["--inputs", "pump", "--outputs", "level", "--dt", "2"]


def write_log(path, samples=80, seed=0, names=("pump", "level")):
    e = two_tanks(samples, seed=seed).experiments[0]
    rows = "\n".join(f"{u:.6g},{y:.6g}" for u, y in zip(e.u[:, 0], e.y[:, 0], strict=True))
    path.write_text(f"{names[0]},{names[1]}\n{rows}\n")
    return str(path)


def linear(inputs="pump", outputs="level", dt=2.0, order=2, seed=0):
    e = two_tanks(200, seed=seed).experiments[0]
    record = rc.data.from_arrays(e.u, e.y, dt, inputs=inputs, outputs=outputs)
    return rc.identify.subspace(record, order=order).model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for order in (1, 2):
        rc.save(folder / f"order{order}.safetensors", linear(order=order))
    return [str(folder / f"order{order}.safetensors") for order in (1, 2)]


def test_advise_prints_the_advice_on_one_log_or_several(tmp_path, capsys):
    logs = [write_log(tmp_path / f"{k}.csv", seed=k) for k in range(2)]
    assert main(["advise", *logs, *COLUMNS]) == 0
    text = capsys.readouterr().out
    record = rc.data.read(logs, inputs="pump", outputs="level", dt=2)
    assert text == f"{record}\n\n{rc.advice.advise(record)}\n"
    assert main(["advise", logs[0], *COLUMNS, "--json"]) == 0
    advice = rc.advice.advise(rc.data.read(logs[0], inputs="pump", outputs="level", dt=2))
    assert parse_object(capsys.readouterr().out.encode()) == json.loads(json.dumps(advice.to_dict()))


@pytest.mark.parametrize("command", [["advise"], ["fit"], ["compare", "--log", "log.csv"]])
def test_a_command_without_files_says_so(command, capsys):
    rest = COLUMNS if command[0] != "compare" else []
    assert main([*command, *rest]) == 2
    assert "at least one log" in (found := capsys.readouterr().err) or "one model file or more" in found


def test_advise_on_a_short_log_or_an_absent_column_says_so(tmp_path, capsys):
    short = write_log(tmp_path / "short.csv", samples=12)
    assert main(["advise", short, *COLUMNS]) == 2 and "30 measured samples" in capsys.readouterr().err
    assert main(["advise", short, "--inputs", "valve", "--outputs", "level", "--dt", "2"]) == 2
    assert "there is no column 'valve'" in capsys.readouterr().err


def test_compare_scores_each_model_on_the_same_samples(models, tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", samples=150, seed=3)
    assert main(["compare", *models, "--log", log, "--out", str(tmp_path / "made")]) == 0
    text = capsys.readouterr().out
    made = {path.name: path for path in (tmp_path / "made").iterdir()}
    assert made.keys() == {"comparison.txt", "comparison.json", "comparison.html", "comparison.png"}
    assert made["comparison.txt"].read_text() in text
    found = parse_object(made["comparison.json"].read_bytes())
    record = rc.data.read(log, inputs="pump", outputs="level", dt=2)
    runs = [rc.simulate(rc.load(model), record) for model in models]
    skipped = max(run.skipped for run in runs)
    for run, row, name in zip(runs, found["scores"], ("order1", "order2"), strict=True):
        scores = channel_scores(record, run.y_hat, skipped)
        assert (row["model"], row["output"]) == (name, "level")
        np.testing.assert_allclose(
            [row["nrmse"], row["fit_percent"]], [scores.nrmse[0], scores.fit_percent[0]]
        )
    assert found["skipped_samples"] == skipped and found["samples"] == 150


def test_compare_takes_several_logs_and_columns_of_other_names(models, tmp_path):
    logs = [write_log(tmp_path / f"{k}.csv", seed=k, names=("u", "y<1>")) for k in range(2)]
    columns = ["--inputs", "u", "--outputs", "y<1>"]
    out = str(tmp_path / "made")
    assert main(["compare", models[0], "--log", *logs, *columns, "--out", out]) == 0
    assert parse_object((tmp_path / "made" / "comparison.json").read_bytes())["experiments"] == 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"dt": 1.0}, "share their sample time: 'order1' has dt = 2 s, 'other' has dt = 1 s"),
        ({"outputs": "height"}, "share their outputs: 'order1' has ('level',), 'other' has ('height',)"),
        ({"inputs": "valve"}, "share their inputs"),
    ],
)
def test_models_that_differ_are_not_compared(models, tmp_path, capsys, other, message):
    path = tmp_path / "other.safetensors"
    rc.save(path, linear(**other))
    log = write_log(tmp_path / "log.csv")
    assert main(["compare", models[0], str(path), "--log", log, "--out", str(tmp_path / "made")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "made").exists()


def test_compare_refuses_a_log_that_does_not_fit(models, tmp_path, capsys):
    other = write_log(tmp_path / "other.csv", names=("valve", "level"))
    assert main(["compare", *models, "--log", other]) == 2
    assert "there is no column 'pump'" in capsys.readouterr().err
    timed = tmp_path / "timed.csv"
    timed.write_text("t,pump,level\n" + "\n".join(f"{k},1,{k % 3}" for k in range(60)) + "\n")
    assert main(["compare", *models, "--log", str(timed), "--time", "t"]) == 2
    assert "the model's sample time 2 s, got 1 s" in capsys.readouterr().err
    log = write_log(tmp_path / "log.csv")
    assert main(["compare", *models, "--log", log, "--out", log]) == 2
    assert "out must differ" in capsys.readouterr().err
    assert main(["compare", models[0], str(tmp_path / "none.safetensors"), "--log", log]) == 2
    assert "no such file" in capsys.readouterr().err.lower()


def test_compare_models_refuses_what_is_no_model():
    record = two_tanks(100, seed=0)
    with pytest.raises(DataError, match="at least one model"):
        compare_models({}, record)
    with pytest.raises(RobustctlError, match="'a'"):
        compare_models(
            {"a": rc.nn.LipschitzR2DN(nu=1, nx=1, nv=1, ny=1, hidden=(2,), gamma=1.0, key=jr.key(0))}, record
        )
    with pytest.raises(DataError, match="one or more of one record"):
        rc.plot.compare_models({})


def test_a_fit_of_several_logs_has_an_experiment_for_each_and_can_be_repeated(tmp_path, capsys, monkeypatch):
    logs = [write_log(tmp_path / f"{k}.csv", seed=k) for k in range(2)]
    monkeypatch.chdir(tmp_path)
    command = parsed({"fit": FitLog}, ["fit", "0.csv", logs[1], *COLUMNS])
    record = command.records()[0]
    assert [e.samples for e in record.experiments] == [80, 80]
    words = ["fit", *arguments(command)]
    monkeypatch.chdir(tmp_path.parent)  # a run names its logs by absolute paths
    again = rebuilt({"fit": FitLog}, words).records()[0]
    np.testing.assert_array_equal(again.experiments[0].y, record.experiments[0].y, strict=True)
    assert main(["fit", *logs, *COLUMNS, "--out", logs[1]]) == 2
    assert "out must differ" in capsys.readouterr().err


def test_plain_lines_where_there_is_no_terminal(monkeypatch, capsys):
    row = {
        "loss": 0.5,
        "validation": np.nan,
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "certificate_margin": np.nan,
        "skipped": 0.0,
    }
    clock = iter([0.0, 4.0, 5.0, 14.0, 15.0, 25.0])
    monkeypatch.setattr(watchers.time, "monotonic", lambda: next(clock))
    shown = watchers.progress(5)
    for number in range(5):
        shown.epoch(number, row)
    shown.close("done")
    lines = capsys.readouterr().err.splitlines()
    # Epoch 0 ends at 4 s, after compiling; lines at 14 s and 25 s, of (2 epochs in 10 s) and (4 in 21 s).
    assert lines == [
        "epoch 3 of 5: loss 0.5, rate 0.001, gradient 1, 0.2 epochs/s, 10 s left",
        "epoch 5 of 5: loss 0.5, rate 0.001, gradient 1, 0.19 epochs/s, 0 s left",
        "done: epoch 5 of 5: loss 0.5, rate 0.001, gradient 1, 0.19 epochs/s, 0 s left",
    ]


def test_a_short_training_prints_no_line(capsys):
    shown = watchers.progress(2)
    shown.close("interrupted")
    assert not capsys.readouterr().err
