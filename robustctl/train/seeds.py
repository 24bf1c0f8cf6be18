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

from ..data import Record
from ..errors import RobustctlError
from ..runs.devices import for_each, mesh_of, one_by_one, several, spread
from ..runs.interrupt import Request, stop_requests
from ..runs.watchers import Watcher
from ..scenario import Scenario
from ..system import Parameterization
from .engine import Job, Row, State, paced, run_epochs, start, tell, why
from .fit import Fit, check_watchers, everyone, finished, prepared, warn_of
from .optimizer import clipped_adam
from .policy import PolicyFit
from .policy import finished as finished_policy
from .policy import prepared as prepared_policy

Build = Callable[[PRNGKeyArray], Parameterization]
End = tuple[State, dict[str, np.ndarray], str]


def fit_seeds(
    build: Build,
    record: Record,
    *,
    keys: Iterable[PRNGKeyArray],
    epochs: int = 500,
    optimizer: optax.GradientTransformation | None = None,
    devices: int = 1,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    **settings: Any,
) -> list[Fit]:
    """Fit one model a key to the same record, all at once.

    ::

        for start, key in map(jr.split, keys):   fit(build(start), record, key=key, ...)

    gives the same to rounding. A seed that stops, by `patience` or for numbers that are not finite, stays as it is
    while the others go on.

    **Arguments:** `build(key)`: the untrained model, the same for every key but for its numbers; `keys`: such as
    `jr.split(jr.key(0), 10)`; `devices`: how many of `jax.devices()` to spread the seeds over, a divisor of their number;
    `progress`, `watchers`: as in `fit`, shown the mean over the seeds that still train; `settings`: the others of `fit` but
    `run`, `resume` and `inspect`: nothing is kept on disk. `seconds` of each result is that of all.

    **Raises:** `RobustctlError` for no keys, for models that differ in more than numbers, and for several processes; what
    `fit` raises.
    """
    begin, optimizer = time.monotonic(), optimizer or clipped_adam()
    made = [
        prepared(build(a), record, epochs=epochs, optimizer=optimizer, key=b, **settings)
        for a, b in _pairs(keys)
    ]
    jobs, frees = [job for _, job, _ in made], [free for *_, free in made]
    ends = _train(jobs, frees, epochs, devices, watchers, progress)
    seconds = time.monotonic() - begin
    fits = [finished(m, job, *end, seconds) for (m, job, _), end in zip(made, ends, strict=True)]
    for k, each in enumerate(fits):
        warn_of(each.trouble, each.caution, who=f"seed {k}: ")
    return fits


def fit_policy_seeds(
    build: Build,
    scenario: Scenario,
    *,
    keys: Iterable[PRNGKeyArray],
    epochs: int = 100,
    optimizer: optax.GradientTransformation | None = None,
    devices: int = 1,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    **settings: Any,
) -> list[PolicyFit]:
    """Train one policy a key on the same scenario, all at once.

    ::

        for start, key in map(jr.split, keys):   fit_policy(build(start), scenario, key=key, ...)

    gives the same to rounding; test episodes that are not given are drawn by each seed. Arguments and faults as of
    `fit_seeds`; `settings`: those of `fit_policy` but the same three.
    """
    begin, optimizer = time.monotonic(), optimizer or clipped_adam()
    made = [
        prepared_policy(build(a), scenario, epochs=epochs, optimizer=optimizer, key=b, **settings)
        for a, b in _pairs(keys)
    ]
    jobs, frees = [job for job, _ in made], [free for _, free in made]
    ends = _train(jobs, frees, epochs, devices, watchers, progress)
    seconds = time.monotonic() - begin
    fits = [finished_policy(job, *end, seconds) for job, end in zip(jobs, ends, strict=True)]
    for k, each in enumerate(fits):
        warn_of(each.trouble, who=f"seed {k}: ")
    return fits


def _pairs(keys: Iterable[PRNGKeyArray]) -> list[Array]:
    """Return each seed's key of the model and key of the training."""
    single = isinstance(keys, Array) and keys.ndim == (
        0 if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else 1
    )
    pairs = [] if single else [jr.split(key) for key in keys]
    if not pairs:
        raise RobustctlError(
            "keys must be one key a seed, such as jr.split(jr.key(0), 10), got none or a single key"
        )
    return pairs


def _train(
    jobs: Sequence[Job], frees: Sequence[PyTree], epochs: int, devices: int, watchers: Sequence[Watcher], progress: bool
) -> list[End]:  # fmt: skip
    """Train all; return each one's state, history and why it ended."""
    check_watchers(watchers)
    mesh = mesh_of(devices, {"the number of keys": len(jobs)})
    if several(mesh):
        raise RobustctlError(
            f"seeds are spread over the devices of one process, got {jax.process_count()} processes; give each process keys of "
            "its own and devices=1"
        )
    everybody = everyone(watchers, progress, epochs, None)
    _check_alike(list(zip(jobs, frees, strict=True)))
    own, shared = _apart(jobs)
    states = _stacked([start(job, free) for job, free in zip(jobs, frees, strict=True)])
    rows = Row(*(jnp.full((len(jobs), epochs), jnp.nan, states.best_loss.dtype) for _ in Row._fields))
    own, states, rows = spread((own, states, rows), mesh)
    ends = ["failed"]
    with stop_requests() as asked:
        try:
            states, rows, ends = _until_all_stop((own, shared, mesh), states, rows, everybody, asked)
        finally:
            for watcher in everybody:
                watcher.close(", ".join(sorted(set(ends))))
    parts = zip(_each(states, len(jobs)), _each(rows, len(jobs)), ends, strict=True)
    return [
        (state, {name: np.asarray(a)[: int(state.epoch)] for name, a in row._asdict().items()}, end)
        for state, row, end in parts
    ]


def _until_all_stop(
    jobs: tuple[Job, Job, Mesh | None], states: State, rows: Row, watchers: Sequence[Watcher], asked: Request
) -> tuple[State, Row, list[str]]:
    """The loop of `loop.run`, without a folder; everyone is shown the mean over the seeds that still train."""
    epochs, done, count = rows.loss.shape[1], 0, 1
    while not all(ends := _ends(states, epochs, asked)):
        begin, left = time.monotonic(), min(count, epochs - done)
        states, rows = _run_epochs((*jobs, jnp.asarray(left, jnp.int32)), states, rows)
        jax.block_until_ready(states)
        count, before = paced(count, left, time.monotonic() - begin), done
        done = int(jnp.max(states.epoch))
        tell(watchers, Row(*(jnp.nanmean(a, axis=0) for a in rows)), before, done)
    return states, rows, ends


def _ends(states: State, epochs: int, asked: Request) -> list[str]:
    """Why each seed's training is over, "" where it is not."""
    flags = jax.device_get(states._replace(trained=(), opt_state=(), best=()))
    return [why(state, epochs, None, asked) for state in _each(flags, flags.epoch.size)]


@eqx.filter_jit(donate="all-except-first")
def _run_epochs(
    given: tuple[Job, Job, Mesh | None, Int[Array, ""]], states: State, rows: Row
) -> tuple[State, Row]:
    """Run up to `count` epochs of every seed; mapped over, the loop leaves alone the seeds that have stopped.

    On a CPU one after the other: vmapped, two batched factorizations run at once and fill XLA's pool of threads, each waiting
    there for parts of its own that only this pool could run. On two cores, a step of ten seeds of the third published problem
    never returned (jaxlib 0.10.2; `jax::ParallelBatchMap` in the stacks of both threads).
    """
    own, shared, mesh, count = given

    def one(common: tuple[Job, Array], own: Job, state: State, rows: Row) -> tuple[State, Row]:
        shared, count = common
        return run_epochs((eqx.combine(own, shared), count), state, rows)

    over = one_by_one if jax.default_backend() == "cpu" else jax.vmap
    return for_each(one, mesh, (shared, count), own, states, rows, over=over)


def _check_alike(seeds: Sequence[PyTree]) -> None:
    """Raise `RobustctlError` where something else than the values of arrays differs."""

    def kind(leaf: Any) -> Any:
        return (leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else leaf

    kinds = [jax.tree.flatten(jax.tree.map(kind, seed)) for seed in seeds]
    if any(each != kinds[0] for each in kinds):
        raise RobustctlError(
            "build must give the same model for every key but for the values of its arrays; make its sizes, functions and "
            "settings outside of it"
        )


def _apart(jobs: Sequence[Job]) -> tuple[Job, Job]:
    """Return the arrays that differ from seed to seed, stacked, and what all seeds share."""
    same = jax.tree.map(lambda a, *others: all(bool(eqx.tree_equal(a, b)) for b in others), *jobs)
    own = [eqx.filter(job, same, inverse=True) for job in jobs]
    return _stacked(own), eqx.filter(jobs[0], same)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _each(stacked: Any, size: int) -> list[Any]:
    return [jax.tree.map(lambda a, k=k: a[k], stacked) for k in range(size)]
