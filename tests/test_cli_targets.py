"""What a command writes: never over what it reads, and found unwritable before a training."""

import errno
import os
import stat
from pathlib import Path

import pytest

import robustctl as rc
from robustctl.cli import main, targets
from robustctl.errors import RobustctlError
from robustctl.store import atomic

from .test_cli import QUICK, write_log

pytestmark = pytest.mark.filterwarnings("ignore:.*outside of the trained range")
"""Short logs leave each other's range; the reports say so."""
FIT = ["fit", "log.csv", "--inputs", "pump", "--outputs", "level", "--dt", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with two logs, and other names of the first."""
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log.csv")
    write_log(tmp_path / "test.csv", seed=1)
    os.link("log.csv", "hard.safetensors")
    os.symlink("log.csv", "soft.safetensors")
    (tmp_path / "folder").mkdir()
    return tmp_path


def contents(folder: Path):
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "log.csv"], "out must differ from the log and the test, got log.csv, which is log.csv"),
        (["--out", "folder/../log.csv"], "out must differ from the log"),
        (["--out", "hard.safetensors"], "out must differ from the log"),
        (["--out", "soft.safetensors"], "out must differ from the log"),
        (["--out", "test.csv", "--test", "test.csv"], "out must differ from the log and the test"),
        (["--run", "log.csv"], "run must differ from the log"),
        (["--run", "hard.safetensors", "--resume"], "run must differ from the log"),
        (["--run", "test.csv"], "run must be a folder or not exist, got the file test.csv"),
        (["--out", "model"], "out must be a file and run a folder"),
        (["--out", "folder"], "out must be a file and run a folder"),
        (["--out", "folder/run.json", "--run", "folder"], "out must differ from the run's own files"),
        (["--out", "folder/training.jsonl", "--run", "folder"], "out must differ from the run's own files"),
        (["--out", "/dev/null", "--run", "new"], "out must be a file that can be written, got /dev/null: it must be a regular file"),
        (["--out", "log.csv/model.safetensors"], "out must be a file that can be written"),
        (["--out", "/proc/nowhere/model.safetensors"], "out must be a file that can be written"),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_target_that_cannot_or_must_not_be_written_is_refused_before_training(
    options, message, here, capsys
):
    before = contents(here)
    assert main([*FIT, *QUICK, *options]) == 2
    assert message in capsys.readouterr().err
    assert contents(here) == before and stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("taken", ["hard.safetensors", "soft.safetensors"])
def test_simulate_writes_over_no_other_name_of_the_log(taken, here, capsys):
    before = contents(here)
    assert main(["simulate", "none.safetensors", "log.csv", "--out", taken]) == 2
    assert "out must differ from the log and the model" in capsys.readouterr().err
    assert contents(here) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_is_found_before_training(code, here, capsys, monkeypatch):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    before = contents(here)
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", refuse)
        assert main([*FIT, *QUICK]) == 2
    said = capsys.readouterr().err
    assert f"got log.safetensors: {os.strerror(code)}; make room" in said and contents(here) == before


def test_a_target_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    target = tmp_path / "model.safetensors"
    target.write_text("of another user")
    monkeypatch.setattr(atomic.os, "access", lambda path, mode: False)  # root may write to any
    with pytest.raises(RobustctlError, match="may not be written"):
        targets.check_writable(target)
    assert target.read_text() == "of another user"


def test_a_trial_leaves_nothing_but_the_folder(tmp_path):
    targets.check_writable(tmp_path / "new" / "model.safetensors")
    assert [p.name for p in tmp_path.rglob("*")] == ["new"]


def test_a_disk_that_is_full_at_the_end_leaves_the_model_in_the_run_folder(here, capsys, monkeypatch):
    real = rc.io.save

    def full(path, model):
        if Path(path).name == "log.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, model)

    monkeypatch.setattr(rc.io, "save", full)
    assert main([*FIT, *QUICK]) == 2
    said = capsys.readouterr().err
    assert "log.safetensors could not be written: No space left on device" in said
    assert "it is in log/model.safetensors" in said and "--run log --resume" in said
    assert main([*FIT, *QUICK, "--run", "log", "--resume", "--out", "other.safetensors"]) == 0
    assert (here / "other.safetensors").read_bytes() == (here / "log" / "model.safetensors").read_bytes()
