"""A step in C as the code around it needs it: its signals, and conversions of them from and to double."""

import dataclasses
import re
from collections.abc import Sequence
from functools import cached_property

from ..runtime.program import Program
from .fields import Field, inputs_of, outputs_of
from .fixed_folder import real_of
from .fixed_lower import Lowered
from .limits import Known
from .targets import sampled_every


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """A step to be called.

    **Arguments:**

    - `program`: the step.
    - `low`: its formats, None where it computes with floats.
    - `known`: what is known of its signals.
    """

    program: Program
    low: Lowered | None
    known: Known

    @property
    def name(self) -> str:
        """What all names in the code begin with."""
        return self.program.name

    @property
    def dt(self) -> float:
        """Sample time in seconds."""
        return sampled_every(self.program)

    @cached_property
    def inputs(self) -> list[Field]:
        """The inputs, a number each."""
        return inputs_of(self.program, self.known)

    @cached_property
    def outputs(self) -> list[Field]:
        """The outputs, a number each."""
        return outputs_of(self.program, self.known)

    def assigned(self, field: Field, struct: str, double: str) -> str:
        """Return the statement that gives a field of a struct the value of an expression of type double."""
        if self._is_fixed(field):
            value = f"{self.name}_integer(({self._real}){double}, {self._scale(field)})"
        elif field.kind == "bool":
            value = f"{double} != 0.0"
        else:
            value = f"({self._types[field.kind]}){double}"
        return f"{struct}{field.place} = {value};"

    def number(self, field: Field, struct: str) -> str:
        """Return an expression of type double for a field of a struct."""
        place = f"{struct}{field.place}"
        if self._is_fixed(field):
            return f"(double){self.name}_number({place}, {self._scale(field)})"
        return f"({place} ? 1.0 : 0.0)" if field.kind == "bool" else f"(double){place}"

    def _is_fixed(self, field: Field) -> bool:
        return self.low is not None and field.array in self.low.fractions

    def _scale(self, field: Field) -> str:
        return f"{self.name.upper()}_{field.array.upper()}_SCALE"

    @property
    def _real(self) -> str:
        return real_of(self.low) if self.low is not None else ""

    @property
    def _types(self) -> dict[str, str]:
        return {
            "float": "double" if self.program.dtype == "float64" else "float", "int32": "int32_t", "int64": "int64_t",
        }  # fmt: skip


def filled(template: str, w: Wrapped, **lines: Sequence[str]) -> str:
    """Return a text with `NAME` and each line that is a word in angle brackets replaced, indented as the word is.

    **Arguments:**

    - `template`: the text.
    - `w`: whose name it has.
    - `lines`: for each word.
    """
    found = []
    for line in template.splitlines():
        word = line.strip()
        if word.startswith("<") and word.endswith(">") and word[1:-1] in lines:
            indent = line[: len(line) - len(line.lstrip())]
            found += [f"{indent}{text}" if text else "" for text in lines[word[1:-1]]]
        else:
            upper = re.sub(r"(?<![A-Z_])NAME_UPPER", w.name.upper(), line)
            found.append(re.sub(r"(?<![A-Za-z_])NAME(?![A-Z])", w.name, upper))
    return "\n".join(found) + "\n"


def table(w: Wrapped) -> list[str]:
    """Return the signals as a table of Markdown."""
    rows = [("input", f) for f in w.inputs] + [("output", f) for f in w.outputs]
    plain = [
        (
            what,
            f.name,
            f.label,
            f.unit,
            "; ".join([*(["1 where measured, else 0"] if f.flag else []), *f.notes]),
        )
        for what, f in rows
    ]
    return [
        "| | name | signal | unit | values |", "|---|---|---|---|---|",
        *("| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in row) + " |" for row in plain),
    ]  # fmt: skip
