"""Identify records with a delay by shift registers, by a sliding window and by a memory of the past; write the errors.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.delay_memory --data FOLDER --out results/delay_memory.json

Two records: a simulated heat exchanger whose valve acts 7.5 samples late, and the measured heat exchanger of DaISy (FOLDER holds
`daisy/exchanger_train.csv`). All models are the same network with the same training; they differ in the delay before it and in their
initial values. `plain delay, at the linear model` is what `rc.identify` does: the delay that `rc.identify.subspace` finds, as a shift
register, and a start at its linear model. `window` starts at the same linear model, with a sliding window of that length in
place of the register, whose states are trained like all others. `hippo` starts at a memory of the whole past.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.lft import linear, series
from robustctl.problems import heat_exchanger
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import explicit_of
from robustctl.train.optimizer import cosine_adam

from .daisy import daisy

WINDOW, WARM_UP, BATCH, EPOCHS, LEARNING_RATE, ORDER = 256, 64, 32, 300, 3e-3, 10
NETWORK: dict[str, Any] = {"nx": 16, "nv": 8, "hidden": (16,)}
HOW = (
    "plain delay, at the linear model",
    "window, at the linear model",
    "plain delay, hippo",
    "hippo",
    "long memory",
)


def late_exchanger(late: int, samples: int, every: int, seed: int) -> rc.data.Record:
    """Return a heat exchanger whose valve acts `late` samples of 2 s late, one sample in `every` recorded."""
    e = heat_exchanger(every * samples + late, seed=seed).experiments[0]
    u, y = (a[: every * samples : every] for a in (e.u[late:], e.y))
    return rc.data.from_arrays(
        u, y, 2.0 * every, inputs=["valve"], outputs=["outlet"], input_units=["%"], output_units=["degC"]
    )


def records(folder: Path) -> dict[str, tuple[rc.data.Record, rc.data.Record]]:
    """Return training and test records by name."""
    return {
        "simulated, 7.5 samples late": (late_exchanger(15, 2500, 2, 0), late_exchanger(15, 1500, 2, 1)),
        "measured heat exchanger": (daisy(folder, "exchanger", "train"), daisy(folder, "exchanger", "test")),
    }


def initial(how: str, fit: rc.identify.LinearFit) -> Any:
    """Return the initial values of a network."""
    if how.endswith("hippo"):
        return rc.nn.hippo(4.0, 200.0)
    if how.endswith("long memory"):
        return rc.nn.long_memory
    A, B, C, D, bx, by = explicit_of(fit.model.parameterization).linear_part()
    if how.startswith("window"):
        past = rc.nn.sliding_window(float(max(*fit.delay, 1)), order=ORDER)
        form = series(linear(past.A, past.B, past.C, past.D), linear(A, B, C, D))
        A, B, C, D = form.A, form.B2, form.C2, form.D22
        bx = np.concatenate([np.zeros(len(A) - len(bx)), bx])
    return rc.nn.at_linear(A, B, C, D, bx=bx, by=by)


def measured(how: str, pair, fit: rc.identify.LinearFit, seeds: list[int]) -> dict[str, Any]:
    """Train and test the seeds of one way."""
    train, test = pair
    delay = fit.delay if how.startswith("plain") else (0,) * train.nu
    parts = rc.data.windows(train, WINDOW, WINDOW // 2)
    problem = rc.train.Identification(
        parts, scaling=fit.model.scaling, delay=delay, batch_size=min(BATCH, len(parts.experiments)), initial=rc.train.warm_up(WARM_UP)
    )  # fmt: skip
    steps, init = EPOCHS * -(-len(parts.experiments) // BATCH), initial(how, fit)
    begin = time.process_time()
    fits = rc.train.train_seeds(
        problem, lambda key: rc.nn.ContractingR2DN(nu=train.nu, ny=train.ny, init=init, key=key, **NETWORK),
        keys=[jr.key(seed) for seed in seeds], epochs=EPOCHS, monitor=None, optimizer=cosine_adam(LEARNING_RATE, steps),
    )  # fmt: skip
    seconds = time.process_time() - begin
    found = [rc.simulate(one.model, test).scores().pooled_nrmse() for one in fits]
    return {"how": how, "delay": list(delay), "nrmse": found, "cpu_seconds_of_all": seconds}


def main() -> None:
    """Train, test and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, pair in records(given.data).items():
        fit = rc.identify.subspace(pair[0], order=4)
        known = {
            "record": name,
            "found_delay": list(fit.delay),
            "linear": rc.simulate(fit.model, pair[1]).scores().pooled_nrmse(),
        }
        for how in HOW:
            rows.append({**known, **measured(how, pair, fit, given.seeds)})
            print(rows[-1], flush=True)
            jax.clear_caches()
    settings = {"epochs": EPOCHS, "seeds": given.seeds, "states": NETWORK["nx"], "window_order": ORDER}
    write_json(given.out, {**provenance(given.seeds[0]), **settings, "rows": rows})


if __name__ == "__main__":
    main()
