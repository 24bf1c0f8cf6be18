"""Command-line options of reading a log, the same for every command that reads one."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from ..data import Record
    from ..train import RecordModel

Logs = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="LOG...")]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a log is written, where it is not found from the file.

    Args:
        format: csv, parquet, mat, hdf5, ...; default: from the file's suffix.
        encoding: Of text, for example utf-8 or latin-1; default: found from its bytes.
        decimal: Decimal sign of text, "." or ","; default: found from its numbers.
        missing: Words and numbers that mark a missing sample, for example Bad -9999.
        hold: Inputs that are logged only when they change; others are interpolated where they are missing.
        split_gaps: Seconds; rows further apart are the end of one experiment and the start of the next.
        time_unit: Of time stamps: s, ms, us, ns, min, h, days or ticks of 100 ns; default: from the name or the size, or else s.
    """

    format: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    split_gaps: float | None = None
    time_unit: str | None = None

    def record(
        self,
        log: Path | tuple[Path, ...],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        dt: float | None,
        time: tuple[str, ...],
    ) -> "Record":
        """Return the record of a log, or of several with one experiment each."""
        from ..data import Format, read

        form = Format(self.format, self.encoding, self.decimal, self.missing)
        return read(
            log,
            inputs=inputs,
            outputs=outputs,
            dt=dt,
            time=time or None,
            format=form,
            hold=self.hold,
            split_gaps=self.split_gaps,
            time_unit=self.time_unit,
        )

    def record_for(
        self,
        model: "RecordModel",
        log: Path | tuple[Path, ...],
        inputs: tuple[str, ...] | None,
        outputs: tuple[str, ...] | None,
        time: tuple[str, ...],
    ) -> "Record":
        """Return the record of logs for a model, under its names and units; columns are those of the same names where none are given."""
        dt = None if time else model.dt
        record = self.record(log, inputs or model.inputs, outputs or model.outputs, dt, time)
        return dataclasses.replace(
            record,
            inputs=model.inputs,
            outputs=model.outputs,
            input_units=model.input_units,
            output_units=model.output_units,
        )

    def renamed(self, before: tuple[str, ...], after: tuple[str, ...]) -> "Reading":
        """Return the options for another log, whose inputs are called `after` where this one's are called `before`."""
        names = dict(zip(before, after, strict=False))
        return dataclasses.replace(self, hold=tuple(names.get(name, name) for name in self.hold))


LogOptions = Annotated[Reading, tyro.conf.arg(name="")]


def check_given(logs: tuple[Path, ...]) -> None:
    """Raise a `DataError` where a command line names no log."""
    from ..errors import DataError

    if not logs:
        raise DataError("a command must name at least one log, got none; give LOG before the options")
