"""Watchers of a training: a progress line, and a log with one JSON line an epoch."""

import math
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from ..checks import is_real, is_whole
from ..errors import RobustctlWarning
from ..store.atomic import write_atomic
from ..store.entries import entry
from ..store.json_text import json_text, parse_object

PAUSE = 10.0
"""Seconds between two plain lines."""


@runtime_checkable
class Watcher(Protocol):
    """An object that is notified of every epoch, in order."""

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Take the metrics of one epoch."""
        ...

    def close(self, stopped: str) -> None:
        """Take the reason for the end."""
        ...


class ProgressBar:
    """A line with losses, rate, gradient norm, certificate, epochs per second and time left, which a terminal redraws.

    Until the first epoch is done the line reads "compiling".
    """

    def __init__(self, epochs: int):
        from tqdm import tqdm  # slow to import

        self.bar = tqdm(total=epochs, desc="compiling", unit="epoch", disable=None, dynamic_ncols=True)
        self.begun = False
        self.numbers = _Numbers()

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Advance by one epoch."""
        if not self.begun:
            self.begun, self.bar.initial, self.bar.n = True, number, number
            self.bar.set_description("fit", refresh=False)
            self.bar.unpause()
        self.bar.set_postfix(self.numbers.of(metrics), refresh=False)
        self.bar.update(1)

    def close(self, stopped: str) -> None:
        """Leave the line on the terminal, but none where there was no epoch."""
        self.bar.leave = self.begun
        self.bar.close()


class ProgressLines:
    """The same as plain lines on the standard error, one every ten seconds, for a log file or a pipe; none of a shorter training."""

    def __init__(self, epochs: int):
        self.epochs = epochs
        self.first: int | None = None
        self.begun = self.shown = time.monotonic()
        self.numbers = _Numbers()
        self.line = ""

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Print a line where the last one is ten seconds old."""
        now = time.monotonic()
        if self.first is None:  # compiling ends with the first epoch, which is left out of the speed
            self.first, self.begun = number, now
        done, seconds = number - self.first, now - self.begun
        speed = (
            f", {done / seconds:.3g} epochs/s, {(self.epochs - number - 1) * seconds / done:.0f} s left"
            if done and seconds
            else ""
        )
        numbers = ", ".join(f"{name} {value}" for name, value in self.numbers.of(metrics).items())
        self.line = f"epoch {number + 1} of {self.epochs}: {numbers}{speed}"
        if now - self.shown >= PAUSE:
            self.shown = now
            self._print(self.line)

    def close(self, stopped: str) -> None:
        """Print the last line and the reason for the end, but nothing of a short training."""
        if self.shown > self.begun:
            self._print(f"{stopped}: {self.line}" if stopped else self.line)

    def _print(self, line: str) -> None:
        with suppress(OSError, ValueError):  # a pipe that is closed does not end a training
            print(line, file=sys.stderr, flush=True)


def progress(epochs: int) -> Watcher:
    """Return what shows a training: a line that is redrawn in a terminal, plain lines elsewhere, nothing in a notebook."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return ProgressBar(epochs) if terminal or "ipykernel" in sys.modules else ProgressLines(epochs)


_SHORT = {
    "loss": "loss", "validation": "validation", "learning_rate": "rate", "gradient_norm": "gradient",
    "certificate_margin": "margin",
}  # fmt: skip


class _Numbers:
    """The numbers of an epoch as text, by short names, with the last margin that was computed."""

    def __init__(self):
        self.margin = math.nan

    def of(self, metrics: dict[str, float]) -> dict[str, str]:
        margin = metrics["certificate_margin"]
        self.margin = self.margin if math.isnan(margin) else margin
        known = metrics | {"certificate_margin": self.margin}
        shown = {short: f"{known[name]:.4g}" for name, short in _SHORT.items() if not math.isnan(known[name])}
        return shown | ({"skipped": f"{metrics['skipped']:.0f}"} if metrics["skipped"] else {})


class JsonLines:
    """A log with one JSON object an epoch, appended and flushed, so that it can be read during training.

    Each has the epoch's metrics, null for what is not finite, and `time`, seconds since 1970. An epoch after which no
    certificate was computed has no `certificate_margin`; null stands for one that does not hold. The last line has the
    reason for the end. A run that is resumed keeps the lines of the epochs before. A disk that refuses a line gives a
    warning, and no more lines are written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file: IO[str] | None = None
        self.failed = False

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Write one line."""
        known = {name: v for name, v in metrics.items() if name != "certificate_margin" or not math.isnan(v)}
        self._write({"epoch": number, **known, "time": round(time.time(), 3)}, number)

    def close(self, stopped: str) -> None:
        """Write the reason for the end."""
        if self.path.exists():
            self._write({"stopped": stopped}, math.inf)
        if self.file is not None:
            with suppress(OSError):
                self.file.close()

    def _write(self, line: dict, number: int | float) -> None:
        if self.file is None:
            self._try(keep_lines_before, self.path, number)
        self._try(self._append, json_text(line) + "\n")

    def _append(self, text: str) -> None:
        self.file = self.path.open("a", encoding="utf-8") if self.file is None else self.file
        self.file.write(text)
        self.file.flush()

    def _try(self, write: Callable, *args) -> None:
        """Write, or warn and write no more."""
        if self.failed:
            return
        try:
            write(*args)
        except OSError as error:
            self.failed = True
            warnings.warn(
                f"the log {self.path} could not be written ({error}) and has no more lines; training continues",
                RobustctlWarning,
                stacklevel=2,
            )


def read_log(path: str | Path) -> tuple[list[dict], str]:
    """Return the lines of a log, one per epoch, and why training ended, "" while it runs or if it was killed.

    Lines that are damaged are left out, for example the last one of a killed run, which may be a part of one.
    """
    rows, stopped = [], ""
    with suppress(FileNotFoundError):
        for line in Path(path).read_bytes().splitlines():
            found = _entry(line)
            stopped = found.get("stopped", "" if found else stopped)
            rows += [found] if "epoch" in found else []
    return rows, stopped


def _entry(line: bytes) -> dict:
    """Return the object of a log's line, {} for a line that the log would not have."""
    try:
        found = parse_object(line)
    except ValueError:
        return {}
    stopped = entry(found, "stopped", str)
    if stopped is not None:
        return {"stopped": stopped[:80]}
    return found if _is_row(found) else {}


def _is_row(found: dict) -> bool:
    known = all(name in found for name in ("epoch", "loss", "validation", "skipped", "time"))
    numbers = all(value is None or _is_float(value) for value in found.values())
    return known and numbers and is_whole(found["epoch"], 0) and found["time"] is not None


def _is_float(value: Any) -> bool:
    """Return whether a value is a finite number that a float can be; an integer of JSON may have thousands of digits."""
    return is_real(value) and abs(value) <= sys.float_info.max


def keep_lines_before(path: Path, number: int | float) -> None:
    """Keep in a log only the lines of the epochs before a number, without the reason for the end."""
    lines = [json_text(row) + "\n" for row in read_log(path)[0] if row["epoch"] < number]
    write_atomic(path, "".join(lines).encode())
