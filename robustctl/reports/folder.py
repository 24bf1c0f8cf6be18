"""A report on disk: a folder of files that are each written whole or not at all."""

import io
from collections.abc import Collection, Iterable
from pathlib import Path

from ..errors import RobustctlError
from ..store.atomic import write_atomic


def write_folder(
    folder: str | Path, contents: Iterable[tuple[str, bytes]], known: Collection[str]
) -> list[Path]:
    """Write the named contents to a folder and return the files written.

    **Arguments:**

    - `folder`: created if it does not exist.
    - `contents`: pairs of file name and bytes.
    - `known`: names of all files that a report can have; those that this one does not write are removed.

    **Raises:** `RobustctlError` where `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RobustctlError(f"folder must be a folder, got the file {folder}; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in contents:
        write_atomic(folder / name, content)
        written.append(folder / name)
    # After writing: an interrupted report leaves files of the old one, never a folder without a report.
    for name in set(known) - {path.name for path in written}:
        (folder / name).unlink(missing_ok=True)
    return written


def png(figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
