"""Readers whose libraries can crash on a damaged file; they run in a child process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ...errors import DataError
from .labels import bare
from .request import Columns, Wanted

PACKAGES = {
    "parquet": ("pandas", "fastparquet"),
    "hdf5": ("h5py",),
    "mat73": ("h5py",),
    "mat": (),
    "xlsx": ("openpyxl",),
}
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A damaged file can make a library loop forever. Too short a limit refuses a good file on a slow machine, too long a one
# only delays the message: a minute to start Python and import pandas, and 5 MB per second.
BASE_SECONDS = 60.0
SECONDS_PER_BYTE = 2e-7


def load_mat(path: Path, wanted: Wanted) -> Columns:
    """Variables of a MATLAB file of any version."""
    return load_in_child(path, _mat_version(path), wanted)


def load_hdf5(path: Path, wanted: Wanted) -> Columns:
    """Datasets of an HDF5 file."""
    return load_in_child(path, "hdf5", wanted)


def load_parquet(path: Path, wanted: Wanted) -> Columns:
    """Columns of a Parquet file."""
    return load_in_child(path, "parquet", wanted)


def _mat_version(path: Path) -> str:
    # MATLAB v7.3 puts a user block of 512 bytes or a power of two times that before the HDF5 signature.
    with path.open("rb") as file:
        start = file.read(4096)
    return "mat73" if any(start[at : at + 8] == HDF5_SIGNATURE for at in (0, 512, 1024, 2048)) else "mat"


def load_in_child(path: Path, kind: str, wanted: Wanted) -> Columns:
    """Arrays read in a child process, so that a library that crashes or hangs on the file does not stop this one."""
    for package in PACKAGES[kind]:
        if importlib.util.find_spec(package) is None:
            raise DataError(
                f'reading it needs {package}, which is not installed: pip install "robustctl[data]"'
            )
    worker = Path(__file__).with_name("worker.py")
    seconds = BASE_SECONDS + SECONDS_PER_BYTE * path.stat().st_size
    with tempfile.TemporaryDirectory(prefix="robustctl-") as folder:
        # -P keeps the worker's folder off the import path, where one of our files could shadow a package.
        try:
            done = subprocess.run(
                [sys.executable or "python3", "-P", str(worker), kind, str(path.absolute()), folder],
                input=json.dumps(wanted.names).encode(),
                capture_output=True,
                timeout=seconds,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"it is damaged or too large: not read in {seconds:.0f} s") from error
        except OSError as error:
            raise DataError(f"the process that reads it could not start: {error}") from error
        return _reply(Path(folder), done)


def _reply(folder: Path, done: subprocess.CompletedProcess[bytes]) -> Columns:
    try:
        reply = json.loads((folder / "reply.json").read_text("ascii"))
    except (OSError, ValueError) as error:
        last = done.stderr.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
        how = f"crashed with signal {-done.returncode}" if done.returncode < 0 else f"failed: {last[:200]}"
        raise DataError(f"it is damaged: the library that reads it {how}") from error
    if reply["error"]:
        raise DataError(reply["error"])
    with np.load(folder / "arrays.npz", allow_pickle=False) as saved:
        arrays = iter([saved[str(index)] for index in range(len(saved.files))])
    found = {name: [next(arrays) for _ in range(count)] for name, count in reply["found"]}
    units = {name: bare(text) for name, text in reply["units"].items()}
    return Columns(reply["available"], found, units=units)
