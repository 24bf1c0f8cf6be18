"""Atomic writing: a file is replaced whole or left unchanged, even if the process is killed."""

import errno
import glob
import os
import platform
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_TRIAL = 1 << 16
"""Bytes of a trial: a small model's file. A disk can be full and still take an empty file."""

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def write_atomic(target: Path, data: bytes) -> None:
    """Replace `target` by a file of the given bytes, which are on disk when this returns.

    The bytes are written to a temporary file in the same folder, `.{name}.{host}-{pid}.{random}.tmp`, which is then
    renamed. Temporary files that killed processes of this host left behind for the same target are removed first.

    **Raises:** `OSError` where the file cannot be written (disk full, no permission): the old file is then
    unchanged, and no temporary file is left; `FileExistsError` for a target that is a device, pipe or socket.
    """
    _check_replaceable(target)
    _sweep(target)
    with _temporary(target, data) as temporary:
        os.replace(temporary, target)
    _sync_folder(target.parent)


def check_target(target: Path) -> None:
    """Check that a file can be written, which nothing guarantees for later; the folder is made where there is none.

    **Raises:** `OSError` for a folder that cannot be made or written to, for a full disk, and for a target that may not be
    written or is no file.
    """
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it must be a regular file or not exist", str(target))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it may not be written", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target, bytes(_TRIAL)):
        pass


@contextmanager
def _temporary(target: Path, data: bytes) -> Iterator[Path]:
    """Write the bytes to a temporary file in the target's folder, which is removed unless the block renames it."""
    temporary = target.with_name(f".{target.name}.{_HOST}-{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _check_replaceable(target: Path) -> None:
    """Refuse what a rename would remove from its folder although it is no file with old data, /dev/null for example."""
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise FileExistsError(
            f"a file must replace a regular file or none, got {target}, which is a device, pipe or socket; write to a file name"
        )


def _sweep(target: Path) -> None:
    # The host is in the name because a folder may be shared, and process ids mean nothing elsewhere.
    leftover = re.compile(rf"\.{re.escape(target.name)}\.{_HOST}-(\d{{1,9}})\.[0-9a-f]{{8}}\.tmp")
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        match = leftover.fullmatch(path.name)
        if match and not is_alive(int(match[1])):
            with suppress(OSError):
                path.unlink()


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs."""
    if os.name == "nt":  # Windows has no signal without an effect, and does not remove a file that is open
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _sync_folder(folder: Path) -> None:
    """Write the rename itself to disk, where folders can be synchronized."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
