"""Sweeps over settings by Optuna: the study and each trial's run in one folder."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import check_whole
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
            monitor = rc.runs.Monitor(watchers=watchers)
            fitted = rc.fit(..., optimizer=rc.train.clipped_adam(rate), run=run_folder, monitor=monitor)
            return float(fitted.history["validation"].min())

    The folder holds the study, `study.journal`, and each trial's run, `trial_0007`. A second call continues until
    `trials` are complete or pruned; a trial that was killed or interrupted, or failed, is replaced by a new one.
    The watchers report the validation loss of each epoch, and end a trial that the pruner gives up by raising
    `optuna.TrialPruned`. An error of the objective ends the sweep.

    **Arguments:**

    - `objective`: runs one trial and returns its score.
    - `folder`: of the sweep; it is made where it does not exist.
    - `trials`: how many are to be complete or pruned in all.
    - `sampler`: one of Optuna's; None: `TPESampler`, seeded with `seed` and the trial's number, so that a sweep in two
      calls tries the same as one in a single call.
    - `pruner`: one of Optuna's; None: `MedianPruner()`.
    - `seed`: of the default sampler.

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
    """Run one trial; an interrupted one has no score, and ends the sweep."""
    reporter = _Reporter(trial)
    score = objective(trial, folder / f"trial_{trial.number:04d}", [reporter])
    if reporter.stopped == "interrupted":
        raise KeyboardInterrupt
    return score


class _Reporter:
    """Reports each epoch's validation loss to a trial, and ends it where the pruner gives it up."""

    def __init__(self, trial: Any):
        self.trial, self.stopped = trial, ""

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Report one epoch."""
        if math.isnan(metrics["validation"]):  # pruners take NaN for the worst
            return
        self.trial.report(metrics["validation"], number)
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
    """Silence Optuna's line for each trial, which would hide the progress lines; warnings stay."""
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
    check_whole(1, trials=trials)
    check_whole(0, seed=seed)
    kinds = (
        ("sampler", sampler, optuna.samplers.BaseSampler, "TPESampler"),
        ("pruner", pruner, optuna.pruners.BasePruner, "MedianPruner"),
    )
    for name, value, kind, example in kinds:
        if value is not None and not isinstance(value, kind):
            raise RobustctlError(
                f"{name} must be one of Optuna's, for example optuna.{name}s.{example}(), got {value!r}"
            )
