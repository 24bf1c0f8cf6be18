"""An exported controller with all that shows it to be the right one, and the check of it from its files alone."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..certificates import Certificate, certify, recheck
from ..certificates.content import fingerprint
from ..errors import RobustctlError
from ..io import load, save
from ..runs.provenance import environment
from ..store.entries import entry
from ..store.json_text import write_json
from ..system import Parameterization, System, explicit_of
from . import count
from .c_files import files
from .compiled import CompiledStep, find_compiler
from .constants import difference
from .emit import Emitted, check_emit, emitted
from .fixed import FixedPoint, fixed
from .fixed_folder import (
    again,
    as_integers,
    float_drift,
    header_lines,
    integer_noise,
    other_drift,
    recorded,
    same_integers,
)
from .fixed_formats import bits_of
from .fixed_lower import Lowered
from .limits import known, trained_of
from .measured import compiled_facts, library, noise, of_log, parity, times
from .misra import other_rules
from .record import FILE, FORMAT, Checked, changed, read, sha256
from .targets import check_folder, sampled_every, write_texts
from .trace import Traced, check_name, prepared, traced, tracing


def package(
    system: System | Parameterization,
    folder: str | os.PathLike[str],
    *,
    name: str = "model",
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
    samples: int = 10_000,
    seconds: float = 60.0,
    log: PyTree = None,
    emit: str | None = None,
) -> Path:
    """Write a system's step as C99 with the proof of it, and return the folder.

    Beside the code of `rc.export.c` it holds `NAME.safetensors`, the system as it was exported, its linear maps multiplied out and
    rounded, and `export.json`: the sha256 of each file, the certificate of the constants in the C file, how far the
    compiled step is from the system's own over many samples, warnings, undefined symbols, stack, the arithmetic of one step and its
    time on this machine. `rc.export.check(folder)` makes all of it again.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken.
    - `folder`: a new or empty folder.
    - `name`: an identifier, with which all names in the code begin.
    - `dtype`: `float32` or `float64`, to which its arrays are rounded; default that of its arrays. `q4` to `q31` for fixed point, as
      `rc.export.fixed` describes.
    - `u`: one sample of the input; needed for a system without `nu`.
    - `dt`: sample time in seconds; needed where the system does not know its own.
    - `samples`: of noise over the range of the inputs, for the comparison.
    - `seconds`: time limit of the proofs.
    - `log`: samples of the input, time first, for the comparison in place of noise, and in fixed point for the formats.
    - `emit`: `arduino`, `ros2`, `simulink` or `plc`, for the code around it: a sketch with a timer, in a folder called `name`; a package
      with a node that has a topic for each signal; an S-function; the step in structured text. Files that are yours to change state it in
      their first lines.

    **Raises:** `InvalidModelError`, as `rc.export.c`: for a folder in use, an unknown sample time, a log that does not fit, and all that
    `program` refuses.

    **Example:** ::

        import tempfile
        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        folder = rc.export.package(pid, tempfile.mkdtemp(), name="pid", samples=100)
        assert rc.export.check(folder).holds
    """
    folder = Path(folder)
    check_name(name)
    check_folder(folder)
    check_emit(emit, folder, name)
    trained = trained_of(system)
    if bits_of(dtype) is not None:
        step = fixed(system, dtype, name=name, u=u, dt=dt, log=log, seconds=seconds)
        made, ready, low, floats = step.traced, step.system, step.lowered, step.exact
    else:
        step, (ready, dtype) = None, prepared(explicit_of(system), dtype)
        made = floats = traced(ready, name=name, dtype=dtype, u=u, dt=dt)
        low, dtype = None, dtype.name
    # What is refused is refused before the proofs.
    every = sampled_every(made.program)
    us = None if log is None else of_log(floats, log, samples)
    texts = _texts(ready, made, low, trained, emit)
    certificate, more = _proven(step, ready, made, seconds)
    write_texts(folder, texts.files | texts.yours)
    kept = _saved(ready, folder / f"{name}.safetensors")
    about = {
        "format": FORMAT, "name": name, "dtype": dtype, "dt": every, "system": type(ready).__name__,
        "input": None if u is None else [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(floats.u)], "kept": kept,
        "certificate": certificate.to_json(), "operations": count.operations(made.program), **more,
        "trained": trained, "emit": emit, "yours": {file: sha256(folder / file) for file in texts.yours},
        **_compiled(ready, made, low, folder, samples, us), "environment": environment(),
    }  # fmt: skip
    about["files"] = {
        path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name not in texts.yours
    }
    write_json(folder / FILE, about)
    return folder


def _proven(
    step: FixedPoint | None, system: System, made: Traced, seconds: float
) -> tuple[Certificate, dict[str, Any]]:
    """Return the certificate, and what else is recorded of the rounding."""
    if step is not None:
        return step.certificate, recorded(step, seconds)
    certificate = certify(system, prove=True, seconds=seconds)
    return certificate, {"drift": float_drift(system, made, certificate)}


def _texts(system: System, made: Traced, low: Lowered | None, trained: Any, emit: str | None) -> Emitted:
    """Return the texts of a folder: the step, and what is around it."""
    ranges = known(system, made.program, trained)
    step = files(made.program, [] if low is None else header_lines(low), ranges)
    around = emitted(emit, made.program, low, ranges)
    return around._replace(files=step | around.files)


def _saved(system: System, path: Path) -> str:
    """Save a system and return an empty text, or why it cannot be saved."""
    try:
        save(path, system)
    except RobustctlError as error:
        return str(error)
    return ""


def _compiled(
    system: System, made: Traced, low: Lowered | None, folder: Path, samples: int, log: PyTree
) -> dict[str, Any]:
    """Return what is found out with a compiler, or that there is none."""
    try:
        compiler = find_compiler()
    except RobustctlError as error:
        return {"compiler": None, "skipped": str(error)}
    with library(folder, made, compiler) as step:
        same, us = _compared(system, made, low, step, samples, log)
        same["of"] = "noise over the range of the inputs" if log is None else "the log"
        return {
            "compiler": list(compiler), "parity": same, "time": times(step, us),
            "facts": compiled_facts(folder, made.program.name, compiler),
        }  # fmt: skip


def _compared(
    system: System, made: Traced, low: Lowered | None, step: CompiledStep, samples: int, log: PyTree = None
) -> tuple[dict[str, Any], PyTree]:
    """Return how far the compiled step is from the system's own, and the inputs of the comparison: those of a log, else noise."""
    if low is None:
        us = noise(system, made, samples) if log is None else log
        return parity(system, made, step, us), us
    us = integer_noise(system, made, low, samples) if log is None else as_integers(made, low, log)
    return same_integers(made, step, us), us


def check(folder: str | os.PathLike[str], *, samples: int = 10_000) -> Checked:
    """Check an exported folder from its files alone.

    The sha256 of each file; every constant of the C file, read back, against the system that the folder holds; the certificate of that
    system, by an eigenvalue each; and the compiled step against the system's own. Code that is not the exported one is not run.

    **Arguments:**

    - `folder`: what `package` wrote.
    - `samples`: of the comparison.

    **Raises:** `RobustctlError` for a folder without an `export.json` that can be read.

    **Example:** ::

        import tempfile
        folder = rc.export.package(rc.classical.PID(4.0, 2.0, dt=0.02), tempfile.mkdtemp(), samples=100)
        print(rc.export.check(folder, samples=100))
    """
    folder = Path(folder)
    about = read(folder)
    faults, skipped = changed(folder, about["files"]), []
    skipped += [
        f"{what}, as it may be: it is yours" for what in changed(folder, entry(about, "yours", dict) or {})
    ]
    name = about["name"]
    check_name(name)
    if about.get("kept"):
        return Checked(tuple(faults), (*skipped, f"constants, certificate and step: {about['kept']}"), None)
    try:
        with tracing(_precision(about)):
            system = load(folder / f"{name}.safetensors")
        made, low = _again(system, about)
        wanted = _texts(system, made, low, about.get("trained"), _emit(about)).files
        given = {file: (folder / file).read_text(encoding="utf-8") for file in wanted}
    except (RobustctlError, OSError, ValueError) as error:
        return Checked(
            (*faults, f"the code or {name}.safetensors cannot be read: {error}"), tuple(skipped), None
        )
    other = [
        f"{file}: {found}" for file in sorted(wanted) if (found := difference(given[file], wanted[file]))
    ]
    with tracing(_precision(about)):
        certificate, wrong = _certified(about["certificate"], system)
    faults += [*other, *wrong, *([] if low is None else other_drift(low, certificate, about))]
    if low is not None and not low.as_given:
        certificate = None
        skipped.append("the certificate: it is of the system's constants, which the step rounds once more")
    if other:
        # Code of somebody else is never run.
        skipped.append("the compiled step: the code is not the exported one")
        return Checked(tuple(faults), tuple(skipped), certificate)
    try:
        compiler = find_compiler()
    except RobustctlError as error:
        skipped.append(f"the compiled step: {error}")
    else:
        with library(folder, made, compiler) as step:
            found, _ = _compared(system, made, low, step, samples)
        faults += _apart(found, about)
    rules, missing = other_rules(folder / f"{name}.c", entry(about.get("facts"), "cppcheck", dict))
    faults += rules
    skipped += missing
    return Checked(tuple(faults), tuple(skipped), certificate)


def _emit(about: dict[str, Any]) -> str | None:
    """Return the target of a record."""
    emit = about.get("emit")
    check_emit(emit)
    return emit


def _precision(about: dict[str, Any]) -> np.dtype:
    """Return the precision of the system's own arrays: fixed point keeps its constants in float64."""
    return np.dtype(np.float64 if bits_of(about["dtype"]) is not None else about["dtype"])


def _again(system: System, about: dict[str, Any]) -> tuple[Traced, Lowered | None]:
    """Return the step that a record describes, in fixed point with its formats."""
    leaves = about["input"] and [np.asarray(leaf) for leaf in about["input"]]
    u = leaves and (leaves[0] if len(leaves) == 1 else tuple(leaves))
    if bits_of(about["dtype"]) is not None:
        return again(system, about, u)
    return traced(system, name=about["name"], dtype=about["dtype"], u=u, dt=about["dt"]), None


def _certified(stored: str, system: System) -> tuple[Certificate | None, list[str]]:
    """Return the stored certificate and what is wrong with it; a certificate without proofs promises nothing to check."""
    try:
        certificate = Certificate.from_json(stored)
        if certificate.fingerprint != fingerprint(system):
            return None, ["the certificate is of other constants"]
        if certificate.gain_proof or certificate.rate_proof:
            recheck(certificate, system)
    except RobustctlError as error:
        return None, [f"the certificate: {error}"]
    return certificate, []


def _apart(found: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """Return how the compiled step differs from the system's own."""
    before = about.get("parity") or {}
    faults = []
    if not found["largest_difference"] <= found["allowed"]:
        faults.append(
            f"the compiled step is {found['largest_difference']:.3g} from the system's own, and may be {found['allowed']:.0e}"
        )
    if before.get("same_bits_as_numpy") and not found["same_bits_as_numpy"]:
        faults.append("the compiled step no longer gives the same bits as NumPy")
    return faults
