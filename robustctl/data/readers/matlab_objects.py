"""What the two MATLAB readers share: elements of cells and struct arrays, and what to do about objects."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .limits import Unusable

# MATLAB prints an element so; its names hold no brackets.
ELEMENT = re.compile(r"(?P<name>.*?)(?:[({](?P<index>[1-9]\d{0,8})[)}])?", re.DOTALL)
SHOWN = 5
# These files hold objects in a form that is private to MATLAB; each line turns one into arrays.
SIGNAL = "u = {0}.Data; t = {0}.Time; save('log.mat', 'u', 't')"
LINES = {
    "table": "u = {0}.u; y = {0}.y; save('log.mat', 'u', 'y')",
    "timetable": "u = {0}.u; y = {0}.y; t = seconds({0}.Time - {0}.Time(1)); save('log.mat', 'u', 'y', 't')",
    "datetime": "t = seconds({0} - {0}(1)); save('log.mat', 't', '-append')",
    "duration": "t = seconds({0}); save('log.mat', 't', '-append')",
    "string": "x = double({0}); save('log.mat', 'x', '-append')",
    "categorical": "x = double({0}); save('log.mat', 'x', '-append')",
    "timeseries": SIGNAL,
    "iddata": "u = {0}.u; y = {0}.y; save('log.mat', 'u', 'y')",
    "Simulink.SimulationData.Dataset": SIGNAL.format("{0}.get(1).Values"),
    "Simulink.SimulationData.Signal": SIGNAL.format("{0}.Values"),
    "Simulink.SimulationOutput": SIGNAL.format("{0}.logsout.get(1).Values"),
    "sparse matrix": "x = full({0}); save('log.mat', 'x', '-append')",
}
COLUMNS = {"table", "timetable"}

Found = list[np.ndarray] | None
"""One array, or one for each experiment in cells; None where there is none."""


def split_name(name: str) -> list[tuple[str, int | None]]:
    """Parts of ``a/b(2)/c``, or ``a.b(2).c``, as ``[("a", None), ("b", 2), ("c", None)]``."""
    matches = [ELEMENT.fullmatch(part) for part in re.split("[/.]", name.strip("/"))]
    return [(m["name"], None if m["index"] is None else int(m["index"])) for m in matches if m]


def object_error(name: str, kind: str) -> Unusable:
    """Error about a variable that is an object of MATLAB class `kind`, with the line that saves its numbers."""
    what = "columns" if kind in COLUMNS else "numbers"
    line = LINES.get(kind, "x = {0}.NAME; save('log.mat', 'x', '-append')").format(name.replace("/", "."))
    return Unusable(f"variable {name!r} is a MATLAB {kind}; save its {what} as arrays: {line}")


def element_error(where: str, count: int, index: int | None = None, labels: Sequence[str] = ()) -> Unusable:
    """Error about a cell or struct array of `count` elements of which one must be named."""
    bad = "" if index is None else f", there is no element {index}"
    shown = [f"{number} is {label!r}" for number, label in enumerate(labels[:SHOWN], 1)]
    more = f" ({', '.join(shown)})" if shown else ""
    return Unusable(f"{where!r} has {count} elements{bad}; name one, counted from 1, as '{where}(1)'{more}")


def experiments(items: Sequence[Found], where: str) -> Found:
    """What a cell array holds: a signal of one number a cell, or an array for each experiment; None without such a path."""
    arrays = [item for item in items if item is not None]
    if not items or len(arrays) < len(items):
        return None
    if any(len(item) > 1 for item in arrays):
        raise Unusable(f"{where!r} holds cells in cells; name one, counted from 1, as '{where}{{1}}'")
    return [_samples(arrays)] if len(items) > 1 and _scalars(arrays) else [item[0] for item in arrays]


def signal(items: Sequence[Found], where: str, labels: Sequence[str] = ()) -> Found:
    """Signal whose samples are the numbers in one field of a struct array.

    Whole arrays in that field may be channels or experiments, and only their owner knows which.
    """
    arrays = [item for item in items if item is not None]
    if items and not arrays:
        return None
    if items and len(arrays) == len(items) and _scalars(arrays):
        return [_samples(arrays)]
    cells = "; or save a cell for each experiment: u = {s.u}; y = {s.y}; save('log.mat', 'u', 'y')"
    raise Unusable(f"{element_error(where, len(items), None, labels)}{cells}")


def _scalars(items: Sequence[list[np.ndarray]]) -> bool:
    return all(len(item) == 1 and item[0].size == 1 for item in items)


def _samples(items: Sequence[list[np.ndarray]]) -> np.ndarray:
    return np.array([item[0].flat[0] for item in items])


def struct_error(where: str, fields: Sequence[str]) -> Unusable:
    """Error about a struct that is named where an array must be."""
    hint = f"; name a field, as '{where}/{fields[0]}'" if fields else ""
    return Unusable(f"{where!r} must be an array of numbers, not a struct{hint}")


def no_element_error(where: str) -> Unusable:
    """Error about an element that is named of a plain matrix."""
    return Unusable(f"{where!r} is no cell or struct array; a column of a matrix is '{where}[0]'")
