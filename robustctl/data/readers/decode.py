"""Bytes of a text file to its text, whatever program wrote it."""

from __future__ import annotations

import codecs

from ...errors import DataError

# The mark of UTF-32 begins with that of UTF-16, so it comes first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LOOKED_AT, ZEROS = 2000, 0.4  # bytes, and the share of zeros at odd or even positions that only UTF-16 has


def decode(raw: bytes, encoding: str | None) -> tuple[str, list[str]]:
    """Text with lines that end in a newline character, and the guesses made; the encoding is guessed where it is None.

    **Raises:** `DataError` when the bytes are not of that encoding, or of none that is tried.
    """
    text, guesses = _guessed(raw) if encoding is None else (_decoded(raw, encoding), [])
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    kept = text.rstrip("\0")
    if len(kept) < len(text):
        guesses = [*guesses, f"{len(text) - len(kept)} NUL characters at the end left out"]
    return kept, guesses


def _decoded(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"text must be {encoding}, byte {error.start} is not; give the encoding that it has, or none to have it found"
        ) from error
    except (LookupError, ValueError, AssertionError) as error:
        raise DataError(f"encoding must be one of text, got {encoding!r}: {error}") from error


def _guessed(raw: bytes) -> tuple[str, list[str]]:
    for mark, encoding in MARKS:
        if raw.startswith(mark):
            return _decoded(raw, encoding), []
    start = raw[:LOOKED_AT]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        # ASCII characters in UTF-16 have one zero byte each; a file of zeros alone has both.
        zeros, others = start[first::2].count(0), start[1 - first :: 2].count(0)
        if start and zeros > ZEROS * len(start[first::2]) and not others:
            return _decoded(raw, encoding), [f"encoding {encoding}"]
    try:
        return raw.decode("utf-8"), []
    except UnicodeDecodeError as error:
        at = error.start
    try:
        # Of Windows in western Europe and America; it differs from Latin-1 in characters that Latin-1 does not print.
        return raw.decode("cp1252"), ["encoding cp1252 (Latin-1)"]
    except UnicodeDecodeError as error:
        raise DataError(
            f"text must be UTF-8, UTF-16 or Windows-1252, but byte {at} is not UTF-8 and byte {error.start} not Windows-1252; "
            "give the encoding, or save the file as UTF-8"
        ) from error
