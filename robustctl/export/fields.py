"""The members of the structs in C of a step's inputs and outputs, one for each number, with all that is known of it."""

from typing import NamedTuple

import numpy as np

from ..data.record_checks import MEASURED
from ..runtime.program import Program, Signals
from .c_text import comment, identifiers
from .limits import Known


class Field(NamedTuple):
    """A number among the inputs or outputs.

    **Arguments:**

    - `place`: its member of the struct: `valve_1`, `u[0]`.
    - `name`: an identifier for it: `valve_1`, `u_0`.
    - `array`: the array that it belongs to.
    - `label`: what its user calls it.
    - `unit`: of its values, "" where unknown.
    - `kind`: dtype, as in a program.
    - `notes`: what is known of its values, in words.
    - `flag`: whether it is 0 or 1.
    - `of`: of a flag that states whether another input was measured, the name of that input, else "".
    """

    place: str
    name: str
    array: str
    label: str
    unit: str
    kind: str
    notes: tuple[str, ...] = ()
    flag: bool = False
    of: str = ""

    @property
    def about(self) -> str:
        """Name, unit and range in words."""
        flag = ["1 where measured, else 0"] if self.flag else []
        unit = [f"[{self.unit}]"] if self.unit else []
        return " ".join([self.label, *unit]) + "".join(f", {note}" for note in (*flag, *self.notes))


def inputs_of(program: Program, known: Known) -> list[Field]:
    """Return the inputs."""
    found = [field for signals in program.inputs for field in _fields(signals, known)]
    names = {field.label: field.name for field in found}
    return [
        f._replace(
            of=names.get(f.label.removesuffix(MEASURED), "") if f.flag and f.label.endswith(MEASURED) else ""
        )
        for f in found
    ]


def outputs_of(program: Program, known: Known) -> list[Field]:
    """Return the outputs."""
    return [field for signals in program.outputs for field in _fields(signals, known)]


def _fields(signals: Signals, known: Known) -> list[Field]:
    value, base = signals.value, signals.name
    if signals.labels is not None:
        places = names = identifiers(signals.labels)
        labels = signals.labels
    elif value.size == 1:
        places = names = labels = [base]
    else:
        places = [f"{base}[{k}]" for k in range(value.size)]
        names = [f"{base}_{k}" for k in range(value.size)]
        labels = places
    units = signals.units or ("",) * value.size
    return [
        Field(
            places[k],
            names[k],
            base,
            labels[k],
            units[k],
            value.dtype,
            tuple(known.notes(signals, k)),
            k in signals.flags,
        )
        for k in range(value.size)
    ]


def limit_macros(program: Program, known: Known, suffix: str) -> list[str]:
    """Return the known ends of ranges as constants of C; `suffix`: f for floats."""
    used: set[str] = set()
    lines = []
    for signals in (*program.inputs, *program.outputs):
        names = [field.name for field in _fields(signals, known)]
        for _, kind, found in known.kinds(signals):
            for k, name in enumerate(names):
                for end, value in zip(("LOW", "HIGH"), found.of(k), strict=True):
                    macro = f"{program.name.upper()}_{name.upper()}{kind}_{end}"
                    while macro in used:
                        macro += "_"
                    if np.isfinite(value):
                        used.add(macro)
                        lines.append(f"#define {macro} {_number(value, suffix)}")
    return [comment("Ends of the ranges of signals, in their units."), *lines, ""] if lines else []


def _number(value: float, suffix: str) -> str:
    text = f"{np.float32(value)!s}f" if suffix else repr(value)
    return f"({text})" if value < 0 else text
