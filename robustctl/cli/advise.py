"""The command that reports on a log before training."""

import dataclasses
from typing import TYPE_CHECKING

from .reading import LogOptions, Logs, Reading, check_given

if TYPE_CHECKING:
    from ..data import Record


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


def print_recommendations(record: "Record") -> None:
    """Print what the log shows before training; a log that cannot be analyzed may still be trained on."""
    from ..advice import advise
    from ..errors import DataError

    try:
        print(advise(record).recommendations())
    except DataError as error:
        print(f"No advice on this log: {error}")
