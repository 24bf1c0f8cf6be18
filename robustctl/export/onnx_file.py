"""Export to ONNX."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from ..errors import InvalidModelError
from ..runtime.program import Program, Signals, State
from ..system import Parameterization, System
from . import onnx_kinds, onnx_loops, onnx_shapes  # noqa: F401  # registers what they add
from .onnx_graph import Graph
from .targets import needed, new_file
from .trace import program

OPSET = 18
IR = 8
"""Of the file's format; the one that came with the set of operators, which older readers take too."""


def onnx(
    system: System | Parameterization,
    path: str | os.PathLike[str],
    *,
    name: str = "model",
    sequence: bool = False,
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
) -> Path:
    """Write a system's step as a model of ONNX, and return the file.

    ::

        x, u -> y, next_x,     and with `sequence`    x, u (time, ...) -> y (time, ...), next_x after the last sample

    The inputs are the arrays of the state, `x` or `x_` and their names, then those of the input, `u`; the outputs are `y` and the
    state after the sample, `next_x`. The entry `robustctl` of the metadata, in JSON, has the sample time, the names and units of the
    signals, and `start`, where each array of the state starts.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken.
    - `path`: a file that ends in `.onnx`, or a folder for `NAME.onnx`.
    - `name`: an identifier.
    - `sequence`: whether the model runs over a whole sequence of inputs, time first, in place of one sample.
    - `dtype`: `float32` or `float64`; default that of its arrays. onnxruntime lacks some functions in float64, `tan` and `atan` among
      them.
    - `u`: one sample of the input, whose shapes count; needed for a system without `nu`.
    - `dt`: sample time in seconds; default the system's own.

    **Raises:** `InvalidModelError` for a file that exists, a sequence of a system without inputs, and all that `program` refuses;
    `RobustctlError` without the package onnx.

    **Example:** ::

        import tempfile
        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        file = rc.export.onnx(pid, tempfile.mkdtemp(), name="pid")
        assert file.name == "pid.onnx"
    """
    package = needed("onnx", "rc.export.onnx")
    file = new_file(path, name, ".onnx")
    made = program(system, name=name, dtype=dtype, u=u, dt=dt)
    if sequence and not made.inputs:
        raise InvalidModelError(
            "a sequence must be one of inputs, and the system has none; leave sequence out"
        )
    model = _model(package, made, sequence)
    package.checker.check_model(model, full_check=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString())
    return file


def _model(package: Any, made: Program, sequence: bool) -> Any:
    g = Graph(package, made.dtype)
    if sequence:
        _scanned(g, made)
    else:
        g.names.update((part.value, part.name) for part in (*made.state, *made.inputs))
        g.operations(made.operations)
        for value, name in (
            *((o.value, o.name) for o in made.outputs),
            *((s.after, _next(s)) for s in made.state),
        ):
            g.nodes.append(package.helper.make_node("Identity", [g.ref(value)], [name]))

    def infos(signals: Sequence[Signals]) -> list[Any]:
        return [g.info(s.name, s.value, time=sequence, text=", ".join(s.described)) for s in signals]

    before = [g.info(s.name, s.value, time=False, text="") for s in made.state]
    after = [g.info(_next(s), s.value, time=False, text="") for s in made.state]
    ends = [*before, *infos(made.inputs)], [*infos(made.outputs), *after]
    graph = package.helper.make_graph(g.nodes, made.name, *ends, initializer=[*g.constants.values()])
    opset = package.helper.make_opsetid("", OPSET)
    model = package.helper.make_model(
        graph, opset_imports=[opset], ir_version=IR, producer_name="robustctl", model_version=1
    )
    package.helper.set_model_props(model, {"robustctl": _about(made)})
    return model


def _scanned(g: Graph, made: Program) -> None:
    """Add a scan over the samples, whose body is the step."""
    parts = [*made.state, *made.inputs]
    inputs = [(g.name("i"), part.value) for part in parts]
    g.names.update((value, name) for name, value in inputs)

    def make() -> list[tuple[str, Any]]:
        g.operations(made.operations)
        return [(g.ref(v), v) for v in (*(s.after for s in made.state), *(o.value for o in made.outputs))]

    body = g.inside(inputs, make)
    results = [*map(_next, made.state), *(o.name for o in made.outputs)]
    names = [part.name for part in parts]
    count = len(made.inputs)
    g.nodes.append(g.onnx.helper.make_node("Scan", names, results, body=body, num_scan_inputs=count))


def _next(state: State) -> str:
    return f"next_{state.name}"


def _about(made: Program) -> str:
    signals = {
        s.name: {"names": s.labels, "units": s.units, "flags": s.flags} for s in (*made.inputs, *made.outputs)
    }
    start = {s.name: s.start.tolist() for s in made.state}
    return json.dumps({"dt": made.dt, "dtype": made.dtype, "signals": signals, "start": start})
