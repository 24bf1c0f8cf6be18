"""Files that a command writes: never over those that it reads, and found unwritable before a training, not after it."""

from pathlib import Path

from ..errors import RobustctlError
from ..store.atomic import check_target

Given = Path | tuple[Path, ...] | None


def check_differs(what: str, target: Path, **given: Given) -> None:
    """Raise `RobustctlError` where a file to be written is one that is read, under any of its names."""
    # It imports NumPy, which the help does without.
    from ..checks import one_or_more

    for path in (p for one in given.values() for p in one_or_more(one)):
        if path is not None and _same(target, path):
            raise RobustctlError(
                f"{what} must differ from {' and '.join(f'the {name}' for name in given)}, got {target}, which is {path}; "
                "give another file"
            )


def check_trained(out: Path, run: Path, **given: Given) -> None:
    """Check where a training writes its model and its run folder, before anything is read.

    **Raises:** `RobustctlError` for a model file or a run folder that is one of the files that are read, and for a model
    file that is the run folder or one of the files that the run keeps there.
    """
    from ..runs.run_folder import OWN

    check_differs("out", out, **given)
    check_differs("run", run, **given)
    if _same(out, run) or out.is_dir():
        raise RobustctlError(
            f"out must be a file and run a folder, got {out} and {run}; give out a name with a suffix, as model.safetensors"
        )
    if _same(out.parent, run) and out.name in OWN:
        raise RobustctlError(f"out must differ from the run's own files, got {out}; give another name")
    if run.exists() and not run.is_dir():
        raise RobustctlError(f"run must be a folder or not exist, got the file {run}; give another name")


def check_writable(out: Path) -> None:
    """Raise `RobustctlError` where a model file could not be written now; its folder is made."""
    try:
        check_target(out)
    except OSError as error:
        raise RobustctlError(
            f"out must be a file that can be written, got {out}: {error.strerror or error}; make room, or give another file"
        ) from error


def _same(a: Path, b: Path) -> bool:
    """Return whether two names are of one file; of files that do not exist, whether the names are the same."""
    if a.exists() and b.exists():
        return a.samefile(b)
    return a.resolve() == b.resolve()
