"""pandas DataFrames in place of files."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeGuard, runtime_checkable

from ...errors import DataError
from .limits import Unusable, numeric
from .request import Columns, Wanted
from .tables import labels_of, plain

INDEX = "index"


@runtime_checkable
class Frame(Protocol):
    """What is used of a DataFrame."""

    columns: Any
    index: Any
    attrs: Any
    iloc: Any


def is_frame(item: Any) -> TypeGuard[Frame]:
    """Whether `item` is a DataFrame; pandas is not imported for it."""
    # While another thread imports pandas, it has no DataFrame yet, and no item is one.
    kind = getattr(sys.modules.get("pandas"), "DataFrame", None)
    return kind is not None and isinstance(item, kind)


def index_name(frame: Any) -> str | None:
    """Name by which the index of a DataFrame is its time, None when it holds no dates or `frame` is no DataFrame."""
    if not is_frame(frame) or frame.index.dtype.kind not in "mM":
        return None
    return INDEX if frame.index.name is None else str(frame.index.name)


def load_frame(frame: Frame, wanted: Wanted) -> Columns:
    """Wanted columns of a DataFrame, and its index by the index's name; units from ``frame.attrs["units"]``.

    **Raises:** `DataError` for a column that is no numbers.
    """
    available = [str(name) for name in frame.columns]
    index = index_name(frame) if frame.index.name is None else str(frame.index.name)
    arrays = {}
    try:
        for name in wanted.names:
            if name in available:
                arrays[name] = [numeric(name, plain(frame.iloc[:, available.index(name)]))]
            elif name == index:
                arrays[name] = [numeric(name, plain(frame.index.to_series()))]
    except Unusable as error:
        raise DataError(str(error)) from error
    labels = labels_of(frame.attrs, arrays)
    return Columns([*available, *([] if index is None else [index])], arrays, units=labels)
