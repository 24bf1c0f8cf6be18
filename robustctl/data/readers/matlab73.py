"""MATLAB v7.3 files: HDF5 with reversed axes, and references for the elements of cells and struct arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .hdf5 import check_dataset, child, is_dataset, list_datasets
from .limits import Arrays, Unusable, check_size, numeric
from .matlab_objects import (
    Found,
    element_error,
    experiments,
    no_element_error,
    object_error,
    signal,
    split_name,
    struct_error,
)

ARRAYS = {
    "double",
    "single",
    "logical",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
Parts = list[tuple[str, int | None]]


def load_mat73(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Variables of a MATLAB v7.3 file, named as those of older ones."""
    import h5py

    found = {}
    with h5py.File(path, "r") as file:
        for name in names:
            value = _Reader(file, path).resolve(file, None, split_name(name), "")
            if value is not None:
                found[name] = value
        available = [] if len(found) == len(names) else list_datasets(file)
    listed = [name for name in available if not name.startswith(("#refs#", "#subsystem#"))]
    return listed or list(found), found


class _Reader:
    """Values in one open file; `where` is the name of an item so far, and `index` the element that it gives of it."""

    def __init__(self, file: Any, path: str):
        self.file, self.path = file, path

    def resolve(self, item: Any, index: int | None, parts: Parts, where: str) -> Found:
        """Array at the path `parts` below `item`, one a cell for experiments in cells, None where there is none."""
        import h5py

        kind = matlab_class(item)
        if not is_dataset(item):
            return self.field(item, index, parts, where)
        if kind == "char":
            raise Unusable(f"variable {where!r} must be an array of numbers, not text")
        if kind and kind not in ARRAYS | {"cell"}:
            raise object_error(where, kind)
        check_dataset(item, self.file, where)
        check_size(where, item.shape, item.dtype.itemsize, self.path)
        if h5py.check_ref_dtype(item.dtype):
            items = self.elements(item, index, where)
            return experiments([self.resolve(found, None, parts, where) for found in items], where)
        if index is not None:
            raise no_element_error(where)
        return None if parts else [matrix(item, where)]

    def field(self, group: Any, index: int | None, parts: Parts, where: str) -> Found:
        """What `resolve` gives for the first part, a field of the struct or struct array `group`."""
        import h5py

        if "MATLAB_sparse" in group.attrs:
            raise object_error(where, "sparse matrix")
        if not parts:
            raise struct_error(where, list(group))
        (name, own), *rest = parts
        if name not in group:
            return None
        inside = f"{where}/{name}" if where else name
        item = child(group, name, inside)
        # Each field of a struct array holds a reference for each element, and has no class.
        if is_dataset(item) and h5py.check_ref_dtype(item.dtype) and not matlab_class(item):
            found = [self.resolve(one, own, rest, inside) for one in self.elements(item, index, where)]
            return found[0] if len(found) == 1 else signal(found, where)
        if index not in (None, 1):
            raise element_error(where, 1, index)
        return self.resolve(item, own, rest, inside)

    def elements(self, references: Any, index: int | None, where: str) -> list[Any]:
        """Items that a dataset of references names, in MATLAB's order; one of them where an index is given."""
        check_size(where, references.shape, references.dtype.itemsize, self.path)
        found = references[()].ravel()
        if index is None:
            return [self.file[reference] for reference in found]
        if index > len(found):
            raise element_error(where, len(found), index)
        return [self.file[found[index - 1]]]


def matlab_class(item: Any) -> str:
    """MATLAB's name for the class of an item, "" where the file gives none."""
    return str(np.asarray(item.attrs.get("MATLAB_class", "")).astype(str))


def matrix(dataset: Any, where: str) -> np.ndarray:
    """Array of numbers with MATLAB's order of axes."""
    values = dataset[()]
    if values.dtype.names == ("real", "imag"):
        values = values["real"] + 1j * values["imag"]
    return numeric(where, values).T
