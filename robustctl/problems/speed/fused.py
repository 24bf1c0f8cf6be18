"""The kernels of `robustctl.nn.fused_scan` against the scans that they would replace, forward and with the gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...nn import ContractingR2DN
from ...nn.folded import FoldedR2DN
from ...nn.folded_scan import folded_scan
from . import cases
from .timing import compiled, interleaved

BATCHES = ((1, 256), (4, 256), (64, 128), (256, 128), (512, 128))
"""Sequences and their samples."""


def kernels(sizes: dict[str, cases.Case], quick: bool, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Return times and differences for every size, printed as they come; nothing where there is no NVIDIA GPU."""
    if jax.default_backend() != "gpu" or "NVIDIA" not in jax.devices()[0].device_kind:
        return {}
    batches = ((2, 20),) if quick else BATCHES
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sizes}
    for name, case in sizes.items():
        for batch, samples in batches:
            for gradient in (False, True):
                row = compare(case, batch, samples, gradient, repeats)
                found[name].append(row)
                print(name, *(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
    return found


def compare(case: cases.Case, batch: int, samples: int, gradient: bool, repeats: int) -> dict[str, Any]:
    """Time the scan in JAX's own precision (on a GPU TF32), the scan and the kernels in full; compare the last two."""
    us, ys = cases.sequences(case, batch, samples)
    precisions = {"scan": None, "scan in full precision": "highest", "fused": "highest"}
    calls = {}
    for name, precision in precisions.items():
        with jax.default_matmul_precision(precision):
            fn, args = _rollout(name == "fused"), (case.model(), us)
            if gradient:
                fn, args = jax.value_and_grad(cases.squared_error(fn)), (*args, ys)
            calls[name], _, _ = compiled(fn, *args)
    exact, own = (jax.tree.leaves(calls[name]()) for name in ("scan in full precision", "fused"))
    times = interleaved(calls, repeats)
    return {
        "what": "gradient" if gradient else "rollout", "batch": batch, "samples": samples,
        **{f"{name.replace(' ', '_')}_ms": times[name]["ms"] for name in calls},
        "times_faster_than_scan": times["fused"]["ratio"],
        "difference": max(_difference(a, b) for a, b in zip(own, exact, strict=True)),
    }  # fmt: skip


def _rollout(fused: bool):
    def run(model: ContractingR2DN, us: Array) -> Array:
        system = model.explicit().prepare()
        assert isinstance(system, FoldedR2DN)
        weights, x0 = (system.G, system.g, system.hidden, system.W), system.init_state()
        return jax.vmap(lambda u: folded_scan(system.activation, weights, x0, u, fused=fused)[1])(us)

    return run


def _difference(a: Array, b: Array) -> float:
    scale = float(jnp.abs(b).max())
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) / (scale or 1.0)
