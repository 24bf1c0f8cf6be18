"""The constants of a C file, read back and compared with those that it must contain."""

import re
from typing import NamedTuple

_TABLE = re.compile(r"static const \w+ (\w+)\[\d+\] =")
_NUMBER = re.compile(
    r"""(?<![\w.])                             # not inside a name or a longer number
    -?(?:0[xX][0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?(?:[pP][+-]?\d+)? | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fFlLuU]*""",
    re.VERBOSE,
)
_VERSION = re.compile(r"(?<=made by robustctl )[\w.+]+\.(?= )")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class Constant(NamedTuple):
    """A number of a C file: the table or line that contains it, its position there, and how it is written."""

    where: str
    text: str

    @property
    def value(self) -> float:
        """The number; a hexadecimal one is exact."""
        text = self.text.lower()
        if not text.lstrip("-").startswith("0x"):
            return float(text.rstrip("flu"))
        # Without an exponent an f is a digit.
        return float.fromhex(text.rstrip("fl" if "p" in text else "ul"))


def constants(source: str) -> list[Constant]:
    """Return every number of a C file in order, comments apart."""
    found, table, position = [], "", 0
    lines = _COMMENT.sub(lambda match: "\n" * match[0].count("\n"), source).splitlines()
    for number, line in enumerate(lines, 1):
        if match := _TABLE.search(line):
            table, position = match[1], 0
            line = line[match.end() :]
        for text in _NUMBER.findall(line):
            found.append(Constant(f"{table}[{position}]" if table else f"line {number}", text))
            position += 1
        if "}" in line:
            table = ""
    return found


def difference(given: str, expected: str) -> str:
    """Return in words the first constant by which a C file differs from the expected one, or the first line; empty where none does."""
    for has, wanted in zip(constants(given), constants(expected), strict=False):
        # As numbers: another way to write the same one changes nothing, and -0.0 is another one than 0.0.
        if has.where != wanted.where or has.value.hex() != wanted.value.hex():
            return f"{has.where} is {has.text}, and must be {wanted.text}"
    lines = [_VERSION.sub("", text).splitlines() for text in (given, expected)]
    for number, (has, wanted) in enumerate(zip(*lines, strict=False), 1):
        if has != wanted:
            return f"line {number} is {has.strip()!r}, and must be {wanted.strip()!r}"
    if len(lines[0]) != len(lines[1]):
        return f"it must have {len(lines[1])} lines, and has {len(lines[0])}"
    return ""
