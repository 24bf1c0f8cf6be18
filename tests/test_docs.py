"""The documentation site: it builds without a warning, and its reference leaves no public name out."""

import ast
import copy
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import robustctl as rc
from benchmarks import __main__ as benchmarks
from robustctl.problems import f16
from robustctl.runs.provenance import provenance

from .test_f16 import records

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import make_results  # noqa: E402

RESULTS = make_results.read(ROOT / "results")
ROOMS = sorted([*(ROOT / "robustctl").glob("**/__init__.py"), ROOT / "envs/robustctl_envs/__init__.py"])


def exported(room: Path) -> list[str]:
    """Names that an `__init__.py` offers: `from .x import y as y`, or `__all__`."""
    found = []
    for node in ast.walk(ast.parse(room.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [name.asname for name in node.names if name.asname]
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            found += [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
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


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    for needed in ("sphinx", "furo", "myst_nb", "jupytext", "latex2mathml"):
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
    assert "6.3e-6" in (site / "results.html").read_text("utf-8")  # a published figure, from a results file
    concepts = (site / "concepts.html").read_text("utf-8")
    assert "<msub><mi>D</mi><mn>12</mn></msub>" in re.sub(
        r"<(/?)mrow>", "", concepts
    )  # drawn without a script
    assert "mathjax" not in concepts.lower()
    for page in site.glob("*.html"):  # what the pages link to came along
        for target in re.findall(r'href="(_downloads/[^"]+)"', page.read_text("utf-8")):
            assert (site / target).is_file(), f"{page.name} links to {target}"


def test_mathematics_that_cannot_be_drawn_stops_the_build():
    pytest.importorskip("latex2mathml", reason="the site needs latex2mathml; pip install 'robustctl[docs]'")
    from mathml import mathml
    from sphinx.errors import ExtensionError

    drawn = mathml(r"\lVert x\rVert_P \begin{aligned} a &= b \\ c &= d \end{aligned}", "block")
    assert drawn.startswith("<math") and drawn.count("<mtr>") == 2 and 'form="prefix">&#x02016;' in drawn
    with pytest.raises(ExtensionError, match=r"must be TeX .* know \\nosuchthing"):
        mathml(r"\nosuchthing x", "inline")


# The results pages


def everything(results) -> str:
    return "\n".join(make_results.pages(results).values())


def test_every_results_file_is_on_a_page_with_its_origin():
    text = everything(RESULTS)
    assert len(RESULTS) >= 19 and "no table of its own" not in text and "{{" not in text
    for name, result in RESULTS.items():
        (line,) = re.findall(rf"^- \[results/{name}\.json\].*$", text, re.MULTILINE)
        assert all(part in line for part in (f"commit {result['commit'][:12]}", "seed", "cores, device", "`"))
        assert all(f"../results/{figure}" in text for figure in result["figures"])
    assert all(f"../results/{path.name}" in text for path in (ROOT / "results").glob("*.png"))


def changed(value):
    """Every number of a result another, those apart that are no results."""
    if isinstance(value, dict):
        same = ("seed", "seeds", "study", "recipe", "protocol", "machine", "versions")
        return {key: v if key in same else changed(v) for key, v in value.items()}
    if isinstance(value, list):
        return [changed(v) for v in value]
    return value if isinstance(value, bool) or not isinstance(value, int | float) else 3 * value + 1


@pytest.mark.parametrize("name", RESULTS)
def test_another_number_in_a_file_is_another_on_its_page(name):
    before, after = everything(RESULTS), everything(RESULTS | {name: changed(RESULTS[name])})
    assert len(re.findall(r"\d", before)) and before != after
    assert make_results.origin(name, RESULTS[name]) in after


def test_a_number_stands_where_it_belongs():
    edited = copy.deepcopy(RESULTS)
    for run in edited["pde_r2dn"]["runs"]:
        run["final_training_loss"] = 0.0123
    assert "| R2DN | 95,844 | 0.0123 | 6.3e-6 [4.5e-6,\N{NO-BREAK SPACE}7.9e-6] |" in everything(edited)


@pytest.mark.parametrize("name", [*RESULTS, None])
def test_an_absent_file_leaves_the_rest(name):
    left = {} if name is None else {n: r for n, r in RESULTS.items() if n != name}
    text = everything(left)
    for absent in RESULTS if name is None else [name]:
        if absent in make_results.COMMANDS:
            assert f"- {absent}: not measured; {make_results.command(absent)}." in text
        assert f"results/{absent}.json](" not in text
    assert all(f"results/{other}.json](" in text for other in left)


def test_files_that_are_still_to_come_have_their_tables():
    rows = [
        {
            "case": "f16",
            "what": "rollout",
            "published_ms": 8.25,
            "ours_ms": 2.0,
            "ratio": 4.125,
            "difference": 1e-6,
        }
    ]
    arrangement = {"ms": 12.5, "times_of_one_seed": 9.75, "part_of_peak": 0.625}
    epoch = [{"devices": 2, "epoch_ms": 31.25, "speedup": 1.75, "efficiency": 0.875}]
    origin = provenance(0)
    come = {
        "f16_r2dn": f16_results(), "f16_ours": f16_results(),
        "speed_published": {**origin, "notes": ["a note"], "rows": rows},
        "seeds": {**origin, "seeds": 10, "arrangements": {"lax.map": arrangement}},
        "devices": {**origin, "epoch": epoch},
        "another": {**origin, "finding": 0.4375},
    }  # fmt: skip
    text = everything(come)
    expected = (
        "f16: rollout | 8.25 | 2 | 4.12",
        "- a note",
        "arrangement of 10 seeds",
        "lax.map | 12.5 | 9.75 | 0.625",
        "31.2 | 1.75 | 0.875",
    )
    assert all(
        part in text for part in (*expected, "| finding | 0.438 |", "| our own recipe | 97,481 | 0.601 |")
    )
    score = make_results.number(come["f16_r2dn"]["runs"][0]["test"]["nrmse_by_level"]["4"])
    assert re.search(rf"\| R2DN \| [\d.]+ \| [\d.]+ \| {score} \|", text)
    assert re.search(r"\| R2DN, level 6 \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", text)
    assert "interpolation between the neighboring training levels | 0.184" in text


def f16_results() -> dict:
    """What the benchmark writes, of a model that answers with the level below."""
    made = records(300)
    found = f16.test_scores({level: made[level - 1].experiments[0].y for level in f16.TEST}, made)
    run = {
        "seed": 0, "parameters": 97_481, "final_training_loss": 0.601, "test": found, "certificate_holds": True,
        "certificates": [{"epoch": 1, "holds": True, "margin": -1e-3}], "seconds_per_epoch": 9.5, "training_loss": [0.7, 0.601],
    }  # fmt: skip
    return {
        "problem": "f16",
        **provenance(0),
        "device": "cpu",
        "published": f16.PUBLISHED["r2dn"],
        "runs": [run],
    }


@pytest.mark.parametrize("name", make_results.COMMANDS)
def test_the_command_below_a_table_is_understood(name, monkeypatch):
    program, *arguments = shlex.split(make_results.command(name).strip("`"))
    assert program == "python"
    if arguments[:2] != ["-m", "benchmarks"]:
        script = (
            Path(arguments[1].replace(".", "/")).with_suffix(".py") if arguments[0] == "-m" else arguments[0]
        )
        assert (ROOT / script).is_file()
        return

    ran = []
    for command in set(benchmarks.COMMANDS.values()):
        monkeypatch.setattr(command, "__call__", lambda self: ran.append(self) or 0)
    assert benchmarks.main(arguments[2:]) == 0 and len(ran) == 1


def test_numbers_are_short_and_whole():
    shown = {
        0.0941: "0.0941",
        999.99995: "1,000",
        6.2137e-6: "6.21e-6",
        97481: "97,481",
        True: "yes",
        None: "-",
    }
    assert {value: make_results.number(value) for value in shown} == shown
    assert (
        make_results.spread([1.0, 2.0, 3.0]) == "2 [1,\N{NO-BREAK SPACE}3]" and make_results.spread([]) == "-"
    )
