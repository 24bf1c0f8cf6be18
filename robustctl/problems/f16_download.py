"""Download of the F-16 benchmark's archive."""

import hashlib
import zipfile
from pathlib import Path

from ..errors import DataError, RobustctlError

URL = "https://data.4tu.nl/file/b6dc643b-ecc6-437c-8a8a-1681650ec3fe/5414dfdc-6e8d-4208-be6e-fa553de9866f"
# The size and 64 bits of the hash exclude a damaged archive and another version.
BYTES, SHA256_ENDS = 148_455_295, ("2278429b", "894c0afa")
_NAME = "F16GVT_Files.zip"


def download(folder: str | Path | None = None) -> Path:
    """Download the archive (148 MB, DOI 10.4121/12954911), unpack its FullMSine records, and return their folder.

    `folder` is the user's cache by default, as found by Pooch. A complete archive in it is not downloaded again.

    **Raises:** `RobustctlError` without Pooch, or if the archive cannot be reached; `DataError` for an archive that is
    cut off or of another version, which is removed.
    """
    try:
        import pooch
    except ImportError as error:
        raise RobustctlError(
            'downloading the archive needs Pooch, which is not installed: pip install "robustctl[benchmarks]"; or name a folder'
        ) from error
    folder = Path(pooch.os_cache("robustctl") if folder is None else folder)
    archive = folder / _NAME
    if not archive.exists():
        try:
            pooch.retrieve(URL, known_hash=None, fname=_NAME, path=folder, progressbar=True)
        except OSError as error:  # the base class of all connection errors, also of requests
            raise RobustctlError(
                f"the archive must be reachable at {URL}, got {type(error).__name__}: {error}; try again with a network, or "
                f"download it elsewhere (DOI 10.4121/12954911) and name the folder in which it is unpacked"
            ) from error
    check_archive(archive)
    return unpack(archive, folder)


def check_archive(archive: Path) -> None:
    """Check the size of the archive and the ends of its sha256; remove it and raise `DataError` if they differ."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if size != BYTES or (found[:8], found[-8:]) != SHA256_ENDS:
        archive.unlink()
        raise DataError(
            f"the archive must have {BYTES} bytes and a sha256 {SHA256_ENDS[0]}...{SHA256_ENDS[1]}, got {size} and "
            f"{found[:8]}...{found[-8:]}; it was cut off or is of another version, and was removed: download it again"
        )


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the FullMSine records into a folder, unless they are there, and return the folder."""
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            # The base name alone: a path in an archive may point outside the folder.
            target = folder / "F16GVT_Files" / "BenchmarkData" / Path(name).name
            if "FullMSine" in name and name.endswith(".csv") and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read(name))
    return folder
