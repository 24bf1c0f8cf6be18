"""Bring the F-16 benchmark's archive, once."""

import hashlib
import zipfile
from pathlib import Path

from ..errors import DataError, RobustctlError

URL = "https://data.4tu.nl/file/b6dc643b-ecc6-437c-8a8a-1681650ec3fe/5414dfdc-6e8d-4208-be6e-fa553de9866f"
BYTES, SHA256_ENDS = 148_455_295, ("2278429b", "894c0afa")
_NAME = "F16GVT_Files.zip"


def download(folder: str | Path | None = None) -> Path:
    """Bring the archive (148 MB, DOI 10.4121/12954911), unpack its FullMSine records, and return their folder.

    `folder`: default the user's cache, as Pooch finds it. What is there already and whole is not brought again.

    **Raises:** `RobustctlError` without Pooch, or where the archive cannot be reached; `DataError` for an archive that is
    cut off or of another version, which is removed.
    """
    try:
        import pooch
    except ImportError as error:
        raise RobustctlError(
            'bringing the archive needs Pooch, which is not installed: pip install "robustctl[benchmarks]"; or name a folder'
        ) from error
    place = Path(pooch.os_cache("robustctl") if folder is None else folder)
    archive = place / _NAME
    if not archive.exists():
        try:
            pooch.retrieve(URL, known_hash=None, fname=_NAME, path=place, progressbar=True)
        except OSError as error:  # what every failure to connect is, of requests too
            raise RobustctlError(
                f"the archive must be reachable at {URL}, got {type(error).__name__}: {error}; try again with a network, or bring "
                f"it another way (DOI 10.4121/12954911) and name the folder it is unpacked in"
            ) from error
    check_archive(archive)
    return unpack(archive, place)


def check_archive(archive: Path) -> None:
    """Raise `DataError` unless a file is the archive, and remove it then; its size and the ends of its sha256 are known."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if size != BYTES or (found[:8], found[-8:]) != SHA256_ENDS:
        archive.unlink()
        raise DataError(
            f"the archive must have {BYTES} bytes and a sha256 {SHA256_ENDS[0]}...{SHA256_ENDS[1]}, got {size} and "
            f"{found[:8]}...{found[-8:]}; it was cut off or is of another version, and was removed: bring it again"
        )


def unpack(archive: Path, place: Path) -> Path:
    """Unpack the FullMSine records, unless they are there, and return the folder they are in."""
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            target = place / "F16GVT_Files" / "BenchmarkData" / Path(name).name
            if "FullMSine" in name and name.endswith(".csv") and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read(name))
    return place
