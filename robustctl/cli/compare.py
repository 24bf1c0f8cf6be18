"""The command that compares saved models on a log."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated

import tyro

from .reading import LogOptions, Reading
from .targets import check_differs

Models = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="MODEL...")]


@dataclasses.dataclass(frozen=True)
class Compare:
    """Simulate a log with several saved models in free run: one table of their scores, one plot.

    Args:
        models: The model files, of models with the same channels and sample time.
        log: The record, with the models' channels and sample time, or several files with one experiment each.
        inputs: The log's columns in the order of the models' inputs, where they are named differently.
        outputs: The log's columns in the order of the models' outputs, where they are named differently.
        time: Column of time stamps, which shows gaps and another sample time; without it each row is one sample.
        reading: How the log is written.
        out: Folder for comparison.txt, .json, .html and .png.
    """

    models: Models
    log: tuple[Path, ...]
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    time: tuple[str, ...] = ()
    reading: LogOptions = dataclasses.field(default_factory=Reading)
    out: Path = Path("comparison")

    def __call__(self) -> int:
        """Run the command."""
        from ..errors import RobustctlError
        from ..io import load
        from ..reports import compare_models
        from ..reports.model_comparison import check_alike

        if not self.models or not self.log:
            raise RobustctlError(
                "compare needs one model file or more, and a record to compare them on: MODEL... --log LOG"
            )
        check_differs("out", self.out, log=self.log, models=self.models)
        models = {name: load(path) for name, path in _named(self.models).items()}
        check_alike(models)
        first = next(iter(models.values()))
        record = self.reading.record_for(first, self.log, self.inputs, self.outputs, self.time)
        made = compare_models(models, record)
        print(made)
        made.save(self.out)
        print(f"comparison: {self.out}")
        return 0


def _named(paths: tuple[Path, ...]) -> dict[str, Path]:
    """Paths by a short name each: the file's without its suffix where no other model has it."""
    stems = Counter(path.stem for path in dict.fromkeys(paths))
    return {path.stem if stems[path.stem] == 1 else str(path): path for path in paths}
