"""Compare starts of a network on measured records: at a linear model, with it as a fixed prior, with slow modes; write the figures.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.start_at_linear --data FOLDER --out results/start_at_linear.json

FOLDER is that of `benchmarks.linear_models`, with `silverbox/SNLS80mV.csv`. The seeds are trained as one. The process exits with 1 where
a certificate does not hold.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.problems import cascaded_tanks, silverbox
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

from .daisy import DAISY, daisy

NETWORK, WINDOW, WARM_UP, BATCH = {"nv": 8, "hidden": (16,)}, 256, 32, 64


class Case(NamedTuple):
    """How long a record is trained, its network, the order of the linear model (None: selected), window (0: whole experiments)."""

    epochs: int
    network: dict[str, Any]
    order: int | None = None
    window: int = 0


CASES = {
    "robot arm": Case(2000, NETWORK, 6),
    "glass furnace": Case(1000, {"nv": 4, "hidden": (8,)}, 7),
    "heat exchanger": Case(500, NETWORK),
    "cascaded tanks": Case(2000, NETWORK),
    "silverbox": Case(60, {"nv": 16, "hidden": (32,)}, window=WINDOW),
}
STARTS = ("at the linear model", "linear prior", "long memory")


def records(folder: Path, name: str) -> tuple[rc.data.Record, rc.data.Record]:
    """Return the training and test record."""
    if name in DAISY:
        return daisy(folder, DAISY[name], "train"), daisy(folder, DAISY[name], "test")
    return silverbox(folder) if name == "silverbox" else cascaded_tanks(folder)


def begun(how: str, training: rc.data.Record, linear: rc.identify.LinearFit, network: dict, key) -> Any:
    """Return the untrained model of a start, with its initial states where it has some."""
    if how == "long memory":
        nx = max(linear.order, 4)
        return rc.nn.ContractingR2DN(
            nu=training.nu, nx=nx, ny=training.ny, init=rc.nn.long_memory, key=key, **network
        )
    begin = rc.identify.start if how == "at the linear model" else rc.identify.prior
    return begin(training, linear, key=key, **network)


def trained(
    how: str, training: rc.data.Record, linear: rc.identify.LinearFit, case: Case, seeds: int
) -> list:
    """Train the seeds of one start."""
    parts = rc.data.windows(training, case.window, case.window // 2) if case.window else training
    batch = min(BATCH, len(parts.experiments)) if case.window else len(parts.experiments)
    steps = case.epochs * (len(parts.experiments) // batch)
    first = begun(how, training, linear, case.network, jr.key(0))
    slow = how == "long memory"
    learned = rc.train.learned_state(horizon=30) if slow else first.initial
    problem = rc.train.Identification(
        parts, scaling=linear.model.scaling, delay=linear.delay, batch_size=batch,
        initial=rc.train.linear_warm_up(WARM_UP) if case.window else learned,
    )  # fmt: skip
    # Only a start at the linear model has anything to keep.
    rates = {} if how == "at the linear model" else {"linear": 1e-2, "network": 1e-2}

    def build(key):
        made = begun(how, training, linear, case.network, key)
        return made if slow else made.model

    return rc.train.train_seeds(
        problem, build, keys=jr.split(jr.key(0), seeds), epochs=case.epochs, monitor=None,
        optimizer=rc.train.two_rate_adam(steps, **rates),
    )  # fmt: skip


def measured(name: str, how: str, pair, linear, seeds: int, case: Case) -> dict:
    """Train and score one start on one record."""
    training, test = pair
    begin = time.process_time()
    fits = trained(how, training, linear, case, seeds)
    seconds = (time.process_time() - begin) / seeds
    losses = np.sqrt([fit.history["loss"] for fit in fits])
    tenth = max(losses.shape[1] // 10, 1)
    simulations = [rc.simulate(fit.model, test) for fit in fits]
    mean = np.mean([s.y_hat[0] for s in simulations], axis=0)
    errors = (test.experiments[0].y - mean)[simulations[0].skipped :]
    spread = test.experiments[0].y[simulations[0].skipped :].std(axis=0)
    return {
        "record": name, "start": how, "order": linear.order, "epochs": case.epochs, "nv": case.network["nv"],
        "linear": rc.simulate(linear.model, test).scores().pooled_nrmse(),
        "test": [s.scores().pooled_nrmse() for s in simulations],
        "mean_of_seeds": float(np.sqrt(np.mean((errors / spread) ** 2))),
        "training_at_first": float(losses[:, 0].mean()), "training_after_a_tenth": float(losses[:, tenth].mean()),
        "training_at_last": float(losses[:, -1].mean()),
        "certified": all(rc.certify(fit.model, prove=False).holds for fit in fits), "cpu_seconds_a_seed": seconds,
    }  # fmt: skip


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--records", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, help="fewer than those of each record, to check that the script runs"
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for name in given.records:
        pair, case = records(given.data, name), CASES[name]
        linear = rc.identify.subspace(pair[0], order=case.order)
        case = case if given.epochs is None else case._replace(epochs=given.epochs)
        for how in STARTS:
            rows.append(measured(name, how, pair, linear, given.seeds, case))
            print(rows[-1], flush=True)
            write_json(given.out, {**provenance(0), "rows": rows})
    return int(not all(row["certified"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
