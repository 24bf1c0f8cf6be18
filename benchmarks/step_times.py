"""Measure one sample of a controller in C, in NumPy and in JAX.

    OPENBLAS_NUM_THREADS=1 taskset -c 0 python -m benchmarks.step_times --out results/step_times.json
    OPENBLAS_NUM_THREADS=1 taskset -c 0 python -m benchmarks.step_times --guards --out results/guard_steps.json

All ways of a system take turns in one process. A step in C is too short for the clock: the times of "in a row" are means of runs of many
steps, as a simulation has them, by a clock in C. A loop at 1 kHz does other work in between: of "after other work" every step is timed
alone, after 8 MiB were written, so that neither its weights nor its code are in the first caches. The other ways are timed call by call,
as a loop in Python has them, outputs as arrays of NumPy.
"""

import argparse
import ctypes
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.export.c_files import files
from robustctl.export.compiled import FLAGS, find_compiler, run_compiler
from robustctl.export.targets import write_texts
from robustctl.plants import LinearPlant, Sampled
from robustctl.runs.provenance import provenance
from robustctl.runtime import Step
from robustctl.store.json_text import write_json
from robustctl.system import System, explicit_of

TARGETS = {"Youla-size": 5.0, "default-fit": 0.5}
"""Largest median of the step in C with float32, in microseconds."""
IN_A_ROW, AFTER_WORK = "C, float32, in a row", "C, float32, first step after other work"
_RUN = 400e-6
"""Seconds of a run of steps in C."""
_MOST_BYTES = 1 << 16
"""Of a state, an input and an output."""
_TIMED = """
#include <time.h>
#include "NAME.c"
double in_a_row(long count, NAME_state *state, const NAME_inputs *inputs, NAME_outputs *outputs);
double after_other_work(long count, NAME_state *state, const NAME_inputs *inputs, NAME_outputs *outputs);
static unsigned char other[8L << 20];
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
double in_a_row(long count, NAME_state *state, const NAME_inputs *inputs, NAME_outputs *outputs)
{
    const double begin = now();
    for (long k = 0; k < count; k++) {
        NAME_step(state, inputs, outputs);
    }
    return now() - begin;
}
double after_other_work(long count, NAME_state *state, const NAME_inputs *inputs, NAME_outputs *outputs)
{
    for (long k = 0; k < (long)sizeof other; k += 64) {
        other[k]++;
    }
    return in_a_row(count, state, inputs, outputs);
}
"""


class Way(NamedTuple):
    """One way to step a system: what takes how many steps and returns its seconds."""

    seconds: Callable[[], float]
    steps: int = 1


class Stepped(NamedTuple):
    """A system, the input of each step, and whether `robustctl.runtime` is timed, which needs half a second for a step of a solver."""

    system: System
    u: np.ndarray
    interpreted: bool = True


def systems() -> dict[str, Stepped]:
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
    return {name: _at(explicit_of(system), 0.1) for name, system in made.items()}


def guards() -> dict[str, Stepped]:
    """Return what keeps limits of a mass whose position and speed are measured, far from the limits and at them."""
    mass = Sampled(LinearPlant([[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], np.eye(2)), 0.1)
    model = rc.classical.linear_model(mass).system
    most, K, E = np.array([1.0, 0.5]), np.array([[1.0, 1.5]]), 0.2 * np.asarray(model.B)
    AK = np.asarray(model.A) - np.asarray(model.B) @ K
    rows = np.vstack([np.eye(2), -np.eye(2), -K, K])
    limits, tube = rc.loops.StateLimits(rows, [*most, *most, 1.0, 1.0]), rc.loops.Tube.linear(AK, E)
    box: dict[str, Any] = {"low": [-1.0], "high": [1.0]}
    policy, fallback = (
        rc.loops.Gain(-jnp.asarray(gain, float), jnp.zeros(2), jnp.zeros(1)) for gain in (8 * K, K)
    )
    kept = rc.loops.maximal_invariant_set(AK, limits, E)
    terminal = tube.ellipsoid(limits)
    filters = {
        "limits": rc.loops.Limits([-1.0], [1.0]),
        f"invariant set, {len(kept.limit)} half-spaces": rc.loops.InvariantSet(mass, kept, E, **box),
        "prediction of 20 samples": rc.loops.Predicted(mass, limits, 20, tube=tube, terminal=terminal, **box),
    }
    made: dict[str, System] = {
        f"guard, {name}": rc.loops.Guarded(policy, each, fallback) for name, each in filters.items()
    }
    design = rc.classical.tube_mpc(
        mass,
        [10.0, 0.1],
        [0.05],
        E,
        horizon=10,
        u_low=-1.0,
        u_high=1.0,
        x_low=-most,
        x_high=most,
        iterations=30,
    )
    made["tube MPC, 10 samples"] = design.controller
    return {
        f"{name}; {where}": _at(system, y)._replace(interpreted=False)
        for name, system in made.items()
        for where, y in _WHERE.items()
    }


_WHERE = {"no limit near": [0.05, 0.02], "at a limit": [-0.6, 0.4]}


def _at(system: System, u: Any) -> Stepped:
    return Stepped(system, np.broadcast_to(np.asarray(u, np.float32), (system.nu or len(u),)).copy())


def ways(stepped: Stepped) -> dict[str, Way]:
    """Return each way to step a system, each with its own state."""
    system, u, interpreted = stepped
    found = in_c(system, u, "float32") | in_c(system, u, "float64")
    compiled = rc.export.compile(system, dtype=np.float32)
    found["C, called from Python"] = _called(lambda: compiled(compiled.init_state(), u))
    if (numpy_step := system.numpy_step()) is not None:
        in_numpy, start = numpy_step
        found["numpy_step"] = _called(lambda: in_numpy(start, u))
    if interpreted:
        step = Step(rc.export.program(system, dtype=np.float32))
        begin = step.init_state()
        found["robustctl.runtime"] = _called(lambda: step(begin, u))
    ready = system.prepare()
    x, jitted = ready.init_state(), eqx.filter_jit(lambda s, x, u: s.step(x, u))
    found["JAX, jitted"] = _called(lambda: np.asarray(jitted(ready, x, u)[1]))
    return found


def in_c(system: System, u: np.ndarray, dtype: str) -> dict[str, Way]:
    """Return the two ways to step in C, timed in C."""
    library = _library(system, dtype)
    memory = [np.zeros(_MOST_BYTES, np.uint8) for _ in range(3)]  # state, inputs, outputs
    memory[1][: u.size * np.dtype(dtype).itemsize] = u.astype(dtype).view(np.uint8)
    library.model_init(_address(memory[0]))

    def timed(name: str, count: int) -> Way:
        function = library[name]
        function.restype = ctypes.c_double
        return Way(lambda: function(ctypes.c_long(count), *map(_address, memory)), count)

    count = 1
    while min(timed("in_a_row", count).seconds() for _ in range(5)) < _RUN:
        count *= 2
    return {
        f"C, {dtype}, in a row": timed("in_a_row", count),
        f"C, {dtype}, first step after other work": timed("after_other_work", 1),
    }


def _address(memory: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(memory.ctypes.data)


def _library(system: System, dtype: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = files(rc.export.program(system, dtype=dtype))
        write_texts(
            folder, texts | {"timed.c": "#define _POSIX_C_SOURCE 199309L" + _TIMED.replace("NAME", "model")}
        )
        run_compiler([*find_compiler(), *FLAGS, "timed.c", "-o", "timed.so", "-lm"], folder)
        return ctypes.CDLL(str(folder / "timed.so"))


def _called(call: Callable[[], Any]) -> Way:
    """Return the way that a function of Python takes one step."""

    def seconds() -> float:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    return Way(seconds)


def measured(stepped: Stepped, turns: int, calls: int) -> dict[str, dict[str, float]]:
    """Return median, 99.9 % quantile and largest of microseconds a step of each way, and its median over that of steps of C in a row."""
    found = ways(stepped)
    for way in found.values():
        # Compilers and caches first.
        for _ in range(20):
            way.seconds()
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(turns):
        for name, way in found.items():
            times[name] += [1e6 * way.seconds() / way.steps for _ in range(calls)]
    medians = {name: float(np.median(each)) for name, each in times.items()}
    return {
        name: {
            "median_us": medians[name], "p99_9_us": float(np.percentile(each, 99.9)), "max_us": float(np.max(each)),
            "times_c": medians[name] / medians[IN_A_ROW], "steps_a_run": found[name].steps,
        }
        for name, each in times.items()
    }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument(
        "--guards", action="store_true", help="guards and tube MPC in place of models and controllers"
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    turns, calls = (2, 5) if given.quick else (20, 20) if given.guards else (100, 50)
    made = guards() if given.guards else systems()
    found = {name: measured(each, turns, calls) for name, each in made.items()}
    targets = {} if given.guards else TARGETS
    results = {
        **provenance(0), "quick": given.quick, "flags": list(FLAGS), "load_average": round(os.getloadavg()[0], 2),
        "times_of_a_way": turns * calls, "systems": found, "targets_us": targets,
        **{
            key: {name: found[name][way]["median_us"] <= most for name, most in targets.items()}
            for key, way in (("meets", IN_A_ROW), ("meets_after_other_work", AFTER_WORK))
        },
    }  # fmt: skip
    print(json.dumps(results, indent=2))
    write_json(given.out, results)


if __name__ == "__main__":
    main()
