"""What people and programs see of a training: one live line, and one JSON line an epoch."""

import json
import math
from pathlib import Path
from typing import Protocol, runtime_checkable

from tqdm import tqdm


@runtime_checkable
class Watcher(Protocol):
    """Something that is told of every epoch, in order."""

    def epoch(self, number: int, row: dict[str, float]) -> None:
        """Take one epoch's numbers."""
        ...

    def close(self, stopped: str) -> None:
        """Take the reason for the end."""
        ...


class ProgressBar:
    """A line with epoch, losses, epochs a second and the time left; silent where the output is no terminal."""

    def __init__(self, epochs: int):
        self.bar = tqdm(total=epochs, desc="fit", unit="epoch", disable=None, dynamic_ncols=True)

    def epoch(self, number: int, row: dict[str, float]) -> None:
        """Move on by one epoch."""
        shown = {"loss": row["loss"]}
        if not math.isnan(row["validation"]):
            shown["validation"] = row["validation"]
        self.bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()}, refresh=False)
        self.bar.update(1)

    def close(self, stopped: str) -> None:
        """Leave the line as it is."""
        self.bar.close()


class JsonLines:
    """One JSON object an epoch, appended to a file and flushed, so that a run can be read while it goes on."""

    def __init__(self, path: str | Path):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", encoding="utf-8")

    def epoch(self, number: int, row: dict[str, float]) -> None:
        """Write one line."""
        numbers = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self.file.write(json.dumps({"epoch": number} | numbers) + "\n")
        self.file.flush()

    def close(self, stopped: str) -> None:
        """Write the reason for the end."""
        self.file.write(json.dumps({"stopped": stopped}) + "\n")
        self.file.close()
