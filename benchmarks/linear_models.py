"""Measure the linear models of `rc.identify.subspace`: measured records, and random systems that are known; write the figures.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.linear_models --data FOLDER --out results/linear_models.json

FOLDER holds `daisy/robotarm_train.csv` and the others of the DaISy collection, and `cascaded_tanks/dataBenchmark.csv`. The process exits
with 1 where a free run on a noise-free record of a random system has an error of more than a third of the noise of its training record.
"""

import argparse
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
import scipy.linalg
import scipy.optimize

import robustctl as rc
from robustctl.advice.baseline import linear_baseline
from robustctl.identify.scores import channel_scores
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

from .daisy import DAISY, daisy

SYSTEMS, SAMPLES, NOISE, WORST = 20, 1500, 0.1, 1 / 3


def tanks(folder: Path) -> tuple[rc.data.Record, rc.data.Record]:
    """Return the training and test record of the cascaded tanks."""
    values = np.genfromtxt(folder / "cascaded_tanks" / "dataBenchmark.csv", delimiter=",", skip_header=1)[
        :, :4
    ]
    return rc.data.from_arrays(values[:, 0], values[:, 2], 4.0), rc.data.from_arrays(
        values[:, 1], values[:, 3], 4.0
    )


def measured(name: str, training: rc.data.Record, test: rc.data.Record) -> dict:
    """Fit one record and score it on its test part, with the ARX models of each output for comparison."""
    begin = time.perf_counter()
    fit = rc.identify.subspace(training)
    seconds = time.perf_counter() - begin
    simulation = rc.simulate(fit.model, test)
    arx = channel_scores(test, linear_baseline(training, test, simulation.skipped).y_hat, simulation.skipped)
    return {
        "record": name, "order": fit.order, "delay": fit.delay, "nrmse": simulation.scores().pooled_nrmse(),
        "arx": arx.pooled_nrmse(), "seconds": seconds,
    }  # fmt: skip


def random_system(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return a stable system with two inputs, two outputs and two to six states, poles of radius 0.6 to 0.98."""
    blocks = []
    for _ in range(rng.integers(1, 4)):
        radius, angle = rng.uniform(0.6, 0.98), rng.uniform(0.1, 2.5)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        # White inputs give states of about variance one.
        blocks.append((radius * turn, np.sqrt(1 - radius**2)))
    A = np.asarray(scipy.linalg.block_diag(*(block for block, _ in blocks)))
    size = np.repeat([s for _, s in blocks], 2)[:, None]
    return A, size * rng.normal(size=(len(A), 2)), rng.normal(size=(2, len(A))), rng.normal(size=(2, 2))


def simulated(system: tuple[np.ndarray, ...], rng: np.random.Generator, noise: float) -> rc.data.Record:
    """Return a record of a system under white inputs with noise of a share of each output."""
    A, B, C, D = system
    u, x = rng.normal(size=(SAMPLES, 2)), rng.normal(size=len(A))
    y = np.empty((SAMPLES, 2))
    for t, now in enumerate(u):
        y[t] = C @ x + D @ now
        x = A @ x + B @ now
    return rc.data.from_arrays(u, y + noise * y.std(axis=0) * rng.normal(size=y.shape), 1.0)


def known(seed: int) -> dict:
    """Fit one random system: with the order given its poles and free run, and the order that is found."""
    rng = np.random.default_rng(seed)
    system = random_system(rng)
    record, clean = simulated(system, rng, NOISE), simulated(system, rng, 0.0)
    true = np.linalg.eigvals(system[0])
    fit = rc.identify.subspace(record, order=len(true), delay=0)
    poles = np.linalg.eigvals(np.asarray(fit.state_space().A))
    apart = np.abs(true[:, None] - poles[None])
    rows, columns = scipy.optimize.linear_sum_assignment(apart)
    return {
        "order": len(true), "found": rc.identify.subspace(record).order, "largest_pole_error": float(apart[rows, columns].max()),
        "nrmse": rc.simulate(fit.model, clean).scores().pooled_nrmse(), "noise": NOISE,
    }  # fmt: skip


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--systems", type=int, default=SYSTEMS)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    parts = {
        name: tuple(daisy(given.data, file, part) for part in ("train", "test"))
        for name, file in DAISY.items()
    }
    records = [
        measured(name, *pair) for name, pair in (parts | {"cascaded tanks": tanks(given.data)}).items()
    ]
    for one in records:
        print(one, flush=True)
    systems = [known(seed) for seed in range(given.systems)]
    for one in systems:
        print(one, flush=True)
    write_json(given.out, {**provenance(0), "records": records, "random": systems})
    return int(any(one["nrmse"] > WORST * NOISE for one in systems))


if __name__ == "__main__":
    sys.exit(main())
