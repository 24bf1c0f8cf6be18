"""Measure the cost of many seeds at once: one training step of benchmark problem 3 for one seed, and for ten.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.measure_seeds --out results/seeds.json

The step is that of the speed table: 64 sequences of 200 samples, gradient and Adam. Ten seeds run one after the other, as in
`fit_seeds` on a CPU, the same on two devices, and elsewhere in a `vmap`. All in one process, interleaved, medians, without
compilation. A CPU is split into two devices, and the step of one seed is timed on one of them, which has threads for all cores.
Floors: the operations of one seed and of ten, at the rate of one large product.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from robustctl.runs.devices import for_each, mesh_of, one_by_one, spread
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

from .speed import cases, floors
from .speed.timing import check_quiet, compiled, interleaved

ONE = "one seed"


def copies(tree: Any, seeds: int) -> Any:
    """Return a tree with a leading seed axis in every array."""
    return jax.tree.map(lambda a: jnp.stack([a] * seeds), tree)


def calls(case: cases.Case, seeds: int, quick: bool) -> tuple[dict[str, Any], dict[str, dict], int]:
    """Return the compiled arrangements, the cost of compiling them, and the samples of one seed."""
    _, loss, (ws,) = cases.training(case, quick)
    step = cases.training_step(loss)
    model = case.model()
    single = (model, cases.optimizer_of_all().init(cases.free(model)))  # pyright: ignore
    pairs = copies(single, seeds)
    ways = {"one after the other": (None, one_by_one)}
    if len(jax.devices()) > 1:
        ways["two devices"] = (mesh_of(2, {"seeds": seeds}), one_by_one)
    if (
        quick or jax.default_backend() != "cpu"
    ):  # at the full size it hung on two cores: see rc.train.fit_seeds
        ways["vmap"] = (None, jax.vmap)

    def of_all(mesh, over):
        def steps(pairs, ws):
            return for_each(lambda ws, model, state: step(model, state, ws), mesh, ws, *pairs, over=over)

        return compiled(steps, spread(pairs, mesh), ws)

    made = {ONE: compiled(lambda pair, ws: step(*pair, ws), single, ws)}
    made |= {name: of_all(*way) for name, way in ways.items()}
    effort = {
        name: {"compile_seconds": round(seconds, 2), "temporary_bytes": size}
        for name, (_, seconds, size) in made.items()
    }
    return {name: call for name, (call, _, _) in made.items()}, effort, ws.size


def measure(seeds: int, repeats: int, quick: bool) -> dict[str, Any]:
    """Time the arrangements, interleaved, and compare them with the floors."""
    case = cases.small(cases.CASES["youla"]) if quick else cases.CASES["youla"]
    rates = floors.measure_rates()
    runs, effort, samples = calls(case, seeds, quick)
    times = interleaved(runs, repeats)
    operations = floors.operations(case, "training step", samples) or 0.0
    floor = operations / rates.gflops / 1e6
    one = times[ONE]["ms"]
    return {
        "seeds": seeds, "sequences_samples": samples, "gflops_of_one_large_product": rates.gflops,
        "floor_of_one_seed_ms": round(floor, 2), "floor_of_all_over_time_of_one": round(seeds * floor / one, 2),
        "arrangements": {
            name: {
                "ms": found["ms"], "times_of_one_seed": round(1 / found["ratio"], 2),
                "part_of_peak": round((1 if name == ONE else seeds) * floor / found["ms"], 3), **effort[name],
            }
            for name, found in times.items()
        },
    }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--seeds", type=int, default=10, help="an even number")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    machine = {} if given.quick else check_quiet()
    found = measure(given.seeds, 2 if given.quick else 9, given.quick)
    results = {
        **provenance(0),
        "quick": given.quick,
        **machine,
        **found,
    }
    print(json.dumps(results, indent=2))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
