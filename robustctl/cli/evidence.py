"""The command that collects a folder's evidence on one page."""

import dataclasses
import importlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..errors import RobustctlError
from .arguments import arguments
from .models import FitLog, Simulate
from .rerun import read_again

if TYPE_CHECKING:
    from ..evidence.run_lines import Again


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Check all that a folder holds of evidence, and collect it in evidence.html and evidence.json; exit status 1 where a line fails.

    It looks for run folders and their repetitions, fit and robustness reports, model files, certificates, exports, and counts of a guard,
    in the folder and below. The first call records the sha256 of each file; later ones report files that have changed.

    Args:
        folder: The folder.
        module: Python modules that register your own classes, for files that hold them.
        renew: Record the files as they are now.
    """

    folder: tyro.conf.Positional[Path]
    module: tuple[str, ...] = ()
    renew: bool = False

    def __call__(self) -> int:
        """Run the command."""
        from ..evidence.collect import evidence

        for name in self.module:
            _register(name)
        made = evidence(self.folder, _again, renew=self.renew)
        print(made)
        for path in made.save():
            print(path)
        return 0 if made.holds else 1


def _register(name: str) -> None:
    """Import a module, of the working folder too, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise RobustctlError(
            f"module must be one that Python can import, got {name!r}: {error}; give it without .py"
        ) from error


def _again(run: Path) -> "Again":
    """Return what the command of a run reads."""
    from ..evidence.run_lines import Again

    command, (record, test), model = read_again(run)
    repeat = ("rerun", str(run))
    reads = ()
    if isinstance(command, FitLog):
        reads = (*command.log, *([command.test] if command.test else []))
        inputs, outputs = command.test_inputs or command.inputs, command.test_outputs or command.outputs
        shown = Simulate(model, reads[-1], inputs, outputs, command.time, command.reading)
        repeat = ("simulate", *arguments(shown))
    return Again(record, record if test is None else test, model, reads, f"robustctl {shlex.join(repeat)}")
