"""From a log to the model that predicts a part held out best, within a time limit."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..data import Record
from ..pytrees import field_names, fields_of
from ..recipe import Recipe
from ..runs import Run
from ..runs.fingerprint import data_hash
from ..runs.monitor import SHOWN, Monitor
from ..runs.run_folder import RunFolder, as_run
from ..train import Fit
from ..train.engine import Metrics
from .recipe import check_length, identify, without_held
from .score_file import record_scores
from .search import Choice, Clock, choose


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoFit(Fit):
    """What `auto` returns: a `Fit`, how it was chosen, and its scores.

    **Arguments:**

    - `choice`: the settings that give this model again, the linear model that it was compared with, and the networks that were tried.
    - `scores`: what `scores.json` holds.
    """

    choice: Choice
    scores: dict[str, Any]

    @property
    def is_linear(self) -> bool:
        """Whether it is the linear model."""
        return self.choice.recipe.model == "linear"


def auto(
    record: Record,
    *,
    minutes: float = 5.0,
    test: Record | None = None,
    recipe: Recipe | None = None,
    run: Run | str | Path | None = None,
    monitor: Monitor | None = SHOWN,
    key: PRNGKeyArray,
) -> AutoFit:
    """Identify a record without settings: a linear model, and networks that start at it, grown as long as parts held out improve.

    ::

        fitted = rc.identify.auto(record, key=jax.random.key(0))
        print(fitted.choice.note, fitted.scores["model"], fitted.scores["linear"])
        rc.save("model.safetensors", fitted.model)

    Three networks that start at the subspace model are trained as one, and another quarter of each experiment is held out of each, the
    first one of none. The error on what was held out selects the order of the linear model, the size of the networks and the epoch. With
    the best settings they are trained again, longer where the error was still falling and six of them elsewhere, and their average is
    returned. Where the linear models, each fitted without the same quarter, predict it better, the linear model is returned.

    **Arguments:**

    - `record`: the log.
    - `minutes`: time limit, compilation included; given enough of them the result depends on record, recipe and key alone.
    - `test`: a record that is scored at the end, and used for nothing else.
    - `recipe`: settings that are not to be chosen; its minutes and seed are not read.
    - `run`: run folder of the last training, as for `fit`.
    - `monitor`: a line for each network that is tried, and what is shown of the last training; None: nothing.
    - `key`: for all random draws.

    **Raises:** `DataError` for a record that is too short, or has a channel that is constant or was not measured in the part trained
    on or held out; `RobustctlError` for settings out of range; all before anything is written.
    """
    clock = Clock(minutes)
    seed = int(jr.randint(key, (), 0, 1 << 30))
    recipe = dataclasses.replace(recipe or Recipe(), minutes=minutes, seed=seed)
    if test is not None:
        check_length(test, recipe)
    choice = choose(record, recipe, clock, clock.lines(monitor))
    return trained(choice, record, clock, test=test, run=run, monitor=monitor)


def trained(
    choice: Choice,
    record: Record,
    clock: Clock,
    *,
    test: Record | None = None,
    run: Run | str | Path | None = None,
    monitor: Monitor | None = SHOWN,
) -> AutoFit:
    """Return what the choice gives on the whole record, with its scores.

    **Arguments:**

    - `choice`: of `choose`.
    - `record`: the log.
    - `clock`: of the whole identification.
    - `test`: see `auto`.
    - `run`: see `auto`.
    - `monitor`: see `auto`.
    """
    recipe, linear, say = choice.recipe, choice.linear, clock.lines(monitor)
    if choice.note:
        say(choice.note)
    if recipe.model == "linear" and linear is not None:
        if run is not None:
            # Nothing is trained, and the folder is still one of a run that can be repeated.
            with RunFolder(as_run(run), {"data": data_hash(record)}):
                pass
        empty = {name: np.zeros(0) for name in Metrics._fields}
        fit = Fit(linear.model, empty, -1, "finished", None, clock.seconds)
    else:
        at = None if choice.start is None else without_held(record, recipe, choice.start)
        say(
            f"training {recipe.seeds} network{'s' * (recipe.seeds > 1)}; the first epoch is compiled before it runs"
        )
        fit = identify(record, recipe, linear=at, run=run, monitor=monitor)
    values: dict[str, Any] = {
        name: value for name, value in fields_of(fit).items() if name in field_names(Fit)
    }
    values |= {"seconds": clock.seconds}
    return AutoFit(**values, choice=choice, scores=_scores(fit, choice, record, test, clock))


def _scores(fit: Fit, choice: Choice, record: Record, test: Record | None, clock: Clock) -> dict[str, Any]:
    linear = choice.linear
    models = {"model": fit.model, "linear": None if linear is None else linear.model}
    parts = {
        name: model and record_scores(model, record, choice.held, test) for name, model in models.items()
    }
    tried = [
        dataclasses.asdict(t.recipe) | {"nrmse": t.nrmse, "best_epoch": t.best_epoch, "epochs": t.epochs}
        for t in choice.tried
    ]  # fmt: skip
    order = {} if choice.start is None else {"order": choice.start.order, "delay": choice.start.delay}
    return {
        **parts,
        "held_out": choice.held,
        "search": {"linear_nrmse": choice.linear_nrmse, "tried": tried},
        "chosen": dataclasses.asdict(choice.recipe) | order, "note": choice.note, "seconds": clock.seconds,
    }  # fmt: skip
