r"""The bytes of a model file: safetensors, whose metadata hold a JSON header sealed by a hash.

::

    8 bytes                 length of the safetensors header, little endian
    safetensors header      {"__metadata__": {"robustctl": TEXT}, "name": {dtype, shape, data_offsets}, ...}
    arrays                  as safetensors lays them out

    TEXT = {"sha256": SEAL, "format": 1, "versions": {...}, "structure": ..., "certificate": ...}

SEAL is the sha256 of the whole file with 64 zeros in its own place, so that it covers every byte. It finds
accidents; it is no signature, and whoever edits a file on purpose can seal it again.
"""

import hashlib
import json
import re
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import ModelFileError

FORMAT = 1
_KEY = "robustctl"
_BLANK = "0" * 64
_UNREADABLE = (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
_SEAL = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"')


def pack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Return the file's bytes, sealed."""
    text = json.dumps({"sha256": _BLANK, "format": FORMAT, **header}, allow_nan=False, separators=(",", ":"))
    # A raw pointer is taken of each array: one that is not contiguous would be stored scrambled.
    laid_out = {name: np.array(a, a.dtype.newbyteorder("="), order="C") for name, a in arrays.items()}
    data = bytearray(safetensors.numpy.save(laid_out, {_KEY: text}))
    at = _find_seal(data)
    data[at : at + 64] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file, after its seal, format and layout have been checked.

    **Raises:** `ModelFileError` for anything but bytes that `pack` returned.
    """
    _check_seal(data)
    try:
        arrays = safetensors.numpy.load(data)
        outer = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        header = json.loads(outer["__metadata__"][_KEY])
        version = header["format"]
    except _UNREADABLE as error:
        raise ModelFileError(
            f"a model file must hold a safetensors table and a JSON header, got one that fails with "
            f"{type(error).__name__}: {error}; save the model again"
        ) from error
    _check_format(version)
    return header, arrays


def _check_format(version: Any) -> None:
    if type(version) is not int or version < 1:
        raise ModelFileError(
            f"the format must be a number from 1, got {shown(version)}; save the model again"
        )
    if version > FORMAT:
        raise ModelFileError(
            f"written by a newer robustctl, format {version}, this one reads up to {FORMAT}: upgrade"
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
            "it is damaged or was altered after saving: take another copy"
        )


def _find_seal(data: bytearray) -> int:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ModelFileError(
            f"a model file must be a whole safetensors file, got {len(data)} bytes that are none or were cut "
            "off; give a file written by robustctl, or take another copy"
        )
    found = [match.start(1) for match in _SEAL.finditer(data, 8, 8 + size)]
    if len(found) != 1:
        raise ModelFileError(
            f"a model file must carry one robustctl seal in its header, got {len(found)}; it is damaged or "
            "no robustctl file: give one written by robustctl, or take another copy"
        )
    return found[0]


def shown(value: Any) -> str:
    """Return a short text for a message, whatever a file holds."""
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(list(value)[:6])[:60]}"
    return "a list" if isinstance(value, list) else repr(value)[:60]
