"""A program as JSON and arrays, and back."""

import math
from typing import Any

import numpy as np

from ..errors import ModelFileError
from .check import check
from .program import DTYPES, Block, Operation, Program, Signals, State, Value, dtypes_of

VERSION = 1
_PARAMS: dict[str, tuple[str, ...]] = {
    "transpose": ("axes",), "broadcast": ("axes",), "slice": ("start", "stop", "step"), "reverse": ("axes",),
    "concatenate": ("axis",), "reduce": ("how", "axis"), "arg": ("how", "axis"), "cumulate": ("how", "axis", "reverse"),
    "sort": ("axis",), "put": ("how",), "dynamic_slice": ("sizes",), "triangular_solve": ("lower", "unit"),
    "loop": ("body", "length", "reverse", "carries"), "while": ("condition", "body", "most"), "branch": ("branches",),
}  # fmt: skip
"""Names of the params of each kind that has some."""
_KINDS = {
    **dict.fromkeys(("axes", "start", "stop", "step", "sizes"), int), "branches": Block, "body": Block, "condition": Block,
    **dict.fromkeys(("axis", "length", "carries", "most"), int), "how": str, **dict.fromkeys(("reverse", "lower", "unit"), bool),
}  # fmt: skip
"""What a param is, or a tuple of it."""
_TUPLES = ("axes", "start", "stop", "step", "sizes", "branches")
_DEEPEST = 16
MOST_ENTRIES = 2**31
"""Of an array."""


class _Writer:
    def __init__(self):
        self.numbers: dict[Value, int] = {}
        self.types: list[list] = []
        self.arrays: dict[str, np.ndarray] = {}

    def value(self, value: Value) -> int:
        if value not in self.numbers:
            number = self.numbers[value] = len(self.types)
            self.types.append([list(value.shape), value.dtype, value.data is not None])
            if value.data is not None:
                self.arrays[f"value.{number}"] = np.asarray(value.data)
        return self.numbers[value]

    def values(self, values: tuple[Value, ...]) -> list[int]:
        return [self.value(value) for value in values]

    def operation(self, op: Operation) -> dict:
        params = {name: self.param(op.params[name]) for name in _PARAMS.get(op.kind, ())}
        return {
            "kind": op.kind,
            "operands": self.values(op.operands),
            "results": self.values(op.results),
            **params,
        }

    def param(self, param: Any) -> Any:
        match param:
            case Block():
                operations = [self.operation(op) for op in param.operations]
                return {
                    "inputs": self.values(param.inputs),
                    "operations": operations,
                    "outputs": self.values(param.outputs),
                }
            case tuple():
                return [self.param(each) for each in param]
            case _:
                return param

    def signals(self, signals: Signals) -> dict:
        return {
            "name": signals.name, "value": self.value(signals.value), "labels": signals.labels, "units": signals.units,
            "flags": signals.flags,
        }  # fmt: skip


def to_json(program: Program) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a program as what JSON can hold, and its arrays by name."""
    w, state = _Writer(), []
    for k, s in enumerate(program.state):
        w.arrays[f"start.{k}"] = s.start
        state.append({"name": s.name, "value": w.value(s.value), "after": w.value(s.after)})
    found = {
        "version": VERSION, "name": program.name, "dt": program.dt, "dtype": program.dtype, "state": state,
        "inputs": [w.signals(s) for s in program.inputs], "outputs": [w.signals(s) for s in program.outputs],
        "operations": [w.operation(op) for op in program.operations],
    }  # fmt: skip
    return found | {"values": w.types}, w.arrays


class _Reader:
    def __init__(self, types: Any, arrays: dict[str, np.ndarray], dtype: str):
        self.arrays, self.dtypes = arrays, dtypes_of(dtype)
        self.all = [self.made(k, *each) for k, each in enumerate(types)]

    def made(self, k: int, shape: list, dtype: str, constant: bool) -> Value:
        fits = dtype in DTYPES and all(_whole(n, 1) for n in shape) and math.prod(shape) <= MOST_ENTRIES
        _need(fits, f"value {k} must have a dtype and a shape of at most {MOST_ENTRIES} entries")
        return Value(tuple(shape), dtype, self.array(f"value.{k}", tuple(shape), dtype) if constant else None)

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        found = self.arrays.get(name)
        wanted = self.dtypes[dtype]
        fits = found is not None and found.shape == shape and found.dtype == wanted
        _need(fits, f"{name} must be an array of shape {shape} and dtype {wanted}")
        # A single NaN is what an index outside an array gives.
        _need(found.size == 1 or not np.isnan(found).any(), f"{name} must have no NaN")  # pyright: ignore
        return found  # pyright: ignore[reportReturnType]

    def value(self, number: Any) -> Value:
        _need(_whole(number, 0) and number < len(self.all), f"a value must be one of {len(self.all)}")
        return self.all[number]

    def values(self, numbers: Any) -> tuple[Value, ...]:
        return tuple(self.value(number) for number in numbers)

    def operation(self, node: dict, depth: int = 0) -> Operation:
        _need(depth < _DEEPEST, f"loops must be at most {_DEEPEST} deep")
        kind, names = node["kind"], _PARAMS.get(node["kind"], ())
        _need(
            node.keys() == {"kind", "operands", "results", *names},
            f"{kind!r:.40} must have {', '.join(names) or 'no params'}",
        )
        params = {name: self.param(name, node[name], depth) for name in names}
        return Operation(kind, self.values(node["operands"]), self.values(node["results"]), params)

    def param(self, name: str, node: Any, depth: int) -> Any:
        found = (
            tuple(self.block(each, depth) for each in node) if name in _TUPLES else self.block(node, depth)
        )
        several = found if name in _TUPLES else (found,)
        _need(
            all(type(each) is _KINDS[name] for each in several),
            f"{name} must be of the kind {_KINDS[name].__name__}",
        )
        return found

    def block(self, node: Any, depth: int) -> Any:
        """Return a block; anything else is itself."""
        if type(node) is not dict:
            return node
        operations = tuple(self.operation(each, depth + 1) for each in node["operations"])
        return Block(self.values(node["inputs"]), operations, self.values(node["outputs"]))

    def signals(self, node: dict) -> Signals:
        value = self.value(node["value"])
        for key in ("labels", "units"):
            given = node[key]
            texts = given is None or (len(given) == value.size and all(type(text) is str for text in given))
            _need(texts, f"{key} must be one text for each of {value.size} entries")
        _need(all(_whole(k, 0) and k < value.size for k in node["flags"]), "flags must be positions")
        labels, units = (node[key] if node[key] is None else tuple(node[key]) for key in ("labels", "units"))
        return Signals(str(node["name"]), value, labels, units, tuple(node["flags"]))

    def state(self, k: int, node: dict) -> State:
        value, after = self.value(node["value"]), self.value(node["after"])
        return State(str(node["name"]), value, after, self.array(f"start.{k}", value.shape, value.dtype))


def from_json(node: Any, arrays: dict[str, np.ndarray]) -> Program:
    """Return the program that `to_json` wrote, checked.

    **Raises:** `ModelFileError` for anything else.
    """
    try:
        version, dt, dtype = node["version"], node["dt"], node["dtype"]
        _need(
            version == VERSION,
            f"the program's version must be {VERSION}, got {version!r:.20}: use the robustctl that wrote it",
        )
        _need(dtype in ("float32", "float64"), "the dtype must be float32 or float64")
        _need(
            dt is None or (type(dt) in (int, float) and 0 < dt < float("inf")),
            "dt must be a positive number of seconds",
        )
        r = _Reader(node["values"], arrays, dtype)
        program = Program(
            str(node["name"]), dt, dtype, tuple(r.state(k, each) for k, each in enumerate(node["state"])),
            tuple(map(r.signals, node["inputs"])), tuple(map(r.signals, node["outputs"])), tuple(map(r.operation, node["operations"])),
        )  # fmt: skip
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise ModelFileError(
            f"a program must be what rc.export.runtime writes, got one that fails with {error!r:.200}; export the system again"
        ) from error
    check(program)
    return program


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise ModelFileError(f"{message}; export the system again")


def _whole(number: Any, least: int) -> bool:
    return type(number) is int and number >= least
