"""Entries of JSON objects that others may have written; without any library, for what must import quickly."""

from typing import Any, TypeVar

Kind = TypeVar("Kind")


def entry(value: Any, name: str, kind: type[Kind]) -> Kind | None:
    """Return an entry of a JSON object; None where the value is no object, or its entry is missing or of another class."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, kind) else None
