"""A training's numbers in TensorBoard."""

import math
import os

from ..errors import RobustctlError


class TensorBoard:
    """A watcher that writes every finite number of an epoch as a TensorBoard scalar.

    After a run is resumed, TensorBoard shows the later epochs as they were trained last.

    **Arguments:**

    - `folder`: where the event files are written.

    **Raises:** `RobustctlError` where tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise RobustctlError(
                "rc.runs.TensorBoard must have tensorboardX; pip install 'robustctl[tensorboard]'"
            ) from error
        self.folder = str(folder)
        self._kind, self._writer = SummaryWriter, None

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Write the metrics of one epoch."""
        if self._writer is None:  # not before there is something to write
            self._writer = self._kind(self.folder, purge_step=number or None, flush_secs=10)
        for name, value in metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, number)

    def close(self, stopped: str) -> None:
        """Flush and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
