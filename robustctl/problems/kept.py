"""What the results of a benchmark say of a training that was kept in a folder."""

from pathlib import Path

import numpy as np

from ..train import Fit, PolicyFit
from ..train.keeper import LOG
from ..train.log import read_log


def certificates(fitted: Fit | PolicyFit) -> list[dict]:
    """Return epochs done, margin and whether the certificate holds, for each time that it was computed."""
    margins = fitted.history["certificate_margin"]
    known = np.flatnonzero(~np.isnan(margins))
    return [{"epoch": int(k) + 1, "holds": bool(margins[k] < 0), "margin": float(margins[k])} for k in known]


def seconds_per_epoch(run: Path) -> float | None:
    """Return the mean over the epochs after the first, which compiles; None for fewer than two.

    Epochs, certificates and checkpoints count, and so does the pause of a run that was interrupted.
    """
    times = [row["time"] for row in read_log(run / LOG)[0]]
    return round((times[-1] - times[0]) / (len(times) - 1), 3) if len(times) > 1 else None
