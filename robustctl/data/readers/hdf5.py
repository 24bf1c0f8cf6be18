"""HDF5 files."""

from __future__ import annotations

from typing import Any

import numpy as np

from .limits import MOST_NAMES, Arrays, Unusable, as_text, check_size, numeric


def load_hdf5(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Datasets of an HDF5 file by path, as ``group/u``, and fields of compound datasets, as ``table/u``."""
    import h5py

    found = {}
    with h5py.File(path, "r") as file:
        for name in names:
            dataset, field = find_dataset(file, name)
            if dataset is not None:
                check_size(name, dataset.shape, dataset.dtype.itemsize, path)
                values = dataset[()] if field is None else dataset[field]
                found[name] = [decoded(dataset, numbers_only(name, values))]
        available = [] if len(found) == len(names) else list_datasets(file)
    return available or list(found), found


def units(path: str, names: list[str]) -> dict[str, str]:
    """Units of datasets by the attribute that netCDF, LabVIEW and most loggers write."""
    import h5py

    found = {}
    with h5py.File(path, "r") as file:
        for name in names:
            dataset, field = find_dataset(file, name)
            label = None if dataset is None or field is not None else unit_of(dataset)
            if label:
                found[name] = label
    return found


def unit_of(dataset: Any) -> str | None:
    """The one text of a dataset's attribute ``units``, ``unit``, ``Units`` or ``Unit``."""
    for attribute in ("units", "unit", "Units", "Unit"):
        label = np.asarray(dataset.attrs.get(attribute, ()))
        if label.size == 1 and label.dtype.kind in "SUO":
            return as_text(label.ravel()[0])
    return None


def is_dataset(item: Any) -> bool:
    """Whether an item is an array, and not a group."""
    import h5py

    return isinstance(item, h5py.Dataset)


def list_datasets(file: Any) -> list[str]:
    """Names of the datasets in a file, with the fields of compound ones."""
    available = []

    def note(name: str, item: Any) -> bool | None:
        if is_dataset(item):
            fields = item.dtype.names or ()
            available.extend([f"{name}/{field}" for field in fields] or [name])
        return True if len(available) >= MOST_NAMES else None  # h5py stops the visit at a value

    file.visititems(note)
    return available


def find_dataset(file: Any, name: str) -> tuple[Any, str | None]:
    """Dataset stored in this file, and the field of it that a path of one more part names."""
    import h5py

    item, field = file, None
    for part in name.strip("/").split("/"):
        match item:
            case h5py.Dataset() if field is None and part in (item.dtype.names or ()):
                field = part
            case h5py.Group() if part in item:
                item = child(item, part, name)
            case _:
                return None, None
    if not is_dataset(item):
        return None, None
    return check_dataset(item, file, name), field


def child(group: Any, part: str, name: str) -> Any:
    """Member of a group; a link out of the file is refused, because it could read any other file of the user."""
    import h5py

    if group.get(part, getclass=True, getlink=True) is h5py.ExternalLink:
        raise Unusable(f"{name!r} is a link to another file; copy its data into this one")
    return group[part]


def check_dataset(item: Any, file: Any, name: str) -> Any:
    """The dataset `item`, unless its samples are elsewhere or there are none."""
    if item.external or item.is_virtual or item.file.filename != file.filename:
        raise Unusable(f"{name!r} is stored in another file; copy its data into this one")
    if item.shape is None or item.attrs.get("MATLAB_empty", 0):
        raise Unusable(f"{name!r} is empty")
    return item


def numbers_only(name: str, values: Any) -> np.ndarray:
    """`values` as an array of numbers; of a compound dataset a field must be named."""
    fields = np.asarray(values).dtype.names
    if fields:
        raise Unusable(f"{name!r} holds the columns {list(fields)}; name one, as '{name}/{fields[0]}'")
    return numeric(name, values)


def decoded(dataset: Any, values: np.ndarray) -> np.ndarray:
    """Physical values: the netCDF attributes hold its scale and offset, and the number that marks a missing sample."""
    attrs = {
        name: dataset.attrs.get(name)
        for name in ("_FillValue", "missing_value", "scale_factor", "add_offset")
    }
    numbers = {
        name: np.asarray(value, np.float64).ravel()
        for name, value in attrs.items()
        if value is not None and np.asarray(value).dtype.kind in "fiu" and np.size(value)
    }
    if not numbers or values.dtype.kind == "c":
        return values
    # Compared in the stored type: float32(-999.9) is not the float64 number.
    lost = [
        values == np.asarray(numbers[name]).astype(values.dtype)[0]
        for name in ("_FillValue", "missing_value")
        if name in numbers
    ]
    values = values.astype(np.float64)
    for mask in lost:
        values[mask] = np.nan
    return values * numbers.get("scale_factor", [1.0])[0] + numbers.get("add_offset", [0.0])[0]
