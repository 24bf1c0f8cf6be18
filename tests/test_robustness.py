"""The robustness report, against python-control and against what is known of linear loops."""

import json
import sys

import control as ct
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.errors import RobustctlError
from robustctl.plants import HoldBall, Imperfections, LinearPlant, MagneticSuspension, Sampled
from robustctl.robustness.margins import all_channels, disk_gain, disk_phase

DT = 0.05
OSCILLATOR = LinearPlant([[0.0, 1.0], [-4.0, -0.2]], [[0.0], [1.0]], [[1.0, 0.0]])


def closed(sampled, policy):
    return rc.loops.feedback(sampled, policy)


@pytest.fixture(scope="module")
def siso():
    """A lead compensator on an oscillator: loop gain by python-control, and the report."""
    sampled = Sampled(OSCILLATOR, DT, substeps=4)
    K = ct.c2d(ct.ss(ct.tf([3, 6], [0.05, 1])), DT, "tustin")
    loop = closed(sampled, rc.classical.policy(K, sampled))
    return rc.classical.linear_model(sampled).system * K, rc.robustness.report(loop, horizon=1000, search=40)


@pytest.fixture(scope="module")
def mimo():
    """Two coupled masses, each with its own PD controller."""
    A = [[0, 1, 0, 0], [-3, -0.3, 1, 0], [0, 0, 0, 1], [1, 0, -2, -0.2]]
    B, C = [[0, 0], [1, 0], [0, 0], [0, 2]], [[1, 0, 0, 0], [0, 0, 1, 0]]
    sampled = Sampled(LinearPlant(A, B, C), DT, substeps=4)
    K = ct.c2d(ct.ss(ct.tf([2, 4], [0.1, 1])), DT, "tustin")
    K = ct.append(K, 0.5 * K)
    loop = closed(sampled, rc.classical.policy(K, sampled))
    return rc.classical.linear_model(sampled).system * K, rc.robustness.report(loop, horizon=600, search=40)


def test_margins_are_python_controls(siso):
    L, report = siso
    found = report.loops["loop"].inputs[0]
    omega = np.geomspace(1e-3, np.pi / DT * (1 - 1e-9), 20000)
    disk, gain, phase = ct.disk_margins(L, omega)
    np.testing.assert_allclose(
        [found.disk, found.disk_gain, found.disk_phase], [disk, gain, phase], rtol=1e-6
    )
    gm, pm, _, _, crossover, _ = ct.stability_margins(L)
    np.testing.assert_allclose(found.gain_up, 20 * np.log10(gm), rtol=1e-5)
    np.testing.assert_allclose([found.phase, found.crossover], [pm, crossover], rtol=1e-4)


@pytest.mark.parametrize("channel", [0, 1])
def test_margins_of_a_channel_are_those_with_the_other_one_closed(mimo, channel):
    L, report = mimo
    other = 1 - channel
    shut = ct.feedback(L, ct.ss([], [], [], np.diag(np.eye(2)[other]), DT))[channel, channel]
    found = report.loops["loop"].outputs[channel]
    disk = ct.disk_margins(shut, np.geomspace(1e-3, np.pi / DT * (1 - 1e-9), 20000))[0]
    np.testing.assert_allclose(found.disk, disk, rtol=1e-6)


def test_all_channels_at_once_have_a_margin_below_each_alone(mimo):
    analysis = mimo[1].loops["loop"]
    assert 0 < analysis.disk_outputs <= min(m.disk for m in analysis.outputs) + 1e-9
    S = analysis.linear.S_out
    unscaled = 1 / rc.classical.hinf_norm(ct.StateSpace(S.A, S.B, S.C, S.D - np.eye(2) / 2, DT))
    assert analysis.disk_outputs >= unscaled * (1 - 1e-4)


def test_all_channels_at_once_match_slycot(mimo):
    pytest.importorskip("slycot", reason="slycot only checks the bound; pip install slycot")
    analysis = mimo[1].loops["loop"]
    disk = ct.disk_margins(mimo[0], np.geomspace(1e-2, np.pi / DT * (1 - 1e-9), 2000))[0]
    np.testing.assert_allclose(all_channels(analysis.linear, analysis.linear.S_out), disk, rtol=1e-2)


def test_the_disk_margin_is_safe_and_no_more_is(siso):
    """Gains at the ends of the disk's real interval leave the loop stable, and twice the way to the gain margin does not."""
    L, report = siso
    found = report.loops["loop"].inputs[0]
    for factor in (
        10 ** (found.disk_gain / 20),
        10 ** (-found.disk_gain / 20),
        10 ** (0.99 * found.gain_up / 20),
    ):
        assert np.abs(ct.feedback(factor * L, 1).poles()).max() < 1
    assert np.abs(ct.feedback(10 ** (1.01 * found.gain_up / 20) * L, 1).poles()).max() > 1


def test_disk_margins_of_two_and_more_allow_any_gain():
    assert disk_gain(2.0) == np.inf and disk_phase(2.0) == pytest.approx(90.0)


@pytest.mark.parametrize("case", ["siso", "mimo"])
def test_the_worst_disturbance_reaches_the_norm_and_never_passes_it(case, request):
    _, report = request.getfixturevalue(case)
    analysis = report.loops["loop"]
    assert 0.98 * analysis.hinf <= analysis.worst.gain <= analysis.hinf
    assert analysis.worst.random_gains.max() < analysis.worst.gain
    assert analysis.certified.gain == analysis.hinf
    ratio = np.linalg.norm(analysis.worst.z) / np.linalg.norm(analysis.worst.d)
    np.testing.assert_allclose(ratio, analysis.worst.gain, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.mean(analysis.worst.d**2)), analysis.worst.rms)


def test_peaks_and_steps_are_those_of_the_linear_loop(siso):
    L, report = siso
    analysis = report.loops["loop"]
    S, T = ct.feedback(1, L), ct.feedback(L, 1)
    peaks = [ct.system_norm(system, "inf", tol=1e-9) for system in (S, T)]
    np.testing.assert_allclose(analysis.peaks, peaks, rtol=1e-6)
    setpoint = analysis.steps[0]
    response = ct.step_response(T, setpoint.t).outputs
    np.testing.assert_allclose(setpoint.y[:, 0] / setpoint.size, response, atol=1e-6)
    info = ct.step_info(response, setpoint.t)
    np.testing.assert_allclose(setpoint.overshoot, info["Overshoot"], rtol=1e-4)
    assert setpoint.settling == pytest.approx(info["SettlingTime"], abs=DT)


@pytest.fixture(scope="module")
def learned():
    """A ball in the air: LQG, and a Youla R2DN and an LSTM as they are drawn, with noise and a saturated coil."""
    plant = MagneticSuspension()
    sampled = Sampled(plant, 0.01, Imperfections(saturate=True, noise=1e-4))
    weights = [4e4, 0.4, 0.0], [1e-3], [1e-8, 1e-4, 1e-4], [1e-8]
    base = rc.classical.linear_base(sampled, *weights)
    q = rc.nn.LipschitzR2DN(nu=1, nx=3, nv=4, ny=1, hidden=(5,), gamma=200.0, key=jr.key(0))
    loops = {
        "LQG": closed(sampled, rc.classical.lqg(sampled, *weights).controller),
        "Youla": closed(sampled, rc.loops.Youla(base, q.explicit())),
    }
    return rc.robustness.report(loops, HoldBall(plant), horizon=200, count=8, search=15)


def test_a_learned_loop_gets_the_same_report_as_a_linear_one(learned):
    assert learned.loops.keys() == {"LQG", "Youla"}
    for analysis in learned.loops.values():
        assert analysis.linear.stable and analysis.episodes.stayed == 1.0
        assert 0 < analysis.inputs[0].disk < 2 and np.isfinite(analysis.hinf)
        assert analysis.worst.gain > analysis.worst.random_gains.max()
    youla = learned.loops["Youla"].certified
    assert youla.gain is None and "tube" in youla.statement and "bound: " in youla.statement


def test_margins_predict_when_the_nonlinear_loop_leaves(learned):
    """Scaling the loop's gain past its margin makes the linearization unstable, within it does not."""
    analysis = learned.loops["Youla"]
    linear, up = analysis.linear, 10 ** (analysis.inputs[0].gain_up / 20)
    for factor, stable in ((0.99 * up, True), (1.01 * up, False)):
        A = linear.P.A + factor * linear.P.B @ linear.K.D @ linear.P.C
        whole = np.block([[A, factor * linear.P.B @ linear.K.C], [linear.K.B @ linear.P.C, linear.K.A]])
        assert (np.abs(np.linalg.eigvals(whole)).max() < 1) == stable


def test_a_report_is_saved_as_page_text_json_and_figures(learned, tmp_path):
    written = {path.name for path in learned.save(tmp_path / "out")}
    assert {"report.html", "report.txt", "report.json", "bode.png", "nyquist.png", "steps.png"} <= written
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 5 and "http" not in page
    numbers = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    found = {row["quantity"]: row["values"] for row in numbers["table"] if row["group"].startswith("margins")}
    assert found["disk margin"]["LQG"] == learned.loops["LQG"].inputs[0].disk
    assert {"seed", "commit", "machine"} <= numbers.keys() and numbers["notes"].keys() == {"LQG", "Youla"}
    assert "H-infinity norm" in (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert max(map(len, str(learned).splitlines())) <= 100


def test_an_unstable_loop_is_reported_as_such():
    sampled = Sampled(MagneticSuspension(), 0.01)
    report = rc.robustness.report(
        closed(sampled, rc.loops.open_loop(sampled)), HoldBall(sampled.plant), horizon=300, count=4, search=5
    )
    analysis = report.loops["loop"]
    assert not analysis.linear.stable and analysis.inputs == () and analysis.worst is None
    assert "not stable" in analysis.note and analysis.episodes.stayed < 1
    assert "bode" not in report.figures() and "-" in str(report)


def test_a_loop_that_rests_nowhere_is_reported_as_such():
    class Restless(rc.System):
        def init_state(self):
            return jnp.zeros(1)

        def step(self, x, u):
            return x + 1.0, jnp.sin(x)

    report = rc.robustness.report(closed(Sampled(OSCILLATOR, DT), Restless()), horizon=50)
    assert report.loops["loop"].linear is None and "Not linearized" in report.loops["loop"].note


def test_what_cannot_be_reported_is_refused(siso):
    sampled = Sampled(OSCILLATOR, DT)
    loop = closed(sampled, rc.loops.Gain(-jnp.ones((1, 1)), jnp.zeros(1), jnp.zeros(1)))
    delayed = eqx.tree_at(lambda s: s.plant, loop, Sampled(OSCILLATOR, DT, Imperfections(delay=1)))
    for loops, settings, said in (
        ({}, {}, "at least one loop"),
        ({"a": sampled}, {}, "a must be a feedback loop about a Sampled plant, got Sampled"),
        ({"a": loop, "b": delayed}, {}, "imperfections of b are .*delay=1"),
        (loop, {"horizon": 3}, "horizon must be a whole number of at least 10, got 3"),
        (loop, {"search": -1}, "search must be"),
    ):
        with pytest.raises(RobustctlError, match=said):
            rc.robustness.report(loops, **settings)


SCRIPT = """
import jax, jax.numpy as jnp
import robustctl as rc
from gains_of_mine import POSITION

plant = rc.plants.LinearPlant([[0.0, 1.0], [-4.0, -0.2]], [[0.0], [1.0]], [[1.0, 0.0]])
sampled = rc.plants.Sampled(plant, 0.05)

def loops():
    from more_of_mine import zero

    gain = rc.loops.Gain(jnp.full((1, 1), POSITION), zero, zero)
    return {"P": rc.loops.feedback(sampled, gain)}

task = rc.plants.Task(plant)
nothing = 3
"""


def test_the_command_reports_on_the_loops_of_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "gains_of_mine.py").write_text("POSITION = -1.0")
    (tmp_path / "more_of_mine.py").write_text("import jax.numpy as jnp\nzero = jnp.zeros(1)")
    short = ["--horizon", "50", "--episodes", "2", "--search", "3"]
    assert main(["report", "mine.py", *short]) == 0
    printed, path = capsys.readouterr(), str(tmp_path)
    assert "phase margin" in printed.out and (tmp_path / "mine" / "report.html").is_file()
    assert printed.err.splitlines() == ["running mine.py", "analyzing P (1 of 1)"] and path not in sys.path
    for arguments, said in (
        (["no.py"], "there is no file no.py"),
        (["mine.py", "--loops", "other"], "must define other"),
        (["mine.py", "--loops", "nothing"], "got int"),
    ):
        assert main(["report", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_a_report_of_something_else_than_loops_is_refused():
    for given in (Sampled(MagneticSuspension(), 0.005), rc.classical.PID(1.0, 0.0, dt=0.1)):
        with pytest.raises(RobustctlError, match=r"loops must be a Feedback.* got (Sampled|PID)"):
            rc.robustness.report(given)  # pyright: ignore[reportArgumentType]
