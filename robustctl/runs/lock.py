"""A folder that one process at a time may write to."""

import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..checks import is_whole
from ..errors import RobustctlError
from ..store.atomic import is_alive
from ..store.json_text import json_text, parse_object

NAME = "lock"
_BEHIND = 1 << 30
"""Windows makes a locked part of a file unreadable to others, so that byte is far behind the owner's text."""


class FolderLock:
    """Holds a folder for this process until it is released or the process ends.

    The operating system locks the file `lock` and unlocks it when its process ends, however it ends, so a process that was
    killed leaves no lock. The file's text is the owner, as JSON: `pid`, `host` and `since`. On a file system without locks
    that text alone counts, unless it names a process of this machine that has ended.

    **Raises:** `RobustctlError` where another process holds the folder; `OSError` where the file cannot be written.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self.file = _acquired(self.path)
        owner = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
        self.file.truncate(0)
        self.file.write(json_text(owner))
        self.file.flush()

    def release(self) -> None:
        """Remove the file and let others have the folder."""
        # Removed before it is unlocked: afterwards it could be another's. Windows removes no open file; an unlocked one is free.
        with suppress(OSError):
            self.path.unlink()
        self.file.close()


def _acquired(path: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            if not _locked(file):
                raise RobustctlError(
                    f"a run folder must have one process that writes to it, but {path.parent} is in use by {_shown(_owner(file))}; "
                    f"wait for it or end it, or give another folder (if no process has it, remove {path})"
                )
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its owner removed it after it was opened here


def _locked(file: IO[str]) -> bool:
    """Lock a file unless another process has; return whether it is now this one's."""
    try:
        _lock(file)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        owner = _owner(file)
        here = owner.get("host") == platform.node()
        return not owner or (here and (owner["pid"] == os.getpid() or not is_alive(owner["pid"])))
    return True


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file.fileno(), _BEHIND, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _owner(file: IO[str]) -> dict[str, Any]:
    """Return what the file has of its owner, {} where that cannot be read."""
    with suppress(ValueError, OSError):
        file.seek(0)
        found = parse_object(file.read(1000))
        if is_whole(found.get("pid"), 1) and found["pid"] < 1 << 31:
            return found
    return {}


def _shown(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    host, since = (json.dumps(owner.get(name))[1:81].rstrip('"') for name in ("host", "since"))
    return f"process {owner['pid']} on {host} since {since}"
