"""What only an accelerator shows: a recurrence as one kernel, a loop as one graph, iterations over all samples, all against the scan."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...errors import RobustctlError
from ...nn.folded import FoldedR2DN
from ...nn.folded_scan import folded_scan
from ...provenance import provenance
from ...rollout import rollout
from ...system import System
from . import cases
from .timing import compiled, interleaved

KERNELS = ((4, 256), (64, 128), (512, 128))
"""Sequences and samples of the recurrence as one kernel."""

IN_TIME = ((1, 1024), (64, 1024), (1, 8192), (64, 8192), (1, 65_536))
"""Sequences and samples of iterations over all samples."""

ONE_GRAPH = {"xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,WHILE"}
"""XLA's own choice of what goes into CUDA graphs, and loops."""


def benchmark(folder: Path, *, quick: bool = False, repeats: int = 11) -> dict:
    """Measure, print each row as it comes and keep `speed_accelerator.json` in `folder` up to date with it.

    **Raises:** `RobustctlError` where JAX sees a CPU alone, unless `quick`, whose figures mean nothing.
    """
    if jax.default_backend() == "cpu" and not quick:
        raise RobustctlError(
            "this benchmark needs an accelerator that JAX sees, got a CPU alone; install JAX for it, "
            "https://docs.jax.dev/en/latest/installation.html"
        )
    sizes = {"youla": cases.small(cases.CASES["youla"])} if quick else cases.CASES
    results: dict[str, Any] = {"quick": quick, **provenance(0), "kernels": [], "parallel_in_time": []}
    folder.mkdir(parents=True, exist_ok=True)
    for part, row in _rows(sizes, quick, 2 if quick else repeats):
        results[part].append(row)
        print(part, *(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
        text = json.dumps(results, indent=2) + "\n"
        (folder / "speed_accelerator.json").write_text(text, encoding="utf-8")
    return results


def _rows(sizes: dict[str, cases.Case], quick: bool, repeats: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for part, compare, batches in (("kernels", kernels, KERNELS), ("parallel_in_time", in_time, IN_TIME)):
        for case in sizes.values():
            for batch, samples in ((2, 20),) if quick else batches:
                for gradient in (False, True):
                    yield part, compare(case, batch, samples, gradient, repeats)


def kernels(case: cases.Case, batch: int, samples: int, gradient: bool, repeats: int) -> dict[str, Any]:
    """Time the scan in JAX's own precision (on a GPU TF32), in full, and as one graph; and the kernels, which are in full."""
    versions = {
        "scan in full precision": (_recurrence(False), "highest", None),
        "scan": (_recurrence(False), None, None),
        "scan as one graph": (_recurrence(False), "highest", ONE_GRAPH),
        "fused": (_recurrence(True), "highest", None),
    }
    if jax.default_backend() != "gpu":
        del versions["scan as one graph"]
    return _compare(case, batch, samples, gradient, repeats, versions)


def in_time(case: cases.Case, batch: int, samples: int, gradient: bool, repeats: int) -> dict[str, Any]:
    """Time iterations over all samples of a freshly drawn model, to within the tolerance of `rc.parallel`."""

    def run(method: str):
        return lambda system, us: jax.vmap(lambda u: rollout(system, u, method=method).ys)(us)

    versions = {method: (run(method), "highest", None) for method in ("scan", "parallel")}
    return _compare(case, batch, samples, gradient, repeats, versions)


def _compare(case, batch, samples, gradient, repeats, versions: dict[str, tuple]) -> dict[str, Any]:
    """Times, ratios and largest differences, all against the first version; without the map, which is the same for all."""
    system, (us, ys) = case.model().explicit(), cases.sequences(case, batch, samples)
    calls: dict[str, Callable] = {}
    for name, (fn, precision, options) in versions.items():
        args = (system, us, ys) if gradient else (system, us)
        fn = jax.value_and_grad(cases.squared_error(fn)) if gradient else fn
        with jax.default_matmul_precision(precision):
            calls[name], _, _ = compiled(fn, *args, options=options)
    first, *others = (jax.tree.leaves(call()) for call in calls.values())
    times = interleaved(calls, repeats)
    differences = {
        name: max(map(_difference, own, first)) for name, own in zip(list(calls)[1:], others, strict=True)
    }
    return {
        "case": case.name, "what": "gradient" if gradient else "rollout", "batch": batch, "samples": samples,
        "ms": {name: found["ms"] for name, found in times.items()},
        "times_faster": {name: times[name]["ratio"] for name in differences}, "difference": differences,
    }  # fmt: skip


def _recurrence(fused: bool) -> Callable[[System, Array], Array]:
    def run(system: System, us: Array) -> Array:
        s = system.prepare()
        assert isinstance(s, FoldedR2DN)
        weights, x0 = (s.G, s.g, s.hidden, s.W), s.init_state()
        return jax.vmap(lambda u: folded_scan(s.activation, weights, x0, u, fused=fused)[1])(us)

    return run


def _difference(a: Array, b: Array) -> float:
    scale = float(jnp.abs(b).max())
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) / (scale or 1.0)
