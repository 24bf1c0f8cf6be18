"""Records of the DaISy collection, read from a folder."""

from pathlib import Path

import numpy as np

import robustctl as rc

DAISY = {"robot arm": "robotarm", "glass furnace": "glass", "heat exchanger": "exchanger"}


def daisy(folder: Path, name: str, part: str) -> rc.data.Record:
    """Return the training or test part of a record with columns u0, u1, ... and y0, ..."""
    values = np.genfromtxt(folder / "daisy" / f"{name}_{part}.csv", delimiter=",", names=True)
    names = values.dtype.names or ()
    u, y = (np.stack([values[n] for n in names if n.startswith(letter)], axis=1) for letter in "uy")
    return rc.data.from_arrays(u, y, 1.0)
