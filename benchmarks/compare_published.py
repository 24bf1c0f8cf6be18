"""Time our R2DN against the code published with [BWM25], in one process and with the same weights.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.compare_published FOLDER --out results/speed_published.json

FOLDER is a clone of https://github.com/nic-barbara/R2DN [BWM25, arXiv 2504.01250], which is imported; it needs
`pip install flax`. Its weights are drawn and transferred to our model, so that both compute the same function.
"""

import argparse
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.nn.sandwich import SandwichNetwork, SandwichParameters
from robustctl.runs.provenance import commit, provenance
from robustctl.store.json_text import write_json

from .speed import cases
from .speed.timing import check_quiet, compiled, difference, interleaved

WHAT = "time of the published code over ours, medians of interleaved runs; compilation apart"
NOTES = [
    "free arrays and function are the same: ours uses the published network, whose last layer is nonlinear, as phi",
    "each in its own layout: the published code time first, ours batch first",
    "difference: largest deviation over largest value, of outputs, of A, of the gradient in C1, of the trained loss",
    "the values differ by regularization: eps I in the published map, eps^(3/4) p^2 / (2 nx) I in ours",
    "where that moves a relu across its kink, gradients in float32 jump: by 1e-3 with relu, 2e-5 with tanh, at f16",
    "the explicit map is timed without the metric P, which the published map does not compute",
    "pde: a free output map in both; the published observer's is the identity",
    "training step: the published loss and loop; in both, Adam with clipped gradients at a constant rate",
    "current JAX does not accept the argument names of the published network's call of clip: a wrapper does",
]


def published(folder: Path) -> tuple[Any, Any]:
    """Import the published R2DN and Youla loop from a clone.

    **Raises:** `RobustctlError` if flax is missing or the folder does not hold the published code.
    """
    if not (folder / "robustnn" / "r2dn.py").is_file():
        raise RobustctlError(
            f"the folder must hold the published code, got {folder} without robustnn/r2dn.py; "
            "clone https://github.com/nic-barbara/R2DN"
        )
    sys.path.insert(0, str(folder.resolve()))
    names = ("robustnn.r2dn", "robustnn.lbdn", "examples.utils.youla")
    try:
        r2dn, lbdn, youla = map(importlib.import_module, names)
    except ImportError as error:
        raise RobustctlError(f"the published code must import, got: {error}; pip install flax") from error
    clip = {"clip": lambda x, a_min, a_max: jnp.clip(x, a_min, a_max)}
    lbdn.jnp = types.SimpleNamespace(**{**vars(jnp), **clip})
    return r2dn, youla


# The same model twice


def drawn(net: Any) -> dict:
    """Draw published weights, and add noise to the vectors, which are zero initially."""
    params = net.init(jr.key(0), jnp.zeros((1, net.state_size)), jnp.zeros((1, net.input_size)))
    leaves, tree = jax.tree.flatten(params)
    keys = jr.split(jr.key(1), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return tree.unflatten([a + 0.1 * jr.normal(key, a.shape) * (a.ndim == 1) for key, a in pairs])


class Sandwiches(rc.Parameterization):
    """The published network: sandwich layers and nothing after them."""

    layers: tuple[SandwichParameters, ...]
    activation: Callable = eqx.field(static=True)

    def explicit(self) -> SandwichNetwork:
        """Map to the network's weights, its last product the identity."""
        n = self.layers[-1].b.size
        layers = tuple(layer.explicit() for layer in self.layers)
        return SandwichNetwork(layers, jnp.eye(n), jnp.zeros(n), self.activation)


def transferred(case: cases.Case, params: dict) -> rc.nn.R2DN:
    """Return our model with the published weights."""
    arrays = dict(params["params"])
    network = arrays.pop("network")
    layers = tuple(
        SandwichParameters(s["XY"], s["a"][0], 20 * jnp.arctanh(s["d"] / 20), s["b"])
        for s in (network[f"layers_{k}"] for k in range(len(network)))
    )
    arrays |= {
        "p": arrays["p"][0],
        "B1_imp": arrays.pop("B1"),
        "phi": Sandwiches(layers, case.activation),
    }
    return eqx.tree_at(
        lambda m: [getattr(m.core, name) for name in arrays], case.model(), list(arrays.values())
    )


# Timed calls `(fn, *args)` of the published code, time first, and of ours


def first(a: Array) -> Array:
    """Exchange the axes of batch and time."""
    return jnp.swapaxes(a, 0, 1)


def simulated(net: Any) -> Callable[[dict, Array], Array]:
    """Return the published rollout from zero states."""
    return lambda params, us: net.simulate_sequence(params, jnp.zeros((us.shape[1], net.state_size)), us)[1]


def squared_error(net: Any) -> Callable[[dict, Array, Array], Array]:
    """Return the loss of a published rollout: squares summed over batch and channels, mean over time."""
    return lambda params, us, ys: jnp.sum((simulated(net)(params, us) - ys) ** 2) / us.shape[0]


def training_loss(case: cases.Case, net: Any, youla: Any) -> Callable:
    """Return the published loss of one training step."""

    def one_step(params, xs, us, after):
        return jnp.mean(jnp.sum((net.apply(params, xs, us)[0] - after) ** 2, axis=1))

    def in_loop(params, ws):
        plant = youla.ExampleSystem()
        start = plant.init_state(ws.shape[1]), jnp.zeros((ws.shape[1], net.state_size))
        zs, us = youla.rollout(plant, net, params, *start, ws)[1]
        return jnp.mean(jnp.sum(jnp.abs(zs), axis=-1) + 1e-4 * jnp.sum(us**2, axis=-1))

    return {"pde": one_step, "youla": in_loop}.get(case.name, squared_error(net))


def arrays_of_map(e: Any) -> list[Array]:
    """Return the arrays that the explicit map of either model computes."""
    return [e.A, e.B1, *jax.tree.leaves(e.network_params.layers if hasattr(e, "network_params") else e.phi.layers)]  # fmt: skip


def comparisons(case: cases.Case, r2dn: Any, youla: Any, quick: bool) -> Iterator[tuple]:
    """Yield a name, the two calls, and functions that select the results to compare."""
    sizes = (case.nu, case.nx, case.nv, case.ny, case.hidden)
    net = r2dn.ContractingR2DN(*sizes, activation=case.activation)
    params = drawn(net)
    model = transferred(case, params)
    us, _ = cases.sequences(case, 4 if quick else 64, 16 if quick else 128)
    yield "rollout", ((simulated(net), params, first(us)), (cases.ours, model, us)), (first, jnp.asarray)
    in_C1 = (lambda out: out[1]["params"]["C1"], lambda out: out[1].C1)
    losses = [
        eqx.filter_value_and_grad(loss) for loss in (squared_error(net), cases.squared_error(cases.ours))
    ]
    for batch, samples in ((4, 16),) if quick else ((64, 128), (4, 256), (1, 256)):
        data = cases.sequences(case, batch, samples)
        calls = (losses[0], params, *map(first, data)), (losses[1], model, *data)
        yield f"gradient, {batch} x {samples}", calls, in_C1
    maps = [lambda p: arrays_of_map(net.direct_to_explicit(p)), lambda m: arrays_of_map(m.explicit())]
    yield "explicit map", ((maps[0], params), (maps[1], model)), (lambda out: out[0],) * 2
    both = [cases.with_gradient(fn) for fn in maps]
    yield "explicit map, with gradient", ((both[0], params), (both[1], model)), in_C1
    _, loss, data = cases.training(case, quick)
    theirs = data if case.name == "pde" else tuple(map(first, data))
    steps = ((training_loss(case, net, youla), params, theirs), (loss, model, data))
    yield "training step", [training_step(*step) for step in steps], (lambda out: out[2],) * 2


def training_step(loss: Callable, model: Any, data: tuple[Array, ...]) -> tuple:
    """Return the call of one training step."""
    return cases.training_step(loss), model, cases.optimizer_of_all().init(cases.free(model)), *data


def measured(calls: Any, pick: tuple[Callable, Callable], repeats: int) -> dict:
    """Compile and time the published call and ours, after comparing their results."""
    made = dict(zip(("published", "ours"), (compiled(*call) for call in calls), strict=True))
    theirs, own = (p(call()) for p, (call, _, _) in zip(pick, made.values(), strict=True))
    found = interleaved({name: call for name, (call, _, _) in made.items()}, repeats)
    return {
        "published_ms": found["published"]["ms"], "ours_ms": found["ours"]["ms"], "ratio": found["ours"]["ratio"],
        "difference": difference(own, theirs),
        "parameters": [cases.parameters(call[1]) for call in calls],
        "compile_seconds": [round(seconds, 2) for _, seconds, _ in made.values()],
        "temporary_bytes": [size for _, _, size in made.values()],
    }  # fmt: skip


def measurements(r2dn: Any, youla: Any, quick: bool) -> Iterator[dict]:
    """Measure every size and print each row."""
    for case in cases.CASES.values():
        for what, calls, pick in comparisons(cases.small(case) if quick else case, r2dn, youla, quick):
            row = {"case": case.name, "what": what, **measured(calls, pick, 2 if quick else 21)}
            times = "{published_ms:>10.3f} ms{ours_ms:>10.3f} ms{ratio:>7.2f}x".format(**row)
            print(f"{case.name:<6}{what:<29}{times}  difference {row['difference']:.1e}", flush=True)
            yield row


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="clone of the published code")
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--out", type=Path, default="results/speed_published.json")
    given = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")  # as the published scripts do
    try:
        machine = {} if given.quick else check_quiet()
        r2dn, youla = published(given.folder)
    except RobustctlError as error:
        sys.exit(f"error: {error}")
    results = {
        "what": WHAT, "notes": NOTES, "quick": given.quick, **provenance(0),
        "flax": metadata.version("flax"), "published_commit": commit(given.folder) if (given.folder / ".git").exists() else "unknown",
        **machine,
        "rows": list(measurements(r2dn, youla, given.quick)),
    }  # fmt: skip
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
