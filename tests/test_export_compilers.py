"""The same C by other compilers: clang, compilers of C++, one for a bare processor, and the MISRA rules of cppcheck."""

import shutil
import sys

import numpy as np
import pytest

import robustctl as rc
from robustctl.export.compiled import CompiledStep
from robustctl.export.misra import DEVIATIONS, find_cppcheck, misra, other_rules

from .export_compiled import STRICT, run, written
from .export_systems import CASES, system_of
from .test_export_c import UNSTABLE, check_doubles

FEW = ("pid", "state_space", "own_cond")
CPP = [flag for flag in STRICT if "c99" not in flag and "vla" not in flag]


def clang():
    pytest.importorskip("ziglang")
    return [sys.executable, "-m", "ziglang", "cc"]


def check_clang(folder, names, samples):
    made = written(folder, "float64", names)
    run([*clang(), *STRICT, "-ffp-contract=off", "-O2", "-shared", "-fPIC", "all.c", "-o", "all.so", "-lm"], folder)  # fmt: skip
    for name in names:
        # Differences grow with the samples where the system is unstable alone.
        count = min(samples, 200) if name in UNSTABLE else samples
        check_doubles(CompiledStep(made[name], folder / "all.so"), name, count)


def check_cpp(folder, names, dtype):
    written(folder, dtype, names)
    # Not zig c++, which compiles its library of C++ first.
    for compiler in ([["g++"]] if shutil.which("g++") else []) + [clang()]:
        run([*compiler, "-x", "c++", "-std=c++17", *CPP, "-c", "all.c", "-o", "all.o"], folder)


def test_clang_gives_the_numbers_too(tmp_path):
    check_clang(tmp_path, FEW, 50)


@pytest.mark.slow
def test_clang_gives_the_numbers_of_every_system(tmp_path):
    check_clang(tmp_path, list(CASES), 1000)


def test_the_code_is_cpp(tmp_path):
    check_cpp(tmp_path, FEW, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_code_of_every_system_is_cpp(tmp_path, dtype):
    check_cpp(tmp_path, list(CASES), dtype)


@pytest.mark.parametrize(("dtype", "processor"), [("float32", "cortex_m4+vfp4d16sp"), ("q15", "cortex_m4")])
def test_a_bare_processor_needs_nothing_but_the_file(tmp_path, dtype, processor):
    target = [
        "-target",
        "thumb-freestanding-eabihf",
        f"-mcpu={processor}",
        "-fno-unwind-tables",
        "-fno-asynchronous-unwind-tables",
    ]
    folder = rc.export.c(system_of("pid"), tmp_path / "pid", name="pid", dtype=dtype, log=np.ones((5, 2)))
    run([*clang(), *target, *STRICT, "-O2", "-c", "pid.c", "-o", "pid.o"], folder)
    assert b"pid_step" in (folder / "pid.o").read_bytes()
    if not shutil.which("nm"):
        pytest.skip("nm was not found")
    found = {line.split()[-1] for line in run(["nm", "-u", "pid.o"], folder).splitlines() if line.strip()}
    assert found <= {"memcpy", "memset"}


def cppcheck():
    if find_cppcheck() is None:
        pytest.skip("cppcheck was not found")


def check_rules(folder, names):
    cppcheck()
    made = written(folder, "float32", names)
    for each in made.values():
        found, why = misra(folder / f"{each.program.name}.c")
        assert found is not None and found["others"] == {}, (each.program.name, found, why)


def test_no_rule_is_broken_but_those_with_a_reason(tmp_path):
    check_rules(tmp_path, ["pid", "state_space"])


@pytest.mark.slow
def test_no_rule_is_broken_by_any_system_but_those_with_a_reason(tmp_path):
    check_rules(tmp_path, list(CASES))


def test_a_broken_rule_is_found(tmp_path):
    cppcheck()
    source = tmp_path / "a.c"
    # Rule 15.1: goto should not be used; 16.4: every switch statement shall have a default label.
    source.write_text(
        "int f(int a);\nint f(int a)\n{\n    if (a > 3) {\n        goto end;\n    }\n    a = 2;\nend:\n    return a;\n}\n"
    )
    found, _ = misra(source)
    assert found is not None and "misra-c2012-15.1" in found["others"]
    assert not set(found["deviations"]) - set(DEVIATIONS)
    assert other_rules(source, found) == ([], [])
    assert other_rules(source, {**found, "others": {}}) == (
        ["cppcheck finds other MISRA rules than at the export"],
        [],
    )
    assert "Cppcheck 1.0" in other_rules(source, {**found, "version": "Cppcheck 1.0"})[1][0]


def test_without_cppcheck_it_is_not_checked(tmp_path, monkeypatch):
    monkeypatch.setattr("robustctl.export.misra.shutil.which", lambda *_, **__: None)
    assert misra(tmp_path / "a.c") == (None, "not checked: cppcheck was not found")
    assert other_rules(tmp_path / "a.c", {"version": "Cppcheck 2"})[1] == [
        "the MISRA rules: not checked: cppcheck was not found"
    ]
