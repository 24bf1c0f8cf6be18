"""Functional mock-up units: valid, and the same numbers as the system's own."""

import shutil
import subprocess
import zipfile
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlError, RobustctlWarning

from .export_compiled import compiler
from .export_systems import CASES, inputs_of, sample_of, system_of
from .test_export_c import in_jax

fmpy = pytest.importorskip("fmpy")
validation, fmi2, fmi3 = (pytest.importorskip(f"fmpy.{part}") for part in ("validation", "fmi2", "fmi3"))
BOTH = pytest.mark.parametrize("version", ["3.0", "2.0"])


def unit(system, folder, **settings):
    compiler()
    file = rc.export.fmu(system, folder, **settings)
    assert validation.validate_fmu(str(file)) == []
    return str(file)


def pid(**settings):
    return rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, **settings)


def described(file):
    with zipfile.ZipFile(file) as archive:
        return ElementTree.fromstring(archive.read("modelDescription.xml"))


class Run:
    """A unit that runs, by the functions of the standard."""

    def __init__(self, file, start=0.0):
        self.about = fmpy.read_model_description(file)
        self.three = self.about.fmiVersion == "3.0"
        kind = fmi3.FMU3Slave if self.three else fmi2.FMU2Slave
        self.fmu = kind(
            guid=self.about.guid, unzipDirectory=fmpy.extract(file), instanceName="one",
            modelIdentifier=self.about.coSimulation.modelIdentifier,
        )  # fmt: skip
        self.fmu.instantiate()
        if self.three:
            self.fmu.enterInitializationMode(startTime=start)
        else:
            self.fmu.setupExperiment(startTime=start)
            self.fmu.enterInitializationMode()
        self.time = start

    def references(self, causality):
        return [(v.type, v.valueReference) for v in self.about.modelVariables if v.causality == causality]

    def get(self, causality):
        return [getattr(self.fmu, f"get{kind}")([k])[0] for kind, k in self.references(causality)]

    def set(self, causality, values):
        for (kind, k), x in zip(self.references(causality), values, strict=True):
            of = float if kind in ("Real", "Float64") else bool if kind == "Boolean" else int
            getattr(self.fmu, f"set{kind}")([k], [of(x)])

    def step(self, length):
        self.fmu.doStep(currentCommunicationPoint=self.time, communicationStepSize=length)
        self.time += length

    def close(self):
        self.fmu.terminate()
        self.fmu.freeInstance()


def flat(tree, k):
    leaves = [np.ravel(leaf[k]) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.astype(float) for leaf in leaves if leaf.size])


def check(name, folder, version, count):
    dt = system_of(name).dt or 0.1
    file = unit(system_of(name), folder, name=f"m_{name}", version=version, dtype="float64", u=sample_of(name), dt=dt)  # fmt: skip
    us = inputs_of(name, count)
    _, ys, _ = in_jax(name, us, "float64")
    run = Run(file, start=3 * dt)
    run.set("input", flat(us, 0))
    run.fmu.exitInitializationMode()
    size = max(np.abs(flat(ys, k)).max() for k in range(count))
    np.testing.assert_allclose(run.get("output"), flat(ys, 0), rtol=0, atol=1e-12 * size)
    for k in range(count):
        run.set("input", flat(us, k))
        run.step(dt)
        # Each sample adds its rounding, which an unstable system does not forget.
        np.testing.assert_allclose(run.get("output"), flat(ys, k), rtol=0, atol=(k + 1) * 1e-12 * size)
    run.close()


@BOTH
@pytest.mark.parametrize("name", ["r2dn", "scaled", "kalman", "own_cond"])
def test_a_unit_is_valid_and_gives_the_system_s_own_outputs(tmp_path, name, version):
    check(name, tmp_path, version, 30)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("name", CASES)
def test_all_units_are_valid_and_give_the_system_s_own_outputs(tmp_path, name, version):
    check(name, tmp_path, version, 300)


@BOTH
def test_a_simulator_gets_the_numbers_of_a_rollout(tmp_path, version):
    file = unit(pid(low=-1.0, high=1.0), tmp_path, name="pid", version=version)
    t = 0.02 * np.arange(51)
    us = np.stack([np.sin(5 * t), 0.3 + 0 * t], 1)
    signals = np.rec.fromarrays([t, *us.T], names=["time", "u[1]", "u[2]"])
    found = fmpy.simulate_fmu(file, stop_time=1.0, input=signals)
    ys = rc.rollout(pid(low=-1.0, high=1.0), jnp.asarray(us)).ys
    np.testing.assert_allclose(found["time"], t, atol=1e-12)
    # What is read at a time is of the sample before, and of the first one at the start.
    np.testing.assert_allclose(found["y"], [ys[0, 0], *ys[:50, 0]], rtol=0, atol=1e-6)


@BOTH
def test_steps_of_other_lengths_take_the_samples_in_them(tmp_path, version):
    file = unit(pid(), tmp_path, version=version, dtype="float64")
    us, found = np.random.default_rng(0).normal(size=(4, 2)), {}
    for parts in ([1.0], [3.0], [0.25] * 4):
        run = Run(file)
        run.fmu.exitInitializationMode()
        for u in us:
            run.set("input", u)
            for part in parts:
                run.step(0.02 * part)
        found[parts[0]] = run.get("local")
        run.close()
    with jax.enable_x64():
        step = rc.export.compile(pid(), dtype="float64")
        held, _ = step.loop(step.init_state(), np.repeat(us, 3, axis=0))
        each, _ = step.loop(step.init_state(), us)
    np.testing.assert_allclose(found[1.0], np.ravel(each), rtol=1e-12)
    np.testing.assert_allclose(found[0.25], np.ravel(each), rtol=1e-12)
    np.testing.assert_allclose(found[3.0], np.ravel(held), rtol=1e-12)


@BOTH
def test_a_state_is_set_kept_restored_and_serialized(tmp_path, version):
    run = Run(unit(pid(), tmp_path, version=version, dtype="float64"))
    start = run.get("local")
    run.set("local", [0.5, *start[1:]])
    assert run.get("local") == [0.5, *start[1:]]
    run.fmu.exitInitializationMode()
    run.set("input", [1.0, 0.2])
    run.step(0.02)
    kind = "State" if run.three else "state"
    kept = getattr(run.fmu, f"getFMU{kind}")()
    data = (run.fmu.serializeFMUState if run.three else run.fmu.serializeFMUstate)(kept)
    before = run.get("local"), run.get("output")
    run.step(0.02)
    later = run.get("local")
    assert later != before[0]
    getattr(run.fmu, f"setFMU{kind}")(kept)
    assert (run.get("local"), run.get("output")) == before
    again = fmi3.fmi3FMUState() if run.three else fmi2.fmi2FMUstate()
    (run.fmu.deserializeFMUState if run.three else run.fmu.deSerializeFMUstate)(data, again)
    getattr(run.fmu, f"freeFMU{kind}")(kept)
    getattr(run.fmu, f"setFMU{kind}")(again)
    run.time = 0.02
    run.step(0.02)
    assert run.get("local") == later
    with pytest.raises(Exception):  # noqa: B017  # states are set before the first step alone
        run.set("local", start)
    run.fmu.reset()
    assert run.get("local") == start
    run.fmu.freeInstance()


@BOTH
def test_names_units_limits_and_the_step_are_in_the_description(tmp_path, version):
    one = jnp.ones(2)
    model = rc.Scaled(
        system_of("r2dn"), 0 * one, one, 0 * one, one, dt=0.02, inputs=("valve 1", "<time>\n"), outputs=("level", "valve 1"),
        input_units=("%", ""), output_units=("m", "K"),
    )  # fmt: skip
    root = described(unit(model, tmp_path / "a", version=version))
    listed = [v for v in root.find("ModelVariables") if v.get("causality") in ("input", "output")]  # pyright: ignore[reportOptionalIterable]
    assert [v.get("name") for v in listed] == ["u.valve 1", "<time>", "level", "y.valve 1"]
    assert {u.get("name") for u in root.find("UnitDefinitions")} == {"%", "m", "K"} | (
        {"s"} if version == "3.0" else set()
    )  # pyright: ignore[reportOptionalIterable]
    assert root.find("DefaultExperiment").get("stepSize") == "0.02"  # pyright: ignore[reportOptionalMemberAccess]
    root = described(unit(pid(low=-1.0, high=2.0), tmp_path / "b", version=version))
    limited = [v.attrib for v in root.iter() if "max" in v.attrib]
    assert [(v["min"], v["max"]) for v in limited] == [("-1.0", "2.0")]


@BOTH
def test_two_signals_of_one_name_stay_two(tmp_path, version):
    one = jnp.ones(2)
    names = {"inputs": ("a", "a"), "outputs": ("time", "x[1]"), "dt": 0.1}
    model = rc.Scaled(system_of("r2dn"), 0 * one, one, 0 * one, one, **names)  # pyright: ignore[reportArgumentType]
    variables = fmpy.read_model_description(unit(model, tmp_path, version=version)).modelVariables
    found = [v.name for v in variables]
    assert len(set(found)) == len(found)


@BOTH
def test_without_a_compiler_the_unit_has_its_source(tmp_path, monkeypatch, version):
    def nothing():
        raise RobustctlError("no compiler")

    command = compiler()
    monkeypatch.setattr("robustctl.export.fmu_file.find_compiler", nothing)
    with pytest.warns(RobustctlWarning, match="no binary"):
        file = rc.export.fmu(pid(), tmp_path, version=version)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
        assert not any(name.startswith("binaries") for name in archive.namelist())
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wno-unused-parameter", "-Werror"]
    prefix = f"-DFMI{version[0]}_FUNCTION_PREFIX=model_"
    command = [*command, *strict, prefix, "-c", "model_fmu.c"]
    subprocess.run(command, cwd=tmp_path / "sources", check=True)
    if shutil.which("nm"):
        listed = subprocess.run(
            ["nm", "model_fmu.o"], cwd=tmp_path / "sources", capture_output=True, check=True
        )
        names = listed.stdout.decode()
        assert f"model_fmi{version[0]}DoStep" in names


@BOTH
def test_a_unit_is_the_same_bytes_each_time(tmp_path, version):
    with pytest.MonkeyPatch.context() as patch, pytest.warns(RobustctlWarning):
        patch.setattr("robustctl.export.fmu_file.find_compiler", lambda: ["false"])
        files = [rc.export.fmu(pid(), tmp_path / f"{k}.fmu", version=version) for k in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_a_unit_refuses(tmp_path):
    with pytest.raises(InvalidModelError, match=r"sample time.*give dt="):
        rc.export.fmu(system_of("r2dn"), tmp_path)
    with pytest.raises(InvalidModelError, match=r"version must be 3\.0 or 2\.0, got '1\.0'"):
        rc.export.fmu(pid(), tmp_path, version="1.0")
    with pytest.raises(InvalidModelError, match="identifier"):
        rc.export.fmu(pid(), tmp_path, name="my model")
    with pytest.raises(InvalidModelError, match="dtype must be"):
        rc.export.fmu(pid(), tmp_path, dtype="float16")
    (tmp_path / "model.fmu").write_text("")
    with pytest.raises(InvalidModelError, match="the file must be new"):
        rc.export.fmu(pid(), tmp_path)
