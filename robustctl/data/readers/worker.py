"""Child process of the readers: arrays out of mat, hdf5 and parquet files, whose libraries can crash.

Run by its path, so that nothing else of this package is imported::

    python -P worker.py KIND FILE FOLDER < names.json

It writes ``FOLDER/reply.json`` with ``available`` (names in the file), ``found`` (names whose arrays are in
``FOLDER/arrays.npz`` under "0", "1", ...) and ``error`` (a sentence, or null).
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

# Deflate compresses at most 1032 times, and logs far less; a small file may claim 1 GiB, which any machine has.
BASE_BYTES = 2**30
BYTES_PER_FILE_BYTE = 100
MOST_NAMES = 1000  # listed in a message; a simulation file can hold a million datasets
Arrays = dict[str, np.ndarray]


class Unusable(Exception):
    """A file whose content cannot be taken as numeric arrays."""


def limit(path: str) -> int:
    """Bytes that one variable of this file may claim; a damaged header can claim any number."""
    return BASE_BYTES + BYTES_PER_FILE_BYTE * os.path.getsize(path)


def limit_process(path: str) -> None:
    """Make an unreasonable allocation fail here rather than exhaust the machine's memory; leave no core dump."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Address space, not memory: room for the libraries, and for the copies that they make of a variable.
    soft = 4 * BASE_BYTES + 4 * limit(path)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        except (ValueError, OSError):
            return


def check_size(name: str, shape: Iterable[int], itemsize: int, path: str) -> None:
    """Raise Unusable when a variable claims more bytes than its file can plausibly hold."""
    size = itemsize
    for length in shape:
        size *= int(length)
    if not 0 <= size <= limit(path):
        raise Unusable(
            f"variable {name!r} claims {size} bytes in a file of {os.path.getsize(path)}; the file is damaged"
        )


def numeric(name: str, values: Any) -> np.ndarray:
    """Array of numbers, with dates as seconds since the first one."""
    array = np.asarray(values)
    if array.dtype.kind == "M" and array.size:
        array = (array - array.flat[0]) / np.timedelta64(1, "ns") * 1e-9
    if array.dtype.kind not in "fiubc":
        raise Unusable(f"variable {name!r} must be an array of numbers, not {array.dtype}")
    return array


def load_mat(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Variables of a MATLAB file up to v7; ``a/b`` is field b of the 1-by-1 struct a."""
    from scipy.io.matlab import loadmat, whosmat

    listed = whosmat(path, appendmat=False)
    available = [name for name, _, _ in listed]
    roots = {name.split("/")[0] for name in names}
    for name, shape, _ in listed:
        if name in roots:
            check_size(name, shape, 1, path)
    content = loadmat(path, appendmat=False, variable_names=sorted(roots & set(available)))
    found, nested = {}, {}
    for name in names:
        root, *fields = name.split("/")
        if root not in content:
            continue
        value = content[root]
        for field in fields:
            value = struct_field(value, field)
        if value is None:
            nested |= {f"{root}/{field}": None for field in content[root].dtype.names or ()}
        else:
            found[name] = numeric(name, value)
    return [*available, *nested], found


def struct_field(value: Any, field: str) -> Any:
    """One field of a 1-by-1 struct as loadmat gives it, None when there is none."""
    names = np.asarray(value).dtype.names or ()
    return value[field].flat[0] if field in names and value.size == 1 else None


def load_hdf5(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Datasets of an HDF5 file by path, as ``group/u``."""
    import h5py

    found, available = {}, []
    with h5py.File(path, "r") as file:

        def note(name: str, item: Any) -> bool | None:
            if isinstance(item, h5py.Dataset):
                available.append(name)
            return True if len(available) >= MOST_NAMES else None  # h5py stops the visit at a value

        for name in names:
            dataset = find_dataset(h5py, file, name)
            if dataset is not None:
                check_size(name, dataset.shape or (), dataset.dtype.itemsize, path)
                found[name] = numeric(name, dataset[()])
        if len(found) < len(names):
            file.visititems(note)
    return available or list(found), found


def find_dataset(h5py: Any, file: Any, name: str) -> Any:
    """Dataset stored in this file; a link out of it is refused, because it could read any other file of the user."""
    item = file
    for part in name.strip("/").split("/"):
        if not isinstance(item, h5py.Group) or part not in item:
            return None
        if isinstance(item.get(part, getlink=True), h5py.ExternalLink):
            raise Unusable(f"{name!r} is a link to another file; copy its data into this one")
        item = item[part]
    if not isinstance(item, h5py.Dataset):
        return None
    if item.external or item.is_virtual or item.file.filename != file.filename:
        raise Unusable(f"{name!r} is stored in another file; copy its data into this one")
    if item.shape is None or item.attrs.get("MATLAB_empty", 0):
        raise Unusable(f"{name!r} is empty")
    if item.attrs.get("MATLAB_class") == b"char":
        raise Unusable(f"variable {name!r} must be an array of numbers, not text")
    return item


def load_mat73(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Variables of a MATLAB v7.3 file; these are HDF5 with the order of axes reversed."""
    available, found = load_hdf5(path, names)
    available = [name for name in available if not name.startswith("#refs#")]
    return available, {name: array.T for name, array in found.items()}


def load_parquet(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Columns of a Parquet file."""
    from fastparquet import ParquetFile

    file = ParquetFile(path)
    available = [str(name) for name in file.columns]
    if any(column.file_path for group in file.row_groups for column in group.columns):
        raise Unusable("its columns are stored in other files; write it as one file")
    columns = [name for name in names if name in available]
    if not columns:
        return available, {}
    rows = sum(int(group.num_rows) for group in file.row_groups)
    for name in columns:
        check_size(name, (rows,), 8, path)  # before reading: the row count is the file's own claim
    frame = file.to_pandas(columns=columns, index=False)
    return available, {name: numeric(name, plain(frame[name])) for name in columns}


def plain(column: Any) -> np.ndarray:
    """NumPy array of a pandas column; missing integers and truth values become NaN."""
    nullable = column.dtype.kind in "iubf" and not isinstance(column.dtype, np.dtype)
    return column.to_numpy(np.float64, na_value=np.nan) if nullable else column.to_numpy()


LOADERS = {"mat": load_mat, "mat73": load_mat73, "hdf5": load_hdf5, "parquet": load_parquet}


def main(kind: str, path: str, folder: str) -> None:
    """Answer one request; every error that does not kill the process is reported in the reply."""
    warnings.simplefilter("ignore")
    names = json.load(sys.stdin)
    limit_process(path)
    error, available, found = None, [], {}
    try:
        available, found = LOADERS[kind](path, names)
        np.savez(os.path.join(folder, "arrays.npz"), **{str(i): a for i, a in enumerate(found.values())})  # pyright: ignore
    except Unusable as fault:
        error = str(fault)
    except MemoryError:
        error = "it claims more memory than a file of its size can need; it is damaged"
    except Exception as fault:
        error = f"it is damaged or of another format: {type(fault).__name__}: {fault}"
    reply = {"available": available[:MOST_NAMES], "found": list(found), "error": error}
    with open(os.path.join(folder, "reply.json"), "w", encoding="ascii") as file:
        json.dump(reply, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
