"""From a log to a fitted model, with settings that suit many logs: used by `robustctl fit` and the demo."""

from pathlib import Path
from typing import Any

import jax.random as jr

from .. import nn
from ..checks import check_gamma, check_rate, check_whole
from ..data import Record, Scaling, split, windows
from ..errors import DataError, RobustctlError
from ..recipe import Recipe
from ..runs import Run
from ..runs.monitor import SHOWN, Monitor
from ..system import Parameterization
from ..train import Fit, Identification, learned_state, train, warm_up
from ..train.optimizer import check_learning_rate, cosine_adam


def build(recipe: Recipe, nu: int, ny: int) -> Parameterization:
    """Return the recipe's untrained model for `nu` inputs and `ny` outputs."""
    key = jr.key(recipe.seed)
    if recipe.model in ("gru", "lstm"):
        gated = {"gru": nn.GRU, "lstm": nn.LSTM}[recipe.model]
        return gated(nu=nu, nx=recipe.nx, ny=ny, key=key)
    if recipe.model == "linear":
        return nn.StableLinear(nu=nu, nx=recipe.nx, ny=ny, rate=recipe.rate, init=nn.long_memory, key=key)
    lipschitz, ren = recipe.model.startswith("lipschitz"), recipe.model.endswith("ren")
    settings: dict[str, Any] = {"nx": recipe.nx, "nv": recipe.nv, "rate": recipe.rate}
    settings |= {"gamma": recipe.gamma} if lipschitz else {}
    settings |= {} if ren else {"hidden": recipe.hidden}
    classes = {
        (False, False): nn.ContractingR2DN, (True, False): nn.LipschitzR2DN,
        (False, True): nn.ContractingREN, (True, True): nn.LipschitzREN,
    }  # fmt: skip
    activation = nn.ACTIVATIONS[recipe.activation]
    return classes[lipschitz, ren](
        nu=nu, ny=ny, activation=activation, init=nn.long_memory, key=key, **settings
    )


MOST = 10_000
"""Of states, features and units of a layer: matrices of that size still fit into memory, and nothing larger was ever trained."""


def check_recipe(recipe: Recipe) -> None:
    """Check what a recipe's numbers must be whatever the record.

    **Raises:** `RobustctlError` with the setting.
    """
    sizes = {"nx": recipe.nx, "nv": recipe.nv, **{f"hidden[{k}]": n for k, n in enumerate(recipe.hidden)}}
    check_whole(
        1, warm_up=recipe.warm_up, stride=recipe.stride, batch=recipe.batch, epochs=recipe.epochs, **sizes
    )
    check_whole(0, window=recipe.window, seed=recipe.seed)
    check_learning_rate(recipe.learning_rate)
    for name, size in sizes.items():
        if size > MOST:
            raise RobustctlError(f"{name} must be at most {MOST}, got {size}; take a smaller model")
    if recipe.model not in ("gru", "lstm"):
        check_rate(recipe.rate)
    if recipe.model.startswith("lipschitz"):
        check_gamma(recipe.gamma)
    if not 0 <= recipe.validation < 1:
        raise RobustctlError(
            f"validation must be a share of the log in [0, 1), got {recipe.validation:g}; 0.25 is the last quarter"
        )
    if recipe.seed >= 1 << 32:
        raise RobustctlError(f"seed must be less than 2**32, got {recipe.seed}; take a smaller one")


def check_length(record: Record, recipe: Recipe) -> None:
    """Check that every experiment is longer than the samples from which its initial state is estimated.

    **Raises:** `DataError` with the experiment.
    """
    for experiment in record.experiments:
        if experiment.samples <= recipe.warm_up:
            raise DataError(
                f"every experiment must be longer than warm_up = {recipe.warm_up} samples, got "
                f"{experiment.samples} in {experiment.name!r}; use a smaller warm_up or a longer record"
            )


def parts(record: Record, recipe: Recipe) -> tuple[Record, Record | None, Record]:
    """Return a record's training part, its validation part (None without one), and the training part in windows.

    **Raises:** `RobustctlError` for validation without windows, same errors as `check_recipe`; `DataError`, same errors as
    `check_length`.
    """
    check_recipe(recipe)
    if recipe.validation and not recipe.window:
        raise RobustctlError(
            "validation requires training windows, but window is 0; give window a number of samples, or leave validation at 0"
        )
    check_length(record, recipe)
    training, validation = (
        (split(record, (1 - recipe.validation, recipe.validation))) if recipe.validation else (record, None)
    )
    data = windows(training, recipe.window + recipe.warm_up, recipe.stride) if recipe.window else training
    return training, validation, data


def identify(
    record: Record,
    recipe: Recipe,
    *,
    run: Run | Path | None = None,
    monitor: Monitor | None = SHOWN,
) -> Fit:
    """Fit the recipe's model to a record.

    **Arguments:**

    - `record`: the log
    - `recipe`: model and training
    - `run`: run folder, as for `fit`
    - `monitor`: progress line, watchers and callback, as for `fit`

    **Raises:** `DataError` or `RobustctlError` for a recipe that does not fit the record, before anything is written.
    """
    training, validation, data = parts(record, recipe)
    if recipe.window:
        initial, batch = warm_up(recipe.warm_up), min(recipe.batch, len(data.experiments))
    else:
        initial, batch = learned_state(horizon=recipe.warm_up), len(data.experiments)
    steps = recipe.epochs * (len(data.experiments) // batch)
    problem = Identification(
        data, validation=validation, scaling=Scaling.fit(training), initial=initial, batch_size=batch
    )
    return train(
        problem,
        build(recipe, record.nu, record.ny),
        optimizer=cosine_adam(recipe.learning_rate, steps),
        epochs=recipe.epochs,
        run=run,
        monitor=monitor,
        key=jr.key(recipe.seed + 1),  # other draws than those of the initial weights
    )
