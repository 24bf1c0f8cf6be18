"""An exported controller with all that shows it to be the right one, and the check of it from its files alone."""

import dataclasses
import hashlib
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
from ..store.json_text import entry, parse_object, write_json
from ..system import Parameterization, System, explicit_of
from . import count
from .c_files import files
from .compiled import CompiledStep, find_compiler
from .constants import difference
from .fixed import fixed
from .fixed_folder import (
    again,
    float_drift,
    header_lines,
    integer_noise,
    other_drift,
    recorded,
    same_integers,
)  # fmt: skip
from .fixed_formats import bits_of
from .fixed_lower import Lowered
from .measured import compiled_facts, library, noise, parity, times
from .targets import check_folder, sampled_every, write_texts
from .trace import Traced, check_name, prepared, traced, tracing

FILE = "export.json"
FORMAT = 1


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
    - `log`: in fixed point samples of the input, time first, for the formats.

    **Raises:** `InvalidModelError`, as `rc.export.c`: for a folder in use, an unknown sample time, and all that `program` refuses.

    **Example:** ::

        import tempfile
        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        folder = rc.export.package(pid, tempfile.mkdtemp(), name="pid", samples=100)
        assert rc.export.check(folder).holds
    """
    folder = Path(folder)
    check_folder(folder)
    if bits_of(dtype) is not None:
        step = fixed(system, dtype, name=name, u=u, dt=dt, log=log, seconds=seconds)
        made, ready, low, sample = step.traced, step.system, step.lowered, step.exact.u
        certificate, more = step.certificate, recorded(step, seconds)
    else:
        ready, dtype = prepared(explicit_of(system), dtype)
        made, low, dtype = traced(ready, name=name, dtype=dtype, u=u, dt=dt), None, dtype.name
        certificate, sample = certify(ready, prove=True, seconds=seconds), made.u
        more = {"drift": float_drift(ready, made, certificate)}
    every = sampled_every(made.program)
    write_texts(folder, _files(made, low))
    kept = _saved(ready, folder / f"{name}.safetensors")
    about = {
        "format": FORMAT, "name": name, "dtype": dtype, "dt": every, "system": type(ready).__name__,
        "input": None if u is None else [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(sample)], "kept": kept,
        "certificate": certificate.to_json(), "operations": count.operations(made.program), **more,
        **_compiled(ready, made, low, folder, samples), "environment": environment(),
    }  # fmt: skip
    about["files"] = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    write_json(folder / FILE, about)
    return folder


def _files(made: Traced, low: Lowered | None) -> dict[str, str]:
    return files(made.program, [] if low is None else header_lines(low))


def _saved(system: System, path: Path) -> str:
    """Save a system and return an empty text, or why it cannot be saved."""
    try:
        save(path, system)
    except RobustctlError as error:
        return str(error)
    return ""


def _compiled(
    system: System, made: Traced, low: Lowered | None, folder: Path, samples: int
) -> dict[str, Any]:
    """Return what is found out with a compiler, or that there is none."""
    try:
        compiler = find_compiler()
    except RobustctlError as error:
        return {"compiler": None, "skipped": str(error)}
    with library(folder, made, compiler) as step:
        same, us = _compared(system, made, low, step, samples)
        return {
            "compiler": list(compiler), "parity": same, "time": times(step, us),
            "facts": compiled_facts(folder, made.program.name, compiler),
        }  # fmt: skip


def _compared(
    system: System, made: Traced, low: Lowered | None, step: CompiledStep, samples: int
) -> tuple[dict[str, Any], PyTree]:
    """Return how far the compiled step is from the system's own, and the inputs of the comparison."""
    if low is None:
        us = noise(system, made, samples)
        return parity(system, made, step, us), us
    us = integer_noise(system, made, low, samples)
    return same_integers(made, step, us), us


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Checked:
    """What the check of an exported folder found.

    **Arguments:**

    - `faults`: what differs, in words; none where all is as it was exported.
    - `skipped`: what could not be checked here, and why.
    - `certificate`: of the constants, None where there is none to check.
    """

    faults: tuple[str, ...]
    skipped: tuple[str, ...]
    certificate: Certificate | None

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return not self.faults

    def __str__(self) -> str:
        """Return a text for people, a line for each finding."""
        lines = [f"DIFFERS: {fault}" for fault in self.faults] + [f"skipped: {what}" for what in self.skipped]
        if self.certificate is not None:
            rate, gamma = self.certificate.rate, self.certificate.gamma
            found = [
                f"{what} {value:.6g}"
                for what, value in (("rate", rate), ("gain", gamma))
                if value is not None
            ]
            lines.append(f"proven of the constants in the C file: {', '.join(found) or 'nothing'}")
        return "\n".join([*lines, "as exported" if self.holds else "not as exported"])


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
    about = _read(folder)
    faults, skipped = _changed(folder, about["files"]), []
    name = about["name"]
    check_name(name)
    if about.get("kept"):
        return Checked(tuple(faults), (f"constants, certificate and step: {about['kept']}",), None)
    try:
        with tracing(_precision(about)):
            system = load(folder / f"{name}.safetensors")
        made, low = _again(system, about)
        wanted = _files(made, low)
        given = {file: (folder / file).read_text(encoding="utf-8") for file in wanted}
    except (RobustctlError, OSError, ValueError) as error:
        return Checked((*faults, f"the code or {name}.safetensors cannot be read: {error}"), (), None)
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
    return Checked(tuple(faults), tuple(skipped), certificate)


def _read(folder: Path) -> dict[str, Any]:
    try:
        about = parse_object((folder / FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise RobustctlError(
            f"the folder must hold the {FILE} of an export, got {folder}: {error}"
        ) from error
    kinds = {"format": int, "name": str, "dtype": str, "dt": float, "files": dict, "certificate": str}
    missing = [key for key, kind in kinds.items() if entry(about, key, kind) is None]
    if missing or about["format"] != FORMAT:
        what = f"without {', '.join(missing)}" if missing else f"of format {about['format']}"
        raise RobustctlError(f"{FILE} must be of format {FORMAT}, got one {what}; export again")
    return about


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


def _changed(folder: Path, files: dict[str, str]) -> list[str]:
    """Return the files that are missing or not the exported ones."""
    found = []
    for name, digest in files.items():
        path = folder / Path(name).name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif _sha256(path) != digest:
            found.append(f"{name} was changed after the export")
    return found


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
