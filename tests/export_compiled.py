"""Every system of the list in C, in one library of a precision, for the tests that step it."""

import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from robustctl.errors import RobustctlError
from robustctl.export.c_files import files
from robustctl.export.compiled import CompiledStep, find_compiler, looped
from robustctl.export.trace import traced

from .export_systems import CASES, sample_of, system_of

STRICT = [
    "-std=c99",
    "-pedantic",
    *(
        f"-W{name}"
        for name in (
            "all",
            "extra",
            "conversion",
            "sign-conversion",
            "double-promotion",
            "vla",
            "shadow",
            "error",
        )
    ),
]
SAME = ["-ffp-contract=off"]


def compiler():
    try:
        return find_compiler()
    except RobustctlError as error:
        pytest.skip(str(error))


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def compiled(folder, sources, *flags):
    run([*compiler(), *flags, *sources], folder)


@cache
def traced_of(name, dtype):
    return traced(system_of(name), name=f"{name}_{dtype}", dtype=dtype, u=sample_of(name))


def written(folder, dtype, names=CASES):
    """Write systems to a folder, and one file that includes them all; return what was traced of each."""
    made = {}
    for name in names:
        made[name] = traced_of(name, dtype)
        for file, text in files(made[name].program).items():
            (folder / file).write_text(text)
        (folder / f"{name}_run.c").write_text(looped(f"{name}_{dtype}"))
    (folder / "all.c").write_text("".join(f'#include "{name}_run.c"\n' for name in names))
    return made


@cache
def steps(dtype):
    """Every system in one library of a precision, compiled without a warning: their names do not clash."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found = written(folder, dtype)
    compiled(folder, ["all.c"], *STRICT, *SAME, "-O1", "-shared", "-fPIC", "-o", "all.so", "-lm")
    return {name: CompiledStep(each, folder / "all.so") for name, each in found.items()}
