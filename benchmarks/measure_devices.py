"""Measure how an epoch of benchmark problem 3 at its published size scales with the number of devices.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.measure_devices --out results/devices.json

The devices are one virtual device per CPU core, or the GPUs. All numbers of devices are measured in one process, interleaved.

    efficiency(n) = time on 1 device / (n * time on n devices)      the same 64 episodes on each
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from robustctl.problems import youla_feedback as youla
from robustctl.runs.devices import mesh_of, replicate
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.train import PolicyGradient
from robustctl.train.engine import one_epoch, start
from robustctl.train.training import prepare

from .speed.timing import check_quiet, interleaved


def epoch_on(devices: int, protocol: youla.YoulaProtocol) -> Callable[[], Any]:
    """Return a call of the compiled epoch on `devices` devices."""
    problem = PolicyGradient(
        youla.YoulaScenario(), horizon=protocol.horizon, segment=protocol.segment, batch=protocol.batch
    )
    model = youla.model(protocol, jr.key(0))
    free, _, training = prepare(problem, model, 1, protocol.optimizer(), None, jr.key(1))
    mesh = mesh_of(devices, {"batch": protocol.batch})
    training, state = training.on(mesh), replicate(start(training, free), mesh)
    run = eqx.filter_jit(lambda training, state: one_epoch(training, state)[1])
    return lambda: run(training, state)


def measure(protocol: youla.YoulaProtocol, repeats: int) -> dict:
    """Time an epoch on 1, 2, 4 ... devices, interleaved."""
    counts = [2**k for k in range(len(jax.devices()).bit_length()) if protocol.batch % 2**k == 0]
    calls = {str(n): epoch_on(n, protocol) for n in counts}
    costs = {name: float(call().loss) for name, call in calls.items()}
    times = interleaved(calls, repeats)
    return {
        name: {"devices": int(name), "training_cost": costs[name], "epoch_ms": found["ms"], "speedup": found["ratio"],
               "efficiency": round(found["ratio"] / int(name), 3)}
        for name, found in times.items()
    }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="How training scales over devices.")
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)
    quiet = {} if given.quick else check_quiet()
    protocol = youla.YoulaProtocol(batch=8, horizon=20, segment=10) if given.quick else youla.YoulaProtocol()
    results = {
        **provenance(0),
        **quiet,
        "cores": cores,
        "episodes": protocol.batch,
        "samples": protocol.horizon,
        "gradient_steps": protocol.horizon // protocol.segment,
        "epoch": list(measure(protocol, 2 if given.quick else 9).values()),
    }
    print(json.dumps(results, indent=2))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
