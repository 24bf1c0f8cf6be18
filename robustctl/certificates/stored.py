"""Text of what was proven: JSON with a format version, refused where it is not what was written."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import RobustctlError
from ..store.json_text import json_text

_T = TypeVar("_T")

FORMAT = 1


def to_text(fields: dict[str, Any]) -> str:
    """Return fields as JSON text with the format's version; numbers keep all their digits."""
    return json_text(fields | {"format": FORMAT})


def from_text(text: str, make: Callable[[dict[str, Any]], _T]) -> _T:
    """Return what `make` makes of the fields that `to_text` wrote.

    **Raises:** `RobustctlError` for text that it did not write, or of another format version.
    """
    try:
        fields = json.loads(text)
        version = fields.pop("format")
        if version != FORMAT:
            raise RobustctlError(f"the certificate must be of format {FORMAT}, got {version}; certify again")
        return make(fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RobustctlError(
            f"a certificate must be the JSON that to_json writes, got text that fails with: {error}"
        ) from error


def infinite(value: float | None) -> float:
    """Return a number of JSON, in which null stands for infinity."""
    return float("inf") if value is None else float(value)
