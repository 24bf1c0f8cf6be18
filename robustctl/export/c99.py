"""Export to C99."""

import os
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from ..system import Parameterization, System, explicit_of
from .c_files import files
from .fixed import formats
from .fixed_folder import header_lines
from .fixed_formats import bits_of
from .limits import known, trained_of
from .targets import check_folder, sampled_every, write_texts
from .trace import program


def c(
    system: System | Parameterization,
    folder: str | os.PathLike[str],
    *,
    name: str = "model",
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
    own_functions: bool = True,
    log: PyTree = None,
) -> Path:
    """Write a system's step as C99, and return the folder.

    ::

        NAME_state state;
        NAME_init(&state);
        NAME_step(&state, &inputs, &outputs);      once a sample

    The folder then holds `NAME.h`, with the structs, names and units of the signals, and `NAME.c`. The code allocates nothing, has no
    globals that change, no recursion and no loop without a fixed bound; it calls nothing but functions of `math.h`. Sums run from the
    first term to the last. Comments and constants of the header have the limits of signals where they are known, and the range that a
    fitted model was trained in.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken.
    - `folder`: a new or empty folder.
    - `name`: an identifier, with which all names in the code begin, so that two models may be linked together.
    - `dtype`: `float32` or `float64`, to which its arrays are rounded; default that of its arrays. `q4` to `q31` for fixed point.
    - `u`: one sample of the input, whose shapes count; needed for a system without `nu`.
    - `dt`: sample time in seconds; needed where the system does not know its own.
    - `own_functions`: whether `exp` and `tanh` are written into the file, with errors below 2 and 3 units in the last place; else
      they are called from `math.h`.
    - `log`: in fixed point samples of the input, time first, for the formats; default proven ranges, else those of noise.

    **Raises:** `InvalidModelError` for a folder in use, an unknown sample time, and all that `program` refuses.

    **Example:** ::

        import tempfile
        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        folder = rc.export.c(pid, tempfile.mkdtemp(), name="pid")
        assert "void pid_step" in (folder / "pid.c").read_text()
    """
    folder = Path(folder)
    check_folder(folder)
    bits, more = bits_of(dtype), []
    if bits is None:
        made = program(system, name=name, dtype=dtype, u=u, dt=dt)
    else:
        low = formats(system, bits, name=name, u=u, dt=dt, log=log).low
        made, more = low.program, header_lines(low)
    sampled_every(made)
    ranges = known(explicit_of(system), made, trained_of(system))
    write_texts(folder, files(made, more, ranges, own_functions=own_functions))
    return folder
