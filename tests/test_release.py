"""What a release says of itself: one version, one date, the Pythons that are tested."""

import re
import tomllib
from pathlib import Path

import yaml

import robustctl
from robustctl.cli import main

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHON = "Programming Language :: Python :: "


def test_version_and_date_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    dated = r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$"
    version, date = re.search(dated, (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE).groups()
    assert robustctl.__version__ == citation["version"] == version
    assert str(citation["date-released"]) == date


def test_version_has_one_place():
    assert "version" not in PROJECT and "version" in PROJECT["dynamic"]


def test_command_line_prints_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"robustctl {robustctl.__version__}\n"


def test_both_packages_are_typed():
    for package in ("robustctl", "envs/robustctl_envs"):
        assert (ROOT / package / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_pythons_of_the_classifiers_are_those_tested():
    named = [name.removeprefix(PYTHON) for name in PROJECT["classifiers"] if name.startswith(f"{PYTHON}3.")]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == named
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_no_project_urls():
    assert "urls" not in PROJECT
