"""Export to `robustctl.runtime`: Python with NumPy alone."""

import os
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from ..runtime.file import FILE
from ..runtime.text import to_json
from ..store.atomic import write_atomic
from ..store.container import pack
from ..system import Parameterization, System
from .trace import program


def runtime(
    system: System | Parameterization,
    path: str | os.PathLike[str],
    *,
    name: str = "model",
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
) -> Path:
    """Write a system's step as one file for `robustctl.runtime.load`, which needs NumPy alone, and return the file's path.

    The file holds the step as data, operations from a fixed list and arrays, under a sha256; nothing in it is run or imported.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken.
    - `path`: the file, or an existing folder, in which it is then `program.safetensors`.
    - `name`: an identifier.
    - `dtype`: `float32` or `float64`, to which its arrays are rounded; default that of its arrays.
    - `u`: one sample of the input, whose shapes count; needed for a system without `nu`.
    - `dt`: sample time in seconds; default the system's own.

    **Raises:** `InvalidModelError` for all that `program` refuses; `OSError` where the file cannot be written.

    **Example:** ::

        import robustctl.runtime
        path = rc.export.runtime(rc.classical.PID(2.0, 1.0, dt=0.1), "pid.safetensors")
        step = robustctl.runtime.load(path)
        x, control = step(step.init_state(), np.array([0.2, 0.0]))
    """
    path = Path(os.path.realpath(path))
    path = path / FILE if path.is_dir() else path
    header, arrays = to_json(program(system, name=name, dtype=dtype, u=u, dt=dt))
    write_atomic(path, pack({"program": header}, arrays))
    return path
