"""The documentation site: it builds without a warning, and its reference leaves no public name out."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import robustctl as rc

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ROOMS = sorted([*(ROOT / "robustctl").glob("**/__init__.py"), ROOT / "envs/robustctl_envs/__init__.py"])


def exported(room: Path) -> list[str]:
    """Names that an `__init__.py` offers: `from .x import y as y`, or `__all__`."""
    found = []
    for node in ast.parse(room.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [name.asname for name in node.names if name.asname]
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            found += ast.literal_eval(node.value)
    return found


@pytest.mark.parametrize(
    "room", [r for r in ROOMS if exported(r)], ids=lambda room: ".".join(room.parent.relative_to(ROOT).parts)
)
def test_the_reference_names_everything_that_is_public(room):
    pages = "\n".join(page.read_text("utf-8") for page in (DOCS / "api").glob("*.rst"))
    listed = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (\S+)$", pages, re.MULTILINE))
    inside = ".".join(room.parent.relative_to(ROOT).parts).removeprefix("envs.")
    above = inside.rpartition(".")[0]  # rc.load is robustctl.io.load
    missing = [name for name in exported(room) if not {f"{inside}.{name}", f"{above}.{name}"} & listed]
    assert not missing, f"add to a page of docs/api: {missing} of {inside}"


def test_the_migration_page_names_what_exists():
    control = pytest.importorskip("control")
    text = (DOCS / "matlab.md").read_text("utf-8")
    names = set(re.findall(r"`(rc|ct)((?:\.\w+)+)", text))
    assert len(names) > 50
    for root, path in names:
        thing = rc if root == "rc" else control
        for part in path[1:].split("."):
            assert hasattr(thing, part), f"docs/matlab.md names {root}{path}, which does not exist"
            thing = getattr(thing, part)


def test_every_page_is_in_the_contents():
    contents = (DOCS / "index.md").read_text("utf-8")
    for page in [*DOCS.glob("*.md"), *(DOCS / "api").glob("*.rst")]:
        name = str(page.relative_to(DOCS).with_suffix(""))
        assert name == "index" or re.search(rf"^{name}$", contents, re.MULTILINE), (
            f"docs/index.md lists no {name}"
        )


def test_the_site_builds_without_a_warning(tmp_path):
    for needed in ("sphinx", "furo", "myst_nb", "jupytext"):
        pytest.importorskip(needed, reason=f"the site needs {needed}; pip install 'robustctl[docs]'")
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "doctrees")]
    site = tmp_path / "html"
    done = subprocess.run(
        [sys.executable, *command, str(DOCS), str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ContractingR2DN" in (site / "api" / "nn.html").read_text("utf-8")
    assert "LQG" in (site / "tutorials" / "compare_controllers.html").read_text("utf-8")
    for page in site.glob("*.html"):  # what the pages link to came along
        for target in re.findall(r'href="(_downloads/[^"]+)"', page.read_text("utf-8")):
            assert (site / target).is_file(), f"{page.name} links to {target}"
