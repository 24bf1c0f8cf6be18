"""Export to a functional mock-up unit, which Simulink and most simulators of plants read."""

import hashlib
import os
import platform
import sys
import tempfile
import uuid
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from ..errors import InvalidModelError, RobustctlError, RobustctlWarning
from ..system import Parameterization, System, explicit_of
from .c_files import files
from .c_text import number
from .compiled import find_compiler, run_compiler
from .fmu_variables import TIME, Variable, variables
from .fmu_xml import build_description, description, sources
from .limits import ranges
from .targets import new_file, sampled_every, write_texts
from .trace import traced

VERSIONS = ("3.0", "2.0")


def fmu(
    system: System | Parameterization,
    path: str | os.PathLike[str],
    *,
    name: str = "model",
    version: str = "3.0",
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
) -> Path:
    """Write a system as a functional mock-up unit (FMU) for co-simulation, and return the file.

    ::

        a step from time k dt to (k + 1) dt:   x[k + 1], y[k] = step(x[k], u[k])

    Inputs are those at the beginning of a step; the outputs that are read after it are of the sample taken in it, so what a controller
    measures at a time acts one step later. A step of several sample times takes several samples with the inputs held, one that is
    shorter takes one where a multiple of the sample time passes. The unit has its C source, and the binary of this platform where
    there is a compiler. The states are local variables that may be set before the first step; the whole state can be stored, restored
    and serialized.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken. Names and units of its signals are those of the
      variables, `u[1]` and so on without names; a name that two of them have gets `u.`, `y.` or `x.` in front.
    - `path`: a file that ends in `.fmu`, or a folder for `NAME.fmu`.
    - `name`: an identifier.
    - `version`: of the standard, `3.0` or `2.0`.
    - `dtype`: `float32` or `float64`, in which the step is computed; default that of its arrays. The variables are doubles in both.
    - `u`: one sample of the input, where the inputs start; default zeros.
    - `dt`: sample time in seconds; needed where the system does not know its own.

    **Raises:** `InvalidModelError` for a file that exists, another version, an unknown sample time, and all that `program` refuses. Without
    a compiler a warning states that the unit has its source alone.

    **Example:** ::

        import tempfile
        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        file = rc.export.fmu(pid, tempfile.mkdtemp(), name="pid")
        assert file.name == "pid.fmu"
    """
    if version not in VERSIONS:
        raise InvalidModelError(f"version must be 3.0 or 2.0, got {version!r}")
    file = new_file(path, name, ".fmu")
    made = traced(system, name=name, dtype=dtype, u=u, dt=dt)
    seconds = sampled_every(made.program)
    found = variables(made, ranges(explicit_of(system), made.program))
    found = [TIME, *found] if version == "3.0" else found
    code = files(made.program)
    token = str(uuid.UUID(hashlib.sha256("".join([version, *code.values(), repr(found)]).encode()).hexdigest()[:32]))  # fmt: skip
    code[f"{name}_fmu.c"] = _wrapper(name, version, token, seconds, found, made.program.dtype)
    about = description(name, version, token, seconds, found)
    parts = {"modelDescription.xml": about.encode()} | {f"sources/{k}": t.encode() for k, t in code.items()}
    if version == "3.0":
        parts["sources/buildDescription.xml"] = build_description(name).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    _zip(file, parts | _binary(name, version, code))
    return file


def _wrapper(name: str, version: str, token: str, dt: float, found: Sequence[Variable], dtype: str) -> str:
    """Return the C source that gives a step the functions of the standard."""
    double = dtype == "float64"
    kinds = {"float": "IS_REAL", "int32": "IS_INT32", "int64": "IS_INT64", "bool": "IS_BOOLEAN"}
    rows = [f"    {{offsetof(data, {v.place}), {kinds[v.kind]}, IS_{v.role.upper()}}}," for v in found]
    table = ["static const variable variables[] = {", *rows, "};"]
    if not rows:  # C has no empty array, and nothing refers to this one
        table = ["static const variable variables[] = {{0, IS_REAL, IS_TIME}};"]
    definitions = [
        f"typedef {'double' if double else 'float'} real;", f"static const double sample_time = {dt!r};",
        f'static const char token_of_this[] = "{token}";',
    ]  # fmt: skip
    starts = [
        f"    d->{v.place} = {number(v.start, v.kind, double)};"
        for v in found
        if v.role == "input" and v.start is not None
    ]
    here = Path(__file__)
    text = "".join(here.with_name(f).read_text(encoding="utf-8") for f in ("fmi.c", f"fmi{version[0]}.c"))
    text = text.replace("FMI_FUNCTION_PREFIX", f"FMI{version[0]}_FUNCTION_PREFIX").replace("NAME", name)
    for word, lines in (("DEFINITIONS", definitions), ("VARIABLES", table), ("STARTS", starts)):
        text = text.replace(word, "\n".join(lines), 1)
    return text


def _binary(name: str, version: str, code: dict[str, str]) -> dict[str, bytes]:
    """Return the shared library of this platform by its path in the unit; nothing where it cannot be made."""
    try:
        compiler = find_compiler()
        inside, ending = _platform(version)
        with tempfile.TemporaryDirectory(prefix="robustctl-") as folder:
            write_texts(Path(folder), code)
            # No -march=native: units are carried to other machines.
            command = [*compiler, "-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fvisibility=hidden"]
            command += ([] if ending == "dll" else ["-fPIC"]) + [*sources(name), "-o", f"unit.{ending}", "-lm"]  # fmt: skip
            run_compiler(command, Path(folder))
            return {f"binaries/{inside}/{name}.{ending}": Path(folder, f"unit.{ending}").read_bytes()}
    except RobustctlError as error:
        warnings.warn(
            f"the FMU has its C source but no binary, so it runs in tools alone that compile it: {error}",
            RobustctlWarning,
            stacklevel=3,
        )
        return {}


def _platform(version: str) -> tuple[str, str]:
    """Return the folder of binaries of this platform, and how their names end.

    **Raises:** `RobustctlError` for a platform that the standard's version has no name for.
    """
    kind = {"linux": "linux", "darwin": "darwin", "win32": "windows"}.get(sys.platform)
    machine = {"x86_64": "x86_64", "AMD64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}.get(platform.machine())  # fmt: skip
    if kind is None or machine is None:
        raise RobustctlError(f"{sys.platform} on {platform.machine()} has no name in the standard")
    ending = {"linux": "so", "darwin": "dylib", "windows": "dll"}[kind]
    if version == "3.0":
        return f"{machine}-{kind}", ending
    if machine != "x86_64":
        raise RobustctlError(f"version 2.0 of the standard has no name for {machine}; give version='3.0'")
    return {"linux": "linux64", "darwin": "darwin64", "windows": "win64"}[kind], ending


def _zip(file: Path, files: dict[str, bytes]) -> None:
    """Write a ZIP file, the same bytes whenever it is written."""
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
