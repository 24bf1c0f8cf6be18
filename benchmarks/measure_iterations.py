"""Count iterations over all samples on trained models of the three published problems, one sequence at a time.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.measure_iterations FOLDER --runs runs/benchmark --out results/iterations.json

FOLDER holds the F-16 records (see `python -m benchmarks f16 --help`). The models are seed 0 of `python -m benchmarks f16`, `pde` and
`youla`; those missing in --runs are trained first, about ten minutes on two cores. Their inputs are signals of their
problems: Level 4's force and voltage, the measurements of the published test, and the input of Q in the published test.
Gradients are those of the mean square of the outputs in every array of the explicit model, by the iterations and by the scan.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.parallel import Method
from robustctl.problems import f16, pde_observer
from robustctl.problems import youla_feedback as youla
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import System

from . import f16 as f16_run
from . import pde_observer as pde_observer_run
from . import youla as youla_run
from .speed.scaling import LENGTHS, in_time_of
from .speed.timing import check_quiet, difference

TARGETS = {"picard": 15, "mean-slope": 8, "gradient": 2e-5}
"""Iterations, and the largest relative difference of a gradient, that a trained model should not exceed."""


def of_f16(folder: Path, runs: Path) -> tuple[System, Array]:
    """Return the trained model and Level 4's inputs, N and V."""
    records = f16.load(folder)
    fitted, *_ = f16_run.train(f16.F16Protocol(), 0, records, runs / "f16_r2dn_seed_0")
    return fitted.model.explicit(), jnp.asarray(records[f16.REFERENCE].experiments[0].u, float)


def of_pde(runs: Path) -> tuple[System, Array]:
    """Return the trained observer and the measurements of a test as long as the longest sequence."""
    model, _ = pde_observer_run.train(pde_observer.ObserverProtocol(), 0, runs / "pde_r2dn_seed_0")
    return model.explicit(), pde_observer.published_test(
        pde_observer.ObserverProtocol(test_samples=LENGTHS[-1])
    ).ys


def of_youla(runs: Path) -> tuple[System, Array]:
    """Return the trained Q and its input, the first test disturbances one after the other through T2."""
    fitted, _ = youla_run.train(youla.YoulaProtocol(), 0, runs / "youla_r2dn_seed_0")
    disturbance = youla.YoulaScenario().published_test().ws.reshape(-1, 1)[: LENGTHS[-1]]
    return fitted.policy.explicit(), rc.rollout(youla.resonance(-1.0), disturbance).ys


def gradient_differences(system: System, us: Array) -> dict[str, float]:
    """Return the largest relative difference between the scan's gradient and that of each method, over all arrays."""

    def slopes(run: Callable) -> list[Array]:
        return jax.tree.leaves(eqx.filter_jit(eqx.filter_grad(lambda s: jnp.mean(run(s) ** 2)))(system))

    def iterated(method: Method) -> list[Array]:
        return slopes(lambda s: rc.parallel.parallel_rollout(s, us, method=method)[0].ys)

    exact = slopes(lambda s: rc.rollout(s, us).ys)
    methods: tuple[Method, ...] = ("picard", "mean-slope")
    return {method: max(map(difference, iterated(method), exact)) for method in methods}


def rows(name: str, system: System, us: Array, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure a model at each length, and print rows as they come."""
    for samples in LENGTHS:
        row = in_time_of(system, us[:samples], repeats)
        for method, apart in gradient_differences(system, us[:samples]).items():
            row[method]["gradient_difference"] = apart
        print(name, *(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
        yield row


def main() -> None:
    """Train missing models, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the F-16 records")
    parser.add_argument("--runs", type=Path, default="runs/benchmark", help="folder of the benchmarks' runs")
    parser.add_argument("--out", type=Path, default="results/iterations.json")
    given = parser.parse_args()
    try:
        machine = check_quiet()
    except RobustctlError as error:
        sys.exit(f"error: {error}")
    trained = {
        "f16": of_f16(given.folder, given.runs),
        "pde": of_pde(given.runs),
        "youla": of_youla(given.runs),
    }
    results = {
        "what": "iterations over all samples of trained models",
        **provenance(0),
        **machine,
        "targets": TARGETS,
        "parallel_in_time": {name: list(rows(name, *model, 7)) for name, model in trained.items()},
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
