"""Records of the DaISy collection, read from a folder."""

from pathlib import Path

import numpy as np

import robustctl as rc
from robustctl.problems import cascaded_tanks

DAISY = {"robot arm": "robotarm", "glass furnace": "glass", "heat exchanger": "exchanger"}


def daisy(folder: Path, name: str, part: str) -> rc.data.Record:
    """Return the training or test part of a record with columns u0, u1, ... and y0, ..."""
    values = np.genfromtxt(folder / "daisy" / f"{name}_{part}.csv", delimiter=",", names=True)
    names = values.dtype.names or ()
    u, y = (np.stack([values[n] for n in names if n.startswith(letter)], axis=1) for letter in "uy")
    return rc.data.from_arrays(u, y, 1.0)


def tanks_and_arm(folder: Path) -> dict[str, tuple[rc.data.Record, rc.data.Record]]:
    """Return training and test record of the cascaded tanks and of the robot arm."""
    arm = daisy(folder, "robotarm", "train"), daisy(folder, "robotarm", "test")
    return {"cascaded tanks": cascaded_tanks(folder), "robot arm": arm}
