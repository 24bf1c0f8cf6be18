"""The folder of a run: its settings, log and checkpoints, and how training resumes from the newest one."""

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ..checks import check_whole, check_whole_or_none, is_real, made_of, renamed
from ..errors import RobustctlError, RobustctlWarning
from ..store.json_text import parse_object, write_json
from . import lock
from .checkpoint import checkpoints, latest, restore, save_checkpoint
from .devices import gathered, local, writes
from .fingerprint import check_fingerprint
from .lock import FolderLock
from .provenance import commit, environment
from .watchers import keep_lines_before

LOG, SETTINGS, CHECKPOINTS = "training.jsonl", "run.json", "checkpoints"
OWN = (LOG, SETTINGS, CHECKPOINTS, lock.NAME)
"""Names of what a run keeps in its folder."""


@renamed()
@dataclasses.dataclass(frozen=True)
class Run:
    """The folder that a training is stored in, and how often.

    **Arguments:**

    - `folder`: holds settings, log and checkpoints; it is made where it does not exist.
    - `resume`: continue from the newest checkpoint, to the same numbers as if it had not been interrupted; where there
      is none yet, begin; where the run is finished, return what it found. False: a folder that holds a run is refused.
    - `checkpoint_minutes`: minutes between checkpoints; there is always one at the end.
    - `checkpoint_epochs`: epochs between checkpoints, in addition to the minutes; None: none.
    - `keep`: how many of the newest checkpoints that can be read stay; two at least.
    - `budget_minutes`: minutes after which training ends, to be resumed later; None: no limit.
    - `settings`: what else must be the same for the run to be resumed, for example the optimizer's learning rate, by name.
    - `command`: arguments of the `robustctl` command that trains, for `robustctl rerun`.

    **Raises:** `RobustctlError` for a setting out of range.
    """

    folder: str | os.PathLike[str]
    resume: bool = False
    checkpoint_minutes: float = 5.0
    checkpoint_epochs: int | None = None
    keep: int = 3
    budget_minutes: float | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] = ()

    def __post_init__(self):
        """Refuse settings out of range."""
        check_whole(1, keep=self.keep)
        check_whole_or_none(1, checkpoint_epochs=self.checkpoint_epochs)
        minutes = {"checkpoint_minutes": self.checkpoint_minutes, "budget_minutes": self.budget_minutes}
        for name, value in minutes.items():
            if value is not None and not (is_real(value) and value > 0):
                raise RobustctlError(f"{name} must be a number above zero, got {value!r}")


def as_run(run: Run | str | os.PathLike[str]) -> Run:
    """Return a run; a folder gets the default settings."""
    return made_of(run, Run)


def inside(run: Run | str | os.PathLike[str], name: str) -> Run:
    """Return the same run in a subfolder of its folder."""
    run = as_run(run)
    return dataclasses.replace(run, folder=Path(run.folder) / name)


def check_not_begun(folder: Path, resume: bool) -> None:
    """Raise `RobustctlError` for a folder that holds a run which is not to be resumed."""
    if (folder / SETTINGS).exists() and not resume:
        raise _taken(folder)


def _taken(folder: Path) -> RobustctlError:
    return RobustctlError(
        f"{folder} holds a run already; give run=rc.runs.Run(folder, resume=True) (--resume) to continue it, or another folder (--run)"
    )


class RunFolder:
    """Writes a run's folder during training, as a context in which no other process can.

    Of several processes on one `mesh` the first writes and all read.

    **Arguments:**

    - `run`: folder and settings.
    - `fingerprint`: what must be the same for the run to be resumed, as text.
    - `mesh`: the devices that are trained on.

    **Raises:** when entered, `RobustctlError` for a folder that another process writes to, and for one that holds a run
    which is not to be resumed or has another fingerprint; `OSError` where the folder cannot be written.
    """

    def __init__(self, run: Run, fingerprint: dict[str, str], mesh: Mesh | None = None):
        self.run, self.fingerprint, self.mesh = run, fingerprint, mesh
        self.folder = Path(run.folder)
        self.begun = self.saved = time.monotonic()
        self.lock: FolderLock | None = None

    def __enter__(self) -> "RunFolder":
        """Lock the folder for this process and write `run.json`, unless the folder holds a run that is resumed."""
        self._check_resumed()
        try:
            self._take_lock()
            # Again: another process may have begun a run and ended before the lock was taken.
            if not self._check_resumed() and writes(self.mesh):
                self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        """Let other processes have the folder."""
        if self.lock is not None:
            self.lock.release()

    def _check_resumed(self) -> bool:
        """Return whether the folder holds a run, or raise `RobustctlError` for one that is not to be resumed."""
        found = (self.folder / SETTINGS).exists() or any(checkpoints(self._checkpoints))
        there = bool(gathered(found, self.mesh)[0])  # read before any process writes
        if there and not self.run.resume:
            raise _taken(self.folder)
        if there:
            _check_versions(self.folder / SETTINGS, self.fingerprint)
        return there

    def _take_lock(self) -> None:
        refused = ""
        if writes(self.mesh):
            if self.folder.exists() and not self.folder.is_dir():
                raise NotADirectoryError(f"a run folder must be a folder, got the file {self.folder}")
            self._checkpoints.mkdir(parents=True, exist_ok=True)
            try:
                self.lock = FolderLock(self.folder)
            except RobustctlError as error:
                refused = str(error)
        if gathered(bool(refused), self.mesh)[0]:  # all processes of a training end together
            raise RobustctlError(
                refused or f"another process has {self.folder}; the first process reports which"
            )

    def _begin(self) -> None:
        text = {
            "identity": self.fingerprint, "command": list(self.run.command), "folder": str(Path.cwd()), **environment(),
            "commit_of_folder": commit(Path.cwd()),
        }  # fmt: skip
        write_json(self.folder / SETTINGS, text)

    @property
    def _checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    @property
    def log(self) -> Path:
        """The file of one JSON line an epoch."""
        return self.folder / LOG

    def resume(self, state: Any, history: Any, epochs: int) -> tuple[Any, Any]:
        """Return state and history as the newest readable checkpoint has them, or as given where there is none.

        **Raises:** `RobustctlError` for a checkpoint of another run, or of more epochs than are to be trained, and where
        several processes do not find the same.
        """
        found = latest(self._checkpoints)
        self._check_all_found(-1 if found is None else found[1]["checkpoint"])
        if found is None:
            return state, history
        path, header, arrays = found
        check_fingerprint(header, self.fingerprint, str(path))
        done = header["checkpoint"]
        if done > epochs:
            raise RobustctlError(
                f"the run in {self.folder} has {done} epochs, so at least as many must be given, got {epochs}"
            )
        state, begun = restore((state, _first(history, done)), arrays, path)
        if int(state.epoch) != done:
            raise RobustctlError(
                f"the checkpoint {path} must be of the {done} epochs that its name has, got {int(state.epoch)}; remove it"
            )
        if writes(self.mesh) and self.log.exists():
            # `robustctl watch` ends at the last line's reason, which was that of the run before. A full disk shows with the next line.
            with suppress(OSError):
                keep_lines_before(self.log, math.inf)
        rest = (np.asarray(a)[done:] for a in history)
        joined = (jnp.asarray(np.concatenate([a, b])) for a, b in zip(begun, rest, strict=True))
        return state, type(history)(*joined)

    def _check_all_found(self, epoch: int) -> None:
        epochs = gathered(epoch, self.mesh)
        if len(set(epochs)) > 1:
            raise RobustctlError(
                f"every process must find the same newest checkpoint in {self.folder}, got those of epochs {epochs} "
                "(-1: none); put the folder where all of them read it"
            )

    def epochs_left(self, epoch: int) -> int:
        """Return how many epochs may run until a checkpoint is due by their number."""
        every = self.run.checkpoint_epochs
        return every - epoch % every if every else np.iinfo(np.int32).max

    def save(self, state: Any, history: Any, last: bool) -> None:
        """Write a checkpoint where one is due; a disk that refuses it gives a warning, and training continues."""
        if not writes(self.mesh):
            return
        state, history = local((state, history))
        epoch, every = int(state.epoch), self.run.checkpoint_epochs
        waited = time.monotonic() - self.saved > 60 * self.run.checkpoint_minutes
        if not (last or waited or (every and epoch % every == 0)):
            return
        try:
            save_checkpoint(
                self._checkpoints,
                epoch,
                (state, _first(history, epoch)),
                {"identity": self.fingerprint},
                self.run.keep,
            )
        except OSError as error:
            warnings.warn(
                f"the checkpoint of epoch {epoch} could not be written ({error}); training continues, and the newest "
                f"checkpoint is {next(iter(checkpoints(self._checkpoints)), 'none')}. Make room in {self.folder}",
                RobustctlWarning,
                stacklevel=2,
            )
        self.saved = time.monotonic()

    def out_of_time(self) -> bool:
        """Return whether the run's budget is spent."""
        budget = self.run.budget_minutes
        return budget is not None and time.monotonic() - self.begun > 60 * budget


def _first(history: Any, epochs: int) -> Any:
    """Return the first epochs of a history, cut by NumPy: JAX compiles a slice for each length."""
    return type(history)(*(np.asarray(a)[:epochs] for a in history))


def _check_versions(file: Path, here: dict[str, str]) -> None:
    """Refuse a run of another fingerprint; warn where packages changed, because last digits may differ."""
    try:
        stored = parse_object(file.read_bytes())
        versions, _ = dict(stored["versions"]), stored["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the checkpoints have the same
    check_fingerprint(stored, here, str(file))
    now = environment()["versions"]
    changed = [
        f"{name} {str(versions.get(name))[:40]} -> {now[name]}"
        for name in now
        if versions.get(name) != now[name]
    ]
    if changed:
        warnings.warn(
            f"packages have changed since the run was begun ({', '.join(changed)}); its numbers may differ in their "
            "last digits from those of an uninterrupted one",
            RobustctlWarning,
            stacklevel=2,
        )
