"""The variables of a functional mock-up unit: the entries of a step's state, inputs and outputs."""

import collections
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ..runtime.program import Signals, Value
from .c_text import identifiers
from .limits import Range
from .trace import Traced


class Variable(NamedTuple):
    """A variable.

    **Arguments:**

    - `name`: in the unit, different from all others.
    - `role`: `state`, `input`, `output` or `time`.
    - `kind`: dtype, as in a program.
    - `place`: its member of the struct in C.
    - `start`: where it starts; None for an output and the time.
    - `text`: what it is.
    - `unit`: of its values, "" where unknown.
    - `low`: its lowest value, -inf where unknown.
    - `high`: its highest.
    - `flag`: whether it is 0 or 1.
    """

    name: str
    role: str
    kind: str
    place: str
    start: float | int | bool | None = None
    text: str = ""
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    flag: bool = False


TIME = Variable("time", "time", "float", "time", text="time", unit="s")


def variables(made: Traced, ranges: dict[str, Range]) -> list[Variable]:
    """Return the inputs, the outputs and the states, in this order, their names made different where they are not."""
    program = made.program
    starts = [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(made.u) if leaf.size]
    found: list[Variable] = []
    for signals, start in zip(program.inputs, starts, strict=True):
        found += _signals(signals, "input", start, ranges.get(signals.name))
    for signals in program.outputs:
        found += _signals(signals, "output", None, ranges.get(signals.name))
    for s in program.state:
        flat, text = s.start.ravel().tolist(), f"state {s.name}"
        places = _places("x", s.name, s.value)
        found += [
            Variable(name, "state", s.value.dtype, place, start, text)
            for name, place, start in zip(_names(s.name, s.value), places, flat, strict=True)
        ]
    return _different(found)


def _signals(signals: Signals, role: str, starts: list | None, limit: Range | None) -> list[Variable]:
    value, struct = signals.value, {"input": "u", "output": "y"}[role]
    own = _names(signals.name, value)
    labels = signals.labels or own
    units = signals.units or ("",) * value.size
    if signals.labels is None:
        places = _places(struct, signals.name, value)
    else:
        places = [f"{struct}.{field}" for field in identifiers(signals.labels)]
    low, high = (np.full(value.size, end) for end in (-np.inf, np.inf)) if limit is None else limit
    return [
        Variable(
            _plain(labels[k]) or own[k], role, value.dtype, places[k], None if starts is None else starts[k],
            f"{role} {own[k]}" + (", 1 where measured, else 0" if k in signals.flags else ""), _plain(units[k]),
            float(low[k]), float(high[k]), k in signals.flags,
        )
        for k in range(value.size)
    ]  # fmt: skip


def _names(base: str, value: Value) -> list[str]:
    """Return a name for each entry: `u[1]`, `p[1,2]`, and the array's own where there is one entry."""
    if value.size == 1:
        return [base]
    return [f"{base}[{','.join(str(i + 1) for i in at)}]" for at in np.ndindex(value.shape)]


def _places(struct: str, base: str, value: Value) -> list[str]:
    if value.size == 1:
        return [f"{struct}.{base}"]
    return [f"{struct}.{base}[{k}]" for k in range(value.size)]


def _plain(text: str) -> str:
    """Return a text without what a name in a unit must not have: control characters and spaces at its ends."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+", " ", text).strip()


def _different(found: Sequence[Variable]) -> list[Variable]:
    """Return variables of different names: one that others have too, or the time has, gets its struct's letter in front."""
    counts = collections.Counter([TIME.name, *(v.name for v in found)])
    named: dict[str, Variable] = {}
    for v in found:
        name = v.name if counts[v.name] == 1 else f"{v.place[0]}.{v.name}"
        while name in named or (name != v.name and counts[name]):
            name += "_"
        named[name] = v._replace(name=name)
    return list(named.values())
