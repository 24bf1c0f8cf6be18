"""Where the commands keep what XLA compiled, so that the next one does not compile it again."""

import os
import sys
from pathlib import Path

LOCATION = "JAX_COMPILATION_CACHE_DIR"
"""JAX's own variable; a folder that the user gives stays the user's."""


def keep_compiled() -> None:
    """Make JAX keep what it compiles in the user's cache folder, in this process and those that it starts.

    The folder is `robustctl/xla` in `XDG_CACHE_HOME`, otherwise in `~/.cache`, on macOS in `~/Library/Caches` and on Windows in
    `LOCALAPPDATA`. Nothing is changed where `JAX_COMPILATION_CACHE_DIR` is set, and nothing is stored where the folder cannot be written,
    or can be written by others: the programs in it are run. JAX reads the variable when it is imported.
    """
    if LOCATION in os.environ:
        return
    try:
        folder = _caches() / "robustctl" / "xla"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        usable = os.access(folder, os.W_OK | os.X_OK) and _is_own(folder)
    except (OSError, RuntimeError):
        # A path that is a file, a disk that cannot be written, a user without a home.
        return
    if usable:
        os.environ[LOCATION] = str(folder)
        # A fit has about a hundred small programs and a large one.
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _caches() -> Path:
    """Return the user's folder for caches."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _is_own(folder: Path) -> bool:
    """Return whether others cannot write to a folder; Windows protects a user's folders."""
    if sys.platform == "win32":
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
