"""Loaders of the file formats: the names in the file, and the arrays requested."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import DataError
from .worker import Arrays, Unusable, check_size

SUFFIXES = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".mat": "mat",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npz": "npz",
}
FORMATS = ("csv", "parquet", "mat", "hdf5", "npz")
PACKAGES = {"parquet": ("pandas", "fastparquet"), "hdf5": ("h5py",), "mat73": ("h5py",), "mat": ()}
MISSING_CELLS = {"", "nan", "na", "n/a", "null", "none", "-nan"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d*", re.ASCII)
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A damaged file can make a library loop forever. Too short a limit refuses a good file on a slow machine, too long a one
# only delays the message: a minute to start Python and import pandas, and 5 MB per second.
BASE_SECONDS = 60.0
SECONDS_PER_BYTE = 2e-7


def load(path: Path, kind: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Names in the file, and the arrays of those among `names` that it holds.

    **Raises:** `DataError` when the file cannot be read as `kind`, or needs a package that is not installed.
    """
    if kind == "csv":
        return load_csv(path, names)
    if kind == "npz":
        return load_npz(path, names)
    return load_in_child(path, _mat_version(path) if kind == "mat" else kind, names)


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"text must be UTF-8, byte {error.start} is not; save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def load_csv(path: Path, names: list[str]) -> tuple[list[str], Arrays]:
    """Columns of delimited text with a header row; ``#`` lines and blank lines are skipped."""
    numbered = [
        (number, line)
        for number, line in enumerate(_text(path).split("\n"), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not numbered:
        raise DataError("the file holds no header and no rows")
    numbers = [number for number, _ in numbered]
    rows = _csv_rows([line for _, line in numbered], _separator(numbered[0][1]), numbers)
    header = [cell.strip() for cell in rows[0]]
    while header and not header[-1]:
        header.pop()
    if all(NUMBER.fullmatch(cell) for cell in header if cell):
        raise DataError(
            f"line {numbers[0]} must be a header with the column names, it holds only numbers; "
            "add one (a line that starts with # does not count)"
        )
    wanted = [name for name in names if header.count(name) == 1]
    columns = _csv_columns(rows[1:], header, [header.index(name) for name in wanted], numbers[1:])
    arrays = {
        name: _csv_numbers(column, name, numbers[1:]) for name, column in zip(wanted, columns, strict=True)
    }
    return [name for name in header if name], arrays


def _separator(header: str) -> str:
    # Quoted names may contain any separator.
    bare = re.sub(r'"[^"]*"', "", header)
    counts = {separator: bare.count(separator) for separator in "\t;,"}
    best = max(counts, key=lambda separator: counts[separator])
    return best if counts[best] else " " if re.search(r"\S\s+\S", bare) else ","


def _csv_rows(lines: list[str], separator: str, numbers: list[int]) -> list[list[str]]:
    if separator == " ":
        lines = [line.strip() for line in lines]
    reader, rows = csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ", strict=True), []
    try:
        for row in reader:
            rows.append(row)
            # A quote left open takes the rest of the file into one cell; the row that opened it is the one to name.
            if reader.line_num != len(rows):
                raise DataError(f"line {numbers[len(rows) - 1]} must close the quote it opens")
    except csv.Error as error:
        raise DataError(f"line {numbers[min(len(rows), len(numbers) - 1)]}: {error}") from error
    return rows


def _csv_columns(
    rows: list[list[str]], header: list[str], positions: list[int], numbers: list[int]
) -> Iterator[list[str]]:
    width = len(header)
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != width and (len(row) < width or any(cell.strip() for cell in row[width:])):
            raise DataError(
                f"line {number} must have {width} cells as the header does, it has {len(row)}; "
                "complete the row, and use a decimal point, not a comma"
            )
    return ([row[position] for row in rows] for position in positions)


def _csv_numbers(cells: list[str], name: str, numbers: list[int]) -> np.ndarray:
    joined = "".join(cells)
    # float() accepts more than a log should hold: 1_000, and digits of other scripts.
    if joined.isascii() and "_" not in joined:
        try:
            return np.array(list(map(float, cells)), np.float64)
        except ValueError:
            pass
    return np.array([_csv_number(c, name, n) for c, n in zip(cells, numbers, strict=True)], np.float64)


def _csv_number(cell: str, name: str, line: int) -> float:
    cell = cell.strip()
    if cell.lower() in MISSING_CELLS:
        return math.nan
    if NUMBER.fullmatch(cell):
        return float(cell)
    comma = " with a decimal comma; write a decimal point" if DECIMAL_COMMA.fullmatch(cell) else ""
    raise DataError(f"line {line}, column {name!r}: {cell[:40]!r} is not a number{comma}")


def load_npz(path: Path, names: list[str]) -> tuple[list[str], Arrays]:
    """Named arrays of an npz archive; pickled objects are never opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
            available = [item.filename.removesuffix(".npy") for item in archive.infolist()]
            found = {}
            for name in names:
                if name in members:
                    with archive.open(members[name]) as file:
                        found[name] = _npy(file, name, path)
            return available, found
    except (DataError, Unusable) as error:
        raise DataError(str(error)) from error
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise DataError(f"the npz archive is damaged: {type(error).__name__}: {error}") from error


def _npy(file, name: str, path: Path) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    form = np.lib.format
    shape, fortran, dtype = (
        form.read_array_header_1_0(file) if version == (1, 0) else form.read_array_header_2_0(file)
    )
    if dtype.hasobject or dtype.kind not in "fiubc":
        raise DataError(f"variable {name!r} must be an array of numbers, not {dtype}")
    check_size(name, shape, dtype.itemsize, str(path))
    wanted = math.prod(shape) * dtype.itemsize
    # One byte more than the header promises, to notice a member that is too long.
    raw = file.read(wanted + 1)
    if len(raw) != wanted:
        raise DataError(f"variable {name!r} must be {wanted} bytes long and is not; the file is damaged")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _mat_version(path: Path) -> str:
    # MATLAB v7.3 puts a user block of 512 bytes or a power of two times that before the HDF5 signature.
    with path.open("rb") as file:
        start = file.read(4096)
    return "mat73" if any(start[at : at + 8] == HDF5_SIGNATURE for at in (0, 512, 1024, 2048)) else "mat"


def load_in_child(path: Path, kind: str, names: list[str]) -> tuple[list[str], Arrays]:
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
                input=json.dumps(names).encode(),
                capture_output=True,
                timeout=seconds,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"it is damaged or too large: not read in {seconds:.0f} s") from error
        except OSError as error:
            raise DataError(f"the process that reads it could not start: {error}") from error
        return _reply(Path(folder), done)


def _reply(folder: Path, done: subprocess.CompletedProcess[bytes]) -> tuple[list[str], Arrays]:
    try:
        reply = json.loads((folder / "reply.json").read_text("ascii"))
    except (OSError, ValueError) as error:
        last = done.stderr.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
        how = f"crashed with signal {-done.returncode}" if done.returncode < 0 else f"failed: {last[:200]}"
        raise DataError(f"it is damaged: the library that reads it {how}") from error
    if reply["error"]:
        raise DataError(reply["error"])
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        return reply["available"], {name: arrays[str(index)] for index, name in enumerate(reply["found"])}
