"""The command that writes a controller for other programs, and checks what was written."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import DataError, RobustctlError
from .reading import LogOptions, Reading

if TYPE_CHECKING:
    import numpy as np

Source = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
Target = Literal["c", "fmu", "onnx", "matlab", "jax", "runtime"]


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a saved controller or model for other programs, or check what was written; exit status 1 where anything differs.

    Args:
        file: Model file, as rc.save writes it; with check the folder of an export.
        to: c writes C99 with its proof; fmu a functional mock-up unit of FMI 3.0; onnx, matlab and jax the step in these forms; runtime a
            file for robustctl.runtime, which needs NumPy alone.
        out: Folder; default: the model's name and the form, for example model-c, in the working folder; of a sketch its name.
        name: Identifier with which the names in the code begin; default: the file's name.
        dtype: float32, float64 or, of C, fixed point, q4 to q31, for example q15; default: that of the model.
        dt: Sample time in seconds, for a model that does not know its own.
        emit: Of C, the code around it: a sketch of Arduino with a timer, a package of ROS 2 with a node, an S-function of Simulink; plc the
            step in structured text.
        seconds: Time limit of the proofs.
        check: Check a folder from its files alone.
        log: Of C, a log with the inputs, for the comparison of the compiled step and for the ranges of fixed point; default: noise.
        inputs: The log's columns in the order of the inputs, where they are named differently.
        outputs: Likewise of the outputs; they are not used.
        time: Column of time stamps; without it each row is one sample.
        reading: How the log is written.
    """

    file: Source
    to: Target = "c"
    out: Path | None = None
    name: str | None = None
    dtype: str | None = None
    dt: float | None = None
    emit: Literal["arduino", "ros2", "simulink", "plc"] | None = None
    seconds: float = 60.0
    check: bool = False
    log: Path | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    time: tuple[str, ...] = ()
    reading: LogOptions = dataclasses.field(default_factory=Reading)

    def __call__(self) -> int:
        """Run the command."""
        from .. import export
        from ..io import load

        if self.check:
            found = export.check(self.file)
            print(found)
            return 0 if found.holds else 1
        name = self.name or identifier(self.file.stem)
        out = self.out or Path(name if self.emit == "arduino" else f"{self.file.stem}-{self.emit or self.to}")
        if self.to != "c" and (self.emit or self.log):
            raise RobustctlError(f"emit and log must go with --to c, got --to {self.to}; leave them out")
        if self.file.resolve().parent == out.resolve():
            raise RobustctlError(f"out must be another folder than the model's, got {out}; give a new one")
        system = load(self.file)
        if self.to != "c":
            out.mkdir(parents=True, exist_ok=True)
            print(getattr(export, self.to)(system, out, name=name, dtype=self.dtype, dt=self.dt))
            return 0
        log = None if self.log is None else self._samples(system, self.log)
        print(
            export.package(
                system,
                out,
                name=name,
                dtype=self.dtype,
                dt=self.dt,
                seconds=self.seconds,
                log=log,
                emit=self.emit,
            )
        )
        print(export.check(out, samples=1000))
        return 0

    def _samples(self, model: Any, log: Path) -> "np.ndarray":
        """Return the inputs of a log, one experiment after the other.

        **Raises:** `DataError` for columns that are unknown, and for another sample time.
        """
        import numpy as np

        from ..system import explicit_of

        system = explicit_of(model)
        dt = self.dt if system.dt is None else system.dt
        columns = self.inputs or system.inputs, self.outputs or system.outputs
        for what, names, count in zip(("inputs", "outputs"), columns, (system.nu, system.ny), strict=True):
            if names is None or (what == "inputs" and count not in (None, len(names))):
                raise DataError(
                    f"a log must have a column for each of the {what}, {count}, got {names}; give --{what}"
                )
        record = self.reading.record(log, *columns, None if self.time else dt, self.time)
        if dt is not None and not np.isclose(record.dt, dt, rtol=1e-6):
            raise DataError(f"the log must have the sample time {dt:g} s, got {record.dt:g} s; resample it")
        return np.concatenate([e.u for e in record.experiments])


def identifier(text: str) -> str:
    """Return a file's name as an identifier of C."""
    from ..export.trace import KEYWORDS

    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)
    return name if name[:1].isalpha() and name not in KEYWORDS else f"model_{name}"
