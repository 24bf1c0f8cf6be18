"""Looking at a run while it is trained: `robustctl watch`, TensorBoard, and watchers that are none."""

import json
import struct
import sys
import threading
import time

import numpy as np
import pytest
from matplotlib.figure import Figure

import robustctl as rc
from robustctl import plot
from robustctl.cli import main
from robustctl.cli.watch import status
from robustctl.errors import RobustctlError

from .test_fit import FAST, plant, small
from .trainings import fit

NAN = float("nan")


def row(epoch, begin=0.0, **other):
    return {
        "epoch": epoch, "loss": 1 / (1 + epoch), "validation": 0.3 + 0.01 * (epoch - 4) ** 2, "gradient_norm": 0.5,
        "learning_rate": 1e-3, "skipped": 0.0, **({"certificate_margin": -1e-4} if epoch % 5 == 4 else {}),
        "time": begin + 2.0 * epoch, **other,
    }  # fmt: skip


def write(folder, rows, stopped=""):
    lines = [*rows, *([{"stopped": stopped}] if stopped else [])]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "training.jsonl").write_text(text, encoding="utf-8")


def test_once_draws_a_log_and_says_how_it_goes(tmp_path, capsys):
    rows = [row(k, time.time() - 18) for k in range(10)]
    write(tmp_path, rows)
    with (tmp_path / "training.jsonl").open("a") as file:
        file.write('{"epoch": 10, "lo')  # a line that is being written
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "running: epoch 9, loss 0.1, best validation 0.3 in epoch 4, 0.5 epochs/s" in said
    assert str(tmp_path / "training.png") in said


def test_the_status_says_whether_a_run_lives():
    rows = [row(k) for k in range(10)]
    assert status(rows, "", 18.0 + 29.0).startswith("running: ")
    assert status(rows, "", 18.0 + 45.0).startswith("no line for 45 s, killed?: ")
    assert status(rows, "patience", 1e6).startswith("patience: epoch 9")
    slow = [row(k, time=100.0 * k) for k in range(3)]
    assert status(slow, "", 200.0 + 400.0).startswith("running: ")
    assert "0.01 epochs/s" in status(slow, "", 200.0)


def test_the_status_of_numbers_that_are_not_finite_or_not_there():
    said = status([row(0, loss=None, validation=None, skipped=3.0)], "not finite", 0.0)
    assert said == "not finite: epoch 0, loss not finite, steps skipped: 3"


def test_watching_ends_with_the_run(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")

    def train():
        for epochs in range(1, 4):
            time.sleep(0.2)
            write(tmp_path, [row(k, time.time()) for k in range(epochs)], "finished" if epochs == 3 else "")

    thread = threading.Thread(target=train)
    thread.start()
    assert main(["watch", str(tmp_path), "--every", "0.05"]) == 0
    thread.join()
    assert "finished: epoch 2, loss 0.3333" in capsys.readouterr().out
    assert (tmp_path / "training.png").exists()


def test_ctrl_c_ends_watching(tmp_path, capsys, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    write(tmp_path, [row(0, time.time())])
    monkeypatch.setattr(time, "sleep", interrupt)
    assert main(["watch", str(tmp_path)]) == 0
    assert "running: epoch 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("made", "arguments", "message"),
    [
        ((), ["none"], "there is no folder none"),
        ((), ["."], "no training.jsonl in it"),
        (("run.json",), [".", "--once"], "must have an epoch to draw"),
        (("training.jsonl",), [".", "--once"], "must have an epoch to draw"),
        (("training.jsonl",), [".", "--every", "0"], "every must be above zero"),
    ],
)
def test_what_cannot_be_watched_is_exit_status_2(made, arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in made:
        (tmp_path / name).touch()
    assert main(["watch", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == set(made)


def test_a_history_has_a_panel_for_each_column_that_holds_numbers():
    loss = np.array([1.0, 0.5, NAN, 0.2])
    margin = np.array([-1e-3, NAN, np.inf, -2e-3])
    columns = dict(loss=loss, validation=loss + 1, gradient_norm=loss, certificate_margin=margin)
    figure = plot.histories.history(columns | {"learning_rate": np.full(4, NAN)}, 1, "a run")
    figure.draw_without_rendering()
    losses, norm, margins = figure.axes
    assert losses.get_yscale() == norm.get_yscale() == "log" and margins.get_yscale() == "symlog"
    assert "best: epoch 1, 1.5" in [t.get_text() for t in losses.get_legend().get_texts()]
    _, proven, broken = margins.lines
    assert proven.get_xdata().tolist() == [0, 3] and broken.get_xdata().tolist() == [2]
    assert "a run" in figure.get_suptitle()


def test_a_certificate_that_does_not_hold_is_drawn(tmp_path, monkeypatch):
    write(tmp_path, [row(k, certificate_margin=None) for k in range(2)] + [row(2)])
    drawn = []
    monkeypatch.setattr(plot.histories, "history", lambda columns, *rest: drawn.append(columns) or Figure())
    assert main(["watch", str(tmp_path), "--once"]) == 0
    np.testing.assert_array_equal(drawn[0]["certificate_margin"], [np.inf, np.inf, NAN])


def scalars(folder):
    """The scalars of a folder's event files, as {(tag, step): value}."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in sorted(folder.iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):  # records: length and its checksum, event and its checksum
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
            at += length + 16
    return found


def test_tensorboard_holds_every_finite_number(tmp_path):
    pytest.importorskip("tensorboardX", reason="pip install 'robustctl[tensorboard]'")
    board = rc.runs.TensorBoard(tmp_path / "board")
    f = fit(small(), plant(), epochs=3, watchers=[board], **FAST)
    found = scalars(tmp_path / "board")
    names = {"loss", "gradient_norm", "skipped"}  # the others are not finite here
    assert found.keys() == {(name, k) for name in names for k in range(3)}
    np.testing.assert_allclose([found["loss", k] for k in range(3)], f.history["loss"], rtol=1e-6)


def test_tensorboard_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(RobustctlError, match=r"pip install 'robustctl\[tensorboard\]'"):
        rc.runs.TensorBoard(tmp_path)


class NoWatcher:
    def epoch(self, number, row):
        """There is no close."""


@pytest.mark.parametrize("given", [[print], [NoWatcher()], [rc.runs.TensorBoard], NoWatcher()])
def test_what_is_no_watcher_is_refused_before_anything_is_written(given, tmp_path, as_installed):
    wanted = r"watchers must be a list|the methods epoch\(number, metrics\) and close\(stopped\)"
    with pytest.raises(RobustctlError, match=wanted):
        fit(small(), plant(), epochs=2, run=tmp_path / "run", watchers=given, **FAST)
    with pytest.raises(RobustctlError, match=wanted):
        monitor = rc.runs.Monitor(given)
        rc.fit_policy(small(), None, horizon=10, run=tmp_path / "run", monitor=monitor, key=FAST["key"])
    assert not list(tmp_path.iterdir())
