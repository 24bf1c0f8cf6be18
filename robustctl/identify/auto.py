"""From a log to the model that predicts a part held out best, within a time limit."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..data import Record, cut
from ..errors import DataError, RobustctlError
from ..recipe import Recipe
from ..runs import Run
from ..runs.monitor import SHOWN, Monitor
from ..train import Fit, FittedModel
from ..train.engine import empty_history, history_of, paced, run_epochs, start
from ..train.training import prepare
from .pieces import held_from
from .recipe import EPOCHS, check_record, completed, identify, optimizer_of, problem_of
from .score_file import record_scores
from .start import LEAST_STATES
from .subspace import LinearFit, subspace

SIZES = ((8, (16,)), (16, (32,)), (32, (32, 32)))
"""Features and hidden layers of the network, each tried after the one before improved the validation part."""

BETTER = 0.98
"""Of the error of a smaller network: what a larger one must come below."""

SEARCH, END = 0.55, 0.9
"""Shares of the time limit at which the search and the last training end; the rest is for certificate and report."""

LONG = 8_000
"""Samples from which a record determines the second size, and the first is not tried."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """A network that was trained without the validation part.

    **Arguments:**

    - `recipe`: its settings.
    - `nrmse`: pooled NRMSE of the members' average on the validation part.
    - `members`: of each member.
    - `best_epoch`: the epoch that the validation part selects.
    - `epochs`: of the training.
    - `pace`: seconds an epoch.
    - `compiling`: seconds of the first epoch.
    """

    recipe: Recipe
    nrmse: float
    members: tuple[float, ...]
    best_epoch: int
    epochs: int
    pace: float
    compiling: float

    def __str__(self) -> str:
        r = self.recipe
        sizes = f"nx {r.nx}, nv {r.nv}, hidden {' '.join(map(str, r.hidden or ()))}"
        return f"start {r.init}, {sizes}: NRMSE {self.nrmse:.4g} on the validation part, best epoch {self.best_epoch} of {self.epochs}"


@dataclasses.dataclass(frozen=True)
class AutoFit(Fit):
    """What `auto` returns: a `Fit` with the linear model that it was compared with, and how it was chosen.

    **Arguments:**

    - `linear`: the subspace model of the whole record.
    - `chosen`: the settings that give this model again; `chosen.model` is "linear" where no network was better.
    - `tried`: the networks of the search.
    - `linear_nrmse`: pooled NRMSE on the validation part of the linear model without it; NaN without a validation part.
    - `scores`: what `scores.json` holds.
    - `note`: where the time limit cut, and why a linear model was returned, or "".
    """

    linear: LinearFit
    chosen: Recipe
    tried: tuple[Tried, ...]
    linear_nrmse: float
    scores: dict[str, Any]
    note: str


class Clock:
    """The time limit of an identification."""

    def __init__(self, minutes: float):
        self.begin, self.limit = time.monotonic(), 60 * minutes

    def left(self, share: float) -> float:
        """Return the seconds until a share of the limit is over."""
        return share * self.limit - self.seconds

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begin


def auto(
    record: Record,
    *,
    minutes: float = 5.0,
    test: Record | None = None,
    recipe: Recipe | None = None,
    run: Run | Path | None = None,
    monitor: Monitor | None = SHOWN,
    key: PRNGKeyArray | None = None,
) -> AutoFit:
    """Identify a record without settings: the linear model, then networks that start at it, as long as the part held out improves.

    ::

        fitted = rc.identify.auto(record, key=jax.random.key(0))
        print(fitted.note, fitted.scores["model"], fitted.scores["linear"])
        rc.save("model.safetensors", fitted.model)

    The last quarter of each experiment is held out. Networks that start at the subspace model and ones that correct it are trained on the
    rest, a few seeds of each as one, and grown as long as the part held out improves. The best settings are then trained on the whole
    record. Where no network predicts the part held out better than the linear model, that one is returned.

    **Arguments:**

    - `record`: the log.
    - `minutes`: time limit, compilation included. Given enough time the result depends on record, recipe and key alone.
    - `test`: a record that is scored at the end and nothing else.
    - `recipe`: settings that are not to be chosen; its seed and minutes are not read.
    - `run`: run folder of the last training, as for `fit`.
    - `monitor`: a line for each network, and what the last training shows.
    - `key`: of all draws.

    **Raises:** `DataError` for a record that is too short, that has a channel which is constant or was not measured in the part trained
    on or held out; `RobustctlError` for settings out of range; all before anything is written.
    """
    clock = Clock(minutes)
    seed = int(jr.randint(key, (), 0, 1 << 30)) if key is not None else 0
    recipe = dataclasses.replace(recipe or Recipe(), minutes=minutes, **({} if key is None else {"seed": seed}))
    check_record(record, recipe)
    if test is not None:
        check_record(test, dataclasses.replace(recipe, validation=0.0))
    say = _lines(monitor, clock)
    linear = subspace(record)
    say(f"linear model of order {linear.order}")
    if recipe.model == "linear":
        return _linear_fit(record, test, recipe, linear, (), float("nan"), "", clock)
    tried, linear_nrmse = search(record, recipe, linear, clock, say)
    best = min(tried, key=lambda t: _score(t))
    if not _score(best) <= linear_nrmse:
        note = (
            f"no network came below the linear model's NRMSE of {linear_nrmse:.4g} on the validation part (the best has "
            f"{_score(best):.4g}), so this is the linear model"
        )
        say(note)
        return _linear_fit(record, test, recipe, linear, tuple(tried), linear_nrmse, note, clock)
    chosen, note = _last(best, clock)
    say(f"training on the whole record: {best.recipe.init}, {chosen.epochs} epochs")
    fit = identify(record, chosen, linear=linear, run=run, monitor=monitor)
    return _result(fit, record, test, linear, chosen, tuple(tried), linear_nrmse, note, clock)


def search(record: Record, recipe: Recipe, linear: LinearFit, clock: Clock, say: Any) -> tuple[list[Tried], float]:
    """Return the networks that were tried without the validation part, and the linear model's NRMSE there."""
    training = head_of(record, recipe.validation)
    start_at = subspace(training, linear.order, linear.delay)
    linear_nrmse = _linear_nrmse(start_at, record, recipe)
    say(f"linear model without the validation part: NRMSE {linear_nrmse:.4g} there")
    inits = (recipe.init,) if recipe.init else ("linear", "prior") if recipe.model == "contracting" else ("linear",)
    if recipe.model in ("gru", "lstm"):
        inits = ("memory",)
    sizes = SIZES[1:] if record.samples > LONG else SIZES
    waiting = len(inits) + len(sizes) - 1
    tried: list[Tried] = []
    for init in inits:
        tried += _try(record, _sized(recipe, init, sizes[0], start_at), start_at, clock, waiting - len(tried), say)
    best = min(tried, key=_score)
    for size in sizes[1:] if recipe.nv is None and recipe.hidden is None else ():
        if clock.left(SEARCH) < 2 * best.compiling:
            break
        more = _try(record, _sized(recipe, best.recipe.init, size, start_at), start_at, clock, waiting - len(tried), say)
        tried += more
        if not _score(more[0]) < BETTER * _score(best):
            break
        best = more[0]
    return tried, linear_nrmse


def _sized(recipe: Recipe, init: str, size: tuple[int, tuple[int, ...]], linear: LinearFit) -> Recipe:
    nx = max(len(linear.model.parameterization.explicit().A), LEAST_STATES)
    return dataclasses.replace(
        recipe, init=init, nx=recipe.nx or nx, nv=recipe.nv or size[0], hidden=recipe.hidden or size[1]
    )


def _score(tried: Tried) -> float:
    return min(tried.nrmse, *tried.members)


def _try(record: Record, recipe: Recipe, linear: LinearFit, clock: Clock, waiting: int, say: Any) -> list[Tried]:
    """Train a recipe on the part that is not held out, in its share of the time that the search has left."""
    seconds = clock.left(SEARCH) / max(waiting, 1)
    recipe = completed(recipe, record)
    ensemble, members = problem_of(record, recipe, linear.model.scaling, linear)
    most, begin = recipe.epochs or EPOCHS, time.monotonic()
    trained, objective, training = prepare(ensemble, members, most, optimizer_of(recipe), None, jr.key(recipe.seed))
    state = start(training, trained)
    history = empty_history((most,), state)

    def go(count: int):
        nonlocal state, history
        state, history = run_epochs((training, jnp.asarray(count, jnp.int32)), state, history)
        jax.block_until_ready(state)

    go(1)
    compiling, again = time.monotonic() - begin, time.monotonic()
    go(1)
    pace = time.monotonic() - again
    epochs = int(np.clip(2 + (seconds - compiling - pace) / pace, min(most, 10), most))
    training = dataclasses.replace(training, objective=dataclasses.replace(objective, epochs=jnp.asarray(epochs, jnp.int32)))
    done, count = 2, 1
    while done < epochs and not bool(state.stopped):
        count, before = min(paced(count, 1, pace), epochs - done), time.monotonic()
        go(count)
        done, pace = done + count, (time.monotonic() - before) / count
    best, which = int(state.best_epoch), history_of(state, history)["validation"]
    nrmse = float(np.sqrt(np.nanmin(which))) if np.isfinite(which).any() else float("inf")
    own = tuple(float(e) for e in np.sqrt(np.asarray(_errors(objective, state.best))))
    found = Tried(recipe, nrmse, own, best, done, pace, compiling)
    say(str(found))
    return [found]


def _errors(objective: Any, trained: Any) -> Any:
    return eqx.filter_jit(lambda o, t: o.errors(t))(objective, trained)


def head_of(record: Record, held: float) -> Record:
    """Return the record without the last part of each experiment."""
    parts = tuple(cut(e, 0, held_from(e.samples, held), record.dt, e.name) for e in record.experiments)
    return dataclasses.replace(record, experiments=parts)


def _linear_nrmse(linear: LinearFit, record: Record, recipe: Recipe) -> float:
    """Return the error on the part held out, in the units of the networks' validation loss."""
    from .simulate import simulate

    run, s = simulate(linear.model, record), linear.model.scaling
    errors = []
    for e, y_hat in zip(record.experiments, run.y_hat, strict=True):
        c = max(held_from(e.samples, recipe.validation), run.skipped)
        errors.append(((e.y - y_hat)[c:] / s.y_std)[e.y_mask[c:]])
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _last(best: Tried, clock: Clock) -> tuple[Recipe, str]:
    """Return the settings of the training on the whole record, and in words where the time limit cuts it."""
    recipe, wanted = best.recipe, best.best_epoch + 1
    single = int(np.argmin(best.members))
    if best.nrmse > best.members[single]:
        recipe = dataclasses.replace(recipe, seeds=1, seed=recipe.seed + single)
    pace = best.pace / max(1 - recipe.validation, 0.1)
    fits = int((clock.left(END) - 1.5 * best.compiling) / pace)
    epochs = max(min(wanted, fits), min(wanted, 10))
    most = recipe.epochs or EPOCHS
    cut_search = best.epochs < most
    notes = [f"the search trained {best.epochs} of {most} epochs"] if cut_search else []
    notes += [f"the last training has {epochs} of {wanted} epochs"] if epochs < wanted else []
    note = f"the time limit of {recipe.minutes:g} minutes cut: {', '.join(notes)}" if notes else ""
    return dataclasses.replace(recipe, validation=0.0, epochs=epochs), note


def _linear_fit(
    record: Record, test: Record | None, recipe: Recipe, linear: LinearFit, tried: tuple[Tried, ...], nrmse: float, note: str,
    clock: Clock,
) -> AutoFit:  # fmt: skip
    names = ("loss", "validation", "gradient_norm", "learning_rate", "skipped", "certificate_margin")
    empty = {name: np.zeros(0) for name in names}
    fit = Fit(linear.model, empty, -1, "linear model", None, clock.seconds)
    chosen = dataclasses.replace(recipe, model="linear")
    return _result(fit, record, test, linear, chosen, tried, nrmse, note, clock)


def _result(
    fit: Fit, record: Record, test: Record | None, linear: LinearFit, chosen: Recipe, tried: tuple[Tried, ...], nrmse: float,
    note: str, clock: Clock,
) -> AutoFit:  # fmt: skip
    models = {"model": fit.model, "linear": linear.model}
    held = tried[0].recipe.validation if tried else chosen.validation
    scores = {
        **{name: record_scores(model, record, held, test) for name, model in models.items()},
        "search": {
            "held_out": held, "linear_nrmse": nrmse,
            "tried": [{**_settings(t.recipe), "nrmse": t.nrmse, "members_nrmse": t.members, "epochs": t.epochs,
                       "best_epoch": t.best_epoch} for t in tried],
        },
        "chosen": _settings(chosen) | {"order": linear.order, "delay": linear.delay}, "note": note, "seconds": clock.seconds,
    }  # fmt: skip
    values = {f.name: getattr(fit, f.name) for f in dataclasses.fields(Fit)} | {"seconds": clock.seconds}
    return AutoFit(**values, linear=linear, chosen=chosen, tried=tried, linear_nrmse=nrmse, scores=scores, note=note)


def _settings(recipe: Recipe) -> dict[str, Any]:
    return dataclasses.asdict(recipe)


def _lines(monitor: Monitor | None, clock: Clock) -> Any:
    """Return a function that shows a line with the time, with or without a terminal."""

    def say(text: str) -> None:
        if monitor is not None and monitor.progress:
            print(f"{clock.seconds:6.1f} s  {text}", file=sys.stderr, flush=True)

    return say
