"""Pieces of C: numbers, names, comments, and sums that are indices."""

import re

import numpy as np

from .trace import KEYWORDS

Index = int | str
"""A known index, or an expression for one."""


def plus(a: Index, b: Index) -> Index:
    """Return a sum of indices."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0:
        return b
    if isinstance(b, str) and b.startswith("-"):
        return f"{a} - {b[1:]}"
    return a if b == 0 else f"{a} + {b}"


def times(n: int, a: Index) -> Index:
    """Return a multiple of an index."""
    if n == 0:
        return 0
    if isinstance(a, int):
        return n * a
    inside = a if a.isidentifier() else f"({a})"
    return a if n == 1 else f"-{inside}" if n == -1 else f"{n} * {inside}"


def number(value: float | int | bool, dtype: str, double: bool) -> str:
    """Return a constant, every bit of it.

    **Arguments:**

    - `value`: the number.
    - `dtype`: as in a program.
    - `double`: whether the program's floats are doubles.
    """
    if dtype == "bool":
        return "true" if value else "false"
    if dtype != "float":
        return _integer(int(value), dtype)
    value, suffix = float(value), "" if double else "f"
    if np.isnan(value):
        return "(double)NAN" if double else "NAN"
    if np.isinf(value):
        return ("-" if value < 0 else "") + ("HUGE_VAL" if double else "HUGE_VALF")
    if value == int(value) and abs(value) <= 1024 and not (value == 0 and np.signbit(value)):
        return f"{int(value)}.0{suffix}"
    return re.sub(r"\.?0*p", "p", value.hex()) + suffix


def _integer(value: int, dtype: str) -> str:
    least = -(2**31) if dtype == "int32" else -(2**63)
    if value == least:  # its absolute value is no constant of its type
        return f"({_integer(value + 1, dtype)} - 1)"
    return str(value) if dtype == "int32" else f"INT64_C({value})"


def comment(text: str) -> str:
    """Return a comment in which nothing ends or begins another one."""
    clean = re.sub(r"[^\x20-\x7e\u00a0-\uffff]|\?\?|\\", " ", text).replace("*/", "* /").replace("/*", "/ *")
    return f"/* {clean.strip()} */"


def identifiers(labels: tuple[str, ...]) -> list[str]:
    """Return a different identifier for each label, as close to it as C allows."""
    names: list[str] = []
    for label in labels:
        name = re.sub(r"\W+", "_", label, flags=re.ASCII).strip("_")
        if not name or name[0].isdigit():
            name = f"s{name}"
        while name in names or name in KEYWORDS:
            name += "_"
        names.append(name)
    return names


def bare(expression: str) -> str:
    """Return an expression without parentheses around all of it."""
    if not expression.startswith("(") or not expression.endswith(")"):
        return expression
    depth = 0
    for at, letter in enumerate(expression):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return expression[1:-1] if at == len(expression) - 1 else expression
    return expression
