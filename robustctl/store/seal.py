"""The checksum of a file of arrays, over all of its bytes; without any library, for what must import quickly."""

import re
from typing import Any

from ..errors import ModelFileError

KEY = "robustctl"
BLANK = "0" * 64
_SEAL = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"')


def seal(blank: bytes) -> bytes:
    """Return the file's bytes with their checksum in place of the zeros."""
    data = bytearray(blank)
    at = _find_seal(data)
    data[at : at + 64] = _sha256(data).encode()
    return bytes(data)


def check_seal(data: bytes) -> None:
    """Raise `ModelFileError` for bytes that are damaged, cut off, or not of this package."""
    blank = bytearray(data)
    at = _find_seal(blank)
    stored = bytes(data[at : at + 64])
    blank[at : at + 64] = BLANK.encode()
    found = _sha256(blank)
    if found.encode() != stored:
        raise ModelFileError(
            f"the file's sha256 must be the stored {stored[:16].decode()}..., got {found[:16]}...; "
            "it is damaged or was changed after saving: use another copy"
        )


def _sha256(data: bytearray) -> str:
    import hashlib  # slow to import

    return hashlib.sha256(data).hexdigest()


def _find_seal(data: bytearray) -> int:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ModelFileError(
            f"a model file must be a complete safetensors file, got {len(data)} bytes that are not one or were cut "
            "off; give a file written by robustctl, or use another copy"
        )
    found = [match.start(1) for match in _SEAL.finditer(data, 8, 8 + size)]
    if len(found) != 1:
        raise ModelFileError(
            f"a model file must have one robustctl checksum in its header, got {len(found)}; it is damaged or "
            "not a robustctl file: give one written by robustctl, or use another copy"
        )
    return found[0]


def shown(value: Any) -> str:
    """Return any value from a file as a short text for a message."""
    match value:
        case dict():
            return f"an object with the keys {', '.join(list(value)[:6])[:60]}"
        case list():
            return "a list"
        case _:
            return repr(value)[:60]
