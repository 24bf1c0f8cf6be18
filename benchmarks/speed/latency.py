"""Latency of one sample in a control loop."""

import statistics
import time
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np

from robustctl.nn import numpy_step

from .cases import Case


def latencies(sizes: dict[str, Case], quick: bool) -> dict[str, dict]:
    """Return median and 99th percentile in us of one step: jitted, compiled ahead of time, in NumPy; copies are included."""
    samples = 20 if quick else 5000
    return {name: _of(case, samples) for name, case in sizes.items()}


def _of(case: Case, samples: int) -> dict:
    system = case.model().explicit().prepare()
    x0 = np.asarray(system.init_state())
    u = np.ones(case.nu, x0.dtype)
    jitted = eqx.filter_jit(lambda s, x, u: s.step(x, u))
    ahead = jax.jit(lambda x, u: system.step(x, u)).lower(x0, u).compile()
    in_numpy, _ = numpy_step(case.model().explicit())
    steps = {
        "jitted": lambda x, u: jitted(system, x, u),
        "compiled_ahead": lambda x, u: ahead(x, u),
        "numpy": in_numpy,
    }
    return {name: _percentiles(step, x0, u, samples) for name, step in steps.items()}


def _percentiles(step: Callable, x: np.ndarray, u: np.ndarray, samples: int) -> dict[str, float]:
    times = []
    for _ in range(samples + 10):
        begin = time.perf_counter()
        x, y = step(x, u)
        np.asarray(y)
        times.append(1e6 * (time.perf_counter() - begin))
    times = times[10:]  # without the first calls, which compile and fill caches
    return {
        "median_us": round(statistics.median(times), 2),
        "p99_us": round(float(np.percentile(times, 99)), 2),
    }
