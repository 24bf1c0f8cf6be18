"""Export to MATLAB and GNU Octave."""

import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ..errors import InvalidModelError
from ..runtime.program import Program, Signals, State
from ..system import Parameterization, System, explicit_of
from . import matlab_kinds, matlab_loops  # noqa: F401  # registers what they print
from .matlab_print import Script
from .targets import check_folder, write_texts
from .trace import program

_LONGEST = 63
"""Letters of a name in MATLAB."""


def matlab(
    system: System | Parameterization,
    folder: str | os.PathLike[str],
    *,
    name: str = "model",
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
) -> Path:
    """Write a system's step as functions of MATLAB, which GNU Octave runs too, and return the folder.

    ::

        state = NAME_init();
        [state, outputs] = NAME_step(state, inputs);      once a sample

    `inputs` and `outputs` are columns, structs of columns where the system has several arrays; `help NAME_step` names their entries
    with units. `NAME.mat` has the constants of the step, `matrices`, the system's own arrays by their names, and `dt`. Arrays of
    more than one axis are columns too, row after row. Integers are doubles.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken.
    - `folder`: a new or empty folder.
    - `name`: an identifier, with which the functions' names begin.
    - `dtype`: `float32` or `float64`, to which its arrays are rounded; default that of its arrays.
    - `u`: one sample of the input, whose shapes count; needed for a system without `nu`.
    - `dt`: sample time in seconds; default the system's own.

    **Raises:** `InvalidModelError` for a folder in use, a name that is too long, and all that `program` refuses.

    **Example:** ::

        import tempfile
        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        folder = rc.export.matlab(pid, tempfile.mkdtemp(), name="pid")
        assert "function [state, outputs] = pid_step" in (folder / "pid_step.m").read_text()
    """
    from scipy.io import savemat

    folder = Path(folder)
    check_folder(folder)
    made = program(system, name=name, dtype=dtype, u=u, dt=dt)
    _check_names(made)
    script = Script(made.dtype)
    step = _step(script, made)
    held = {"constants": script.constants} if script.constants else {}
    held |= {"state": {s.name: _column(s) for s in made.state}} if made.state else {}
    held |= {} if made.dt is None else {"dt": made.dt}
    matrices = _matrices(explicit_of(system))
    held |= {"matrices": matrices} if matrices else {}
    write_texts(folder, {f"{name}_step.m": step, f"{name}_init.m": _init(made)})
    savemat(folder / f"{name}.mat", held, oned_as="column", long_field_names=True)
    return folder


def _check_names(made: Program) -> None:
    parts = [f"{made.name}_step", *(part.name for part in (*made.state, *made.inputs, *made.outputs))]
    long = [part for part in parts if len(part) > _LONGEST]
    if long:
        raise InvalidModelError(
            f"names in MATLAB must have at most {_LONGEST} letters, got {long[0]}; give a shorter name=, or shorter names of fields"
        )


def _column(s: State) -> np.ndarray:
    """Return the start of a state as MATLAB keeps it: integers as doubles."""
    start = s.start.reshape(-1, 1)
    return start if s.value.dtype in ("float", "bool") else start.astype(float)


def _matrices(system: Any) -> dict[str, np.ndarray]:
    """Return the system's own arrays by their names."""
    found: dict[str, np.ndarray] = {}
    arrays = eqx.filter(system, eqx.is_array)
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        inside = jax.tree_util.keystr(path, simple=True, separator="_")
        label = re.sub(r"\W+", "_", inside, flags=re.ASCII).strip("_")[: _LONGEST - 4]
        label = label if label[:1].isalpha() else f"m{label}"
        while label in found:
            label += "_"
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            found[label] = np.asarray(leaf)
    return found


def _step(s: Script, made: Program) -> str:
    """Return the file of the step."""
    for part in made.state:
        s.names[part.value] = f"state.{part.name}"
    for part in made.inputs:
        _read(s, part, alone=len(made.inputs) == 1)
    s.operations(made.operations)
    after = [_held(s, part) for part in made.state]
    alone = len(made.outputs) == 1
    for part in made.outputs:
        target = "outputs" if alone else f"outputs.{part.name}"
        s.line(f"{target} = {s.viewed(s.ref(part.value), part.value.size, np.arange(part.value.size))};")
    for part, new in zip(made.state, after, strict=True):
        s.line(f"state.{part.name} = {new};")
    head = [f"function [state, outputs] = {made.name}_step(state, inputs)", *_help(made)]
    if s.constants:
        head += [
            "persistent c",
            "if isempty(c)",
            f"    found = {_load(made.name)};",
            "    c = found.constants;",
            "end",
        ]
    if not made.outputs:
        head.append("outputs = [];")
    helpers = ["\n" + text for text in s.helpers.values()]
    return "\n".join([*head, *(line[4:] for line in s.lines), "end", *helpers]) + "\n"


def _read(s: Script, part: Signals, *, alone: bool) -> None:
    """Print how an array of the input is read: as a column of its class, its length checked."""
    given, value = "inputs" if alone else f"inputs.{part.name}", part.value
    kind = {"float": s.real, "bool": "logical"}.get(value.dtype, "double")
    s.line(f"if numel({given}) ~= {value.size}, error('{given} must have {value.size} entries'), end")
    s.set(value, f"{kind}({given}(:))")


def _held(s: Script, part: State) -> str:
    """Return an array of the next state by a name that stays when the state is written."""
    new = s.ref(part.after)
    return s.assigned(new) if new.startswith("state.") and new != f"state.{part.name}" else new


def _init(made: Program) -> str:
    name = made.name
    body = [f"found = {_load(name)};", "state = found.state;"] if made.state else ["state = struct();"]
    text = f"%{name.upper()}_INIT The state that {name}_step starts from."
    return "\n".join([f"function state = {name}_init()", text, *body, "end"]) + "\n"


def _load(name: str) -> str:
    return f"load(fullfile(fileparts(mfilename('fullpath')), '{name}.mat'))"


def _help(made: Program) -> list[str]:
    """Return the comment that `help` shows."""
    every = "" if made.dt is None else f", every {made.dt!r} s"
    lines = [f"{made.name.upper()}_STEP One step of a discrete-time system{every}, made by robustctl."]
    lines.append(
        f"  [state, outputs] = {made.name}_step(state, inputs), the first state from {made.name}_init()."
    )
    for what, parts in (("inputs", made.inputs), ("outputs", made.outputs)):
        for part in parts:
            given = what if len(parts) == 1 else f"{what}.{part.name}"
            shape = " by ".join(map(str, part.value.shape)) or "1"
            lines.append(f"  {given}: {', '.join([shape, *part.described])}")
    return [f"%{re.sub(r'[^ -~]', ' ', line)}" for line in lines]
