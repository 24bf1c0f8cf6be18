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
    """Repeat a run of `robustctl fit` or `demo`; exit status 1 if an epoch gives another number.

    Args:
        run: Run folder.
        out: Folder for the repetition; default: the run's name with -again.
    """

    run: tyro.conf.Positional[Path]
    out: Path | None = None

    def __call__(self) -> int:
        """Run the command."""
        from ..runs.run_folder import LOG
        from ..runs.watchers import read_log

        folder = self.run.resolve()  # "." has no name
        out = self.out or folder.with_name(folder.name + "-again")
        repeated(self.run).into(out)()
        return _compare(read_log(self.run / LOG)[0], read_log(out / LOG)[0])


def repeated(run: Path) -> FitLog | Demo:
    """Return the command that made a run.

    **Raises:** `RobustctlError` for a run of a script, and for a `run.json` without a command that can be repeated; `DataError`
    where the data have changed; `OSError` where a file cannot be read.
    """
    from ..runs.fingerprint import data_hash

    words, data = _made(run)
    command = rebuilt({"fit": FitLog, "demo": Demo}, words)
    if data_hash(command.records()[0]) != data:
        raise DataError(
            f"the data of {run} must not have changed, but {command.source} did; restore them to repeat the run"
        )
    return command


def _made(run: Path) -> tuple[Any, Any]:
    """Return the command of a run and the hash of its data, as `run.json` has them."""
    from ..runs.run_folder import SETTINGS

    if not run.is_dir():
        raise FileNotFoundError(f"there is no folder {run}; name a run folder")
    try:
        made = parse_object((run / SETTINGS).read_bytes())
        command, data = made["command"], made["identity"]["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise RobustctlError(
            f"{run / 'run.json'} must describe the run, but it is damaged: {error}; repeat the run from its command"
        ) from error
    if not command:
        raise RobustctlError(
            f"{run} must be a run of a robustctl command, got one of a Python script; run the script again with another folder"
        )
    return command, data


def _compare(before: list[dict], after: list[dict]) -> int:
    """Print how many epochs agree, and return the exit status."""
    same = [
        {name: value for name, value in a.items() if name != "time"}
        == {name: value for name, value in b.items() if name != "time"}
        for a, b in zip(before, after, strict=False)
    ]
    if all(same) and len(before) == len(after):
        print(f"the same numbers in all {len(same)} epochs, to the last bit")
        return 0
    if all(same):
        print(f"the same numbers in {len(same)} epochs; one run has {len(before)}, the other {len(after)}")
        return 1
    first = same.index(False)
    print(
        f"different numbers from epoch {first} on: loss {before[first]['loss']} before, {after[first]['loss']} now"
    )
    return 1
