"""The command that reports on a log before training."""

import dataclasses

from .reading import LogOptions, Logs, Reading, check_given


@dataclasses.dataclass(frozen=True)
class Advise:
    """Report on a log before training: whether a contracting model suits it, what a good score would be, and its faults.

    Args:
        log: The record, or several files with one experiment each: csv and other text, xlsx, parquet, mat, hdf5 or NumPy.
        inputs: Columns of the plant's inputs.
        outputs: Columns of the plant's outputs.
        dt: Sample time in seconds; or give the column of time stamps.
        time: Column of time stamps: numbers, dates or times of day; or a column of dates and one of times of day.
        reading: How the logs are written.
        json: Print the advice as JSON.
    """

    log: Logs
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dt: float | None = None
    time: tuple[str, ...] = ()
    reading: LogOptions = dataclasses.field(default_factory=Reading)
    json: bool = False

    def __call__(self) -> int:
        """Run the command."""
        from ..advice import advise
        from ..store.json_text import json_text

        check_given(self.log)
        record = self.reading.record(self.log, self.inputs, self.outputs, self.dt, self.time)
        if not self.json:
            print(f"{record}\n")
        made = advise(record)
        print(json_text(made.to_dict(), indent=2) if self.json else made)
        return 0
