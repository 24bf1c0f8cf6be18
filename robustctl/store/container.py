r"""The bytes of a model file: safetensors, whose metadata hold a JSON header with a checksum of the whole file.

::

    8 bytes                 length of the safetensors header, little endian
    safetensors header      {"__metadata__": {"robustctl": TEXT}, "name": {dtype, shape, data_offsets}, ...}
    arrays                  in the layout of safetensors

    TEXT = {"sha256": SEAL, "format": 2, "versions": {...}, "structure": ..., "certificate": ...}

SEAL is the sha256 of the whole file with 64 zeros in place of SEAL itself, so that it covers every byte. It detects
accidental damage; it is no signature, because anyone who edits a file can compute it again.
"""

import hashlib
import json
import re
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import ModelFileError

FORMAT = 2
_KEY = "robustctl"
_BLANK = "0" * 64
_UNREADABLE = (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
_SEAL = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"')


class NewerFormatError(ModelFileError):
    """A file of a format that only a newer version reads."""


def pack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Return the file's bytes with their checksum."""
    text = json.dumps({"sha256": _BLANK, "format": FORMAT, **header}, allow_nan=False, separators=(",", ":"))
    # safetensors takes a raw pointer to each array: one that is not contiguous would be stored scrambled.
    laid_out = {name: np.array(a, a.dtype.newbyteorder("="), order="C") for name, a in arrays.items()}
    data = bytearray(safetensors.numpy.save(laid_out, {_KEY: text}))
    at = _find_seal(data)
    data[at : at + 64] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file, after checking its checksum, format and layout.

    **Raises:** `ModelFileError` for anything but bytes that `pack` returned.
    """
    # Before anything is parsed: a damaged file is reported as damaged, not as whatever its bytes happen to mean.
    _check_seal(data)
    try:
        arrays = safetensors.numpy.load(data)
        outer = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        header = json.loads(outer["__metadata__"][_KEY])
        version = header["format"]
    except _UNREADABLE as error:
        raise ModelFileError(
            f"a model file must hold a safetensors table and a JSON header, reading them raised "
            f"{type(error).__name__}: {error}; save the model again"
        ) from error
    _check_format(version)
    return header, arrays


def _check_format(version: Any) -> None:
    if type(version) is not int or version < 1:
        raise ModelFileError(
            f"the format must be an integer of at least 1, got {shown(version)}; save the model again"
        )
    if version > FORMAT:
        raise NewerFormatError(
            f"the format must be at most {FORMAT}, got {version}, written by a newer robustctl: upgrade robustctl"
        )


def _check_seal(data: bytes) -> None:
    blank = bytearray(data)
    at = _find_seal(blank)
    stored = bytes(data[at : at + 64])
    blank[at : at + 64] = _BLANK.encode()
    found = hashlib.sha256(blank).hexdigest()
    if found.encode() != stored:
        raise ModelFileError(
            f"the file's sha256 must be the stored {stored[:16].decode()}..., got {found[:16]}...; "
            "it is damaged or was changed after saving: use another copy"
        )


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
