"""The command that writes a controller for other programs, and checks what was written."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..errors import RobustctlError

Source = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
Target = Literal["c", "fmu", "onnx", "matlab", "jax", "runtime"]


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a saved controller or model for other programs, or check what was written; exit status 1 where anything differs.

    Args:
        file: Model file, as rc.save writes it; with check the folder of an export.
        to: c writes C99 with its proof; fmu a functional mock-up unit of FMI 3.0; onnx, matlab and jax the step in these forms; runtime a
            file for robustctl.runtime, which needs NumPy alone.
        out: Folder; default: the model's name and the form, for example model-c, in the working folder.
        name: Identifier with which the names in the code begin; default: the file's name.
        dtype: float32, float64 or, of C, fixed point, q4 to q31, for example q15; default: that of the model.
        dt: Sample time in seconds, for a model that does not know its own.
        seconds: Time limit of the proofs.
        check: Check a folder from its files alone.
    """

    file: Source
    to: Target = "c"
    out: Path | None = None
    name: str | None = None
    dtype: str | None = None
    dt: float | None = None
    seconds: float = 60.0
    check: bool = False

    def __call__(self) -> int:
        """Run the command."""
        from .. import export
        from ..io import load

        if self.check:
            found = export.check(self.file)
            print(found)
            return 0 if found.holds else 1
        name = self.name or identifier(self.file.stem)
        system, out = load(self.file), self.out or Path(f"{self.file.stem}-{self.to}")
        if self.file.resolve().parent == out.resolve():
            raise RobustctlError(f"out must be another folder than the model's, got {out}; give a new one")
        if self.to != "c":
            out.mkdir(parents=True, exist_ok=True)
            print(getattr(export, self.to)(system, out, name=name, dtype=self.dtype, dt=self.dt))
            return 0
        print(export.package(system, out, name=name, dtype=self.dtype, dt=self.dt, seconds=self.seconds))
        print(export.check(out, samples=1000))
        return 0


def identifier(text: str) -> str:
    """Return a file's name as an identifier of C."""
    from ..export.trace import KEYWORDS

    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)
    return name if name[:1].isalpha() and name not in KEYWORDS else f"model_{name}"
