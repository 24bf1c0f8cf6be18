"""Measure Lipschitz bounds of feed-forward networks: for all inputs and on boxes, from both sides; write the figures.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.lipschitz_networks --wide --out results/lipschitz_networks.json

The process exits with 1 where an upper bound is below a lower one, or one on a box above that for all inputs.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

from robustctl.certificates import GroupSort, Householder, Residual, lipschitz
from robustctl.certificates.lipschitz import by_recursion
from robustctl.certificates.networks import described
from robustctl.certificates.prove import least_gain
from robustctl.certificates.steps import centered, slopes_everywhere
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

ACTIVATIONS = {
    "relu": "relu", "leaky_relu": "leaky_relu", "tanh": "tanh", "hard_tanh": "hard_tanh", "sigmoid": "sigmoid",
    "softplus": "softplus", "silu": "silu", "abs": "abs", "maxmin": "maxmin", "GroupSort(3)": GroupSort(3),
    "Householder": Householder([1.0, -2.0, 0.5]), "residual": "tanh",
}  # fmt: skip


def network(rng: np.random.Generator, widths: tuple[int, ...], name: str, biases: bool = True) -> list:
    """Return layers of random weights; those of a residual network between the first and the last add to their input."""
    layers = []
    for a, b in itertools.pairwise(widths):
        W, bias = rng.normal(size=(b, a)) * np.sqrt(2 / a), 0.3 * biases * rng.normal(size=b)
        layers += [(W, bias), ACTIVATIONS[name]]
    if name != "residual":
        return layers[:-1]
    first, *inner, last = layers[:-1]
    return [first, Residual(inner[1:]), last]


def everywhere(widths: tuple[int, ...], name: str, seed: int) -> dict:
    """Compare LipSDP, the recursion and the product of norms on one random network."""
    layers = network(np.random.default_rng(seed), widths, name, biases=False)
    known = described(layers)
    chain = centered(known.grouped, slopes_everywhere(known.grouped))
    begin = time.perf_counter()
    proof = least_gain(known.form, time.monotonic() + 120).proof
    middle = time.perf_counter()
    recursion = by_recursion(chain, time.monotonic() + 15)
    end = time.perf_counter()
    return {
        "widths": widths, "activation": name, "exact": proof.value if proof else None, "exact_seconds": middle - begin,
        "recursion": recursion, "recursion_seconds": end - middle, "product": known.product(), "lower": lipschitz(layers).lower,
    }  # fmt: skip


def on_box(widths: tuple[int, ...], name: str, half: float, norm: float, seed: int, seconds: float) -> dict:
    """Bound one random network on a box about the origin."""
    layers = network(np.random.default_rng(seed), widths, name)
    side = half * np.ones(widths[0])
    bound = lipschitz(layers, (-side, side), norm, seconds=seconds)
    return {
        "widths": widths, "activation": name, "half": half, "norm": "2" if norm == 2 else "infinity", "upper": bound.upper,
        "lower": bound.lower, "ratio": bound.ratio, "seconds": bound.seconds, "uppers": bound.uppers,
    }  # fmt: skip


def random_networks(count: int, seed: int) -> dict:
    """Compare bounds of networks of all activations: upper and lower, on a box and for all inputs."""
    rng, names, found = np.random.default_rng(seed), list(ACTIVATIONS), []
    for k in range(count):
        ni, no = (int(n) for n in rng.integers(1, 7, 2))
        widths = (ni, *(6 * int(n) for n in rng.integers(1, 4, int(rng.integers(1, 4)))), no)
        name, norm = names[k % len(names)], (2, np.inf)[k // len(names) % 2]
        if name == "residual":
            widths = (ni, *[widths[1]] * (len(widths) - 2), no)
        layers = network(rng, widths, name)
        middle, half = rng.normal(size=ni), 10 ** rng.uniform(-2, 0)
        whole = lipschitz(layers, norm=norm, seconds=10)
        part = lipschitz(layers, (middle - half, middle + half), norm, seconds=1.5)
        found.append((whole.ratio, part.ratio, part.upper / whole.upper))
    whole, part, less = np.array(found).T
    return {
        "networks": count, "below": int(np.sum(whole < 1) + np.sum(part < 1)), "above": int(np.sum(less > 1)),
        "ratio": float(np.median(whole)), "box_ratio": float(np.median(part)), "less": float(np.median(less)),
    }  # fmt: skip


def orthonormal(seed: int) -> dict:
    """Bound a network of orthonormal matrices and maxmin, whose constant is at most one."""
    rng, layers = np.random.default_rng(seed), []
    for _ in range(4):
        layers += [np.linalg.qr(rng.normal(size=(32, 32)))[0], "maxmin"]
    bound = lipschitz(layers[:-1])
    return {"upper": bound.upper, "lower": bound.lower, "uppers": bound.uppers}


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--wide", action="store_true", help="networks of 2 x 256 neurons, too")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    small, seconds = [(4, 8, 8, 2)], 1.0
    widths = small if given.quick else [(16, 32, 32, 16), (8, 64, 64, 64, 4)]
    kinds = [(w, name) for w in widths for name in ("relu", "maxmin", "residual")]
    wide = [((128, 256, 256, 128), "relu")] if given.wide else []
    boxes = [(small[0], 0.5)] if given.quick else [
        ((2, 32, 32, 2), 0.1), ((2, 32, 32, 2), 0.5), ((4, 16, 16, 2), 0.1), ((4, 16, 16, 2), 0.5), ((16, 64, 64, 4), 0.02),
    ]  # fmt: skip
    results = {
        **provenance(given.seed), "quick": given.quick,
        "everywhere": [everywhere(w, name, given.seed) for w, name in [*kinds, *wide]],
        "boxes": [
            on_box(w, name, half, norm, given.seed, seconds if given.quick else 6.0)
            for (w, half), name, norm in itertools.product(boxes, ("relu", "tanh"), (2, np.inf))
        ],
        "random": random_networks(12 if given.quick else 500, given.seed), "orthonormal": orthonormal(given.seed),
    }  # fmt: skip
    write_json(given.out, results)
    print(results)
    return 1 if results["random"]["below"] + results["random"]["above"] else 0


if __name__ == "__main__":
    sys.exit(main())
