"""A graph of ONNX while the operations of a program are added to it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..runtime.program import Block, Operation, Value, dtypes_of, registers

KINDS: dict[str, Callable[["Graph", Operation], None]] = {}
"""What adds an operation, by its kind."""
adds = registers(KINDS)
NAMES = tuple[str, ...]


class Graph:
    """Collects nodes; what a block of the program computes is a graph inside.

    **Arguments:**

    - `onnx`: the package of that name.
    - `dtype`: of the program's floats.
    """

    def __init__(self, onnx: Any, dtype: str):
        self.onnx, self.dtypes = onnx, dtypes_of(dtype)
        self.nodes: list[Any] = []
        self.constants: dict[Any, Any] = {}
        self.names: dict[Value, str] = {}
        self.count = 0

    def name(self, letter: str = "t") -> str:
        """Return a name that nothing else in the graph has."""
        self.count += 1
        return f"{letter}{self.count}"

    def kind(self, dtype: str) -> int:
        """Return ONNX's number of a dtype, as in a program."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(self.dtypes[dtype])

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return that output's name."""
        return self.add_all(op, inputs, 1, **attributes)[0]

    def add_all(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> NAMES:
        """Add a node, and return its outputs' names."""
        names = tuple(self.name() for _ in range(outputs))
        self.nodes.append(self.onnx.helper.make_node(op, inputs, names, **attributes))
        return names

    def constant(self, array: Any, dtype: str) -> str:
        """Return a constant's name; equal ones are one."""
        array = np.array(array, self.dtypes[dtype], order="C")
        key = dtype, array.shape, array.tobytes()
        if key not in self.constants:
            self.constants[key] = self.onnx.numpy_helper.from_array(array, self.name("c"))
        return self.constants[key].name

    def integers(self, numbers: Iterable[int]) -> str:
        """Return a list of integers, as ONNX takes shapes and axes."""
        return self.constant([int(n) for n in numbers], "int64")

    def ref(self, value: Value) -> str:
        """Return a value's name."""
        if value.data is not None:
            return self.constant(value.data, value.dtype)
        return self.names[value]

    def refs(self, values: Iterable[Value]) -> list[str]:
        """Return the names of values."""
        return [self.ref(value) for value in values]

    def info(self, name: str, value: Value, *, time: bool = False, text: str = "") -> Any:
        """Return an input or output of a graph; `time` for a sequence of them."""
        shape = (*(["time"] if time else []), *value.shape)
        return self.onnx.helper.make_tensor_value_info(name, self.kind(value.dtype), shape, text)

    def operations(self, operations: Iterable[Operation]) -> None:
        """Add operations in order."""
        for operation in operations:
            KINDS[operation.kind](self, operation)

    def inside(self, inputs: Sequence[tuple[str, Value]], make: Callable[[], Sequence[tuple[str, Value]]]) -> Any:  # fmt: skip
        """Return a separate graph of what `make` adds and returns."""
        outer, self.nodes = self.nodes, []
        outputs = [(self.add("Identity", name), value) for name, value in make()]
        infos = [[self.info(name, value) for name, value in pairs] for pairs in (inputs, outputs)]
        made = self.onnx.helper.make_graph(self.nodes, self.name("g"), *infos)
        self.nodes = outer
        return made

    def block(self, block: Block, more: Sequence[tuple[str, Value]] = ()) -> Any:
        """Return a block as a graph, with `more` inputs behind its own that it does not read."""
        inputs = [(self.name("i"), value) for value in block.inputs]
        self.names.update((value, name) for name, value in inputs)

        def make() -> list[tuple[str, Value]]:
            self.operations(block.operations)
            return [(self.ref(value), value) for value in block.outputs]

        return self.inside([*inputs, *more], make)
