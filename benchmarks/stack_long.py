"""Measure rollouts and gradients over long records: a stack layer by layer, sample by sample, and an R2DN of as many weights.

    OPENBLAS_NUM_THREADS=1 taskset -c 0 python -m benchmarks.stack_long --out results/stack_long.json

All ways take turns in one process, compilation apart; times are of the CPU, so that other processes count less. Gradients are those
of the mean square of the outputs in every free array, the map to the model included. Dtype float32.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.nn.diagonal import in_parallel
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import step_by_step

from .runs import parameters

STATES, LAYERS = 16, 3
CASES = {(1_000, 1): 9, (1_000, 16): 7, (10_000, 1): 7, (10_000, 16): 3, (100_000, 1): 3, (1_000_000, 1): 1}
"""Samples and records at once, and how often each way runs."""
LAST = 100_000
"""Samples up to which the slow ways of the stack run."""


def models() -> tuple[rc.Parameterization, rc.Parameterization]:
    """Return a stack and an R2DN of about as many weights."""
    common: dict[str, Any] = {
        "nu": 1,
        "ny": 1,
        "gamma": 2.0,
        "rate": 0.999,
        "key": jr.key(0),
        "dtype": jnp.float32,
    }
    stack = rc.nn.Stack(states=STATES, layers=LAYERS, nv=8, hidden=(16,), **common)
    return stack, rc.nn.LipschitzR2DN(nx=12, nv=12, hidden=(16,), **common)


def associative(system: Any, us: jax.Array) -> jax.Array:
    """Return the outputs of a stack whose recurrences are associative scans, as on an accelerator."""
    vs = us
    for k, recurrence in enumerate(system.recurrences):
        x0 = jnp.zeros(recurrence.nx, us.dtype)
        xs, _ = in_parallel(recurrence, x0, vs @ recurrence.B.T)
        zs = xs @ recurrence.C.T + vs @ recurrence.D.T
        vs = jax.vmap(system.networks[k])(zs) if k < len(system.networks) else zs
    return vs + system.by[None]


def ways() -> dict[str, tuple[rc.Parameterization, Callable]]:
    """Return each way by name: a model, and a function of its system and the inputs of one record."""
    stack, r2dn = models()
    return {
        "stack": (stack, lambda s, us: rc.rollout(s, us).ys),
        "stack, associative scan": (stack, associative),
        "stack, sample by sample": (stack, lambda s, us: step_by_step(s.step, s.init_state(), us)[1]),
        "R2DN": (r2dn, lambda s, us: rc.rollout(s, us).ys),
    }


def compiled(model: rc.Parameterization, run: Callable, gradient: bool) -> Callable[[jax.Array], Any]:
    """Return a function of a batch of inputs."""

    def outputs(model: Any, us: jax.Array) -> jax.Array:
        system = model.explicit()
        return jax.vmap(lambda u: run(system, u))(us)

    def loss(model: Any, us: jax.Array) -> jax.Array:
        return jnp.mean(outputs(model, us) ** 2)

    call = eqx.filter_jit(eqx.filter_grad(loss) if gradient else outputs)
    return lambda us: jax.block_until_ready(call(model, us))


def timed(samples: int, records: int, rounds: int, gradient: bool) -> dict[str, float]:
    """Return the median of each way, milliseconds."""
    us = jr.normal(jr.key(1), (records, samples, 1), jnp.float32)
    calls = {
        name: compiled(model, run, gradient)
        for name, (model, run) in ways().items()
        if samples <= LAST or name in ("stack", "R2DN")
    }
    for call in calls.values():
        call(us)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.process_time()
            call(us)
            found[name].append(1e3 * (time.process_time() - begin))
    return {name: float(np.median(times)) for name, times in found.items()}


def difference() -> float:
    """Return the largest difference between layer by layer and sample by sample over the largest output, 10,000 samples."""
    us = jr.normal(jr.key(1), (10_000, 1), jnp.float32)
    made = ways()
    fast, slow = (
        eqx.filter_jit(lambda m, u, run=run: run(m.explicit(), u))(model, us)
        for model, run in (made["stack"], made["stack, sample by sample"])
    )
    return float(jnp.max(jnp.abs(fast - slow)) / jnp.max(jnp.abs(slow)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for (samples, records), rounds in CASES.items():
        for what in ("rollout", "gradient"):
            found = timed(samples, records, rounds, what == "gradient")
            rows.append({"samples": samples, "records": records, "what": what, "rounds": rounds, "ms": found})
            print(samples, records, what, {name: round(ms, 3) for name, ms in found.items()}, flush=True)
    stack, r2dn = models()
    sizes = {"stack": parameters(stack), "R2DN": parameters(r2dn)}
    results = provenance(0) | {"parameters": sizes, "difference": difference(), "rows": rows}
    write_json(given.out, results)


if __name__ == "__main__":
    main()
