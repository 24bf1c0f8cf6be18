"""A run folder's files in bad hands: two processes, damage, files of a newer version, commands that no run wrote."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import fuzz_runs
from robustctl import plot
from robustctl.cli import main
from robustctl.errors import RobustctlError, RobustctlWarning
from robustctl.runs import checkpoint, lock
from robustctl.runs.checkpoint import checkpoints, latest, save_checkpoint
from robustctl.runs.lock import FolderLock
from robustctl.runs.watchers import keep_lines_before, read_log
from robustctl.store import container

from .processes import ROOT
from .test_run_folder import EPOCHS, StopAt, bits, fit

TREE = {"a": jnp.zeros(3)}


def flip_last_byte(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def files_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_training_in_one_folder_is_refused_with_the_owner(tmp_path):
    refused = []

    def second():
        before = files_of(tmp_path)
        with pytest.raises(RobustctlError, match="in use by") as error:
            fit(tmp_path, resume=True)
        refused.append(str(error.value))
        assert files_of(tmp_path) == before

    whole = fit(tmp_path, watchers=[StopAt(2, second)])
    assert f"process {os.getpid()} on {platform.node()} since 2" in refused[0]
    assert whole.stopped == "finished" and not (tmp_path / "lock").exists()
    assert len(read_log(tmp_path / "training.jsonl")[0]) == EPOCHS


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import sys, time, pathlib; from robustctl.runs.lock import FolderLock\n"
        "held = FolderLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(RobustctlError, match=f"in use by process {process.pid} on"):
            FolderLock(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / "lock").exists()
    FolderLock(tmp_path).release()
    assert not (tmp_path / "lock").exists()


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("owner", "free"),
    [
        (lambda: {"pid": ended_process(), "host": platform.node(), "since": "then"}, True),
        (lambda: {"pid": os.getppid(), "host": platform.node(), "since": "then"}, False),
        (lambda: {"pid": ended_process(), "host": "another", "since": "then"}, False),
        (
            lambda: {"pid": os.getpid(), "host": platform.node(), "since": "then"},
            True,
        ),  # a container begun again
        (lambda: {"pid": True, "host": 3}, True),
        (lambda: "no owner", True),
    ],
    ids=["ended", "running", "elsewhere", "own", "types", "text"],
)
def test_where_the_file_system_has_no_locks_the_owner_decides(owner, free, tmp_path, monkeypatch):
    def unsupported(file):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", unsupported)
    (tmp_path / "lock").write_text(json.dumps(owner()))
    if free:
        FolderLock(tmp_path).release()
    else:
        with pytest.raises(RobustctlError, match=r"in use by process .* since then.*remove"):
            FolderLock(tmp_path)


class Msvcrt:
    """What `msvcrt` does for a lock: one open file at a time holds a byte, until it is closed."""

    LK_NBLCK = 2

    def __init__(self):
        self.held: dict[tuple[int, int], tuple[int, os.stat_result]] = {}

    def locking(self, fd, mode, nbytes):
        assert (mode, nbytes) == (self.LK_NBLCK, 1)
        at, now = os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd)
        holder, file = self.held.get((now.st_ino, at), (None, None))
        # the same number again is of a file that was closed
        if holder not in (None, fd) and self._is_open(holder, file):
            raise OSError(errno.EACCES, "Permission denied")
        self.held[now.st_ino, at] = fd, now

    @staticmethod
    def _is_open(fd, file):
        try:
            return os.path.samestat(os.fstat(fd), file)
        except OSError:
            return False


def test_the_lock_of_windows(tmp_path, monkeypatch):
    def refuse_open_file(self, missing_ok=False):
        raise PermissionError(errno.EACCES, "the file is in use by another process")

    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    monkeypatch.setattr(lock, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(Path, "unlink", refuse_open_file)
    first = FolderLock(tmp_path)
    # the byte that is locked, which Windows lets nobody else read, is not in the owner's text
    assert (tmp_path / "lock").stat().st_size < 1000
    with pytest.raises(RobustctlError, match=f"in use by process {os.getpid()} on .* since 2"):
        FolderLock(tmp_path)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    first.release()
    second = FolderLock(tmp_path)
    with pytest.raises(RobustctlError, match="in use by process"):
        FolderLock(tmp_path)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    second.release()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("text")
    with pytest.raises(NotADirectoryError, match="a run folder must be a folder"):
        fit(tmp_path / "run")


def test_a_good_checkpoint_outlives_a_damaged_one_of_a_later_epoch(tmp_path):
    """Training continued from the beginning, because the checkpoint of epoch 100 was damaged."""
    save_checkpoint(tmp_path, 100, TREE, {}, 1)
    flip_last_byte(tmp_path / "epoch_0000100.safetensors")
    written = save_checkpoint(tmp_path, 20, TREE, {}, 1)
    with pytest.warns(RobustctlWarning, match="epoch_0000100.* cannot be read"):
        found = latest(tmp_path)
    assert found is not None and found[0] == written


def test_the_last_two_readable_checkpoints_stay(tmp_path):
    for epoch in (10, 20, 30):
        save_checkpoint(tmp_path, epoch, TREE, {}, 3)
    flip_last_byte(tmp_path / "epoch_0000030.safetensors")
    save_checkpoint(tmp_path, 40, TREE, {}, 1)
    assert [int(path.stem[6:]) for path in checkpoints(tmp_path)] == [40, 30, 20]


def test_nothing_is_removed_where_the_newest_reads_back_otherwise(tmp_path, monkeypatch):
    """A disk that takes the bytes and loses some."""
    save_checkpoint(tmp_path, 10, TREE, {}, 1)
    save_checkpoint(tmp_path, 20, TREE, {}, 1)
    monkeypatch.setattr(checkpoint, "write_atomic", lambda path, data: path.write_bytes(data[:-1] + b"!"))
    with pytest.raises(OSError, match="does not have the bytes"):
        save_checkpoint(tmp_path, 30, TREE, {}, 1)
    assert [int(path.stem[6:]) for path in checkpoints(tmp_path)] == [30, 20, 10]


def test_a_checkpoint_of_a_newer_version_asks_for_an_upgrade(tmp_path, monkeypatch):
    """It is no damage: continuing from the one before would train those epochs again."""
    fit(tmp_path)
    newest = checkpoints(tmp_path / "checkpoints")[0]
    header, arrays = container.unpack(newest.read_bytes())
    monkeypatch.setattr(container, "FORMAT", container.FORMAT + 1)
    newer = container.pack({"checkpoint": header["checkpoint"]}, arrays)
    monkeypatch.undo()
    newest.write_bytes(newer)
    with pytest.raises(RobustctlError, match=f"{newest.name} cannot be used: .*upgrade robustctl"):
        fit(tmp_path, resume=True)
    assert newest.read_bytes() == newer


GOOD = {"epoch": 0, "loss": 1, "validation": None, "skipped": 0, "time": 1}
BAD_LINES = [
    b"\xff", b"", b"[1]", b"3", b'{"epoch": 1', b'{"epoch": 1}', b"[" * 100_000, b'{"a":' * 100_000, b'{"stopped": 3}',
    *(
        json.dumps(GOOD | wrong).encode()
        for wrong in (
            {"epoch": "1"}, {"epoch": True}, {"epoch": -1}, {"epoch": 1.5}, {"epoch": 10**400}, {"loss": "1"},
            {"loss": [1]}, {"loss": 10**400}, {"time": None}, {"time": float("inf")}, {"gradient_norm": {}},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_damaged_line_is_left_out_of_the_log(bad, tmp_path):
    log, last = tmp_path / "training.jsonl", GOOD | {"epoch": 7}
    log.write_bytes(json.dumps(GOOD).encode() + b"\n" + bad + b"\n" + json.dumps(last).encode() + b"\n")
    assert read_log(log) == ([GOOD, last], "")
    keep_lines_before(log, 7)
    assert log.read_text() == json.dumps(GOOD) + "\n"


def test_a_run_with_a_bad_byte_in_its_log_is_watched_and_resumed(tmp_path, capsys):
    whole = fit(tmp_path)
    log = tmp_path / "training.jsonl"
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([*lines[:3], lines[3][:9] + b"\xff" + lines[3][10:], *lines[4:]]) + b"\n")
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert f"finished: epoch {EPOCHS - 1}" in capsys.readouterr().out
    assert bits(fit(tmp_path, resume=True)) == bits(whole)
    assert len(read_log(log)[0]) == EPOCHS - 1


def test_a_huge_epoch_takes_no_memory(tmp_path, monkeypatch):
    (tmp_path / "training.jsonl").write_text(
        "".join(json.dumps(GOOD | {"epoch": k}) + "\n" for k in (0, 3, 10**12))
    )
    drawn = []
    real = plot.histories.history
    monkeypatch.setattr(plot.histories, "history", lambda *given: drawn.append(given[0]) or real(*given))
    assert main(["watch", str(tmp_path), "--once"]) == 0
    np.testing.assert_array_equal(drawn[0]["epoch"], [0, 3, 10**12])
    assert (tmp_path / "training.png").exists()


def test_a_log_with_the_largest_floats_is_drawn(tmp_path):
    """Matplotlib cannot put ticks between minus and plus 1e308."""
    rows = [GOOD | {"epoch": k, "loss": v, "gradient_norm": v} for k, v in enumerate((-1e308, 1.0, 1.7e308))]
    (tmp_path / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert (tmp_path / "training.png").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\xff", b"[]", b"3", b"[" * 100_000, b'{"identity":' * 100_000, b'{"identity": 3, "versions": 4}',
        b'{"identity": {}, "versions": "abc"}', b'{"versions": {}}', b'{"identity": {}, "versions": {"jax": {"a": [1]}}}',
    ],
    ids=range(10),
)  # fmt: skip
def test_a_damaged_run_json_is_named_or_does_no_harm(text, tmp_path, capsys):
    """The checkpoints have the same fingerprint, so a run without a readable `run.json` is resumed."""
    (tmp_path / "run.json").write_bytes(text)
    assert main(["rerun", str(tmp_path)]) == 2
    assert "must describe the run, but it is damaged" in capsys.readouterr().err
    if b'"identity": ' in text and b"jax" in text:
        with pytest.raises(RobustctlError, match="a run is resumed with the"):
            fit(tmp_path, resume=True)


HOSTILE = [
    ["--tyro-write-completion", "bash", "VICTIM"],
    ["fit", "--tyro-write-completion", "bash", "VICTIM"],
    ["demo", "--tyro-write-completion", "bash", "VICTIM"],
    ["demo", "--tyro-print-completion", "bash"],
    ["demo", "--help"],
    ["demo", "-h"],
    ["new", "sysid", "evil"],
    ["demo", "--out=VICTIM"],
    ["demo", "--epochs", "3"],
    ["demo", "--seed", "one"],
    ["demo", "--seed"],
    ["demo", "--seed", "9" * 5000],
    ["fit", "VICTIM", "--inputs", "u", "--outputs", "y", "--recipe.epochs", "3"],
    ["fit", "VICTIM", "--inputs", "u", "--outputs", "y", "--model", "none"],
    ["fit", "a\0b", "--inputs", "u", "--outputs", "y"],
    ["fit", "\ud800", "--inputs", "u", "--outputs", "y"],
    ["fit", 3],
    {"fit": 3},
    "demo",
    3,
    [["demo"]],
]


@pytest.mark.parametrize("command", HOSTILE, ids=range(len(HOSTILE)))
def test_a_repeated_command_has_its_own_options_only(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    text = json.dumps({"command": command, "identity": {"data": "x"}}).replace("VICTIM", str(victim))
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "run.json").write_text(text)
    assert main(["rerun", "evil"]) == 2
    said = capsys.readouterr()
    assert "must be repeated with" in said.err or "a repeated command must be one of fit, demo" in said.err
    assert said.out == "" and said.err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"evil", "victim.txt"} and victim.read_text() == "precious"


def test_a_run_folder_that_is_damaged_at_random_is_used_or_refused(tmp_path):
    """The short version of `benchmarks/fuzz_runs.py`; the seed is one that damages each file in both ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RobustctlWarning)
        found = fuzz_runs.fuzz(tmp_path, 30, seed=1)
    for kind, result in found.items():
        assert result["counts"]["other"] == 0, f"{kind}: {result['others'][0]}"
        assert result["counts"]["ok"] > 0
    assert found["run.json"]["counts"]["refused"] > 0 and found["checkpoints"]["counts"]["refused"] > 0
