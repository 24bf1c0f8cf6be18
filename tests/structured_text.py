"""A small interpreter of structured text: as much of IEC 61131-3 as exported function blocks use."""

import re
from typing import Any

import numpy as np

_WORDS = {
    "<>": "!=", " = ": " == ", "AND": "and", "OR": "or", "XOR": "^", "NOT": "not ", "TRUE": "True", "FALSE": "False",
}  # fmt: skip
_NUMBER = re.compile(r"\b\d+\.\d+(?:E[+-]?\d+)?")


def _python(expression: str) -> str:
    pattern = r"<>| = |\b(?:AND|OR|XOR|NOT|TRUE|FALSE)\b"
    words = re.sub(pattern, lambda match: _WORDS[match[0]], expression)
    return _NUMBER.sub(lambda match: f"R({match[0]})", words)


class Block:
    """A function block; inputs and outputs are variables."""

    def __init__(self, text: str):
        text = re.sub(r"\(\*.*?\*\)", "", text)
        assert text.isascii() and "__" not in text
        real = np.float64 if "LREAL" in text else np.float32
        self.types = {"REAL": real, "LREAL": real, "DINT": int, "LINT": int, "BOOL": bool}
        self.names: dict[str, Any] = {
            "R": real, "SEL": lambda g, a, b: b if g else a, "MAX": max, "MIN": min, "ABS": abs, "SQRT": np.sqrt, "EXP": np.exp,
            "DINT_TO_REAL": real, "DINT_TO_LREAL": real,
        }  # fmt: skip
        head, body = re.split(r"END_VAR\n\n", text)
        for name, kind, start in re.findall(r"^\s+(\w+) : ([^:;]+?)(?: := (.*))?;", head, re.MULTILINE):
            assert name.lower() not in map(str.lower, self.names), f"{name} is declared twice"
            self.names[name] = self._start(kind, start)
        self.inputs = re.findall(r"^\s+(u_\w+) :", head, re.MULTILINE)
        self.outputs = re.findall(r"^\s+(y_\w+) :", head, re.MULTILINE)
        self.code = compile("\n".join(self._lines(body)), "block", "exec")

    def _start(self, kind: str, start: str) -> Any:
        found = re.fullmatch(r"ARRAY\[0\.\.(\d+)\] OF (\w+)", kind)
        numbers = eval(_python(start), {"R": self.types["REAL"]}) if start else None
        if found is None:
            return self.types[kind](0 if numbers is None else numbers)
        length, of = int(found[1]) + 1, self.types[found[2]]
        assert numbers is None or len(numbers) == length
        return [of(x) for x in (numbers or [0] * length)]

    def _lines(self, body: str):
        depth = 0
        for line in map(str.strip, body.splitlines()):
            if line in ("END_FOR;", "END_IF;"):
                depth -= 1
            elif loop := re.fullmatch(r"FOR (\w+) := (\d+) TO (\d+) DO", line):
                yield "    " * depth + f"for {loop[1]} in range({loop[2]}, {loop[3]} + 1):"
                depth += 1
            elif line == "IF reset THEN":
                yield "    " * depth + "if reset:"
                depth += 1
            elif line and line != "END_FUNCTION_BLOCK":
                target, expression = re.fullmatch(r"([\w\[\]+* -]+) := (.*);", line).groups()  # pyright: ignore
                yield "    " * depth + f"{target} = {_python(expression)}"
        assert depth == 0

    def __call__(self, u, reset: bool = False) -> list:
        """Call it once and return the outputs."""
        self.names |= dict(zip(self.inputs, u, strict=True)) | {"reset": reset}
        exec(self.code, self.names)
        return [self.names[name] for name in self.outputs]
