"""The code around a step, compiled with small stand-ins for the targets' headers, gives the numbers of the step itself."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.data.record_checks import MEASURED
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.export import folder as module
from robustctl.export.c_files import files
from robustctl.export.compiled import find_compiler
from robustctl.export.emit import emitted
from robustctl.export.fixed_folder import header_lines
from robustctl.export.limits import known
from robustctl.export.targets import write_texts
from robustctl.runtime import Step

from .export_systems import as_system, mixed, named

STUBS = Path(__file__).parent / "emit_stubs"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
TARGETS = ("arduino", "ros2", "simulink")
DT = 0.02


def tool(name):
    """A compiler of C++ or C."""
    try:
        find_compiler()
    except RobustctlError as error:
        pytest.skip(str(error))
    if not shutil.which(name):
        pytest.skip(f"{name} was not found")
    return name


def run(command, folder, text=""):
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def no_compiler():
    raise RobustctlError("no C compiler is wanted here")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model with named signals, exported for each target."""
    base = tmp_path_factory.mktemp("emitted")
    return {emit: written(system(), base / emit / "model", emit) for emit in TARGETS}


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Exports a system with its proof and without what a compiler finds of it, and checks such a folder likewise."""
    monkeypatch.setattr(module, "find_compiler", no_compiler)
    return lambda emit: rc.export.package(rc.classical.PID(2.0, dt=DT), tmp_path / "model", emit=emit)


def system():
    """A linear system between signals whose names are no identifiers."""
    return dataclasses.replace(named(), system=as_system(mixed()))


def rollout(system, us, dtype="float32", **settings):
    """Outputs of the step in NumPy, whose bits C has too."""
    step = Step(rc.export.program(system, dtype=dtype, **settings))
    x, ys = step.init_state(), []
    for u in us.astype(dtype):
        x, y = step(x, u)
        ys.append(y)
    return np.stack(ys)


def drawn(count, nu=2):
    return np.random.default_rng(0).normal(size=(count, nu))


def numbers(us):
    return "\n".join(" ".join(f"{value:.17g}" for value in u) for u in us)


TEST_IO = """
static const double given[][2] = {GIVEN};
static int count;
static void model_begin() {}
static void model_read(model_inputs *inputs)
{
    inputs->valve_1 = (float)given[count][0];
    inputs->for_ = (float)given[count][1];
    count++;
}
static void model_write(const model_outputs *outputs, uint32_t missed)
{
    printf("%lu %.9g %.9g %lu\\n", (unsigned long)stub_clock, outputs->level, outputs->s90, (unsigned long)missed);
}
"""
# The clock starts just before it begins again from 0, and one sample is late by two and a half periods.
TEST_MAIN = """
#include "model.ino"
int main()
{
    stub_clock = 0xFFFFFF00UL;
    setup();
    for (int k = 0; k < 400; k++) {
        stub_clock += k == 150 ? 51000UL : 1000UL;
        loop();
    }
    return 0;
}
"""


def test_a_sketch_takes_a_sample_each_period(folders, tmp_path):
    compiler = tool("g++")
    folder, us = shutil.copytree(folders["arduino"], tmp_path / "model"), drawn(40)
    given = ", ".join("{" + ", ".join(f"{value:.17g}" for value in u) + "}" for u in us)
    (folder / "model_io.h").write_text(TEST_IO.replace("GIVEN", given))
    (folder / "main.cpp").write_text(TEST_MAIN)
    run(["gcc", "-std=c99", "-c", "model.c"], folder)
    run([compiler, *WARNINGS, f"-I{STUBS}", "main.cpp", "model.o", "-o", "main", "-lm"], folder)
    found = np.array([line.split() for line in run(["./main"], folder).splitlines()], float)
    times = (found[:, 0] - 0xFFFFFF00) % 2**32
    periods = np.floor(times / 20_000)
    # The first loop begins after 1 ms. 20,000 us are 20 loops; two samples are left out where one is late.
    assert (np.diff(np.delete(times, 8)) % 1000 == 0).all() and (times[1:8] == 20_000 * np.arange(1, 8)).all()
    assert (np.diff(periods) >= 1).all() and found[-1, 3] == periods[-1] - (len(periods) - 1) == 2
    np.testing.assert_array_equal(found[:, 1:3].astype(np.float32), rollout(system(), us[: len(found)]))


def test_a_node_publishes_each_sample_unless_an_input_is_stale(folders):
    compiler, folder, us = tool("g++"), folders["ros2"], drawn(6)
    binary = folder.parent / "node"
    run(["gcc", "-std=c99", "-c", "model.c", "-o", str(binary) + ".o"], folder)
    command = [compiler, "-std=c++17", *WARNINGS, f"-I{STUBS}", "model_node.cpp", f"{binary}.o", "-o", str(binary), "-lm"]  # fmt: skip
    run(command, folder)
    lines = ["tick", f"send ~/input/valve_1 {us[0, 0]:.17g}", "tick"]
    for k, u in enumerate(us):
        lines.append(f"at {k * DT}")
        lines += [
            f"send ~/input/{name} {value:.17g}" for name, value in zip(("valve_1", "for"), u, strict=True)
        ]
        # What is not finite counts as not measured: the value from before is used.
        lines += ["nan ~/input/for", "tick"]
    at = (len(us) - 1) * DT
    lines += [f"at {at + 2.9 * DT}", "tick", f"at {at + 3.1 * DT}", "tick"]
    out = run([str(binary)], folder, "\n".join(lines)).splitlines()
    assert out[:3] == ["node model_node", f"parameter stale_after {3 * DT:.17g}", f"period {round(DT * 1e9)}"]
    ticks = "\n".join(out[3:]).split("ticked")
    assert "warned input/valve_1 is older than 0.06 s" in ticks[0] and "~" not in ticks[0]
    assert "warned input/for is older" in ticks[1] and "~" not in ticks[1]
    published = [[line for line in tick.split("\n") if line.startswith("~/output/")] for tick in ticks[2:-1]]
    found: list = [[float(line.split()[1]) for line in lines] for lines in published]
    assert found[-1] == [] and "warned" in ticks[-2]
    np.testing.assert_array_equal(
        np.array(found[:-1], np.float32), rollout(system(), np.vstack([us, us[-1:]]))
    )
    assert [line.split()[0] for line in ticks[2].strip().split("\n")] == ["~/output/level", "~/output/s90"]


def test_an_s_function_gives_the_numbers_of_the_step(folders):
    tool("gcc")
    folder, us = folders["simulink"], drawn(30)
    binary = folder.parent / "block"
    sources = ["model_sfun.c", "model.c"]
    run(["gcc", "-std=c99", "-DMATLAB_MEX_FILE", *WARNINGS, f"-I{STUBS}", *sources, "-o", str(binary), "-lm"], folder)  # fmt: skip
    first, *rows = run([str(binary)], folder, numbers(us)).splitlines()
    assert first == f"{DT:.17g} 2 2"
    np.testing.assert_array_equal(np.array([row.split() for row in rows], np.float32), rollout(system(), us))


@pytest.mark.parametrize(
    ("emit", "edited", "own"),
    [
        ("arduino", "model.ino", "model_io.h"),
        ("ros2", "model_node.cpp", "package.xml"),
        ("simulink", "model_sfun.c", ""),
    ],
)
def test_the_files_are_checked_and_those_of_the_user_are_not(emit, edited, own, packaged):
    folder = packaged(emit)
    if own:
        (folder / own).write_text("another")
    found = rc.export.check(folder)
    assert found.holds and f"{own} was changed" * bool(own) in found.skipped[0]
    text = (folder / edited).read_text()
    (folder / edited).write_text(text.replace("model_step", "other_step"))
    # A new hash alone does not hide it.
    about = json.loads((folder / "export.json").read_text())
    new = hashlib.sha256((folder / edited).read_bytes()).hexdigest()
    (folder / "export.json").write_text(json.dumps({**about, "files": {**about["files"], edited: new}}))
    (fault,) = rc.export.check(folder).faults
    assert fault.startswith(f"{edited}: line")
    (folder / edited).unlink()
    assert rc.export.check(folder).faults[0] == f"{edited} is missing"


def lost_samples():
    """A model that reads a flag for a measured channel, whose names state which."""
    q = rc.nn.InnovationR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(2,), key=jr.key(0)).explicit()
    names = {"dt": 1.0, "inputs": ("u", "y", f"y{MEASURED}"), "outputs": ("y",)}
    return rc.Scaled(q, jnp.zeros(3), jnp.ones(3), jnp.zeros(1), jnp.ones(1), **names)  # pyright: ignore[reportArgumentType]


def test_a_flag_is_whether_a_message_came(tmp_path):
    compiler = tool("g++")
    folder = written(lost_samples(), tmp_path, "ros2")
    text = (folder / "model_node.cpp").read_text()
    assert (
        "inputs_.y_is_measured = (float)(given_[1].fresh ? 1.0 : 0.0);" in text and "is_stale(1" not in text
    )
    run(["gcc", "-std=c99", "-c", "model.c"], folder)
    run([compiler, "-std=c++17", f"-I{STUBS}", "model_node.cpp", "model.o", "-o", "node", "-lm"], folder)
    lines = ["send ~/input/u 0.5", "send ~/input/y 0.25", "tick", "tick"]
    out = run(["./node"], folder, "\n".join(lines)).splitlines()
    found = [float(line.split()[1]) for line in out if line.startswith("~/output/y ")]
    us = np.array([[0.5, 0.25, 1.0], [0.5, 0.25, 0.0]])
    np.testing.assert_array_equal(np.array(found, np.float32), rollout(lost_samples(), us)[:, 0])


class Mixed(rc.System):
    """Signals of several arrays and kinds, without names."""

    dt = 0.5

    def init_state(self):
        return jnp.asarray(0)

    def step(self, x, u):
        number, on, matrix = u
        return x + 1, (jnp.where(on, number, 0.0), x, jnp.sum(matrix) > 0, matrix.T)


def mixed_input():
    return jnp.asarray(1.0), jnp.asarray(True), jnp.ones((2, 3))


def written(system, folder, emit, dtype="float32", u=None, dt=None):
    """Write the files of a target without a proof of them."""
    if dtype == "q15":
        low = rc.export.fixed(system, dtype, name="model", log=np.zeros((5, 2))).lowered
        made, more = low.program, header_lines(low)
    else:
        low, more, made = None, [], rc.export.program(system, dtype=dtype, u=u, dt=dt)
    ranges = known(system, made)
    around = emitted(emit, made, low, ranges)
    write_texts(folder, files(made, more, ranges) | around.files | around.yours)
    return folder


@pytest.mark.parametrize("emit", TARGETS)
@pytest.mark.parametrize("what", ["mixed", "fixed", "static", pytest.param("clang", marks=pytest.mark.slow)])
def test_what_is_written_compiles_for_other_signals_too(emit, what, tmp_path):
    pid = rc.classical.PID(4.0, 2.0, 0.4, dt=DT, low=-1.0, high=1.0)
    system, more = {
        "mixed": (Mixed(), {"u": mixed_input(), "dtype": "float64"}),
        "fixed": (pid, {"dtype": "q15"}),
        "static": (rc.loops.Gain(jnp.ones((1, 1)), jnp.zeros(1), jnp.zeros(1)), {"dt": 0.1}),
        "clang": (pid, {"dtype": "float64"}),
    }[what]
    folder = written(system, tmp_path / "model", emit, **more)
    c, cpp = ["gcc"], ["g++"]
    if what == "clang":
        pytest.importorskip("ziglang")
        c, cpp = ([sys.executable, "-m", "ziglang", name] for name in ("cc", "c++"))
    elif not (shutil.which("gcc") and shutil.which("g++")):
        pytest.skip("gcc and g++ were not found")
    if emit == "simulink":
        strict = ["-std=c99", "-pedantic", "-DMATLAB_MEX_FILE", *WARNINGS]
        run([*c, *strict, f"-I{STUBS}", "-c", "model_sfun.c", "-o", "around.o"], folder)
        return
    source = {"arduino": "model.ino", "ros2": "model_node.cpp"}[emit]
    standard = {"arduino": "-std=gnu++11", "ros2": "-std=c++17"}[emit]
    # All warnings at this level come before code is made, which takes a third of the time.
    run([*cpp, "-x", "c++", standard, *WARNINGS, f"-I{STUBS}", "-fsyntax-only", source], folder)


def test_a_package_of_ros_2_is_configured_and_built_by_cmake(folders, tmp_path):
    cmake = tool("cmake")
    for name, text in {
        "ament_cmake": "function(ament_package)\nendfunction()\n",
        "rclcpp": f"add_library(rclcpp::rclcpp INTERFACE IMPORTED)\ntarget_include_directories(rclcpp::rclcpp INTERFACE {STUBS})\n",
        "std_msgs": "add_library(std_msgs::std_msgs INTERFACE IMPORTED)\nset(std_msgs_TARGETS std_msgs::std_msgs)\n",
    }.items():
        (tmp_path / f"{name}-config.cmake").write_text(text)
    source = folders["ros2"]
    run([cmake, "-S", str(source), "-B", "build", f"-DCMAKE_PREFIX_PATH={tmp_path}", "-DCMAKE_INSTALL_PREFIX=out",
         *(f"-D{name}_DIR={tmp_path}" for name in ("ament_cmake", "rclcpp", "std_msgs"))], tmp_path)  # fmt: skip
    run([cmake, "--build", "build", "--target", "install"], tmp_path)
    assert (tmp_path / "out" / "lib" / "model_node" / "model_node").exists()
    from xml.etree import ElementTree

    package = ElementTree.parse(source / "package.xml").getroot()
    assert package.findtext("name") == "model_node" and [d.text for d in package.findall("depend")] == ["rclcpp", "std_msgs"]  # fmt: skip


def test_what_a_target_refuses(tmp_path):
    pid = rc.classical.PID(2.0, dt=DT)
    with pytest.raises(InvalidModelError, match="emit must be one of arduino, ros2, simulink, plc, got 'c'"):
        rc.export.package(pid, tmp_path / "pid", emit="c")
    with pytest.raises(InvalidModelError, match=r"the sketch's name, pid, got .*other"):
        rc.export.package(pid, tmp_path / "other", name="pid", emit="arduino")
    for dt in (1e-6, 1e7):
        with pytest.raises(InvalidModelError, match="10 us to 10\\^6 s"):
            rc.export.package(dataclasses.replace(pid, dt=dt), tmp_path / "model", emit="arduino")
    assert not list(tmp_path.rglob("*.*"))


def test_the_command_emits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "find_compiler", no_compiler)
    rc.save("my-pid.safetensors", rc.classical.PID(2.0, 1.0, dt=0.1))
    assert main(["export", "my-pid.safetensors", "--emit", "arduino"]) == 0
    assert (tmp_path / "my_pid" / "my_pid.ino").exists()
    assert main(["export", "my-pid.safetensors", "--emit", "ros2"]) == 0
    assert (tmp_path / "my-pid-ros2" / "my_pid_node.cpp").exists()
    assert main(["export", "my-pid.safetensors", "--to", "fmu", "--emit", "simulink"]) == 2
    assert "emit and log must go with --to c" in capsys.readouterr().err
