"""Sweeps over settings by Optuna: the study and each trial's run in one folder."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import RobustctlError
from ..runs.watchers import Watcher

Objective = Callable[[Any, Path, Sequence[Watcher]], float]
"""`(trial, run folder, watchers) -> score`, the smaller the better."""


def sweep(
    objective: Objective,
    folder: str | os.PathLike[str],
    *,
    trials: int,
    sampler: Any = None,
    pruner: Any = None,
    seed: int = 0,
) -> Any:
    """Search for the settings of the smallest score; return the `optuna.Study`.

    ::

        def objective(trial, run_folder, watchers):
            rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
            fitted = fit(..., optimizer=clipped_adam(rate), run=run_folder, watchers=watchers)
            return float(fitted.history["validation"].min())

    `folder` keeps the study, `study.journal`, and each trial's run, `trial_0007`. Called again, it goes on until
    `trials` are complete or pruned; a trial that was killed or interrupted, or failed, is replaced by a new one.
    The watchers report the validation loss of each epoch, and end a trial that the pruner gives up by raising
    `optuna.TrialPruned`. An error of the objective ends the sweep.

    **Arguments:** `sampler`: one of Optuna's (None: `TPESampler`, seeded with `seed` and the trial's number, so that
    a sweep in two calls tries the same as one in a single call); `pruner`: one of Optuna's (None: `MedianPruner()`).

    **Raises:** `RobustctlError` where Optuna is not installed and for settings out of range; what `objective` raises.
    """
    optuna = _optuna()
    _check(optuna, objective, trials, sampler, pruner, seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
    with _quiet(optuna):
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(file), study_name="sweep", load_if_exists=True,
            pruner=pruner or optuna.pruners.MedianPruner(),
        )  # fmt: skip
        ends = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        for _ in range(trials - len(study.get_trials(deepcopy=False, states=ends))):
            tried = len(study.get_trials(deepcopy=False))
            study.sampler = sampler or optuna.samplers.TPESampler(seed=seed + tried)
            study.optimize(lambda trial: _score(objective, trial, folder), n_trials=1)
    return study


def _score(objective: Objective, trial: Any, folder: Path) -> float:
    """Run one trial; what was interrupted is no score, and ends the sweep."""
    reporter = _Reporter(trial)
    score = objective(trial, folder / f"trial_{trial.number:04d}", [reporter])
    if reporter.stopped == "interrupted":
        raise KeyboardInterrupt
    return score


class _Reporter:
    """Reports each epoch's validation loss to a trial, and ends it where the pruner gives it up."""

    def __init__(self, trial: Any):
        self.trial, self.stopped = trial, ""

    def epoch(self, number: int, row: dict[str, float]) -> None:
        """Report one epoch."""
        if math.isnan(row["validation"]):  # pruners take NaN for the worst
            return
        self.trial.report(row["validation"], number)
        if self.trial.should_prune():
            raise _optuna().TrialPruned(f"after epoch {number}")

    def close(self, stopped: str) -> None:
        """Take the reason for the end."""
        self.stopped = stopped


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise RobustctlError('a sweep must have Optuna; pip install "robustctl[sweep]"') from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Show no line of Optuna's a trial, which the progress lines would be lost among; warnings stay."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _check(optuna: Any, objective: Any, trials: Any, sampler: Any, pruner: Any, seed: Any) -> None:
    if not callable(objective):
        raise RobustctlError(
            f"objective must be a function (trial, run_folder, watchers) -> score, got {objective!r}"
        )
    for name, value, least in (("trials", trials, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise RobustctlError(f"{name} must be a whole number of at least {least}, got {value!r}")
    kinds = (
        ("sampler", sampler, optuna.samplers.BaseSampler, "TPESampler"),
        ("pruner", pruner, optuna.pruners.BasePruner, "MedianPruner"),
    )
    for name, value, kind, example in kinds:
        if value is not None and not isinstance(value, kind):
            raise RobustctlError(
                f"{name} must be one of Optuna's, such as optuna.{name}s.{example}(), got {value!r}"
            )
