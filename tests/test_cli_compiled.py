"""Where the commands keep what XLA compiled."""

import os
import sys

import pytest

from robustctl.cli.compiled import LOCATION, keep_compiled

from .processes import run

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv(LOCATION, "of another test")
    monkeypatch.delenv(LOCATION)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return tmp_path / "caches"


def test_it_is_kept_in_the_users_cache_folder(caches):
    keep_compiled()
    assert os.environ[LOCATION] == str(caches / "robustctl" / "xla")
    if sys.platform != "win32":
        assert (caches / "robustctl" / "xla").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_the_user_stays(caches, monkeypatch):
    monkeypatch.setenv(LOCATION, "mine")
    keep_compiled()
    assert os.environ[LOCATION] == "mine" and not caches.exists()


def test_a_folder_that_cannot_be_made_is_no_error(caches):
    caches.write_text("a file")
    keep_compiled()
    assert LOCATION not in os.environ


@posix
def test_a_folder_that_others_can_write_to_is_not_used(caches):
    folder = caches / "robustctl" / "xla"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    keep_compiled()
    assert LOCATION not in os.environ


def test_a_command_keeps_what_it_compiles_and_an_import_does_not(tmp_path):
    compiling = "import jax; jax.jit(lambda x: x + 1)(1.0)"
    own = f"import os; del os.environ[{LOCATION!r}]; os.environ['XDG_CACHE_HOME'] = 'caches'"
    command = "from robustctl.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    run(tmp_path, "-c", f"{own}\nimport robustctl as rc; rc.nn; {compiling}")
    assert not (tmp_path / "caches").exists()
    run(tmp_path, "-c", f"{own}\n{command}\n{compiling}")
    assert list((tmp_path / "caches" / "robustctl" / "xla").iterdir())
