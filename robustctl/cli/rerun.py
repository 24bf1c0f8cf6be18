"""The command that repeats a run from its folder and compares the numbers."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from ..errors import DataError, RobustctlError
from ..store.json_text import parse_object
from .arguments import rebuilt
from .models import Demo, FitLog


@dataclasses.dataclass(frozen=True)
class Rerun:
    """Repeat a run of `robustctl fit` or `demo`; exit status 1 if an epoch, or without a training a score, is another number.

    Args:
        run: Run folder.
        out: Folder for the repetition; default: the run's name with -again.
    """

    run: tyro.conf.Positional[Path]
    out: Path | None = None

    def __call__(self) -> int:
        """Run the command."""
        from ..runs.repetition import again, compared

        out = self.out or again(self.run)
        read_again(self.run)[0].into(out)()
        same, text = compared(self.run, out)
        print(text)
        return 0 if same else 1


def read_again(run: Path) -> tuple[FitLog | Demo, tuple[Any, Any], Path]:
    """Return the command that made a run, the records that it reads, and the model file that it wrote.

    **Raises:** `RobustctlError` for a run of a script, and for a `run.json` without a command that can be repeated; `DataError`
    where the data have changed; `OSError` where a file cannot be read.
    """
    from ..runs.fingerprint import data_hash

    words, data, place = _made(run)
    command = rebuilt({"fit": FitLog, "demo": Demo}, words)
    records = command.records()
    if data_hash(records[0]) != data:
        raise DataError(
            f"the data of {run} must not have changed, but {command.source} did; restore them to repeat the run"
        )
    return command, records, Path(place, command.model_file)


def _made(run: Path) -> tuple[Any, Any, str]:
    """Return the command of a run, the hash of its data, and the folder where it was called, as `run.json` has them."""
    from ..runs.run_folder import SETTINGS

    if not run.is_dir():
        raise FileNotFoundError(f"there is no folder {run}; name a run folder")
    try:
        made = parse_object((run / SETTINGS).read_bytes())
        command, data, place = made["command"], made["identity"]["data"], str(made.get("folder", "."))
    except (ValueError, KeyError, TypeError) as error:
        raise RobustctlError(
            f"{run / 'run.json'} must describe the run, but it is damaged: {error}; repeat the run from its command"
        ) from error
    if not command:
        raise RobustctlError(
            f"{run} must be a run of a robustctl command, got one of a Python script; run the script again with another folder"
        )
    return command, data, place
