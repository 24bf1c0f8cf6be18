"""The published problems' runs, short: that they run to their results; their figures are in results/."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from benchmarks.__main__ import main
from benchmarks.speed import accelerator, cases, expressivity, floors, timing
from robustctl.errors import RobustctlError
from robustctl.problems import unstable

smoke_test = pytest.mark.slow  # a benchmark from its command to its results file


@smoke_test
@pytest.mark.parametrize(
    ("problem", "name"),
    [("youla", "youla_r2dn"), ("magnetic-suspension", "youla_magnetic_suspension")],
)
def test_a_benchmark_leaves_certified_results_with_their_origin(problem, name, tmp_path, capsys):
    assert main([problem, "--quick", "--seeds", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert str(tmp_path) in said.out and "no GPU" not in said.err
    results = json.loads((tmp_path / f"{name}.json").read_text())
    assert {"seed", "commit", "machine", "runs"} <= results.keys() and len(results["runs"]) >= 1
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_benchmark_needs_a_seed(tmp_path, capsys):
    assert main(["youla", "--seeds", "0", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "seeds must be at least 1, got 0" in said
    assert ("no GPU" in said and "--quick" in said) == (jax.default_backend() == "cpu")


@pytest.mark.parametrize("make", [unstable.magnetic_suspension, unstable.rotary_pendulum])
def test_base_controllers_hold_their_plants_under_each_fault(make):
    setting = make()
    still = rc.loops.zero_gain(setting.scenario.sampled.ny, setting.scenario.sampled.nu)
    mean = {}
    for name, fault in unstable.FAULTS.items():
        changed = unstable.with_fault(setting.scenario, fault)
        mean[name] = np.mean(unstable.costs(changed, still, changed.draw_batch(jr.key(0), 8, 200)))
    assert all(cost < 10 for cost in mean.values()), mean  # a ball on the floor costs 100


def test_a_fault_is_the_plants_and_not_the_models():
    scenario = unstable.rotary_pendulum().scenario
    changed = unstable.with_fault(scenario, {"noise": 3.0, "delay": 1})
    assert (
        changed.sampled.imperfections.noise == pytest.approx(6e-3)
        and changed.sampled.imperfections.delay == 1
    )
    assert changed.base.model.imperfections.noise is None and changed.base.model.imperfections.delay == 0


@smoke_test
def test_speed_is_measured_and_written(tmp_path, capsys):
    assert main(["speed", "--quick", "--out", str(tmp_path)]) == 0
    assert "rollout gradient" in capsys.readouterr().out
    results = json.loads((tmp_path / "speed.json").read_text())
    assert {"rows", "rivals", "scaling", "latency", "parallel_in_time", "commit", "machine"} <= results.keys()
    assert all(row["difference"] is None or row["difference"] < 1e-5 for row in results["rows"])
    assert results["parallel_in_time"]["youla"][0]["mean-slope"]["converged"]
    assert all(0 < row["floor_ms"] < row["ours_ms"] and row["bytes_floor_ms"] > 0 for row in results["rows"])


@smoke_test
def test_what_an_accelerator_shows_is_compared_and_written(tmp_path, capsys):
    command = ["speed", "--gpu", "--quick", "--out", str(tmp_path)]
    assert main(command) == 0
    assert "times_faster" in capsys.readouterr().out
    path = tmp_path / "speed_accelerator.json"
    results = json.loads(path.read_text())
    rows = results["rows"]
    assert [(row["part"], row["what"]) for row in rows] == list(
        itertools.product(("kernels", "in time"), ("rollout", "gradient"))
    )
    assert set(rows[0]["ms"]) == {"scan in full precision", "scan", "fused"}
    assert set(rows[-1]["ms"]) == {"scan", "parallel"} and not rows[-1]["failed"]
    assert all(difference < 2e-5 for row in rows for difference in row["difference"].values())

    path.write_text(json.dumps(results | {"rows": rows[:3]}))
    assert main(command) == 0  # one row is missing, and measured
    again = json.loads(path.read_text())["rows"]
    assert again[:3] == rows[:3] and again[3]["what"] == "gradient"
    assert capsys.readouterr().out.count("times_faster") == 1


def test_a_version_that_fails_is_named_and_the_others_are_compared():
    def wrong(system, us):
        raise ValueError("no such kernel")

    versions = accelerator.in_time() | {"wrong": (wrong, None, None)}
    row = accelerator.compare(cases.small(cases.CASES["youla"]), 2, 3, False, 1, versions)
    assert row["failed"] == {"wrong": "ValueError: no such kernel"} and set(row["ms"]) == {"scan", "parallel"}


def test_without_an_accelerator_it_says_so(tmp_path, capsys):
    assert main(["speed", "--gpu", "--out", str(tmp_path)]) == 2
    assert "needs an accelerator, JAX found only a CPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def compilers_count(fn, *args) -> float:
    """Operations outside LAPACK as XLA counts them; it counts the body of a loop once."""
    return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", ["f16", "pde"])
def test_floors_count_what_the_compiler_counts(name):
    case = dataclasses.replace(cases.CASES[name], hidden=(24, 36, 30), activation=jax.nn.relu)
    model, (us, ys) = case.model(), cases.sequences(case, 2000, 1)
    value, slope = (floors.operations(case, f"explicit map{more}", 0) for more in ("", ", with gradient"))
    rollout = floors.operations(case, "rollout", 2000) - value
    gradient = floors.operations(case, "rollout gradient", 2000) - slope

    def explicit_map(model):
        made = model.explicit()
        return jax.tree.leaves((made.A, made.B1, made.phi))

    assert 0.7 * value < compilers_count(explicit_map, model) < value  # the rest is LAPACK's
    assert 0.8 * slope < compilers_count(cases.with_gradient(explicit_map), model) < slope
    system = model.explicit()
    assert compilers_count(lambda s: jax.vmap(lambda u: rc.rollout(s, u).ys)(us), system) == pytest.approx(
        rollout, rel=0.05
    )
    loss = cases.squared_error(lambda s, u: jax.vmap(lambda u: rc.rollout(s, u).ys)(u))
    assert compilers_count(jax.grad(loss, (0, 1)), system, us, ys) == pytest.approx(gradient, rel=0.08)


def test_the_curve_of_the_expressivity_study_contracts():
    x = jnp.linspace(-30, 30, 20001)
    after = np.asarray(expressivity.curve(x, jnp.full_like(x, 0.3)))
    assert np.abs(np.diff(after) / np.diff(x)).max() < 1
    assert float(expressivity.curve(jnp.zeros(()), jnp.zeros(()))) == pytest.approx(0.05)


@pytest.mark.slow
def test_training_of_the_expressivity_study_learns():
    study = dataclasses.replace(expressivity.QUICK, steps=300, batch=128)
    for kind, size in study.sizes()[1::2]:
        start = study.model(kind, size, key=jr.key(0))
        trained = jax.jit(lambda m: expressivity.train(study, m, jr.key(1)))(start)
        assert expressivity.nrmse(trained) < 0.5 * expressivity.nrmse(start)


def test_a_slope_is_the_power_of_time_with_its_standard_error():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    exact = expressivity.slope(x, 3 * x**0.4)
    assert exact == {"slope": 0.4, "error": 0.0, "at_one": pytest.approx(3.0)}
    ms = 3 * x**0.4 * np.exp([0.1, -0.1, 0.0, 0.2])
    _, covariance = np.polyfit(np.log(x), np.log(ms), 1, cov=True)
    assert expressivity.slope(x, ms)["error"] == pytest.approx(covariance[0, 0] ** 0.5, abs=1e-4)


@smoke_test
def test_expressivity_is_measured_drawn_and_written(tmp_path, capsys):
    assert main(["expressivity", "--quick", "--out", str(tmp_path)]) == 0
    assert "R2DN gradient: slope" in capsys.readouterr().out
    results = json.loads((tmp_path / "expressivity.json").read_text())
    assert {"commit", "machine", "study", "differences_to_published", "target_met"} <= results.keys()
    rows = [row for row in results["rows"] if row["model"] == "REN"]
    points = [(1 / error, row["gradient_ms"]) for row in rows for error in row["test_nrmse"]]
    assert len(points) == 4 and len({x for x, _ in points}) == 4
    line = np.polyfit(*np.log(np.array(points).T), 1)
    assert results["slopes"]["REN"]["gradient"]["slope"] == pytest.approx(line[0], abs=1e-3)
    assert results["target_met"] == all(s["slope"] <= 0.1 for s in results["slopes"]["R2DN"].values())
    assert (tmp_path / "expressivity.png").read_bytes().startswith(b"\x89PNG")


def test_times_are_refused_on_a_busy_machine(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr("os.getloadavg", lambda: (3.5, 0.0, 0.0))
    with pytest.raises(RobustctlError, match=r"idle, got a load average of 3\.50"):
        timing.check_quiet()
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.0, 0.0))
    assert timing.check_quiet()["load_average_before"] == 0.1
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    with pytest.raises(RobustctlError, match="OPENBLAS_NUM_THREADS=4"):
        timing.check_quiet()
