"""The command that shows a run while it is trained."""

import dataclasses
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import tyro

from ..errors import RobustctlError

PICTURE = "training.png"
_DRAWN = ("epoch", "loss", "validation", "gradient_norm", "learning_rate", "certificate_margin")
_FEW_SECONDS = 30.0  # over which the speed is measured, and the shortest pause that is reported


@dataclasses.dataclass(frozen=True)
class Watch:
    """Draw a run while it is trained, into training.png in its folder, and print its status, until it ends.

    Args:
        run: Run folder.
        every: Seconds between updates.
        once: Update once and end.
    """

    run: tyro.conf.Positional[Path]
    every: float = 2.0
    once: bool = False

    def __call__(self) -> int:
        """Run the command."""
        from tqdm import tqdm

        _check(self.run, self.every)
        text = ""
        with suppress(KeyboardInterrupt), tqdm(bar_format="{desc}", leave=False, disable=None) as line:
            for text in self._updates():
                line.set_description_str(text[: get_terminal_size().columns - 1])
        picture = self.run / PICTURE
        print(f"{text}\n{picture}" if picture.exists() else text)
        return 0

    def _updates(self) -> Iterator[str]:
        """Draw and yield the status until the run has stopped."""
        from ..runs.run_folder import LOG
        from ..runs.watchers import read_log

        drawn = None
        while True:
            rows, stopped = read_log(self.run / LOG)
            if self.once and not rows:
                raise RobustctlError(f"{self.run} must have an epoch to draw; wait, or watch without --once")
            if rows and drawn != (rows[-1], stopped):
                _draw(self.run, rows, stopped)
                drawn = rows[-1], stopped
            yield status(rows, stopped, time.time())
            if self.once or stopped:
                return
            time.sleep(self.every)


def status(rows: list[dict[str, Any]], stopped: str, now: float) -> str:
    """Return the status of a run in one line.

    **Arguments:**

    - `rows`: of the training log.
    - `stopped`: why the run stopped, or an empty string.
    - `now`: the present time, seconds since 1970.
    """
    if not rows:
        return stopped or "waiting for the first epoch"
    return f"{stopped or _alive([row['time'] for row in rows[-100:]], now)}: {_numbers(rows)}"


def _alive(times: list[float], now: float) -> str:
    """Return whether the last line is older than the times between earlier lines suggest."""
    # Five times the longest: a checkpoint or a busy machine delays a line, a killed process sends none.
    pause, longest = now - times[-1], max((later - before for before, later in pairwise(times)), default=0.0)
    late = pause > max(_FEW_SECONDS, 5 * longest)
    return f"no line for {pause:.0f} s, killed?" if late else "running"


def _numbers(rows: list[dict[str, Any]]) -> str:
    last, best = rows[-1], _best(rows)
    parts = [f"epoch {last['epoch']}", f"loss {_number(last['loss'])}"]
    if best is not None:
        parts.append(f"best validation {_number(best['validation'])} in epoch {best['epoch']}")
    parts += _speed([row["time"] for row in rows])
    skipped = sum(row["skipped"] or 0 for row in rows)
    return ", ".join([*parts, *([f"steps skipped: {skipped:.0f}"] if skipped else [])])


def _speed(times: list[float]) -> list[str]:
    """Epochs per second over the last half minute, or over the last epoch if that took longer."""
    first = min(bisect_left(times, times[-1] - _FEW_SECONDS), max(len(times) - 2, 0))
    seconds = times[-1] - times[first]
    # Epochs of one compiled call are written together, so a shorter time would give no speed.
    return [f"{(len(times) - 1 - first) / seconds:.3g} epochs/s"] if seconds > 1 else []


def _best(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row with the smallest validation loss, or None."""
    validated = [row for row in rows if row["validation"] is not None]
    return min(validated, key=lambda row: row["validation"], default=None)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _check(run: Path, every: float) -> None:
    from ..runs.run_folder import LOG, SETTINGS

    if not run.is_dir():
        raise FileNotFoundError(f"there is no folder {run}; name a run folder")
    if not any((run / name).exists() for name in (LOG, SETTINGS)):  # the log begins with the first epoch
        raise RobustctlError(f"{run} must be a run folder, but there is no {LOG} in it; train with run={run}")
    if not every > 0:
        raise RobustctlError(f"every must be above zero, got {every:g}")


def _draw(run: Path, rows: list[dict[str, Any]], stopped: str) -> None:
    """Write the picture."""
    import numpy as np

    from ..plot.histories import history
    from ..reports.folder import png
    from ..store.atomic import write_atomic

    best = _best(rows)
    columns = {name: np.full(len(rows), np.nan) for name in _DRAWN if any(name in row for row in rows)}
    for k, row in enumerate(rows):
        for name in columns.keys() & row:
            lost = np.inf if name == "certificate_margin" else np.nan  # as in the log
            columns[name][k] = lost if row[name] is None else row[name]
    text = f"{stopped or 'so far'}: {_numbers(rows)}"
    figure = history(columns, -1 if best is None else best["epoch"], run.name, text)
    write_atomic(run / PICTURE, png(figure))
