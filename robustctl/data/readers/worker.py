"""Child process of the readers: arrays out of files whose libraries can crash.

Run by its path, so that no room of this package is imported::

    python -P worker.py KIND FILE FOLDER < names.json

It writes ``FOLDER/reply.json`` with ``available`` (names in the file), ``found`` (pairs of a name and how many arrays
it has), ``units`` (labels by name) and ``error`` (a sentence, or null), and ``FOLDER/arrays.npz`` with these arrays under
"0", "1", ...
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
import warnings

import numpy as np

# Each kind of file is read by one function of a module in this folder, and its units by another where it has them.
LOADERS = {
    "mat": ("matlab5", "load_mat", None),
    "mat73": ("matlab73", "load_mat73", None),
    "hdf5": ("hdf5", "load_hdf5", "units"),
    "parquet": ("tables", "load_parquet", "units"),
    "xlsx": ("tables", "load_xlsx", None),
}
PACKAGE = "robustctl_readers"


def sibling(module: str) -> types.ModuleType:
    """A module of this folder, imported without the packages above it, which import JAX."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{module}")


def main(kind: str, path: str, folder: str) -> None:
    """Answer one request; every error that does not kill the process is reported in the reply."""
    warnings.simplefilter("ignore")
    names = json.load(sys.stdin)
    limits, shapes = sibling("limits"), sibling("shapes")
    limits.limit_process(path)
    error, available, found, labels = None, [], {}, {}
    try:
        module, function, units = LOADERS[kind]
        available, found = shapes.load_columns(getattr(sibling(module), function), path, names)
        labels = shapes.labels(getattr(sibling(module), units), path, names) if units else {}
        arrays = [one for item in found.values() for one in item]
        np.savez(os.path.join(folder, "arrays.npz"), **{str(i): a for i, a in enumerate(arrays)})  # pyright: ignore
    except limits.Unusable as fault:
        error = str(fault)
    except MemoryError:
        error = "it claims more memory than a file of its size can need; it is damaged"
    except Exception as fault:
        error = f"it is damaged or of another format: {type(fault).__name__}: {fault}"
    counts = [(name, len(item)) for name, item in found.items()]
    reply = {"available": available[: limits.MOST_NAMES], "found": counts, "units": labels, "error": error}
    with open(os.path.join(folder, "reply.json"), "w", encoding="ascii") as file:
        json.dump(reply, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
