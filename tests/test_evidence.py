"""Evidence of a folder: everything in it is checked again, and what was changed afterwards is found."""

import html
import json
import re
import shutil
import urllib.parse
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.errors import RobustctlError
from robustctl.evidence.collect import evidence
from robustctl.evidence.line import State
from robustctl.loops import Gain, GuardCoverage, Guarded, Limits, StateLimits, feedback, guard_coverage
from robustctl.plants import LinearPlant, Sampled
from robustctl.registry import CLASSES

from .test_cli import QUICK, write_log

pytestmark = pytest.mark.filterwarnings("ignore:.*outside of the trained range")
EPISODES, SAMPLES = 30, 20


def law(*gains, u0=0.0):
    return Gain(-jnp.array([gains]), jnp.zeros(len(gains)), jnp.array([u0]))


def guarded_loop(controller=None, **given):
    cart = Sampled(LinearPlant([[0.0, 1.0], [0.0, -0.2]], [[0.0], [1.0]], np.eye(2)), 0.1)
    return feedback(
        cart, Guarded(controller or law(30.0, 1.0), Limits([-1.0], [1.0]), law(1.0, 1.5), back=1, **given)
    )


def read_nothing(run):
    raise RobustctlError("no run is read here")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of `robustctl fit` and what `robustctl rerun` made of it, and the logs alongside."""
    place = tmp_path_factory.mktemp("evidence")
    out = place / "out"
    log = write_log(place / "log.csv")
    fit = [
        "fit",
        log,
        "--inputs",
        "pump",
        "--outputs",
        "level",
        "--dt",
        "2",
        "--test",
        write_log(place / "test.csv", seed=1),
    ]
    quick = [
        *QUICK,
        "--epochs",
        "1",
        "--model",
        "lipschitz",
        "--out",
        str(out / "model.safetensors"),
        "--run",
        str(out / "run"),
    ]
    assert main([*fit, *quick]) == 0
    # The repetition is checked elsewhere; here its log is enough, with other times.
    again = out / "run-again"
    again.mkdir()
    shutil.copy(out / "run" / "run.json", again)
    row, *rest = (out / "run" / "training.jsonl").read_text().splitlines()
    later = json.dumps(json.loads(row) | {"time": json.loads(row)["time"] + 60})
    (again / "training.jsonl").write_text("\n".join([later, *rest]) + "\n")
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a guard's coverage, a loop with a model error in its certificate, and a model with its own."""
    folder = tmp_path_factory.mktemp("made")
    loop = guarded_loop()
    rc.save(folder / "guarded.safetensors", loop)
    guard_coverage(loop, 0.5, episodes=EPISODES, samples=SAMPLES).save(folder / "guard.json")
    lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1)
    about = feedback(rc.loops.ModelPlant(lag), Gain(jnp.array([[-1.0]]), jnp.zeros(1), jnp.zeros(1)))
    error = rc.certificates.ModelError(gain=0.2, at="output")
    rc.save(
        folder / "loop.safetensors", about, certificate=rc.certify(about, gains=[("d", "y")], error=error)
    )
    model = rc.nn.LipschitzREN(nu=1, nx=2, nv=2, ny=1, gamma=2.0, key=jr.key(0))
    rc.save(folder / "model.safetensors", model)
    (folder / "certificate.json").write_text(rc.certify(model).to_json())
    (folder / "other.json").write_text('{"of": "another program"}')
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


def states(folder, read_again=read_nothing, **given):
    """State of each line, by kind and first file, saved as a user's call is."""
    found = evidence(folder, read_again, **given)
    found.save()
    return {(line.kind, line.files[0].name if line.files else ""): line for line in found.lines}


def test_a_training_is_read_again_and_its_page_leads_somewhere(trained, capsys):
    assert main(["evidence", str(trained)]) == 0
    printed = capsys.readouterr().out
    for text in (
        "data are those of the training",
        "same numbers in all 1 epochs",
        "scores, computed again",
        "proofs, checked again",
    ):
        assert text in printed
    found = json.loads((trained / "evidence.json").read_text())
    assert found["holds"] and found["versions"]["robustctl"] and found["assumptions"]
    by_state = {
        state: [line["kind"] for line in found["lines"] if line["state"] == state]
        for state in ("holds", "not there")
    }
    assert by_state["holds"] == ["data", "run", "report", "certificate", "certificate"]
    assert by_state["not there"] == ["loop", "robustness", "guard", "export"]
    assert all(line["command"] for line in found["lines"])
    (data, *_) = found["lines"]
    values = np.loadtxt(trained.parent / "log.csv", delimiter=",", skiprows=1)[:, 0]
    assert f"pump: {values.min():.6g} to {values.max():.6g}" in "\n".join(data["details"])
    page = (trained / "evidence.html").read_text()
    links = [urllib.parse.unquote(html.unescape(target)) for target in re.findall(r'href="([^"]+)"', page)]
    assert len(links) >= 8 and all((trained / target).is_file() for target in links)
    assert "claims no conformity" in page and "F3269-21" in page and not re.search(r"https?:", page)
    assert page.count('class="fails"') == 0 and page.count('<article class="holds"') == 5


@pytest.mark.parametrize(
    ("file", "old", "new", "kind", "message"),
    [
        ("../log.csv", "pump", "pumq", "data", "pump"),
        ("../test.csv", "1.", "2.", "report", "other scores than those recorded: rmse of level"),
        ("run/run.json", '"data": "', '"data": "0', "data", "must not have changed"),
        ("run/report.json", '"fit_percent": ', '"fit_percent": 1', "report", "other scores than those recorded"),
        ("run/certificate.json", '"gamma": ', '"gamma": 1', "certificate", "must be what is proven"),
        ("run/training.jsonl", '"loss": ', '"loss": 1', "run", "different numbers from epoch 0"),
    ],
)  # fmt: skip
def test_an_edited_file_of_a_training_turns_its_line_red(trained, capsys, file, old, new, kind, message):
    path = trained / file
    (trained / "evidence.json").unlink(missing_ok=True)  # so that no hash is compared
    before = path.read_text()
    try:
        path.write_text(before.replace(old, new))
        assert main(["evidence", str(trained)]) == 1
    finally:
        path.write_text(before)
    found = json.loads((trained / "evidence.json").read_text())
    (trained / "evidence.json").unlink()
    failed = {line["kind"]: line["found"] for line in found["lines"] if line["state"] == "fails"}
    assert message in failed[kind]
    assert (
        f"{'fails':<12} " in capsys.readouterr().out
        and 'class="fails"' in (trained / "evidence.html").read_text()
    )


def test_a_log_that_is_gone_and_a_copied_repetition_are_found(trained, tmp_path):
    from robustctl.cli.evidence import _again

    folder = Path(shutil.copytree(trained, tmp_path / "copy", ignore=shutil.ignore_patterns("evidence.*")))
    shutil.copy(folder / "run" / "training.jsonl", folder / "run-again" / "training.jsonl")
    settings = folder / "run" / "run.json"
    settings.write_text(settings.read_text().replace("log.csv", "lost.csv"))
    found = states(folder, _again)
    assert "lost.csv" in found["data", "run.json"].found
    assert "copy of the run" in found["run", "training.jsonl"].found
    assert found["data", "run.json"].state == found["run", "training.jsonl"].state == State.FAILS


def test_guards_loops_and_models_are_checked_again(copy):
    found = states(copy)
    held = {key for key, line in found.items() if line.state == State.HOLDS}
    assert held == {
        ("certificate", "model.safetensors"), ("certificate", "certificate.json"), ("loop", "loop.safetensors"), ("guard", "guard.json"),
    }  # fmt: skip
    assert found["loop", "guarded.safetensors"].state == State.UNCHECKED
    assert "incremental gain 0.2 at the output" in found["loop", "loop.safetensors"].details[0]
    assumed = json.loads((copy / "evidence.json").read_text())["assumptions"]
    assert any("disturbances stay within [0.5]" in text for text in assumed) and any(
        "model error" in text for text in assumed
    )


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def edited(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


def counted(path):
    found = json.loads(path.read_text())
    found["first"][0] += 1
    found["first"][1] -= 1
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("name", "edit", "kind", "message"),
    [
        ("model.safetensors", flipped, "certificate", "sha256"),
        # A damaged file does not state what it is of.
        ("loop.safetensors", flipped, "certificate", "sha256"),
        ("certificate.json", edited('"fingerprint": "', '"fingerprint": "0'), "certificate", "none of the models here"),
        ("certificate.json", edited('"holds": true', '"holds": 3'), "certificate", "holds"),
        ("guard.json", edited('"passed": ', '"passed": 1'), "guard", "must add up"),
        ("guard.json", counted, "guard", "first 30 episodes must have"),
        ("guard.json", edited('"guard_coverage": 1', '"guard_coverage": 9'), "guard", "format 1, got 9"),
        ("other.json", edited("{", ""), "record", "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_edited_file_turns_its_line_red(copy, name, edit, kind, message):
    edit(copy / name)
    lines = [line for line in evidence(copy, read_nothing).lines if line.state == State.FAILS]
    assert [line.kind for line in lines][:1] == [kind] and message in lines[0].found


def test_what_no_check_sees_is_compared_with_the_hash_that_was_recorded(tmp_path):
    report = tmp_path / "report.json"
    report.write_text(
        json.dumps({"plant": "Reactor", "table": [], "poles": {"LQG": []}, "notes": {"LQG": "measured"}})
    )
    (tmp_path / "more.json").write_text(report.read_text())
    assert states(tmp_path)["robustness", "report.json"].state == State.UNCHECKED
    edited("measured", "proven")(report)
    for _ in range(2):  # it stays red
        line = states(tmp_path)["robustness", "report.json"]
        assert line.state == State.FAILS and "differs from what was recorded" in line.found
    assert states(tmp_path, renew=True)["robustness", "report.json"].state == State.UNCHECKED
    report.unlink()
    assert "gone now: report.json" in states(tmp_path)["record", ""].found


def test_an_export_is_checked_as_its_own_command_does(tmp_path):
    folder = rc.export.package(rc.classical.PID(4.0, 2.0, dt=0.02), tmp_path / "pid", name="pid", samples=50)
    assert states(tmp_path)["export", "export.json"].state == State.HOLDS
    edited("4.0", "4.5")(folder / "pid.c")
    line = states(tmp_path, renew=True)["export", "export.json"]
    assert line.state == State.FAILS and "pid.c was changed after the export" in line.found


def test_runs_of_scripts_and_of_newer_versions_are_not_checked(tmp_path):
    settings = {
        "identity": {"data": "ab12"},
        "command": [],
        "folder": "/",
        "versions": {"robustctl": rc.__version__},
    }
    for name, change in (
        ("script", {}),
        ("newer", {"command": ["fit"], "versions": {"robustctl": "99.0.0"}}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(settings | change))
        (tmp_path / name / "training.jsonl").write_text("")
    lines = [line for line in evidence(tmp_path, read_nothing).lines if line.kind == "data"]
    assert [line.state for line in lines] == [State.UNCHECKED] * 2
    assert (
        "from robustctl 99.0.0" in lines[0].found
        and "ab12" in lines[1].details[0]
        and "Python script" in lines[1].found
    )


def test_a_script_that_ran_again_has_its_data_and_its_scenario_checked(tmp_path):
    """A policy reads no data: what its script simulated is compared, by the hash that each run recorded."""

    def made(name, kind, value, loss, at):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        settings = {"identity": {kind: value, "key": "[0, 1]"}, "command": [], "versions": {"robustctl": rc.__version__}}  # fmt: skip
        (folder / "run.json").write_text(json.dumps(settings))
        lines = [
            {"epoch": k, "loss": loss, "validation": loss, "skipped": 0.0, "time": at + k} for k in range(2)
        ]
        (folder / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def line():
        return next(
            line for line in evidence(tmp_path, read_nothing, renew=True).lines if line.kind == "data"
        )

    for kind, words in (
        ("data", "data are read by a Python script"),
        ("scenario", "simulation, without data"),
    ):
        shutil.rmtree(tmp_path / "run-again", ignore_errors=True)
        made("run", kind, "ab12", 0.5, 0.0)
        assert line().state == State.UNCHECKED and words in line().found and "ab12" in line().details[0]
        assert "run-again" in line().found and str(tmp_path / "run-again") in line().command
        made("run-again", kind, "ab12", 0.5, 9.0)
        assert line().state == State.HOLDS and "repetition has the same hash" in line().found
        made("run-again", kind, "cd34", 0.5, 9.0)
        assert line().state == State.FAILS and f"must have the same {kind}" in line().found
        # Another training is no repetition, whatever it says that it read.
        made("run-again", kind, "ab12", 0.25, 9.0)
        assert line().state == State.UNCHECKED
        (tmp_path / "run-again" / "training.jsonl").write_text("")
        assert line().state == State.UNCHECKED
        made("run-again", kind, "ab12", 0.5, 9.0)
        (tmp_path / "run-again" / "run.json").write_text("{")
        assert line().state == State.FAILS and "cannot be read" in line().found
    # Runs that recorded no hash have nothing that could be the same.
    shutil.rmtree(tmp_path / "run-again")
    made("run", "optimizer", "ef56", 0.5, 0.0)
    made("run-again", "optimizer", "ef56", 0.5, 9.0)
    assert line().state == State.UNCHECKED and "no hash" in line().found


@rc.registered(name="evidence.Own", sizes=lambda plant: {})
class Own(LinearPlant):
    """A user's own plant."""

    def __init__(self):
        super().__init__([[-1.0]], [[1.0]], [[1.0]])


def test_own_classes_must_be_registered(tmp_path, monkeypatch, capsys):
    rc.save(tmp_path / "plant.safetensors", Sampled(Own(), 0.1))
    kept = CLASSES.pop("evidence.Own")
    assert main(["evidence", str(tmp_path)]) == 0
    assert "holds evidence.Own, which must be registered" in capsys.readouterr().out
    assert main(["evidence", str(tmp_path), "--module", "no_such_module"]) == 2
    assert "module must be one that Python can import" in capsys.readouterr().err
    monkeypatch.setitem(CLASSES, "evidence.Own", kept)
    assert "file is as it was saved" in states(tmp_path)["certificate", "plant.safetensors"].found


def test_bad_folders_are_refused(tmp_path, capsys):
    for folder, message in ((tmp_path, "must hold a run folder"), (tmp_path / "none", "there is no folder")):
        assert main(["evidence", str(folder)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{")
    assert "cannot be read" in states(tmp_path)["data", "run.json"].found
    (tmp_path / "evidence.json").write_text("[]")
    with pytest.raises(RobustctlError, match=r"damaged.*--renew"):
        evidence(tmp_path, read_nothing)


# The counts themselves


def test_a_constant_beyond_the_limit_is_always_changed_and_nan_always_a_fallback():
    each = {"episodes": 6, "samples": 10}
    counts = guard_coverage(guarded_loop(law(0.0, 0.0, u0=9.0)), 0.1, **each).counts
    assert (counts["passed"], counts["changed"], counts["fallback"]) == (0, 60, 0)
    counts = guard_coverage(guarded_loop(law(0.0, jnp.nan)), 0.1, **each).counts
    assert (counts["fallback"], counts["output_not_finite"]) == (60, 60)
    counts = guard_coverage(guarded_loop(law(0.0, 0.0)), 0.1, **each).counts
    assert counts["passed"] == 60


def test_disturbances_have_the_full_size_and_switch_from_never_to_always():
    """An integrator that no control reaches: its largest excursion is that of a constant disturbance, T dt size."""
    plant = Sampled(LinearPlant([[0.0]], [[0.0]], [[1.0]], Bd=[[1.0]]), 0.5)
    loop = feedback(plant, Guarded(law(1.0), Limits([-1.0], [1.0]), law(1.0)))
    reach = 20 * 0.5 * 0.3
    limits = StateLimits([[1.0], [-1.0]], [0.99 * reach, 0.99 * reach])
    found = guard_coverage(loop, [0.3], episodes=200, samples=20, limits=limits)
    assert found.broken is not None and found.lowest == pytest.approx(-0.01 * reach, rel=1e-6)
    assert 1 <= found.broken < 100  # those that are constant
    assert (
        guard_coverage(
            loop, 0.3, episodes=200, samples=20, limits=StateLimits([[1.0], [-1.0]], [reach, reach])
        ).broken
        == 0
    )


def test_counts_come_back_and_another_guard_differs(tmp_path):
    loop = guarded_loop()
    found = guard_coverage(
        loop, 0.5, episodes=EPISODES, samples=SAMPLES, limits=StateLimits([[0.0, 1.0]], [5.0])
    )
    found.save(tmp_path / "guard.json")
    read = GuardCoverage.read(tmp_path / "guard.json")
    assert str(read) == str(found) and read.differs(loop) == ""
    assert "first 30 episodes must have" in read.differs(guarded_loop(law(0.0, 0.0, u0=9.0)))


@pytest.mark.parametrize("size", [0.0, -1.0, [0.1, 0.2], np.inf])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(RobustctlError, match="size must be one positive number"):
        guard_coverage(guarded_loop(), size)
    with pytest.raises(RobustctlError, match="Guarded"):
        guard_coverage(feedback(guarded_loop().plant, law(1.0, 1.0)), 0.1)
