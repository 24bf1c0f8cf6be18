"""Interleaved timing of compiled calls on an idle machine."""

import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from robustctl.errors import RobustctlError

BUSY = 0.7
"""Load average over the last minute above which timings are refused: one busy core is half of a two-core machine."""

_TURN = 0.01
"""Shortest duration of a call's turn, seconds: waking threads takes tens of microseconds, 1 % of it at most."""


def check_quiet() -> dict[str, Any]:
    """Return load and thread settings of this machine.

    **Raises:** `RobustctlError` if other processes keep the cores busy, or LAPACK has threads, which stall shared cores on
    small matrices and favor the faster version.
    """
    load, threads = os.getloadavg()[0], os.environ.get("OPENBLAS_NUM_THREADS")
    if load > BUSY:
        raise RobustctlError(
            f"the machine must be idle, got a load average of {load:.2f} (at most {BUSY}); wait, or stop other processes"
        )
    if threads != "1":
        raise RobustctlError(
            f"LAPACK must have one thread, got OPENBLAS_NUM_THREADS={threads}; set it to 1 before Python starts"
        )
    return {"load_average_before": round(load, 2), "openblas_threads": 1}


def compiled(
    fn: Callable, *args: Any, options: dict[str, Any] | None = None
) -> tuple[Callable[[], Any], float, int]:
    """Compile `fn` for `args` with XLA's options; return a call of it, the seconds to compile, its temporary memory in bytes."""
    jax.clear_caches()
    begin = time.perf_counter()
    # In a lambda, because the gradients of Equinox cannot be hashed.
    ready = jax.jit(lambda *a: fn(*a)).lower(*args).compile(options)
    seconds = time.perf_counter() - begin
    analysis: Any = ready.memory_analysis()
    return (lambda: ready(*args)), seconds, int(getattr(analysis, "temp_size_in_bytes", 0))


def difference(own: Any, reference: Any) -> float:
    """Return the largest difference of two arrays over the largest entry of the second, or over one if that is zero."""
    own, reference = (np.asarray(a, float) for a in (own, reference))
    return float(np.abs(own - reference).max() / (np.abs(reference).max() or 1.0))


def interleaved(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Run the calls in turns; return each one's median in ms, and the median ratio of the first one's time to its own.

    A turn of a short call is several calls, because a single call between two others would be timed while threads wake.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    counts = {name: math.ceil(_TURN / seconds_a_call(call, 1)) for name, call in calls.items()}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds_a_call(call, counts[name]))
    first = times[next(iter(calls))]
    return {
        name: {
            "ms": round(1e3 * statistics.median(own), 4),
            "ratio": round(statistics.median(a / b for a, b in zip(first, own, strict=True)), 3),
        }
        for name, own in times.items()
    }


def seconds_a_call(call: Callable[[], Any], count: int) -> float:
    """Return the mean seconds of `count` consecutive calls."""
    begin = time.perf_counter()
    for _ in range(count):
        jax.block_until_ready(call())
    return (time.perf_counter() - begin) / count
