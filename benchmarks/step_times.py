"""Measure one sample of a controller in C, in NumPy and in JAX.

    OPENBLAS_NUM_THREADS=1 taskset -c 0 python -m benchmarks.step_times --out results/step_times.json

All ways of a system take turns in one process. A step in C is too short for the clock: its times are means of runs of many steps,
in a loop in C. The other ways are timed call by call, as a loop in Python has them, outputs as arrays of NumPy.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.export.compiled import FLAGS
from robustctl.plants import LinearPlant, Sampled
from robustctl.runs.provenance import provenance
from robustctl.runtime import Step
from robustctl.store.json_text import write_json
from robustctl.system import System, explicit_of

TARGETS = {"Youla-size": 5.0, "default-fit": 0.5}
"""Largest median of the step in C with float32, in microseconds."""
_RUN = 40e-6
"""Seconds of a run of steps in C."""


class Way(NamedTuple):
    """One way to step a system: what is timed, and how many steps it takes."""

    call: Callable[[], Any]
    steps: int = 1


def systems() -> dict[str, System]:
    """Return the systems, by what they are called in the table."""
    pendulum = Sampled(LinearPlant([[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.0]], [[1.0, 0.0]]), 0.1)
    sizes: dict[str, Any] = {"nu": 1, "ny": 1, "key": jr.key(0)}
    made = {
        "Youla-size": rc.nn.ContractingR2DN(nx=10, nv=100, hidden=(140,) * 4, activation=jnp.tanh, **sizes),
        "default-fit": rc.nn.ContractingR2DN(nx=8, nv=16, hidden=(32,), **sizes),
        "REN": rc.nn.ContractingREN(nx=8, nv=16, **sizes),
        "LQG": rc.classical.lqg(pendulum, [1.0, 1.0], [0.1], [1.0, 1.0], [0.1]).controller,
        "PID": rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0),
    }
    return {name: explicit_of(system) for name, system in made.items()}


def ways(system: System) -> dict[str, Way]:
    """Return each way to step a system, each with its own state."""
    u = np.full(system.nu or 0, 0.1, np.float32)
    found = {f"C, {dtype}": _in_c(system, u, dtype) for dtype in ("float32", "float64")}
    compiled = rc.export.compile(system, dtype=np.float32)
    found["C, called from Python"] = Way(lambda: compiled(compiled.init_state(), u))
    if (numpy_step := system.numpy_step()) is not None:
        in_numpy, start = numpy_step
        found["numpy_step"] = Way(lambda: in_numpy(start, u))
    step = Step(rc.export.program(system, dtype=np.float32))
    begin = step.init_state()
    found["robustctl.runtime"] = Way(lambda: step(begin, u))
    ready = system.prepare()
    x, jitted = ready.init_state(), eqx.filter_jit(lambda s, x, u: s.step(x, u))
    found["JAX, jitted"] = Way(lambda: np.asarray(jitted(ready, x, u)[1]))
    return found


def _in_c(system: System, u: np.ndarray, dtype: str) -> Way:
    step = rc.export.compile(system, dtype=dtype)
    x, us = step.init_state(), np.tile(u, (1, 1))
    seconds, count = 0.0, 1
    while seconds < _RUN:
        count *= 2
        us = np.tile(u, (count, 1))
        seconds = min(_seconds(lambda: step.loop(x, us)) for _ in range(5))  # noqa: B023  # called at once
    return Way(lambda: step.loop(x, us), count)


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measured(system: System, turns: int, calls: int) -> dict[str, dict[str, float]]:
    """Return median, 99.9 % quantile and largest of microseconds a step of each way, and its median over that of C with float32."""
    found = ways(system)
    for way in found.values():
        # Compilers and caches first.
        for _ in range(20):
            way.call()
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(turns):
        for name, (call, steps) in found.items():
            times[name] += [1e6 * _seconds(call) / steps for _ in range(calls)]
    medians = {name: float(np.median(each)) for name, each in times.items()}
    return {
        name: {
            "median_us": medians[name], "p99_9_us": float(np.percentile(each, 99.9)), "max_us": float(np.max(each)),
            "times_c": medians[name] / medians["C, float32"], "steps_a_run": found[name].steps,
        }
        for name, each in times.items()
    }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    turns, calls = (2, 5) if given.quick else (100, 50)
    found = {name: measured(system, turns, calls) for name, system in systems().items()}
    results = {
        **provenance(0), "quick": given.quick, "flags": list(FLAGS), "load_average": round(os.getloadavg()[0], 2),
        "times_of_a_way": turns * calls, "systems": found, "targets_us": TARGETS,
        "meets": {name: found[name]["C, float32"]["median_us"] <= most for name, most in TARGETS.items()},
    }  # fmt: skip
    print(json.dumps(results, indent=2))
    write_json(given.out, results)


if __name__ == "__main__":
    main()
