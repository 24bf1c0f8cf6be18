"""What is shown of a training while it runs: progress line, watchers and a callback."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from ..checks import check_whole, of_type, renamed
from ..errors import RobustctlError
from .devices import writes
from .watchers import JsonLines, Watcher, progress

Callback = Callable[[int, Any], float | None]
"""`(epochs done, model) -> certificate margin`, or None where it computes none."""


@renamed(inspect="callback", inspect_every="every")
@dataclasses.dataclass(frozen=True)
class Monitor:
    """What is shown of a training while it runs; `monitor=None` shows nothing.

    **Arguments:**

    - `watchers`: objects notified of every epoch (see `Watcher`), for example `rc.runs.TensorBoard(folder)`.
    - `progress`: whether to show the progress line, or plain lines every ten seconds where there is no terminal.
    - `callback`: `(epochs done, model) -> float or None`, called before every epoch that `every` divides and after the
      last; a float that it returns is the history's `certificate_margin`, as `rc.certificates.certificate_margin` gives it.
    - `every`: epochs between two calls of the callback.

    **Raises:** `RobustctlError` for an object that is no watcher, and for `every` below 1.
    """

    watchers: Sequence[Watcher] = ()
    progress: bool = True
    callback: Callback | None = None
    every: int = 10

    def __post_init__(self):
        """Refuse what cannot be notified."""
        _check_watchers(self.watchers)
        check_whole(1, every=self.every)

    def open(self, epochs: int, log: Path | None, mesh: Mesh | None = None) -> list[Watcher]:
        """Return all watchers of a training: its log, the user's and the progress line.

        Of several processes on one `mesh` the first alone has a log and a line.
        """
        if not writes(mesh):
            return list(self.watchers)
        logs = [] if log is None else [JsonLines(log)]
        lines = [progress(epochs)] if self.progress else []
        return [*logs, *self.watchers, *lines]  # the log first, because a watcher may raise


def _check_watchers(watchers: Sequence[Watcher]) -> None:
    for watcher in of_type(watchers, Sequence, "watchers must be a list", "give [watcher]"):
        if isinstance(watcher, type) or not isinstance(watcher, Watcher):
            raise RobustctlError(
                f"a watcher must be an object with the methods epoch(number, metrics) and close(stopped), got {watcher!r}; "
                "wrap what you have in a class that has them"
            )


SHOWN, SILENT = Monitor(), Monitor(progress=False)
"""The default of every training, and what `monitor=None` stands for."""
