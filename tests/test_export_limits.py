"""What is known of signals' values is in the header: limits of a class, of the plant's actuators, and the trained range."""

import dataclasses
import json
import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.data import Scaling
from robustctl.errors import InvalidModelError
from robustctl.export import folder as module
from robustctl.export.c_files import header
from robustctl.export.limits import known, trained_of
from robustctl.export.measured import of_log
from robustctl.export.trace import traced
from robustctl.train import FittedModel
from robustctl.train.initial_state import ZeroState
from robustctl.train.trained_range import TrainedRange

from .export_systems import system_of

PID = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=0.1)


def header_of(system, dtype="float32"):
    made = rc.export.program(system, dtype=dtype)
    return header(made, [], known(rc.system.explicit_of(system), made, trained_of(system)))


def macros(text):
    """Constants of the header by name."""
    found = re.findall(r"#define (\w+_(?:LOW|HIGH)_*) \(?(-?[\d.e+-]+)f?\)?$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_limits_of_a_pid_are_in_the_header():
    text = header_of(PID)
    assert "float y; /* -1 to 0.1 */" in text and "#define MODEL_Y_LOW (-1.0f)" in text
    assert np.float32(macros(text)["MODEL_Y_HIGH"]) == np.float32(0.1)
    assert "#define MODEL_Y_HIGH 0.1\n" in header_of(PID, "float64")
    assert "at most 2" in header_of(rc.classical.PID(1.0, dt=0.1, high=2.0))
    assert not macros(header_of(rc.classical.PID(1.0, dt=0.1)))


@pytest.mark.parametrize("name", ["youla", "alongside", "youla_integral"])
def test_limits_of_the_plant_s_actuators_are_in_the_header(name):
    text = header_of(system_of(name))
    assert "[N m], actuator -1 to 1 */" in text
    assert macros(text) == {"MODEL_TORQUE_ACTUATOR_LOW": -1.0, "MODEL_TORQUE_ACTUATOR_HIGH": 1.0}


class Switched(rc.system.System):
    """A user's own controller: one of two controls for each measurement."""

    size: float
    nu, ny, dt = 2, 2, 0.1

    def init_state(self):
        return jnp.zeros(())

    def step(self, x, u):
        return x, jnp.where(u > 0, -self.size, 2 * self.size)

    def output_limits(self):
        return np.full(2, -self.size), np.full(2, 2 * self.size)

    def actuator_limits(self):
        return np.full(2, -8.0), np.full(2, np.inf)


class Shifted(Switched):
    """One with another step, for which its parent's limits need not hold."""

    def step(self, x, u):
        return x, 100 * u


class Twice(Switched):
    """One whose limits are of another size than its output."""

    def output_limits(self):
        return -1.0, 1.0


class OwnBase(rc.loops.Base):
    """A user's own base controller, with a model of its own of the plant."""

    nu, ny, dt = 1, 1, 0.1

    def init_state(self):
        return jnp.zeros(1)

    def output(self, x, w=None):
        return x

    def advance(self, x, u, w):
        return 0.5 * x + u + 0.1 * w

    def control(self, x):
        return -0.2 * x

    def undisturbed(self, references=0):
        return jnp.zeros(1 + references)

    def input_limits(self):
        return np.array([-3.0]), np.array([4.0])


def ends(low, high, kind=""):
    """Constants of two outputs with the same limits."""
    values = {"LOW": low, "HIGH": high}
    return {f"MODEL_Y_{k}{kind}_{end}": v for k in range(2) for end, v in values.items() if np.isfinite(v)}


def test_limits_of_a_user_s_own_controller_are_in_the_header():
    own = Switched(3.0)
    can = ends(-8.0, np.inf, "_ACTUATOR")
    assert macros(header_of(own)) == ends(-3.0, 6.0) | can
    assert macros(header_of(rc.Delayed(own, (2, 0)))) == ends(-3.0, 6.0) | can
    # y = -y_scaled + 1, so that the highest becomes the lowest.
    one = jnp.ones(2)
    scaled = rc.scaled.Scaled(own, 0 * one, one, one, -one)
    assert macros(header_of(scaled)) == ends(-5.0, 4.0) | ends(-np.inf, 9.0, "_ACTUATOR")
    assert macros(header_of(Shifted(3.0))) == can
    with pytest.raises(InvalidModelError, match=r"output_limits\(\) of Twice must return .* of shape \(2,\)"):
        header_of(Twice(3.0))


def test_limits_of_a_user_s_own_base_controller_are_those_of_the_actuators():
    found = macros(
        header_of(rc.loops.Youla(OwnBase(), rc.loops.Gain(jnp.ones((1, 1)), jnp.zeros(1), jnp.zeros(1))))
    )
    assert found == {"MODEL_Y_ACTUATOR_LOW": -3.0, "MODEL_Y_ACTUATOR_HIGH": 4.0}


def test_limits_of_a_filter_are_those_of_the_guarded_controller():
    limits, rate = rc.loops.Limits([-1.0, -1.0], [2.0, 2.0]), rc.loops.RateLimit([0.5, 0.5])
    tighter = rc.loops.Limits([-0.5, -np.inf], [np.inf, 1.0])
    own = Switched(3.0)
    found = macros(header_of(rc.loops.Guarded(own, rc.loops.AllOf((limits, rate, tighter)), own)))
    y0, y1 = {"MODEL_Y_0_LOW": -0.5, "MODEL_Y_0_HIGH": 2.0}, {"MODEL_Y_1_LOW": -1.0, "MODEL_Y_1_HIGH": 1.0}
    assert found == y0 | y1 | ends(-8.0, np.inf, "_ACTUATOR")
    assert not macros(header_of(rc.loops.Guarded(PID, rc.loops.RateLimit([0.5]), PID)))


def fitted(second=(np.inf, -np.inf)):
    """A model as a fit returns it, without the fit; its second output was never measured, unless it has a range."""
    q = rc.nn.StableLinear(nu=1, nx=1, ny=2, key=jr.key(0))
    range_ = TrainedRange(u=((0.0, 10.0),), y=((-0.25, 1.5), second), band=(None,))
    names = (("pump",), ("level", "LEVEL"), ("V",), ("m", ""))
    return FittedModel(q, ZeroState(), Scaling.identity(1, 2), 0.5, *names, trained=range_)


def test_the_trained_range_is_in_the_header():
    text = header_of(fitted())
    assert (
        "float pump; /* [V], trained 0 to 10 */" in text
        and "float level; /* [m], trained -0.25 to 1.5 */" in text
    )
    assert macros(text) == {
        "MODEL_PUMP_TRAINED_LOW": 0.0, "MODEL_PUMP_TRAINED_HIGH": 10.0, "MODEL_LEVEL_TRAINED_LOW": -0.25, "MODEL_LEVEL_TRAINED_HIGH": 1.5,
    }  # fmt: skip
    explicit = fitted().explicit()
    assert trained_of(explicit) == trained_of(fitted()) and header_of(explicit) == text
    unknown = dataclasses.replace(fitted(), trained=None).explicit()
    assert trained_of(unknown) is None and not macros(header_of(unknown))


def test_two_signals_whose_names_differ_in_case_have_different_constants():
    found = macros(header_of(fitted(second=(2.0, 3.0))))
    assert len(found) == 6 and found["MODEL_LEVEL_TRAINED_LOW_"] == 2.0


def test_a_folder_records_the_trained_range_and_its_header_must_have_it(tmp_path, monkeypatch):
    monkeypatch.setattr(
        module, "find_compiler", lambda: (_ for _ in ()).throw(rc.errors.RobustctlError("no C compiler"))
    )
    folder = rc.export.package(fitted(), tmp_path / "model", dtype="float32")
    about = json.loads((folder / "export.json").read_text())
    assert about["trained"] == {"u": [[0.0, 10.0]], "y": [[-0.25, 1.5], [None, None]]}
    assert rc.export.check(folder).holds
    file = folder / "model.h"
    file.write_text(file.read_text().replace("HIGH 10.0f", "HIGH 20.0f"))
    assert any("is 20.0f, and must be 10.0f" in fault for fault in rc.export.check(folder).faults)


def test_a_log_must_fit():
    made = traced(PID, name="pid", dtype=np.float32)
    us = of_log(made, np.ones((30, 2)), 20)
    assert us.shape == (20, 2) and us.dtype == np.float32
    for log, says in (
        (np.ones((30, 3)), r"samples of shapes \[\(2,\)\], time first, got arrays of shapes \[\(30, 3\)\]"),
        (np.ones((0, 2)), "samples of shapes"),
        ((np.ones((3, 2)), np.ones(3)), "samples of shapes"),
        (np.full((3, 2), np.nan), "log must be finite"),
    ):
        with pytest.raises(InvalidModelError, match=says):
            of_log(made, log, 20)


def test_the_command_takes_a_log(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plain = rc.StateSpace(jnp.array([[0.5]]), jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros((1, 1)), 0.1)
    rc.save("plant.safetensors", plain)
    u = 3 * np.sin(np.arange(60))
    rows = "\n".join(f"{0.1 * k:.1f},{a:.6g},0.{k}" for k, a in enumerate(u))
    (tmp_path / "log.csv").write_text("t,drive,speed\n" + rows + "\n")
    rc.save("pid.safetensors", PID)
    assert main(["export", "pid.safetensors", "--log", "log.csv"]) == 2
    assert (
        "a log must have a column for each of the inputs, 2, got None; give --inputs"
        in capsys.readouterr().err
    )
    command = ["export", "plant.safetensors", "--dtype", "q15", "--log", "log.csv"]
    assert main(command) == 2
    assert "there is no column 'u[0]'" in capsys.readouterr().err
    columns = ["--inputs", "drive", "--outputs", "speed"]
    assert main([*command, *columns, "--time", "t"]) == 0
    about = json.loads((tmp_path / "plant-c" / "export.json").read_text())
    # The format of the input is for twice the largest sample, 3.
    assert (
        about["fixed_point"]["fractions"]["u"] == 12
        and about.get("parity", {"of": "the log"})["of"] == "the log"
    )
    (tmp_path / "slow.csv").write_text(
        "t,drive,speed\n" + "\n".join(f"{k},1.0,0.{k}" for k in range(20)) + "\n"
    )
    assert main([*command[:-1], "slow.csv", *columns, "--time", "t", "--out", "slow"]) == 2
    assert "the log must have the sample time 0.1 s, got 1 s" in capsys.readouterr().err
    assert main(["export", "plant.safetensors", "--to", "onnx", "--log", "log.csv"]) == 2
    assert "emit and log must go with --to c" in capsys.readouterr().err
