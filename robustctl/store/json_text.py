"""Standard JSON: numbers that are not finite become null."""

import json
import math
from pathlib import Path
from typing import Any

from .atomic import write_atomic


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return dictionaries, lists, numbers and text as JSON; NaN and infinity become null."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def write_json(target: Path, value: Any) -> None:
    """Replace the file by a value as indented JSON, whole or not at all (`write_atomic`)."""
    write_atomic(target, (json_text(value, indent=2) + "\n").encode())


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the object of a JSON text.

    **Raises:** `ValueError` for anything else: another value, bytes that are no UTF-8 and too deep a nesting included.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"it must be an object, got {found!r:.60}")
    return found


def finite(value: Any) -> Any:
    """Return the value with None for every number in it that is not finite, and lists for tuples."""
    match value:
        case dict():
            return {k: finite(v) for k, v in value.items()}
        case list() | tuple():
            return [finite(v) for v in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
