"""Tutorials and documentation, run as a reader runs them; the README's example stands in test_cli.py."""

import json
import re
import shlex
from pathlib import Path

import pytest

import robustctl as rc
from benchmarks import __main__ as benchmarks
from robustctl import cli

from .processes import ROOT, run

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


whole_run = pytest.mark.slow  # a minute of training and drawing each


@whole_run
def test_the_identification_tutorial_leaves_a_certified_model(tmp_path):
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "identify_your_log.py"), "--quick", "--out", str(out))
    assert "HOLDS" in text and "True True" in text and "fit report" in text
    assert "subspace" in text and "R2DN" in text
    figures = [
        "beats_linear.png",
        "contraction.png",
        *(f"report/{name}.png" for name in ("compare", "residuals", "training")),
    ]
    for name in figures:
        assert (out / name).read_bytes().startswith(b"\x89PNG"), name
    assert rc.certify(rc.load(out / "exchanger.safetensors"), prove=False).holds
    assert (out / "fresh.simulated.csv").read_text("utf-8").count("\n") == 601
    assert {p.name for p in tmp_path.iterdir()} <= {"out", ".config", ".cache"}, "written elsewhere"


@whole_run
def test_the_comparison_tutorial_leaves_one_page(tmp_path):
    pytest.importorskip("qpax", reason="model-predictive control needs qpax; pip install 'robustctl[mpc]'")
    text = run(
        tmp_path, str(ROOT / "tutorials" / "compare_controllers.py"), "--quick", "--out", str(tmp_path)
    )
    assert "HOLDS" in text and "phase margin" in text
    page = (tmp_path / "comparison.html").read_text("utf-8")
    assert all(name in page for name in ("LQG", "H-infinity", "MPC", "Youla-R2DN", "LSTM"))
    assert page.count("data:image/png;base64,") == 5
    assert rc.certify(rc.load(tmp_path / "magnetic_suspension.safetensors"), prove=False).holds


@whole_run
def test_the_tutorial_on_limits_compares_them_with_costs(tmp_path):
    """Within the assumed size, neither the guard of a hardly trained policy nor tube MPC exceeds a limit."""
    pytest.importorskip("qpax", reason="model-predictive control needs qpax; pip install 'robustctl[mpc]'")
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "compare_limits.py"), "--quick", "--out", str(out))
    within = text.split("3 times the assumed size")[0]
    for name in ("guarded policy", "tube MPC", "fallback alone"):
        beyond, share, cost = re.findall(rf"^{name} +(\d+) +([\d.]+) +([\d.]+)$", within, re.MULTILINE)[0]
        assert beyond == "0" and 0.2 < float(share) <= 1.0001 and 0 < float(cost) < 10
    assert "passed" in text and "changed" in text
    check_figures(out, "limits.png")


def check_figures(folder, *names):
    for name in names:
        assert (folder / name).read_bytes().startswith(b"\x89PNG"), name


@whole_run
def test_the_f16_tutorial_goes_through_on_its_stand_in(tmp_path):
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "identify_f16.py"), "--quick", "--out", str(out))
    assert "HOLDS" in text and "SIMULATED STAND-IN" in text
    assert "level 7, training" in text and "R2DN: test NRMSE" in text
    check_figures(out, "record.png", "errors.png")
    assert rc.certify(rc.load(out / "f16.safetensors"), prove=False).holds
    assert {p.name for p in tmp_path.iterdir()} <= {"out", ".config", ".cache"}, "written elsewhere"


def test_the_f16_tutorial_says_what_to_do_without_records(tmp_path):
    script, empty = str(ROOT / "tutorials" / "identify_f16.py"), tmp_path / "empty"
    with pytest.raises(AssertionError, match=r"10\.4121/12954911.*(\n|.)*--data FOLDER.*--quick"):
        run(tmp_path, script, "--out", str(tmp_path / "out"), "--data", str(empty))


@whole_run
def test_the_observer_tutorial_leaves_an_observer_that_streams(tmp_path):
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "observe_pde.py"), "--quick", "--out", str(out))
    assert "HOLDS" in text and "'within_bound': True" in text
    assert "middle measured 0.00 s ago" in text and "middle measured 0.50 s ago" in text
    check_figures(out, "field.png", "starts.png")
    assert rc.certify(rc.load(out / "observer.safetensors"), prove=False).holds
    assert {p.name for p in tmp_path.iterdir()} <= {"out", ".config", ".cache"}, "written elsewhere"


@whole_run
def test_the_youla_tutorial_leaves_a_policy_of_bounded_gain(tmp_path):
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "youla_feedback.py"), "--quick", "--out", str(out))
    assert "HOLDS" in text and "loop gain at most" in text
    check_figures(out, "episode.png")
    certificate = rc.certify(rc.load(out / "youla.safetensors"), prove=False)
    assert certificate.holds and certificate.gamma is not None
    assert {p.name for p in tmp_path.iterdir()} <= {"out", ".config", ".cache"}, "written elsewhere"


@whole_run
def test_the_tutorial_on_your_own_plant_leaves_a_certified_policy_and_a_page(tmp_path):
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "control_your_plant.py"), "--quick", "--out", str(out))
    assert "HOLDS" in text and "certified again: True" in text and "disk margin" in text
    page = (out / "report" / "report.html").read_text("utf-8")
    assert all(name in page for name in ("LQG, tuned", "Youla-R2DN", "coolant"))
    assert rc.certify(rc.load(out / "reactor_policy.safetensors"), prove=False).holds
    assert "a sensor that hangs: passed, changed and fallback samples [2 0 2]" in text
    assert "a late reading: passed, changed and fallback samples [2 0 2]" in text
    evidence = json.loads((out / "evidence.json").read_text("utf-8"))
    states = {line["kind"]: line["state"] for line in evidence["lines"]}
    assert "exit status 0" in text and evidence["holds"]
    assert states["certificate"] == states["guard"] == states["export"] == "holds"
    links = re.findall(r'href="([^"]+)"', (out / "evidence.html").read_text("utf-8"))
    assert len(links) > 5 and all((out / link).is_file() for link in links)
    assert {p.name for p in tmp_path.iterdir()} <= {"out", ".config", ".cache"}, "written elsewhere"


@whole_run
def test_the_reinforcement_tutorial_counts_what_each_training_took(tmp_path):
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "train_by_reinforcement.py"), "--quick", "--out", str(out))
    assert "HOLDS" in text and "DOES NOT HOLD" in text and "certified again: True" in text
    results = json.loads((out / "comparison.json").read_text("utf-8"))
    assert {name for name, r in results.items() if r["samples"]} == set(results) - {"LQG"}
    assert all(0 < r["cost"] <= r["worst"] < float("inf") for r in results.values())
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert rc.certify(rc.load(out / "tanks_policy.safetensors"), prove=False).holds


@whole_run
def test_the_tutorial_on_the_guarantee_keeps_its_promises(tmp_path):
    out = tmp_path / "out"
    text = run(
        tmp_path, str(ROOT / "tutorials" / "what_the_guarantee_means.py"), "--quick", "--out", str(out)
    )
    assert "HOLDS" in text and "the search stayed below: True" in text and "certified again: True" in text
    for name in ("forgets", "gains", "rests"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    assert rc.certify(rc.load(out / "tanks.safetensors"), prove=False).holds


@whole_run
def test_the_tutorial_from_a_log_to_a_loop_ends_with_a_certificate(tmp_path):
    out = tmp_path / "out"
    text = run(tmp_path, str(ROOT / "tutorials" / "certify_from_data.py"), "--quick", "--out", str(out))
    assert "statistics" in text and "HOLDS" in text and "certified: True" in text
    check_figures(out, "model_error.png")


@whole_run
@pytest.mark.parametrize("page", [p for p in DOCS if blocks(p, "python")], ids=lambda p: p.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    assert "HOLDS" in run(tmp_path, str(script))


COMMANDS = [
    line.strip()
    for page in PAGES
    for block in blocks(page, "bash")
    for line in block.splitlines()
    if line.startswith(("robustctl ", "python "))
]


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_the_commands_of_the_pages_are_understood(line, monkeypatch):
    program, *arguments = shlex.split(line, comments=True)
    if program == "python" and arguments[:2] != ["-m", "benchmarks"]:
        script = (
            Path(arguments[1].replace(".", "/")).with_suffix(".py") if arguments[0] == "-m" else arguments[0]
        )
        assert (ROOT / script).is_file()
        return
    ran = []
    names = (
        "Advise", "Certify", "Compare", "Demo", "Evidence", "Export", "FitLog", "New", "Report", "Rerun", "Simulate", "Watch",
    )  # fmt: skip
    for command in {*benchmarks.COMMANDS.values(), *(getattr(cli, name) for name in names)}:
        monkeypatch.setattr(command, "__call__", lambda self: ran.append(self) or 0)
    main, given = (benchmarks.main, arguments[2:]) if program == "python" else (cli.main, arguments)
    assert main(given) == 0 and len(ran) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_within_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, f"{page.name} links to {target}"


def test_the_theory_map_names_what_exists():
    text = (ROOT / "docs" / "theory-map.md").read_text("utf-8")
    found = re.findall(r"([^|;\[\]]*) in \[[^\]]+\]\(\.\./([^)]+\.py)\)", text)
    assert len(found) > 30
    for names, path in found:
        source = (ROOT / path).read_text("utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            assert all(re.search(rf"\b{part}\b", source) for part in name.split(".")), f"{name} in {path}"
