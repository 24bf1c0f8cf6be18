"""The folder of a run: what was trained with what, its log, its checkpoints, and going on from the newest."""

import dataclasses
import json
import math
import os
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from ..errors import RobustctlError, RobustctlWarning
from ..store.json_text import write_json
from .checkpoint import checkpoints, latest, restore, save_checkpoint
from .devices import gathered, local, writes
from .fingerprint import check_identity
from .provenance import commit, environment
from .watchers import keep_lines_before

LOG, SETTINGS = "training.jsonl", "run.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a training is kept, and how often.

    Args:
        folder: Folder of the run: settings, log and checkpoints.
        checkpoint_minutes: Minutes between checkpoints; there is always one at the end.
        checkpoint_epochs: Epochs between checkpoints, beside the minutes; none where left out.
        keep: How many of the newest checkpoints stay.
        budget_minutes: Minutes after which training ends, to be resumed at will; no limit where left out.
        command: Arguments of the `robustctl` command that trains, for `robustctl rerun`.
    """

    folder: str | os.PathLike[str]
    checkpoint_minutes: float = 5.0
    checkpoint_epochs: int | None = None
    keep: int = 3
    budget_minutes: float | None = None
    command: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise `RobustctlError` for a setting out of range."""
        for name, whole in (
            ("checkpoint_minutes", False), ("checkpoint_epochs", True), ("keep", True), ("budget_minutes", False)
        ):  # fmt: skip
            value = getattr(self, name)
            kinds = int if whole else (int, float)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, kinds) or not value > 0
            ):
                kind = "a whole number of at least 1" if whole else "a number above zero"
                raise RobustctlError(f"{name} must be {kind}, got {value!r}")


def as_run(run: Run | str | os.PathLike[str]) -> Run:
    """Return a run, for a folder one with the usual settings."""
    return run if isinstance(run, Run) else Run(run)


def inside(run: Run | str | os.PathLike[str], name: str) -> Run:
    """Return the same run in a folder of its own within its folder."""
    run = as_run(run)
    return dataclasses.replace(run, folder=Path(run.folder) / name)


class Keeper:
    """Writes a run's folder while it is trained. `identity`: what must be the same for it to be resumed, as text.

    Of several processes on one `mesh` the first writes and all read.
    """

    def __init__(self, run: Run, identity: dict[str, str], resume: bool, mesh: Mesh | None = None):
        run.check()
        self.run, self.identity, self.mesh = run, identity, mesh
        self.folder = Path(run.folder)
        self.begun = self.saved = time.monotonic()
        self._prepare(resume)

    def _prepare(self, resume: bool) -> None:
        """Make the folder and write what is run in it, unless a run is there to be resumed."""
        found = (self.folder / SETTINGS).exists() or any(checkpoints(self._checkpoints))
        there = bool(gathered(found, self.mesh)[0])  # asked before any process writes
        if there and not resume:
            raise RobustctlError(
                f"{self.folder} holds a run already; give resume=True (--resume) to go on with it, or another "
                "folder (--run)"
            )
        if there:
            _check_versions(self.folder / SETTINGS, self.identity)
            return
        if not writes(self.mesh):
            return
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        text = {
            "identity": self.identity, "command": list(self.run.command), "folder": str(Path.cwd()), **environment(),
            "commit_of_folder": commit(Path.cwd()),
        }  # fmt: skip
        write_json(self.folder / SETTINGS, text)

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def log(self) -> Path:
        """The file of one JSON line an epoch."""
        return self.folder / LOG

    def resume(self, state: Any, rows: Any) -> tuple[Any, Any]:
        """Return state and rows as the newest readable checkpoint has them, or as given where there is none.

        **Raises:** `RobustctlError` for a checkpoint of another run, or of more epochs than are asked for, and where
        several processes do not find the same.
        """
        found = latest(self._checkpoints)
        self._check_all_found(-1 if found is None else found[1]["checkpoint"])
        if found is None:
            return state, rows
        path, header, arrays = found
        check_identity(header.get("identity"), self.identity, str(path))
        done, epochs = header["checkpoint"], len(rows[0])
        if done > epochs:
            raise RobustctlError(
                f"the run in {self.folder} has {done} epochs, so at least as many must be asked for, got {epochs}"
            )
        history = type(rows)(*(a[:done] for a in rows))
        state, history = restore((state, history), arrays, path)
        if writes(self.mesh) and self.log.exists():
            # Whoever watches is not to leave at the word of the run before. A full disk is told of by the next line.
            with suppress(OSError):
                keep_lines_before(self.log, math.inf)
        return state, type(rows)(*(a.at[:done].set(b) for a, b in zip(rows, history, strict=True)))

    def _check_all_found(self, epoch: int) -> None:
        epochs = gathered(epoch, self.mesh)
        if len(set(epochs)) > 1:
            raise RobustctlError(
                f"every process must find the same newest checkpoint in {self.folder}, got those of epochs {epochs} "
                "(-1: none); put the folder where all of them read it"
            )

    def left(self, epoch: int) -> int:
        """How many epochs may run until a checkpoint is due by their number."""
        every = self.run.checkpoint_epochs
        return every - epoch % every if every else np.iinfo(np.int32).max

    def save(self, state: Any, rows: Any, last: bool) -> None:
        """Write a checkpoint where one is due; a disk that refuses it gives a warning, and training goes on."""
        if not writes(self.mesh):
            return
        state, rows = local((state, rows))
        epoch, every = int(state.epoch), self.run.checkpoint_epochs
        waited = time.monotonic() - self.saved > 60 * self.run.checkpoint_minutes
        if not (last or waited or (every and epoch % every == 0)):
            return
        history = type(rows)(*(a[:epoch] for a in rows))
        try:
            save_checkpoint(
                self._checkpoints, epoch, (state, history), {"identity": self.identity}, self.run.keep
            )
        except OSError as error:
            warnings.warn(
                f"the checkpoint of epoch {epoch} could not be written ({error}); training goes on, and the newest "
                f"checkpoint is {next(iter(checkpoints(self._checkpoints)), 'none')}. Make room in {self.folder}",
                RobustctlWarning,
                stacklevel=2,
            )
        self.saved = time.monotonic()

    def out_of_time(self) -> bool:
        """Whether the run's budget is spent."""
        budget = self.run.budget_minutes
        return budget is not None and time.monotonic() - self.begun > 60 * budget


def keeper_of(
    run: Run | str | os.PathLike[str] | None, identity: dict[str, str], resume: bool, mesh: Mesh | None = None
) -> Keeper | None:
    """Return the keeper of a run, None where there is none to keep; `mesh`: the devices that it is trained on.

    **Raises:** `RobustctlError` for settings out of range, a folder that holds a run where none is to be resumed,
    a run that was begun otherwise; `OSError` where the folder cannot be written.
    """
    if run is None:
        if resume:
            raise RobustctlError("resume=True needs the folder of a run, got none; give run=FOLDER")
        return None
    return Keeper(as_run(run), identity, resume, mesh)


def _check_versions(file: Path, here: dict[str, str]) -> None:
    """Refuse a run that was begun otherwise; warn where packages changed, for their last digits may."""
    try:
        text = json.loads(file.read_text(encoding="utf-8"))
        there, versions = text["identity"], dict(text["versions"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # the checkpoints say the same
    check_identity(there, here, str(file))
    now = environment()["versions"]
    changed = [
        f"{name} {versions.get(name)} -> {now[name]}" for name in now if versions.get(name) != now[name]
    ]
    if changed:
        warnings.warn(
            f"packages have changed since the run was begun ({', '.join(changed)}); its numbers may differ in their "
            "last digits from those of an uninterrupted one",
            RobustctlWarning,
            stacklevel=2,
        )
