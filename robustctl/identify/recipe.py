"""One training by a recipe: its model, how it draws from the record, and its checks."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import nn
from ..checks import check_gamma, check_rate, check_whole, checked_delays, is_positive, one_or_more
from ..data import Experiment, Record, Scaling
from ..data.edit import cut
from ..errors import DataError, RobustctlError
from ..linear.choose import ORDERS
from ..pytrees import fields_of
from ..recipe import Recipe
from ..runs import Run
from ..runs.monitor import SHOWN, Monitor
from ..system import Parameterization
from ..train import Fit, train
from ..train.optimizer import check_learning_rate
from .ensemble import Ensemble, Sampling, separate_rates
from .members import Member
from .pieces import Span, held_from, is_held, spans
from .start import prior, recurrent, start
from .subspace import LinearFit, refitted

SMALLEST: dict[str, Any] = {"nx": 4, "nv": 8, "hidden": (16,)}
"""Sizes where none are given: the smallest that are tried."""

EPOCHS = 250
"""Of a training where none are given."""

WHOLE = 8_000
"""Most samples of a record that is trained on as a whole at each step; a longer one is drawn from in random windows."""

PIECE, WINDOW = 1_000, 256
"""Most samples of a piece, over which gradients reach, and of a random window."""

STEPS_WHOLE, STEPS_WINDOWS = 10, 50
"""Gradient steps in an epoch."""

LINEAR_SHARE = 0.1
"""Of the learning rate, for the linear arrays of a network that starts at a linear model: the full rate soon leaves it."""


def completed(recipe: Recipe, record: Record, linear: LinearFit | None) -> Recipe:
    """Return the recipe with the smallest sizes and the usual settings where none are given.

    **Arguments:**

    - `recipe`: settings
    - `record`: the log
    - `linear`: its linear model, at which the network starts where nothing else is given; None where there is none
    """
    at_linear = linear is not None and recipe.model not in ("gru", "lstm")
    init = recipe.init or ("linear" if at_linear else "memory")
    known: dict[str, Any] = {**SMALLEST, "epochs": EPOCHS, "init": init, "window": _window(record)}
    # A network at a linear model has at least the linear model's states.
    known |= {"nx": None} if init == "linear" else {}
    return dataclasses.replace(
        recipe, **{name: value for name, value in known.items() if fields_of(recipe)[name] is None}
    )


def _window(record: Record) -> int:
    return 0 if record.samples <= WHOLE else WINDOW


def build(recipe: Recipe, nu: int, ny: int) -> Parameterization:
    """Return the recipe's untrained model for `nu` inputs and `ny` outputs, at slow modes or random."""
    key = jr.key(recipe.seed)
    nx, nv, hidden = (fields_of(recipe)[name] or value for name, value in SMALLEST.items())
    if recipe.model in ("gru", "lstm"):
        gated = {"gru": nn.GRU, "lstm": nn.LSTM}[recipe.model]
        return gated(nu=nu, nx=nx, ny=ny, key=key)
    sizes: dict[str, Any] = {"nu": nu, "nx": nx, "nv": nv, "ny": ny, "init": nn.long_memory, "key": key}
    sizes |= {"activation": nn.ACTIVATIONS[recipe.activation]}
    return recurrent(guarantee(recipe), None if recipe.model.endswith("ren") else hidden, **sizes)


def guarantee(recipe: Recipe) -> nn.Guarantee:
    """Return what the recipe's model guarantees."""
    if recipe.model.startswith("lipschitz"):
        return nn.Lipschitz(recipe.gamma, recipe.rate)
    return nn.Contracting(recipe.rate)


def delays(recipe: Recipe, nu: int) -> tuple[int, ...] | None:
    """Return the delay of each of `nu` inputs, None where it is to be found.

    **Raises:** `RobustctlError` for delays that are no whole numbers, or neither one nor one for each input.
    """
    if recipe.delay is None:
        return None
    return checked_delays(recipe.delay[0] if len(recipe.delay) == 1 else recipe.delay, nu)


def member(recipe: Recipe, record: Record, linear: LinearFit | None) -> Member:
    """Return the recipe's untrained model with its first states; `linear` is what it starts at or about."""
    if linear is None or recipe.init == "memory":
        model = build(recipe, record.nu, record.ny)
        zero = ravel_pytree(model.explicit().init_state())[0]
        return Member(model, np.zeros((len(record.experiments), zero.size)))
    sizes: dict[str, Any] = {"nx": recipe.nx, "nv": recipe.nv or SMALLEST["nv"], "key": jr.key(recipe.seed)}
    sizes |= {"activation": nn.ACTIVATIONS[recipe.activation], "hidden": recipe.hidden or SMALLEST["hidden"]}
    if recipe.init == "prior":
        sizes["nx"] = recipe.nx or SMALLEST["nx"]
        made = prior(record, linear, rate=recipe.rate, **sizes)
    else:
        sizes |= {"hidden": None} if recipe.model.endswith("ren") else {}
        made = start(record, linear, guarantee(recipe), **sizes)
    return Member(made.model, np.asarray(made.initial.x0))


MOST = 10_000
"""Of states, features and units of a layer: matrices of that size still fit into memory, and nothing larger was ever trained."""


def check_recipe(recipe: Recipe) -> None:
    """Check what a recipe's numbers must be whatever the record.

    **Raises:** `RobustctlError` with the setting.
    """
    given = {
        "order": recipe.order,
        "nx": recipe.nx,
        "nv": recipe.nv,
        **{f"hidden[{k}]": n for k, n in enumerate(recipe.hidden or ())},
    }
    sizes = {name: size for name, size in given.items() if size is not None}
    counts = {} if recipe.epochs is None else {"epochs": recipe.epochs}
    check_whole(1, warm_up=recipe.warm_up, batch=recipe.batch, seeds=recipe.seeds, **counts, **sizes)
    check_whole(0, window=recipe.window or 0, seed=recipe.seed)
    check_learning_rate(recipe.learning_rate)
    for name, size in sizes.items():
        if size > MOST:
            raise RobustctlError(f"{name} must be at most {MOST}, got {size}; take a smaller model")
    if not is_positive(recipe.minutes):
        raise RobustctlError(f"minutes must be a positive number, got {recipe.minutes!r}")
    _check_guarantee(recipe)
    if not 0 <= recipe.validation < 1:
        raise RobustctlError(
            f"validation must be a share of the log in [0, 1), got {recipe.validation:g}; 0.25 is the last quarter"
        )
    if recipe.seed + recipe.seeds > 1 << 32:
        raise RobustctlError(f"seed must be less than 2**32, got {recipe.seed}; take a smaller one")


def _check_guarantee(recipe: Recipe) -> None:
    if recipe.model not in ("gru", "lstm"):
        check_rate(recipe.rate)
    if recipe.model.startswith("lipschitz"):
        check_gamma(recipe.gamma)
    if recipe.init == "prior" and recipe.model != "contracting":
        raise RobustctlError(
            f"init = prior needs the model contracting, got {recipe.model}; take init = linear, or another model"
        )
    if recipe.init == "linear" and recipe.model in ("gru", "lstm"):
        raise RobustctlError(
            f"init = linear needs a model with a linear part, got {recipe.model}; leave init out, or take another model"
        )


def check_length(record: Record, recipe: Recipe, late: int = 0) -> None:
    """Check that every experiment is longer than the samples from which its initial state is estimated.

    **Arguments:**

    - `record`: the log
    - `recipe`: settings
    - `late`: the longest delay, samples

    **Raises:** `DataError` with the experiment.
    """
    delay = late and f" and the delay of {late}"
    for experiment in record.experiments:
        if experiment.samples <= recipe.warm_up + late:
            raise DataError(
                f"every experiment must be longer than warm_up = {recipe.warm_up} samples{delay or ''}, got "
                f"{experiment.samples} in {experiment.name!r}; use a smaller warm_up or a longer record"
            )


def check_record(record: Record, recipe: Recipe) -> None:
    """Check that a record can be trained on and, where a part of it selects, that this part has measurements.

    **Raises:** `DataError` with the channel, and the errors of `check_recipe` and `check_length`.
    """
    check_recipe(recipe)
    check_length(record, recipe)
    for what, held in (("training", False), *([("validation", True)] if recipe.validation else [])):
        cuts = [held_from(e.samples, recipe.validation) for e in record.experiments]
        parts = [slice(c, None) if held else slice(0, c) for c in cuts]
        for names, field in ((record.inputs, "u"), (record.outputs, "y")):
            masks = [e.signal(field)[1][part] for e, part in zip(record.experiments, parts, strict=True)]
            seen: list[bool] = np.any(np.concatenate(masks), axis=0).tolist()
            lost = [name for name, any_seen in zip(names, seen, strict=True) if not any_seen]
            if lost:
                raise DataError(
                    f"the {what} record must have a measured sample of {', '.join(lost)} that counts, got none in "
                    f"{'the last' if held else 'the first'} {100 * (recipe.validation if held else 1 - recipe.validation):g} % of the "
                    "experiments; use another share for validation, another part of the log, or leave the channel out"
                )


def problem_of(
    record: Record, recipe: Recipe, scaling: Scaling, linear: Sequence[LinearFit | None]
) -> tuple[Ensemble, list[Member]]:
    """Return the problem and the untrained members of a complete recipe, each at its linear model."""
    delay = (delays(recipe, record.nu) or ()) if linear[0] is None else linear[0].delay
    check_length(record, recipe, max(delay, default=0))
    window = recipe.window or 0
    sampling = Sampling(PIECE, window, recipe.batch, STEPS_WINDOWS if window else STEPS_WHOLE)
    ensemble = Ensemble(
        record,
        recipe.validation,
        sampling,
        recipe.epochs or EPOCHS,
        recipe.learning_rate,
        scaling,
        recipe.warm_up,
        delay,
    )
    recipes = [dataclasses.replace(recipe, seed=recipe.seed + k) for k in range(recipe.seeds)]
    held = spans(recipe.validation, recipe.seeds)
    parts = [without(record, span) for span in held]
    return ensemble, [member(*each) for each in zip(recipes, parts, linear, strict=True)]


def without_held(record: Record, recipe: Recipe, linear: LinearFit) -> list[LinearFit]:
    """Return a linear model for each member, of the kind of one, fitted without what is held out of the member."""
    if not recipe.validation:
        return [linear] * recipe.seeds
    held = spans(recipe.validation, recipe.seeds)
    parts = {span: without(record, span) for span in held}
    lower = [n for n in reversed(ORDERS) if n < linear.order]
    for order in (linear.order, *lower):
        # With a gap, a short record may not allow the order.
        with suppress(DataError):
            fits = {span: refitted(part, linear, order) for span, part in parts.items()}
            return [fits[span] for span in held]
    raise DataError(
        f"what is left without {100 * recipe.validation:g} % of the record allows no linear model, the record alone does; use a longer "
        "record or a smaller validation"
    )


def without(record: Record, span: Span) -> Record:
    """Return the record without a part of each experiment: it ends there, or has no outputs there."""
    first, last = span

    def one(e: Experiment) -> Experiment:
        if not last:
            return cut(e, 0, held_from(e.samples, first), record.dt, e.name)
        return dataclasses.replace(e, y_mask=e.y_mask & ~is_held(e.samples, span)[:, None])

    return dataclasses.replace(record, experiments=tuple(map(one, record.experiments)))


def optimizer_of(recipe: Recipe) -> Any:
    """Return the optimizer of a recipe."""
    return separate_rates(LINEAR_SHARE if recipe.init == "linear" else 1.0)


def identify(
    record: Record,
    recipe: Recipe,
    *,
    linear: LinearFit | Sequence[LinearFit] | None = None,
    run: Run | str | Path | None = None,
    monitor: Monitor | None = SHOWN,
) -> Fit:
    """Train the recipe's model on a record, once; what the recipe leaves open is as `completed` has it.

    **Arguments:**

    - `record`: the log
    - `recipe`: model and training
    - `linear`: what the network starts at or about, where the recipe asks for it, or one for each seed; the scaling of the first is used
    - `run`: run folder, as for `fit`
    - `monitor`: progress line, watchers and callback, as for `fit`

    **Raises:** `DataError` or `RobustctlError` for a recipe that does not fit the record, before anything is written.
    """
    check_record(record, recipe)
    given = list(one_or_more(linear))
    each = given * recipe.seeds if len(given) == 1 else given
    recipe = completed(recipe, record, each[0])
    scaling = Scaling.fit(record) if each[0] is None else each[0].model.scaling
    ensemble, members = problem_of(record, recipe, scaling, each)
    epochs, key = recipe.epochs or EPOCHS, jr.key(recipe.seed)
    return train(
        ensemble, members, optimizer=optimizer_of(recipe), epochs=epochs, run=run, monitor=monitor, key=key
    )
