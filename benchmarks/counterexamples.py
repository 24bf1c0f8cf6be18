"""Search counterexamples to contraction in trained models of measured tanks: gated networks, and certified ones.

    python -m benchmarks.counterexamples --data FOLDER --out results/counterexamples.json

`FOLDER` holds `cascaded_tanks/dataBenchmark.csv`. The process exits with 1 where a certified model has a counterexample.
"""

import argparse
import sys
import time
from pathlib import Path

import jax.random as jr
import numpy as np
import optax

import robustctl as rc
from robustctl.problems.records import cascaded_tanks
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

EPOCHS = 200
MODELS = {
    "GRU nx 8": lambda key: rc.nn.GRU(nu=1, nx=8, ny=1, key=key),
    "LSTM nx 8": lambda key: rc.nn.LSTM(nu=1, nx=8, ny=1, key=key),
    "contracting R2DN nx 4 nv 8 (16)": lambda key: rc.nn.ContractingR2DN(
        nu=1, nx=4, nv=8, ny=1, hidden=(16,), init=rc.nn.long_memory, key=key
    ),
}


def trained(build, data: Path, seeds: int, epochs: int) -> list:
    """Return models trained from as many seeds, and the record that tests them."""
    train, test = cascaded_tanks(data)
    problem = rc.train.Identification(
        rc.data.windows(train, 220, stride=50), validation=test, scaling=rc.data.Scaling.fit(train),
        initial=rc.train.warm_up(20), batch_size=12,
    )  # fmt: skip
    # Two steps an epoch: 19 windows in batches of 12.
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, 2 * epochs))
    fits = rc.train.train_seeds(
        problem, build, keys=jr.split(jr.key(0), seeds), epochs=epochs, optimizer=optax.chain(optax.clip(10.0), adam), monitor=None
    )  # fmt: skip
    return [(fit.model, float(rc.simulate(fit.model, test).scores().fit_percent[0])) for fit in fits]


def searched(model, fit_percent: float) -> dict:
    """Return what the search finds, and where the outputs of both trajectories end."""
    start = time.perf_counter()
    found = rc.certificates.counterexample(model)
    seconds = time.perf_counter() - start
    row = {
        "fit_percent": fit_percent,
        "holds": rc.certify(model, prove=False).holds,
        "seconds": round(seconds, 2),
    }
    if found is None:
        return row | {"kind": None}
    ends = [float(run.ys[-1, 0]) for run in found.replay(model)]
    return row | {"kind": found.kind, "input": float(np.ravel(found.u)[0]), "outputs_end": sorted(ends)}


def main() -> int:
    """Train, search and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows, wrong = [], 0
    for name, build in MODELS.items():
        for seed, (model, fit_percent) in enumerate(trained(build, given.data, given.seeds, given.epochs)):
            row = {"model": name, "seed": seed} | searched(model, fit_percent)
            wrong += bool(row["holds"] and row["kind"])
            rows.append(row)
            print(row)
    write_json(given.out, {**provenance(0), "epochs": given.epochs, "models": rows})
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
