"""What the two MATLAB readers share: elements of cells and struct arrays, and what to do about objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

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


def experiments(items: list[Any], where: str) -> Any:
    """What a cell array holds: a signal of one number a cell, or a list with an array for each experiment.

    One cell is what it holds; None where a cell holds no such path.
    """
    if not items or any(item is None for item in items):
        return None
    if any(isinstance(item, list) for item in items):
        raise Unusable(f"{where!r} holds cells in cells; name one, counted from 1, as '{where}{{1}}'")
    return items[0] if len(items) == 1 else _samples(items) if _scalars(items) else items


def signal(items: list[Any], where: str, labels: Sequence[str] = ()) -> np.ndarray | None:
    """Signal whose samples are the numbers in one field of a struct array.

    Whole arrays in that field may be channels or experiments, and only their owner knows which.
    """
    if items and all(item is None for item in items):
        return None
    if items and _scalars(items):
        return _samples(items)
    cells = "; or save a cell for each experiment: u = {s.u}; y = {s.y}; save('log.mat', 'u', 'y')"
    raise Unusable(f"{element_error(where, len(items), None, labels)}{cells}")


def _scalars(items: list[Any]) -> bool:
    return all(isinstance(item, np.ndarray) and item.size == 1 for item in items)


def _samples(items: list[np.ndarray]) -> np.ndarray:
    return np.array([item.flat[0] for item in items])


def struct_error(where: str, fields: Sequence[str]) -> Unusable:
    """Error about a struct that is named where an array must be."""
    hint = f"; name a field, as '{where}/{fields[0]}'" if fields else ""
    return Unusable(f"{where!r} must be an array of numbers, not a struct{hint}")


def no_element_error(where: str) -> Unusable:
    """Error about an element that is named of a plain matrix."""
    return Unusable(f"{where!r} is no cell or struct array; a column of a matrix is '{where}[0]'")
