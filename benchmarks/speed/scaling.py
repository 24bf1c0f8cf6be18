"""Scaling of the cost with samples, batch, states and layers; and rollouts in parallel over time."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from robustctl.parallel import Method, parallel_rollout
from robustctl.trajectory import rollout

from . import cases
from .cases import CASES
from .timing import compiled, difference, interleaved

METHODS: tuple[Method, ...] = ("picard", "mean-slope", "newton")
LENGTHS = (128, 1024, 8192)
"""Samples of the sequence that is solved for at once."""
VALUES = {
    "samples": (64, 128, 256, 512),
    "batch": (4, 16, 64, 256),
    "nx": (25, 50, 100, 200),
    "layers": (1, 2, 4, 8),
}
QUICK = {"samples": (8, 16), "batch": (1, 2), "nx": (2, 4), "layers": (1, 2)}


def scaling(quick: bool, repeats: int) -> dict[str, dict[str, Any]]:
    """Gradient of the F-16 size with 16 x 128 samples and one quantity varied: times in ms and their slope on log axes."""
    base = cases.small(CASES["f16"]) if quick else CASES["f16"]
    found = {}
    for name, values in (QUICK if quick else VALUES).items():
        times = [_gradient_ms(base, name, value, repeats) for value in values]
        slope = float(np.polyfit(np.log(values), np.log(times), 1)[0])
        found[name] = {"values": values, "gradient_ms": times, "slope": round(slope, 3)}
    return found


def _gradient_ms(base: cases.Case, name: str, value: int, repeats: int) -> float:
    changes = {"nx": {"nx": value}, "layers": {"hidden": base.hidden[:1] * value}}.get(name, {})
    case = dataclasses.replace(base, **changes)
    data = cases.sequences(case, value if name == "batch" else 16, value if name == "samples" else 128)
    gradient = eqx.filter_value_and_grad(cases.squared_error(cases.ours))
    call, _, _ = compiled(gradient, case.model(), *data)
    return interleaved({"ours": call}, max(2, repeats // 3))["ours"]["ms"]


def in_time(sizes: dict[str, cases.Case], quick: bool, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """One sequence of each size by the scan and by iterations over all samples: times, iterations, difference."""
    lengths = (16,) if quick else LENGTHS
    found = {}
    for name, case in sizes.items():
        system, us = case.model().explicit(), jax.random.normal(jax.random.key(0), (lengths[-1], case.nu))
        found[name] = [in_time_of(system, us[:samples], max(2, repeats // 3)) for samples in lengths]
    return found


def in_time_of(system: Any, us: Array, repeats: int) -> dict[str, Any]:
    """One sequence `us` (T, nu): times by the scan and by each method of `METHODS`, its iterations and difference to the scan."""
    scan, _, _ = compiled(lambda s, u: rollout(s, u).ys, system, us)
    row: dict[str, Any] = {"samples": len(us)}
    calls = {"scan": scan}
    for method in METHODS:
        if method == "newton" and len(us) * system.init_state().size ** 2 > 2e7:
            continue  # one Jacobian per sample would not fit in memory
        calls[method], _, _ = compiled(functools.partial(parallel_rollout, method=method), system, us)
        run, effort = calls[method]()
        row[method] = {
            "iterations": int(effort.iterations), "converged": bool(effort.converged),
            "difference": difference(run.ys, scan()),
        }  # fmt: skip
    times = interleaved(calls, repeats)
    row["scan_ms"] = times["scan"]["ms"]
    for method in calls.keys() - {"scan"}:
        row[method] |= {"ms": times[method]["ms"], "times_faster_than_scan": times[method]["ratio"]}
    return row
