"""The time that a search for a proof is given, and a line that shows a long one."""

import math
import time
from typing import Any

from ..errors import RobustctlError

_SHORT = 5.0
"""Seconds of an estimate below which nothing is shown."""


def deadline_after(seconds: float) -> float:
    """Return when a search that begins now must end, in `time.monotonic()`, or raise `RobustctlError` for seconds that are not positive."""
    if not seconds > 0:
        raise RobustctlError(f"seconds must be positive, got {seconds}")
    return time.monotonic() + seconds


class ProgressLine:
    """A line with what is proven, its estimated time and memory, and its iterations; none where there is no terminal.

    **Arguments:**

    - `what`: is proven.
    - `seconds`: estimate; a short search shows nothing.
    - `size`: estimate, bytes.
    """

    def __init__(self, what: str, seconds: float, size: float):
        self.bar: Any = None
        if seconds < _SHORT:
            return
        from tqdm import tqdm  # slow to import

        text = f"proving the {what}, about {seconds:.2g} s and {max(size / 1e9, 0.01):.2g} GB"
        self.bar = tqdm(desc=text, unit="step", disable=None, dynamic_ncols=True)

    def step(self, gap: float) -> None:
        """Take the relative gap after one iteration."""
        if self.bar is not None:
            self.bar.set_postfix({"gap": f"{gap:.1e}"} if math.isfinite(gap) else {}, refresh=False)
            self.bar.update(1)

    def close(self) -> None:
        """Leave the line."""
        if self.bar is not None:
            self.bar.close()
