r"""The bytes of a model file: safetensors, whose metadata hold a JSON header with a checksum of the whole file.

::

    8 bytes                 length of the safetensors header, little endian
    safetensors header      {"__metadata__": {"robustctl": TEXT}, "name": {dtype, shape, data_offsets}, ...}
    arrays                  in the layout of safetensors

    TEXT = {"sha256": SEAL, "format": 2, "versions": {...}, "structure": ..., "certificate": ...}

SEAL is the sha256 of the whole file with 64 zeros in place of SEAL itself, so that it covers every byte. It detects
accidental damage; it is no signature, because anyone who edits a file can compute it again.
"""

import json
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import ModelFileError
from .seal import BLANK, KEY, check_seal, seal, shown

FORMAT = 2
_UNREADABLE = (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError)


class NewerFormatError(ModelFileError):
    """A file of a format that only a newer version reads."""


def pack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Return the file's bytes with their checksum."""
    text = json.dumps({"sha256": BLANK, "format": FORMAT, **header}, allow_nan=False, separators=(",", ":"))
    # safetensors takes a raw pointer to each array: one that is not contiguous would be stored scrambled.
    laid_out = {name: np.array(a, a.dtype.newbyteorder("="), order="C") for name, a in arrays.items()}
    return seal(safetensors.numpy.save(laid_out, {KEY: text}))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file, after checking its checksum, format and layout.

    **Raises:** `ModelFileError` for anything but bytes that `pack` returned.
    """
    # Before anything is parsed: a damaged file is reported as damaged, not as whatever its bytes happen to mean.
    check_seal(data)
    try:
        arrays = safetensors.numpy.load(data)
        outer = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        header = json.loads(outer["__metadata__"][KEY])
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
