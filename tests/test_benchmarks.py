"""The published problems' runs, short: that they run to their results; their figures are in results/."""

import json

import jax.random as jr
import numpy as np
import pytest

from robustctl.cli import main
from robustctl.errors import RobustctlError
from robustctl.problems import unstable
from robustctl.problems.speed import timing


@pytest.mark.parametrize(
    ("problem", "name"),
    [("youla", "youla_r2dn"), ("magnetic-suspension", "youla_magnetic_suspension")],
)
def test_a_benchmark_leaves_certified_results_with_their_origin(problem, name, tmp_path, capsys):
    assert main(["benchmark", problem, "--quick", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    results = json.loads((tmp_path / f"{name}.json").read_text())
    assert {"seed", "commit", "machine", "runs"} <= results.keys() and len(results["runs"]) >= 1
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_benchmark_needs_a_seed(tmp_path, capsys):
    assert main(["benchmark", "youla", "--seeds", "0", "--out", str(tmp_path)]) == 2
    assert "seeds must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize("make", [unstable.magnetic_suspension, unstable.rotary_pendulum])
def test_base_controllers_hold_their_plants_under_each_fault(make):
    setting = make()
    still = unstable.silence(setting.scenario.sampled.plant)
    mean = {}
    for name, fault in unstable.FAULTS.items():
        changed = unstable.with_fault(setting.scenario, fault)
        mean[name] = np.mean(unstable.costs(changed, still, changed.draw_batch(jr.key(0), 8, 200)))
    assert all(cost < 10 for cost in mean.values()), mean  # a ball on the floor costs 100


def test_a_fault_is_the_plants_and_not_the_models():
    scenario = unstable.rotary_pendulum().scenario
    changed = unstable.with_fault(scenario, {"noise": 3.0, "delay": 1})
    assert changed.sampled.details.noise == pytest.approx(6e-3) and changed.sampled.details.delay == 1
    assert changed.base.model.details.noise is None and changed.base.model.details.delay == 0


def test_speed_is_measured_and_written(tmp_path, capsys):
    assert main(["benchmark", "speed", "--quick", "--out", str(tmp_path)]) == 0
    assert "rollout gradient" in capsys.readouterr().out
    results = json.loads((tmp_path / "speed.json").read_text())
    assert {"rows", "rivals", "scaling", "latency", "parallel_in_time", "commit", "machine"} <= results.keys()
    assert all(row["difference"] is None or row["difference"] < 1e-5 for row in results["rows"])
    assert results["parallel_in_time"]["youla"][0]["mean-slope"]["converged"]


def test_times_are_refused_on_a_busy_machine(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr("os.getloadavg", lambda: (3.5, 0.0, 0.0))
    with pytest.raises(RobustctlError, match=r"quiet to time on, got a load average of 3\.50"):
        timing.check_quiet()
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.0, 0.0))
    assert timing.check_quiet()["load_average_before"] == 0.1
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    with pytest.raises(RobustctlError, match="OPENBLAS_NUM_THREADS=4"):
        timing.check_quiet()
