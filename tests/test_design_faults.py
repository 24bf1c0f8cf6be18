"""Mistakes that a design must name, results that must not depend on what is installed, and text short enough to read."""

import sys
import types
import warnings
from typing import ClassVar

import control as ct
import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc
from robustctl import classical
from robustctl.errors import InvalidModelError, RobustctlWarning
from robustctl.loops import feedback, internal_model
from robustctl.plants import Imperfections, LinearPlant, Plant, Sampled, Signal, undisturbed
from robustctl.robustness.linear_loop import linear_loop
from robustctl.robustness.margins import all_channels


class Tank(Plant):
    """A heated tank whose equilibrium without control is zero; `rested` adds the equilibrium for a pump at 0.1."""

    states: ClassVar = (Signal("level", "m"), Signal("temperature", "K"))
    controls: ClassVar = (Signal("pump", "m3/s", 0.0, 0.2),)
    disturbances: ClassVar = (Signal("inflow", "m3/s"),)
    outputs: ClassVar = (Signal("temperature", "K"),)
    rested: bool = False

    def rates(self, x, u, d):
        return jnp.stack([0.05 + u[0] + d[0] - 0.3 * x[0], 0.1 * (350.0 - x[1]) - 0.5 * u[0] * x[1]])

    def operating_point(self):
        # 0.05 + 0.1 = 0.3 level, 35 = (0.1 + 0.05) temperature
        x, u = ([0.5, 35 / 0.15], [0.1]) if self.rested else ([0.0, 0.0], [0.0])
        return jnp.array(x), jnp.array(u)


WEIGHTS = ([1.0, 1.0], [1.0], [1e-2, 1e-2], [1e-2])
MOVES = r"moves: level by 0.05 m/s, temperature by 35 K/s; .*rc\.classical\.equilibrium"


@pytest.mark.parametrize(
    "design",
    [
        lambda s: classical.lqg(s, *WEIGHTS),
        lambda s: classical.linear_base(s, *WEIGHTS),
        internal_model,
        lambda s: classical.lqr(s.plant, *WEIGHTS[:2]),
    ],
)
def test_a_design_about_a_point_that_the_plant_leaves_is_refused(design):
    with pytest.raises(InvalidModelError, match=MOVES):
        design(Sampled(Tank(), 1.0))
    design(Sampled(Tank(rested=True), 1.0))


def test_a_linearization_about_such_a_point_warns_unless_the_point_was_given():
    with pytest.warns(RobustctlWarning, match=MOVES):
        classical.linearize(Tank())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classical.linearize(Tank(), [0.5, 300.0], [0.1, 0.0])
        B = np.asarray(classical.linearize(Tank(rested=True)).B)[:, 0]
    np.testing.assert_allclose(B, [1.0, -0.5 * 35 / 0.15])


def stage():
    A, B = [[0.0, 1.0], [-1.0, -1.0]], [[0.0], [1.0]]
    return Sampled(LinearPlant(A, B, np.eye(2), outputs=("place", "speed")), 0.05)


def held(pid):
    sampled = stage()
    loop = feedback(sampled, pid)
    return np.asarray(rc.loops.simulate(loop, undisturbed(sampled, 2000)).y[-1])


def test_a_pid_reads_the_output_that_it_is_told_to():
    with pytest.raises(InvalidModelError, match=r"2 outputs \(place, speed\).* reads 1 outputs"):
        held(classical.PID(2.0, 1.0, dt=0.05, y0=1.0))
    np.testing.assert_allclose(
        held(classical.PID(2.0, 1.0, dt=0.05, y0=1.0, reads=[[1, 0]])), [1, 0], atol=1e-4
    )
    for wrong in ([1, 0], [[0, 0]], [[1, 0], [0, 1]]):
        with pytest.raises(InvalidModelError, match="reads must have one row per channel"):
            classical.PID(2.0, 1.0, dt=0.05, reads=wrong)
    second = classical.PID(2.0, dt=0.05, reads=[[0, 1]])
    assert (second.nu, second.references, second.ny) == (3, 1, 1)
    # kp (r - y) with the second of two outputs, the first one missing
    _, u = second.step(second.init_state(), jnp.array([jnp.nan, 0.5, 2.0]))
    np.testing.assert_allclose(u, [3.0])
    with pytest.raises(
        InvalidModelError, match="must read 2 measured outputs, or these and 1 references, got 4"
    ):
        second.step(second.init_state(), jnp.zeros(4))


def designs():
    """Return numbers of each design and analysis that python-control would take from Slycot."""
    P = ct.ss([[0.2, 1.0], [-1.0, 0.1]], [[0.0], [1.0]], [[1.0, 0.5]], 0)
    whole = ct.ss(
        P.A, np.hstack([np.eye(2), np.zeros((2, 1)), P.B]), np.vstack([np.eye(2), np.zeros((1, 2)), P.C]),
        np.block([[np.zeros((2, 4))], [np.zeros((1, 3)), np.eye(1)], [np.zeros((1, 2)), np.ones((1, 1)), np.zeros((1, 1))]]),
    )  # fmt: skip
    yield classical.lqr(P, 1, 1).K
    yield classical.kalman(P, 1, 1).L
    yield classical.lqr(ct.c2d(P, 0.1), 1, 1).K
    yield classical.kalman(ct.c2d(P, 0.1), 1, 1).L
    yield classical.pole_placement(P, [-1.0, -2.0]).K
    h2 = classical.h2(whole, 1, 1)
    yield h2.norm
    yield classical.hinf(whole, 1, 1).gamma
    yield classical.hinf_norm(h2.CL)
    loop = mimo_loop()
    yield all_channels(loop, loop.S_in)
    report = rc.robustness.report(
        feedback(stage(), classical.lqg(stage(), 1, 1, 1, 1).controller), horizon=20, search=0
    )
    analysis = report.loops["loop"]
    yield analysis.inputs[0].gain_up, analysis.inputs[0].phase, analysis.hinf
    with pytest.raises(InvalidModelError, match="uncontrollable"):
        classical.lqr(ct.ss([[1.0, 0], [0, -1]], [[0], [1.0]], [[1.0, 1]], 0), 1, 1)


def mimo_loop():
    A = [[-1.0, 0.6, 0.0], [0.0, -2.0, 1.0], [0.3, 0.0, -0.5]]
    plant = Sampled(LinearPlant(A, np.eye(3)[:, 1:], np.eye(3)[:2]), 0.1)
    controller = classical.lqg(plant, 10, 0.1, 1, 0.01).controller
    return linear_loop(feedback(plant, controller), lambda x, u: x, np.zeros(0))


def test_an_installed_slycot_changes_nothing(monkeypatch):
    before = list(designs())

    class Slycot(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError(f"slycot.{name} was asked for")

    monkeypatch.setitem(sys.modules, "slycot", Slycot("slycot"))
    monkeypatch.setattr(ct.exception, "slycot_installed", True)
    for a, b in zip(before, designs(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_disk_margin_of_all_channels_is_never_above_the_true_one():
    loop = mimo_loop()
    S = loop.S_in

    def structured(w):
        """Return the structured singular value for two channels, the least norm over scalings d (exact up to three)."""
        z = np.exp(1j * w * S.dt)
        M = S.C @ np.linalg.solve(z * np.eye(len(S.A)) - S.A, S.B) + S.D - np.eye(2) / 2
        low, high = -8.0, 8.0
        for _ in range(12):
            logs = np.linspace(low, high, 33)
            one, d = np.ones(33), np.exp(logs)
            norms = np.linalg.norm(M * np.moveaxis([[one, d], [1 / d, one]], -1, 0), 2, axis=(1, 2))
            k = int(np.argmin(norms))
            low, high = logs[max(k - 1, 0)], logs[min(k + 1, 32)]
        return norms.min()

    w = np.linspace(1e-3, np.pi / S.dt, 300)
    for _ in range(3):
        values = [structured(v) for v in w]
        k = int(np.argmax(values))
        w = np.linspace(w[max(k - 1, 0)], w[min(k + 1, len(w) - 1)], 40)
    true = 1 / max(values)
    found = all_channels(loop, S)
    assert 0.97 * true < found <= true * (1 + 1e-9)


def test_a_loop_at_an_actuator_limit_is_reported_as_such():
    plant = LinearPlant([[-1.0]], [[1.0]], [[1.0]], controls=(Signal("valve", "V", -1.0, 1.0),))
    sampled = Sampled(plant, 0.1, Imperfections(saturate=True))
    pid = classical.PID(1.0, 1.0, dt=0.1, y0=5.0, low=-1.0, high=1.0)  # x = 1 is the most that it reaches
    text = " ".join(str(rc.robustness.report(feedback(sampled, pid), horizon=20, search=0)).split())
    assert "In equilibrium the loop holds valve = 1 V at a limit" in text
    assert "search" not in text.split("No certificate")[1]
    reached = classical.PID(1.0, 1.0, dt=0.1, y0=0.5, low=-1.0, high=1.0)
    assert (
        "limit"
        not in str(rc.robustness.report(feedback(sampled, reached), horizon=20, search=0)).split("p:")[-1]
    )


def test_designs_print_in_a_few_lines():
    sampled = Sampled(LinearPlant(np.diag(-np.arange(1.0, 31.0)), np.ones((30, 1)), np.ones((1, 30))), 0.1)
    design = classical.lqg(sampled, 1, 1, 1, 1)
    text = repr(design)
    assert text.startswith("LQG\n") and "array of shape (30, 30)" in text and "IntegralLQG" in text
    assert len(text) < 600 and text.count("\n") == len(design)
    assert "K           [[" in repr(classical.pole_placement(ct.ss(-1.0, 1.0, 1.0, 0), [-2.0]))


def test_the_gain_of_a_loop_is_printed_with_its_factors():
    sampled = Sampled(LinearPlant([[-1.0]], [[1.0]], [[1.0]]), 0.1)
    bound = classical.youla_gain(sampled, internal_model(sampled), gamma=0.75)
    n0, n1, n2 = bound.norms
    assert f"{n0:.4g} + {n1:.4g} x 0.75 x {n2:.4g} = {n0 + n1 * 0.75 * n2:.4g}" in str(bound) == repr(bound)
