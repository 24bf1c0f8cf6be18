"""`robustctl new`: the scripts it writes run as they are, and what it refuses."""

import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.cli.new import PLACEHOLDER, TEMPLATES

from .processes import run

KINDS = ("observer", "policy", "sysid")


def test_there_is_a_template_for_each_kind():
    assert tuple(sorted(path.stem for path in TEMPLATES.glob("*.py"))) == KINDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_script_runs_as_it_is(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", kind, "my_script"]) == 0
    assert "my_script.py" in capsys.readouterr().out
    text = (tmp_path / "my_script.py").read_text("utf-8")
    assert PLACEHOLDER not in text and "python my_script.py --quick" in text and text.count("CHANGE") > 2
    assert 60 <= text.count("\n") <= 120
    assert "HOLDS" in run(tmp_path, "my_script.py", "--quick")
    made = tmp_path / "runs" / "my_script"
    assert rc.certify(rc.load(made / "my_script.safetensors"), prove=False).holds
    assert (made / "report").is_dir()
    assert {p.name for p in tmp_path.iterdir()} <= {"my_script.py", "runs", ".config", ".cache"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-script", "identifier"),
        ("script.py", "identifier"),
        ("a/b", "identifier"),
        ("../up", "identifier"),
        ("2nd", "identifier"),
        ("class", "identifier"),
        ("", "identifier"),
        ("signal", "package"),
        ("jax", "package"),
        ("robustctl", "package"),
        ("__main__", "package"),
    ],
)
def test_a_bad_name_is_refused(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "sysid", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith("robustctl: ") and message in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_an_existing_file_stays_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("precious")
    assert main(["new", "policy", "mine"]) == 2
    assert "must not exist yet" in capsys.readouterr().err
    assert (tmp_path / "mine.py").read_text() == "precious"


def test_an_unknown_kind_is_refused_with_what_there_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["new", "controller", "mine"])
    shown = capsys.readouterr()
    assert all(kind in shown.out + shown.err for kind in KINDS)
    assert not list(tmp_path.iterdir())
