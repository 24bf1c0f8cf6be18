"""Train every model on the same records with as many weights and as much time, and write errors, gains and step times.

    OPENBLAS_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 0 \
        python -m benchmarks.which_model --f16 FOLDER --out results/which_model.json

One recipe for all: Adam with a rate that falls along a cosine on windows of 256 samples after a warm-up of 32, from which a small network
finds the first state. Time is of the CPU, without compilation: the steps that fit into it are counted first. The linear model of the
record is no row of the comparison, but what a network must be better than. What the results file has already is left as it is, so that the
same command continues where it stopped. Without --f16, the folder of the F-16's records, these are left out.
"""

import argparse
import bisect
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.data.edit import windows
from robustctl.problems import cascaded_tanks, f16, silverbox
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import explicit_of
from robustctl.train.optimizer import cosine_adam

from .daisy import daisy
from .runs import parameters as weights
from .simulated_plants import records as simulated
from .step_times import IN_A_ROW
from .step_times import in_c as steps_in_c

WARM_UP, WINDOW, STRIDE, BATCH, LEARNING_RATE = 32, 256, 64, 32, 5e-3
MOST_WINDOWS = 512
"""About so many windows of a long record are an epoch."""
FEW, MORE = 2, 12
"""Epochs whose times are compared."""
GAMMA = 20.0
"""Promised gain between scaled signals, above the gain of each of these plants."""

Records = tuple[rc.data.Record, list[rc.data.Record]]
Build = Callable[[int, dict[str, Any]], rc.Parameterization]


def with_network(network: Callable[..., Any]) -> Build:
    """Return an R2DN of size n with a network of another kind."""

    def build(n: int, kw: dict[str, Any]) -> rc.Parameterization:
        phi = network(2 * n, 2 * n, (2 * n, 2 * n), key=jr.fold_in(kw["key"], 1))
        return rc.nn.ContractingR2DN(nx=n, nv=2 * n, phi=phi, init=rc.nn.long_memory, **kw)

    return build


MODELS: dict[str, Build] = {
    "R2DN, sandwich layers": with_network(rc.nn.LBDN),
    "R2DN, sandwich layers and bypass": with_network(rc.nn.BypassLBDN),
    "R2DN, orthogonal layers and MaxMin": with_network(rc.nn.Orthogonal),
    "Lipschitz R2DN": lambda n, kw: rc.nn.LipschitzR2DN(
        nx=n, nv=2 * n, hidden=(2 * n, 2 * n), gamma=GAMMA, init=rc.nn.long_memory, **kw
    ),
    "REN": lambda n, kw: rc.nn.ContractingREN(nx=n, nv=3 * n, init=rc.nn.long_memory, **kw),
    "Stack": lambda n, kw: rc.nn.Stack(states=n, layers=3, nv=n, hidden=(2 * n,), gamma=GAMMA, **kw),
    "GRU": lambda n, kw: rc.nn.GRU(nx=n, **kw),
    "ParaGRU": lambda n, kw: rc.nn.ParaGRU(nx=n, **kw),
    "LSTM": lambda n, kw: rc.nn.LSTM(nx=n, **kw),
}


def records(data: Path, f16_data: Path | None) -> dict[str, Callable[[], Records]]:
    """Return how to read each record: training and test."""

    def one(pair: tuple[rc.data.Record, rc.data.Record]) -> Records:
        return pair[0], [pair[1]]

    def levels() -> Records:
        assert f16_data is not None
        found = f16.load(f16_data)
        return f16.training(found), [found[level] for level in (2, 4, 6)]

    found: dict[str, Callable[[], Records]] = {
        "cascaded tanks": lambda: one(cascaded_tanks(data)),
        "Silverbox": lambda: one(silverbox(data)),
        "robot arm": lambda: (
            daisy(data, "robotarm", "train"), [daisy(data, "robotarm", "test")],
        ),
        "simulated, saturating states": lambda: one(simulated("saturating", 0)),
        "simulated, two by two": lambda: one(simulated("two by two", 0)),
    }  # fmt: skip
    return found if f16_data is None else {**found, "F-16": levels}


def sized(build: Build, wanted: int, kw: dict[str, Any]) -> int:
    """Return the size of a model whose number of weights is the nearest."""

    def off(n: int) -> int:
        return weights(build(n, {**kw, "key": jr.key(0)})) - wanted

    high = 4
    while off(high) < 0:
        high *= 2
    n = bisect.bisect_left(range(high + 1), 0, lo=2, key=off)
    return min(n - 1, n, key=lambda m: abs(off(m)))


def epochs_within(problem: rc.train.Identification, model: Any, seconds: float) -> int:
    """Return how many epochs fit into so many seconds of the CPU, by the difference of two trainings that compile nothing."""
    optimizer, taken = cosine_adam(LEARNING_RATE, MORE), {}
    for count in (FEW, FEW, MORE):
        begin = time.process_time()
        rc.train.train(problem, model, epochs=count, optimizer=optimizer, monitor=None, key=jr.key(0))
        taken[count] = time.process_time() - begin
    return max(int(seconds * (MORE - FEW) / (taken[MORE] - taken[FEW])), 1)


def nrmse(model: Any, tests: list[rc.data.Record]) -> float:
    """Return the pooled error of the simulations of all test records."""
    return float(np.mean([rc.simulate(model, test).scores().pooled_nrmse() for test in tests]))


def step_time(system: rc.System) -> float:
    """Return the median of a step in C in microseconds, many in a row."""
    way = steps_in_c(system, np.full(system.nu or 0, 0.1, np.float32), "float32")[IN_A_ROW]
    return float(np.median([way.seconds() / way.steps for _ in range(30)]) * 1e6)


def compared(name: str, read: Records, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train a model with several seeds on a record."""
    train, tests = read
    kw: dict[str, Any] = {"nu": train.nu, "ny": train.ny, "dtype": jnp.float32}
    n = sized(MODELS[model], options.weights, kw)
    pieces = windows(train, WARM_UP + WINDOW, max(STRIDE, train.samples // MOST_WINDOWS))
    batch = min(BATCH, len(pieces.experiments))
    problem = rc.train.Identification(
        pieces, initial=rc.train.warm_up(WARM_UP), batch_size=batch, scaling=rc.data.Scaling.fit(train)
    )
    made = [MODELS[model](n, {**kw, "key": jr.key(seed)}) for seed in options.seeds]
    epochs = epochs_within(problem, made[0], options.seconds)
    steps = epochs * -(-len(pieces.experiments) // batch)
    errors, seconds, fitted = [], [], None
    for seed, start in zip(options.seeds, made, strict=True):
        begin = time.process_time()
        fitted = rc.train.train(
            problem, start, epochs=epochs, optimizer=cosine_adam(LEARNING_RATE, steps), monitor=None, key=jr.key(seed)
        )  # fmt: skip
        seconds.append(time.process_time() - begin)
        errors.append(nrmse(fitted.model, tests))
    assert fitted is not None
    system = explicit_of(fitted.model.parameterization)
    certificate = rc.certify(system, seconds=options.prove)
    found = {
        "record": name, "model": model, "size": n, "weights": weights(made[0]), "epochs": epochs, "nrmse": errors,
        "seconds": seconds, "holds": certificate.holds, "promised_gamma": certificate.promised_gamma, "gamma": certificate.gamma,
        "step_microseconds": step_time(system),
    }  # fmt: skip
    print(found, flush=True)
    return found


def main() -> None:
    """Train, certify and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the CPU, for a training")
    parser.add_argument("--prove", type=float, default=60.0, help="seconds at most for a proof")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--records", nargs="+", help="default: all")
    parser.add_argument("--data", type=Path, default=os.environ.get("ROBUSTCTL_DATA", "../shared/data"))
    parser.add_argument("--f16", type=Path, help="folder of the F-16's records")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {"linear": {}, "rows": []}
    for name, read in records(options.data, options.f16).items():
        if options.records and name not in options.records:
            continue
        known = {row["model"] for row in results["rows"] if row["record"] == name}
        if not (missing := [model for model in options.models if model not in known]):
            continue
        data = read()
        if name not in results["linear"]:
            results["linear"][name] = nrmse(rc.identify.subspace(data[0]).model, data[1])
        for model in missing:
            results["rows"].append(compared(name, data, model, options))
            # Every compiled program holds memory maps, of which a process may have 65,530.
            jax.clear_caches()
            settings = {"weights": options.weights, "seconds": options.seconds, "seeds": options.seeds}
            write_json(options.out, {**provenance(options.seeds[0]), **settings, **results})


if __name__ == "__main__":
    main()
