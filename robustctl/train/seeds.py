"""Many seeds trained as one: their states are stacked, and one compiled epoch is that of all."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ..checks import renamed
from ..data import Record
from ..errors import RobustctlError
from ..pytrees import is_key, shape_and_dtype
from ..runs.devices import for_each, mesh_of, one_by_one, several, spread
from ..runs.interrupt import Request, stop_requests
from ..runs.monitor import SHOWN, SILENT, Monitor
from ..runs.watchers import Watcher
from ..scenario import Scenario
from ..system import Parameterization
from .engine import (
    Metrics,
    Training,
    empty_history,
    history_of,
    notify,
    paced,
    reason,
    run_epochs,
    start,
)
from .fit import IDENTIFICATION
from .identification import Fit, Identification
from .initial_state import Builder, InitialState
from .policy import POLICY, PolicyFit, PolicyGradient
from .problem import Problem, Result, State
from .settle import settled
from .training import RENAMED, finish, prepare

Build = Callable[[PRNGKeyArray], Parameterization]
End = tuple[State, dict[str, np.ndarray], str]

_RENAMED = {name: text for name, text in RENAMED.items() if name in ("progress", "watchers")}
_NONE = "nothing: many seeds trained as one have no run folder and no callback; train one after the other for these"
SEEDS = _RENAMED | dict.fromkeys(("run", "resume", "inspect", "inspect_every"), _NONE)


@renamed(**SEEDS)
def train_seeds(
    problem: Problem[Result],
    build: Build,
    *,
    keys: Iterable[PRNGKeyArray],
    epochs: int,
    optimizer: optax.GradientTransformation | None = None,
    patience: int | None = None,
    devices: int = 1,
    monitor: Monitor | None = SHOWN,
) -> list[Result]:
    """Train one model a key on the same problem, all at once.

    ::

        for start, key in map(jr.split, keys):   train(problem, build(start), key=key, ...)

    gives the same to rounding. A seed that stops, by `patience` or for numbers that are not finite, is no longer changed
    while the others continue. Nothing is written to disk.

    **Arguments:**

    - `problem`: what is minimized.
    - `build`: `(key) -> model`, the untrained model, the same for every key except for its numbers.
    - `keys`: for example `jr.split(jr.key(0), 10)`.
    - `devices`: how many of `jax.devices()` to spread the seeds over, a divisor of their number.
    - `monitor`: notified of the mean over the seeds that still train; it has no callback.
    - `epochs`: see `train`.
    - `optimizer`: see `train`.
    - `patience`: see `train`.

    `seconds` of each result is that of all.

    **Raises:** `RobustctlError` for no keys, for models that differ in more than numbers, for a callback, and for several
    processes; what `train` raises.
    """
    begin, monitor = time.monotonic(), monitor or SILENT
    if monitor.callback is not None:
        raise RobustctlError(
            "monitor must have no callback where seeds are trained as one, got one; leave it out"
        )
    made = [prepare(problem, build(a), epochs, optimizer, patience, b) for a, b in _pairs(keys)]
    ends = _train([each for *_, each in made], [free for free, *_ in made], epochs, devices, monitor)
    seconds = time.monotonic() - begin
    return [
        finish(problem, objective, *end, seconds, f"seed {k}: ")
        for k, ((_, objective, _), end) in enumerate(zip(made, ends, strict=True))
    ]


@renamed(**SEEDS, **IDENTIFICATION)
def fit_seeds(
    build: Build,
    record: Record,
    *,
    keys: Iterable[PRNGKeyArray],
    validation: Record | None = None,
    initial: Builder | InitialState | None = None,
    washout: int = 0,
    epochs: int = 500,
    optimizer: optax.GradientTransformation | None = None,
    devices: int = 1,
    monitor: Monitor | None = SHOWN,
) -> list[Fit]:
    """Fit one model a key to the same record, all at once.

    The short form of::

        rc.train.train_seeds(rc.train.Identification(record, ...), build, keys=keys, ...)

    which has all settings and describes each in detail.

    **Arguments:**

    - `build`: `(key) -> model`, the same for every key except for its numbers.
    - `record`: the experiments to train on.
    - `keys`: one per seed.
    - `validation`: a record whose loss selects the epoch that is returned.
    - `initial`: `zero_state()` (default), `learned_state()` or `warm_up(window)`, or an `InitialState`.
    - `washout`: samples at the start of each experiment that are simulated but not counted.
    - `epochs`: of each training.
    - `optimizer`: any Optax transformation; None: `clipped_adam()`.
    - `devices`: how many devices to spread the seeds over.
    - `monitor`: what is shown; None: nothing.
    """
    problem = Identification(record, validation=validation, initial=initial, washout=washout)
    return train_seeds(
        problem, build, keys=keys, epochs=epochs, optimizer=optimizer, devices=devices, monitor=monitor
    )


@renamed(**SEEDS, **POLICY)
def fit_policy_seeds(
    build: Build,
    scenario: Scenario,
    *,
    keys: Iterable[PRNGKeyArray],
    horizon: int,
    segment: int | None = None,
    batch: int = 64,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 100,
    monitor: Monitor | None = SHOWN,
    devices: int = 1,
) -> list[PolicyFit]:
    """Train one policy a key on the same scenario, all at once; each seed draws its own test episodes.

    The short form of::

        rc.train.train_seeds(rc.train.PolicyGradient(scenario, horizon=200, ...), build, keys=keys, ...)

    which has all settings and describes each in detail.

    **Arguments:**

    - `build`: `(key) -> policy`, the same for every key except for its numbers.
    - `scenario`: draws episodes, closes the loop and has the cost.
    - `keys`: one per seed.
    - `horizon`: samples of an episode.
    - `segment`: samples between gradient steps; None: `horizon`.
    - `batch`: episodes of an epoch.
    - `epochs`: of each training.
    - `optimizer`: any Optax transformation; None: `clipped_adam()`.
    - `devices`: how many devices to spread the seeds over.
    - `monitor`: what is shown; None: nothing.
    """
    problem = PolicyGradient(scenario, horizon=horizon, segment=segment, batch=batch)
    return train_seeds(
        problem, build, keys=keys, epochs=epochs, optimizer=optimizer, devices=devices, monitor=monitor
    )


def _pairs(keys: Iterable[PRNGKeyArray]) -> list[Array]:
    """Return each seed's key of the model and key of the training."""
    single = eqx.is_array(keys) and jnp.ndim(keys) == (0 if is_key(keys) else 1)  # pyright: ignore[reportArgumentType]
    pairs = [] if single else [jr.split(key) for key in keys]
    if not pairs:
        raise RobustctlError(
            "keys must be one key per seed, for example jr.split(jr.key(0), 10), got none or a single key"
        )
    return pairs


def _train(
    trainings: Sequence[Training], frees: Sequence[PyTree], epochs: int, devices: int, monitor: Monitor
) -> list[End]:
    """Train all; return each one's state, history and why it ended."""
    mesh = mesh_of(devices, {"the number of keys": len(trainings)})
    if several(mesh):
        raise RobustctlError(
            f"seeds are spread over the devices of one process, got {jax.process_count()} processes; give each process its own "
            "keys and devices=1"
        )
    _check_alike(list(zip(trainings, frees, strict=True)))
    own, shared = _apart(trainings)
    states = _stacked([start(each, free) for each, free in zip(trainings, frees, strict=True)])
    history = empty_history(epochs, states)
    own, states, history = spread((own, states, history), mesh)
    watchers, ends = monitor.open(epochs, None), ["failed"]
    with stop_requests() as asked:
        try:
            states, history, ends = _until_all_stop(
                (own, shared, mesh), states, history, epochs, watchers, asked
            )
        finally:
            for watcher in watchers:
                watcher.close(", ".join(sorted(set(ends))))
    count = len(trainings)
    parts = zip(_each(states, count), _each(history, count), ends, strict=True)
    return [(state, history_of(state, own), end) for state, own, end in parts]


def _until_all_stop(
    trainings: tuple[Training, Training, Mesh | None], states: State, history: Metrics, epochs: int,
    watchers: Sequence[Watcher], asked: Request,
) -> tuple[State, Metrics, list[str]]:  # fmt: skip
    """The loop of the engine, without a folder; watchers get the mean over the seeds that still train."""
    done, count = 0, 1
    while not all(ends := _ends(states, epochs, asked)):
        begin, left = time.monotonic(), min(count, epochs - done)
        states, history = _run_epochs((*trainings, jnp.asarray(left, jnp.int32)), states, history)
        jax.block_until_ready(states)
        count, before = paced(count, left, time.monotonic() - begin), done
        done = int(jnp.max(states.epoch))
        notify(watchers, Metrics(*(jnp.nanmean(a, axis=0) for a in history)), before, done)

    def losses_again(own: State) -> Array:
        blank = spread(empty_history(history.loss.shape[1], states), trainings[2])
        return _run_epochs((*trainings, jnp.ones((), jnp.int32)), own, blank)[1].loss

    return settled(states, np.asarray(history.validation), losses_again), history, ends


def _ends(states: State, epochs: int, asked: Request) -> list[str]:
    """Return why each seed's training is over, "" where it is not."""
    flags = jax.device_get(states._replace(trained=(), opt_state=(), best=()))
    return [reason(state, epochs, None, asked) for state in _each(flags, flags.epoch.size)]


@eqx.filter_jit(donate="all-except-first")
def _run_epochs(
    given: tuple[Training, Training, Mesh | None, Int[Array, ""]], states: State, history: Metrics
) -> tuple[State, Metrics]:
    """Run up to `count` epochs of every seed; under the map, the loop does not change seeds that have stopped.

    On a CPU one after the other: vmapped, two batched factorizations run at once and fill XLA's pool of threads, each waiting
    there for its own parts that only this pool could run. On two cores, a step of ten seeds of the third published problem
    never returned (jaxlib 0.10.2; `jax::ParallelBatchMap` in the stacks of both threads).
    """
    own, shared, mesh, count = given

    def one(common: tuple[Training, Array], own: Training, state: State, history: Metrics):
        shared, count = common
        return run_epochs((eqx.combine(own, shared), count), state, history)

    over = one_by_one if jax.default_backend() == "cpu" else jax.vmap
    return for_each(one, mesh, (shared, count), own, states, history, over=over)


def _check_alike(seeds: Sequence[PyTree]) -> None:
    """Raise `RobustctlError` where more than the values of arrays differs."""
    kinds = [jax.tree.flatten(jax.tree.map(shape_and_dtype, seed)) for seed in seeds]
    if any(each != kinds[0] for each in kinds):
        raise RobustctlError(
            "build must give the same model for every key but for the values of its arrays; make its sizes, functions and "
            "settings outside of it"
        )


def _apart(trainings: Sequence[Training]) -> tuple[Training, Training]:
    """Return the arrays that differ from seed to seed, stacked, and what all seeds share."""
    same = jax.tree.map(lambda a, *others: all(bool(eqx.tree_equal(a, b)) for b in others), *trainings)
    own = [eqx.filter(each, same, inverse=True) for each in trainings]
    return _stacked(own), eqx.filter(trainings[0], same)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _each(stacked: Any, size: int) -> list[Any]:
    return [jax.tree.map(lambda a, k=k: a[k], stacked) for k in range(size)]
