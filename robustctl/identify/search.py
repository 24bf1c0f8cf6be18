"""Which network predicts a part held out best: trained without it, and grown as long as it improves."""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..data import Record
from ..errors import DataError
from ..linear.choose import FITTED, LONGEST
from ..recipe import Recipe
from ..runs.monitor import Monitor
from ..train.engine import Training, empty_history, history_of, paced, run_epochs
from ..train.engine import start as first_state
from ..train.problem import State
from ..train.training import prepare
from .pieces import is_held, spans
from .recipe import EPOCHS, WHOLE, check_record, completed, delays, optimizer_of, problem_of, without_held
from .simulate import simulated
from .start import LEAST_STATES
from .subspace import LinearFit, subspace

SIZES = ((8, (16,)), (16, (32,)), (32, (32, 32)))
"""Features and hidden layers of the network, each tried after the one before improved the part held out."""

BETTER = 0.98
"""Of the error of a smaller network: what a larger one must come below."""

NEARLY = (1.1, 1.3)
"""Of the error of the best order: the lowest order below each is tried, too; a network may need fewer states than a linear model."""

OTHER = 0.95
"""Of the error with the best order: what another one must come below; smaller differences on so few parts mean nothing."""

LATE, LONGER = 0.8, 4
"""Where the best epoch is later than this share, the last training has so many times the usual epochs. Elsewhere networks differ by what
they fit beyond the plant, and more of them are averaged."""

TRIED = 3
"""Most members of a network that is tried, and of one that is trained longer."""

SEARCH, END = 0.55, 0.87
"""Shares of the time limit at which the search and the last training end; the rest is for certificate and report."""

Say = Callable[[str], None]


class Clock:
    """The time limit of an identification."""

    def __init__(self, minutes: float):
        self.begin, self.limit = time.monotonic(), 60 * minutes

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begin

    def left(self, share: float) -> float:
        """Return the seconds until a share of the limit is over."""
        return share * self.limit - self.seconds

    def lines(self, monitor: Monitor | None) -> Say:
        """Return a function that shows a line with the time, on a terminal or not."""

        def say(text: str) -> None:
            if monitor is not None and monitor.progress:
                print(f"{self.seconds:6.1f} s  {text}", file=sys.stderr, flush=True)

        return say


class Begin(NamedTuple):
    """A linear model that networks start at, and for each member the same one fitted without what is held out of it."""

    linear: LinearFit
    without: list[LinearFit]


@dataclasses.dataclass(frozen=True)
class Tried:
    """A network that was trained without the part held out.

    **Arguments:**

    - `recipe`: its settings.
    - `begin`: the linear models at which it started.
    - `nrmse`: pooled NRMSE of the members, each on the part held out of it.
    - `best_epoch`: the epoch that these parts select.
    - `epochs`: of the training.
    - `pace`: seconds an epoch.
    - `compiling`: seconds of the first epoch.
    """

    recipe: Recipe
    begin: Begin
    nrmse: float
    best_epoch: int
    epochs: int
    pace: float
    compiling: float

    def __str__(self) -> str:
        r = self.recipe
        sizes = f"nx {r.nx}, nv {r.nv}, hidden {' '.join(map(str, r.hidden or ()))}"
        return f"{r.model} from {r.init}, {sizes}: NRMSE {self.nrmse:.4g}, best epoch {self.best_epoch + 1} of {self.epochs}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the last training is to be.

    **Arguments:**

    - `recipe`: complete settings; the model "linear" where no network was better.
    - `linear`: the subspace model of the whole record, None for a record without one and a recipe that needs none.
    - `start`: the subspace model of the recipe's order, at which the network starts.
    - `tried`: the networks of the search.
    - `linear_nrmse`: pooled NRMSE of the linear model on the part held out, fitted without it.
    - `held`: share of each experiment that was held out.
    - `note`: where the time limit cut, and why the linear model was chosen, or "".
    """

    recipe: Recipe
    linear: LinearFit | None
    start: LinearFit | None
    tried: tuple[Tried, ...] = ()
    linear_nrmse: float = float("nan")
    held: float = 0.0
    note: str = ""


def choose(record: Record, recipe: Recipe, clock: Clock, say: Say) -> Choice:
    """Return the settings to train a record with: those of a recipe, and where it leaves some open, the best that were tried.

    **Raises:** as `auto`.
    """
    check_record(record, recipe)
    linear = _linear(record, recipe)
    if linear is not None:
        say(f"linear model of order {linear.order}")
    start = _start(record, recipe, linear)
    if linear is None or start is None or recipe.model == "linear" or is_complete(recipe):
        return Choice(recipe, linear, start, held=recipe.validation)
    each = dataclasses.replace(recipe, seeds=min(recipe.seeds, TRIED))
    without = without_held(record, each, linear)
    linear_nrmse = _linear_nrmse(without, record, each)
    say(
        f"linear models NRMSE {linear_nrmse:.4g}, each on {100 * recipe.validation:g} % that were held out of it"
    )
    first = Begin(start, without if start is linear else without_held(record, each, start))
    (tried, best), note = _search(record, each, first, clock, say), ""
    if best.nrmse <= linear_nrmse:
        chosen, note = _last(best, recipe, clock)
    else:
        chosen = dataclasses.replace(recipe, model="linear")
        note = f"no network came below the linear model's NRMSE of {linear_nrmse:.4g} on parts held out, so this is the linear model"
    return Choice(chosen, linear, best.begin.linear, tuple(tried), linear_nrmse, recipe.validation, note)


def _start(record: Record, recipe: Recipe, linear: LinearFit | None) -> LinearFit | None:
    """Return the linear model of the recipe's order, where it has one."""
    if linear is None or recipe.order in (None, linear.order):
        return linear
    return subspace(record, recipe.order, linear.delay)


def is_complete(recipe: Recipe) -> bool:
    """Return whether a recipe leaves nothing to choose that a search would."""
    network = () if recipe.model in ("gru", "lstm") else (recipe.init, recipe.nv, recipe.hidden)
    settings = (recipe.epochs, recipe.nx, *network)
    return not recipe.validation or None not in settings


def _linear(record: Record, recipe: Recipe) -> LinearFit | None:
    """Return the subspace model; None for a record that has none, where the recipe can do without."""
    try:
        order = recipe.order if recipe.model == "linear" else None
        return subspace(record, order, delays(recipe, record.nu))
    except DataError:
        if (is_complete(recipe) and recipe.init == "memory") or recipe.model in ("gru", "lstm"):
            return None
        raise


def _search(
    record: Record, recipe: Recipe, first: Begin, clock: Clock, say: Say
) -> tuple[list[Tried], Tried]:
    """Return the networks that were tried, and the best."""
    begins = [first, *_other_orders(record, recipe, first.linear)]
    sizes = _sizes(recipe, record)
    tried: list[Tried] = []

    def one(begin: Begin, settings: Recipe, later: int) -> Tried:
        # What is tried first gets more time: the others are compared with it.
        tried.append(_try(record, settings, begin, clock.left(SEARCH) / min(1 + later, 3)))
        say(str(tried[-1]))
        return tried[-1]

    later = len(begins) + len(sizes) - 1
    for k, each in enumerate(begins):
        # A training that gets no more time than it compiles shows nothing.
        if tried and clock.left(SEARCH) < 2 * tried[0].compiling:
            break
        one(each, _sized(recipe, sizes[0], each.linear), later - k)
    best = min(tried, key=lambda t: t.nrmse if t is tried[0] else t.nrmse / OTHER)
    for k, size in enumerate(sizes[1:]):
        # One that was cut gains more by time than by size.
        if clock.left(SEARCH) < 2 * best.compiling or best.epochs < (recipe.epochs or EPOCHS):
            break
        larger = one(best.begin, _sized(recipe, size, best.begin.linear), len(sizes) - 1 - k)
        if larger.nrmse >= BETTER * best.nrmse:
            break
        best = larger
    return tried, best


def _other_orders(record: Record, recipe: Recipe, linear: LinearFit) -> list[Begin]:
    """Return where networks of more or fewer states begin, none where there is no such order or the states are given."""
    if recipe.nx or recipe.order or _init(recipe) == "memory":
        return []
    orders = [*_higher(linear, record.samples), *_lower(linear)]
    others = [subspace(record, n, linear.delay) for n in orders]
    return [Begin(each, without_held(record, recipe, each)) for each in others]


def _higher(linear: LinearFit, samples: int) -> list[int]:
    """Return the best order where it is higher than the chosen one and better by more than chance.

    What a nonlinear plant leaves to a linear model hides the states that reduce the rest: a network needs them.
    """
    scores = linear.validation
    best = min(scores, key=scores.__getitem__, default=0)
    # The error of N samples is known to 1 / sqrt(2 N); the part that validates is a third of the record.
    chance = 2 / np.sqrt(min(samples * (1 - FITTED), LONGEST))
    return [best] if best > linear.order and scores[best] < (1 - chance) * scores[linear.order] else []


def _lower(linear: LinearFit) -> list[int]:
    scores = linear.validation
    good = {
        min(n for n, score in scores.items() if score <= share * min(scores.values())) for share in NEARLY
    }
    return [n for n in sorted(good, reverse=True) if n < linear.order]


def _sizes(recipe: Recipe, record: Record) -> tuple[tuple[int, tuple[int, ...]], ...]:
    sizes = SIZES[1:] if record.samples > WHOLE else SIZES
    return sizes[:1] if recipe.nv or recipe.hidden or recipe.model in ("gru", "lstm") else sizes


def _init(recipe: Recipe) -> Any:
    return recipe.init or ("memory" if recipe.model in ("gru", "lstm") else "linear")


def _sized(recipe: Recipe, size: tuple[int, tuple[int, ...]], linear: LinearFit) -> Recipe:
    nx = max(len(linear.model.parameterization.explicit().A), LEAST_STATES)
    sizes = {"nx": recipe.nx or nx, "nv": recipe.nv or size[0], "hidden": recipe.hidden or size[1]}
    return dataclasses.replace(recipe, init=_init(recipe), order=linear.order, **sizes)


def _try(record: Record, recipe: Recipe, begin_at: Begin, seconds: float) -> Tried:
    """Train a recipe for as many epochs as the seconds allow."""
    recipe, begin = completed(recipe, record, begin_at.linear), time.monotonic()
    ensemble, members = problem_of(record, recipe, begin_at.linear.model.scaling, begin_at.without)
    most = recipe.epochs or EPOCHS
    free, _, training = prepare(ensemble, members, most, optimizer_of(recipe), None, jr.key(recipe.seed))
    state = first_state(training, free)
    state, history, _ = _timed(training, state, empty_history(most, state), 1)
    compiling = time.monotonic() - begin
    # The second call compiles nothing.
    state, history, pace = _timed(training, state, history, min(1, most - 1))
    left = seconds - (time.monotonic() - begin)
    epochs = int(np.clip(2 + left / max(pace, 1e-4), min(most, 10), most))
    objective = dataclasses.replace(training.objective, epochs=jnp.asarray(epochs, jnp.int32))
    training = dataclasses.replace(training, objective=objective)
    while (done := int(state.epoch)) < epochs and not bool(state.stopped):
        count = min(paced(10 * done, 1, max(pace, 1e-4)), epochs - done)
        state, history, took = _timed(training, state, history, count)
        pace = took / count
    best = int(state.best_epoch)
    nrmse = np.sqrt(history_of(state, history)["validation"][best]) if best >= 0 else np.inf
    return Tried(recipe, begin_at, float(nrmse), best, done, pace, compiling)


def _timed(training: Training, state: State, history: Any, count: int) -> tuple[State, Any, float]:
    begin = time.monotonic()
    state, history = run_epochs((training, jnp.asarray(count, jnp.int32)), state, history)
    jax.block_until_ready(state)
    return state, history, time.monotonic() - begin


def _linear_nrmse(linear: Sequence[LinearFit], record: Record, recipe: Recipe) -> float:
    """Return the error on the parts held out, in the units of the networks' validation loss."""
    errors = []
    for fit, span in zip(linear, spans(recipe.validation, recipe.seeds), strict=True):
        run = simulated(fit.model, record)
        for e, y_hat in zip(record.experiments, run.y_hat, strict=True):
            used = e.y_mask & is_held(e.samples, span)[:, None] & ~np.isnan(y_hat)
            errors.append(((e.y - y_hat) / fit.model.scaling.y_std)[used])
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _last(best: Tried, recipe: Recipe, clock: Clock) -> tuple[Recipe, str]:
    """Return the settings of the last training, and in words where the time limit cuts it."""
    usual = recipe.epochs or EPOCHS
    late = recipe.epochs is None and best.best_epoch > LATE * best.epochs
    wanted = LONGER * usual if late else usual
    few = best.recipe.seeds
    seeds = few if late else recipe.seeds
    fits = int((clock.left(END) - best.compiling) / max(best.pace, 1e-4) * few / seeds)
    if fits < wanted and seeds > few:
        seeds, fits = few, fits * seeds // few
    epochs = max(min(wanted, fits), min(wanted, 10))
    notes = [f"the search trained {best.epochs} of {usual} epochs"] if best.epochs < usual else []
    notes += [f"the last training has {epochs} of {wanted} epochs"] if epochs < wanted else []
    note = f"the time limit of {recipe.minutes:g} minutes cut: {', '.join(notes)}" if notes else ""
    return dataclasses.replace(best.recipe, epochs=epochs, seeds=seeds), note
