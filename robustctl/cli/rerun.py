"""Repeat a run from its folder, and say whether it gave the same numbers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro

from ..errors import DataError, RobustctlError
from .arguments import parsed
from .models import Demo, Fit


@dataclasses.dataclass(frozen=True)
class Rerun:
    """Repeat a run that `robustctl fit` or `demo` made; exit status 1 where an epoch gave another number.

    Args:
        run: Folder of the run.
        out: Folder for the repetition; default: the run's name with -again.
    """

    run: tyro.conf.Positional[Path]
    out: Path | None = None

    def __call__(self) -> int:
        """Run the command."""
        from ..identify.recipe import parts
        from ..runs.fingerprint import data_hash
        from ..runs.run_folder import LOG
        from ..runs.watchers import read_log

        made = _read(self.run)
        out = self.out or self.run.with_name(self.run.name + "-again")
        command = parsed({"fit": Fit, "demo": Demo}, made["command"])
        data = parts(command.records()[0], command.recipe)[2]
        if data_hash(data) != made["identity"]["data"]:
            raise DataError(
                f"the data of {self.run} must be as they were, but {getattr(command, 'log', 'they')} changed since; "
                "restore them to repeat the run"
            )
        command.into(out)()
        return _compare(read_log(self.run / LOG)[0], read_log(out / LOG)[0])


def _read(run: Path) -> dict[str, Any]:
    from ..runs.run_folder import SETTINGS

    try:
        made = json.loads((run / SETTINGS).read_text(encoding="utf-8"))
        command = made["command"]
        made["identity"]["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise RobustctlError(
            f"{run / 'run.json'} must say how the run was made, but it is damaged: {error}"
        ) from error
    if not command:
        raise RobustctlError(
            f"{run} was not made by a robustctl command but from Python; run its script again with another folder"
        )
    return made


def _compare(before: list[dict], after: list[dict]) -> int:
    """Print how far both agree, and return the exit status."""
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
        f"other numbers from epoch {first} on: loss {before[first]['loss']} then, {after[first]['loss']} now"
    )
    return 1
