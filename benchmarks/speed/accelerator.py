"""Measurements for accelerators: a recurrence as one kernel, a loop as one graph, iterations over all samples, against the scan."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from robustctl.errors import RobustctlError
from robustctl.nn.folded import FoldedR2DN
from robustctl.nn.folded_scan import folded_scan
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import System
from robustctl.trajectory import rollout

from . import cases, fused_scan
from .timing import compiled, difference, interleaved

KERNELS = ((4, 256), (64, 128), (512, 128))
"""Sequences and samples of the recurrence as one kernel."""

IN_TIME = ((1, 1024), (64, 1024), (1, 8192), (64, 8192), (1, 65_536))
"""Sequences and samples of iterations over all samples."""

ONE_GRAPH = {"xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,WHILE"}
"""XLA's default operations in CUDA graphs, and loops."""

Version = tuple[Callable[..., Any], str | None, dict[str, Any] | None]
"""A rollout `(system, us) -> ys`, the precision of its products and XLA's options."""

_LONG = 10_000  # samples: a longer scan takes seconds, and two repeats must suffice


def benchmark(folder: Path, *, quick: bool = False, repeats: int = 11) -> dict:
    """Measure, print each row and write it to `speed_accelerator.json` in `folder`; an existing file is continued.

    Rows of another commit, device or set of versions are measured again.

    **Raises:** `RobustctlError` if JAX finds only a CPU, unless `quick`, whose figures are meaningless.
    """
    if jax.default_backend() == "cpu" and not quick:
        raise RobustctlError(
            "this benchmark needs an accelerator, JAX found only a CPU; install JAX for the accelerator, "
            "https://docs.jax.dev/en/latest/installation.html"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "speed_accelerator.json"
    origin = {"quick": quick, **provenance(0)}
    results = _begun(path, origin)
    for planned in _plan(quick):
        if any(planned.items() <= row.items() for row in results["rows"]):
            continue
        row = planned | _measured(**planned, quick=quick, repeats=2 if quick else repeats)
        results["rows"].append(row)
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
        write_json(path, results)
    return results


def _begun(path: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Return the results of an earlier run under the same conditions, or empty results."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if origin.items() <= found.items() else {**origin, "rows": []}


def _plan(quick: bool) -> Iterator[dict[str, Any]]:
    for part, shapes in (("kernels", KERNELS), ("in time", IN_TIME)):
        for case in ("youla",) if quick else cases.CASES:
            for batch, samples in ((2, 20),) if quick else shapes:
                for what in ("rollout", "gradient"):
                    yield {"part": part, "case": case, "what": what, "batch": batch, "samples": samples}


def _measured(
    part: str, case: str, what: str, batch: int, samples: int, quick: bool, repeats: int
) -> dict[str, Any]:
    size = cases.small(cases.CASES[case]) if quick else cases.CASES[case]
    versions = kernels() if part == "kernels" else in_time()
    repeats = 2 if samples > _LONG else repeats
    return compare(size, batch, samples, what == "gradient", repeats, versions)


def kernels() -> dict[str, Version]:
    """Return the scan in full precision, in JAX's default (on a GPU TF32) and as one graph, and the kernels in full precision."""
    versions: dict[str, Version] = {
        "scan in full precision": (_recurrence(_scan), "highest", None),
        "scan": (_recurrence(_scan), None, None),
        "scan as one graph": (_recurrence(_scan), "highest", ONE_GRAPH),
        "fused": (_recurrence(fused_scan.fused_scan), "highest", None),
    }
    if jax.default_backend() != "gpu":
        del versions["scan as one graph"]
    return versions


def in_time() -> dict[str, Version]:
    """Return the scan and iterations over all samples to the tolerance of `rc.parallel`, for newly drawn models."""

    def run(method: str):
        return lambda system, us: jax.vmap(lambda u: rollout(system, u, method=method).ys)(us)

    return {method: (run(method), "highest", None) for method in ("scan", "parallel")}


def compare(
    case: cases.Case, batch: int, samples: int, gradient: bool, repeats: int, versions: dict[str, Version]
) -> dict[str, Any]:
    """Return times, ratios and largest differences to the first version, without the map, which is the same for all.

    A version that does not compile or run is listed with its error, and the others are compared.
    """
    system, (us, ys) = case.model().explicit(), cases.sequences(case, batch, samples)
    args = (system, us, ys) if gradient else (system, us)
    calls, outputs, failed = {}, {}, {}
    for name, (fn, precision, options) in versions.items():
        fn = jax.value_and_grad(cases.squared_error(fn)) if gradient else fn
        try:
            with jax.default_matmul_precision(precision):
                call, _, _ = compiled(fn, *args, options=options)
            outputs[name] = jax.tree.leaves(call())
            calls[name] = call
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"[:500]
    times = interleaved(calls, repeats) if calls else {}
    first, *others = outputs or [""]
    return {
        "ms": {name: found["ms"] for name, found in times.items()},
        "times_faster": {name: times[name]["ratio"] for name in others},
        "difference": {name: max(map(difference, outputs[name], outputs[first])) for name in others},
        "failed": failed,
    }  # fmt: skip


def _recurrence(scan: Callable[..., Any]) -> Callable[[System, Array], Array]:
    def run(system: System, us: Array) -> Array:
        s = system.prepare()
        assert isinstance(s, FoldedR2DN)
        x0 = jnp.broadcast_to(s.init_state(), (len(us), s.nx))
        return scan(s.activation, (s.G, s.g, s.hidden, s.W), x0, us)[1]

    return run


def _scan(activation: Callable, weights: Any, x0: Array, us: Array) -> Any:
    return jax.vmap(lambda x, u: folded_scan(activation, weights, x, u))(x0, us)
