"""Certify trained models and random systems: promised, proven and searched gains, and a search for false proofs; write the figures.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.certified_models --out results/certified_models.json

The tanks' record is read as by `identify_records`; without it those models are left out. Every proof of a small system is checked
again in rational arithmetic, from the system's arrays alone. The process exits with 1 after a false proof.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))
jax.config.update("jax_enable_x64", True)

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.certificates.inequalities import size_of
from robustctl.certificates.interior_point import estimate
from robustctl.certificates.prove import least_gain, least_rate
from robustctl.certificates.proven import forms_of
from robustctl.identify.recipe import Recipe, build
from robustctl.problems import cascaded_tanks, two_tanks
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.train.optimizer import cosine_adam
from tests.exact import network_gain_proven, network_rate_proven
from tests.models import draw

SMALL, LARGE = {"nx": 4, "nv": 8, "hidden": (16,)}, {"nx": 8, "nv": 16, "hidden": (32, 32)}
MODELS = {
    "Lipschitz nx 4 nv 8 (16)": Recipe(model="lipschitz", **SMALL),
    "Lipschitz nx 8 nv 16 (32, 32)": Recipe(model="lipschitz", **LARGE),
    "contracting nx 4 nv 8 (16)": Recipe(model="contracting", **SMALL),
    "gamma trained nx 4 nv 8 (16)": Recipe(model="lipschitz", **SMALL),
    "Lipschitz REN nx 4 nv 16": Recipe(model="lipschitz-ren", nx=4, nv=16),
}
"""Two tanks have the first three, the measured cascaded tanks all."""

BATCH = 50
"""Random systems after which the file is written."""

PARTS = ("timings", "trained", "random")

SIZES = ((4, 8, (8, 8)), (10, 20, (32, 32)), (20, 40, (64, 64)), (40, 60, (100, 100)), (75, 100, (140, 140)))


def records(folder: Path) -> dict[str, tuple[rc.data.Record, list[str]]]:
    """Return the records that there are, and the models that each gets."""
    found = {"two tanks": (two_tanks(600, seed=0), list(MODELS)[:3])}
    if (folder / "cascaded_tanks").is_dir():
        found["cascaded tanks"] = (cascaded_tanks(folder)[0], list(MODELS))
    return found


def trained(record: rc.data.Record, name: str, seed: int, epochs: int) -> rc.System:
    """Train a model on a whole record in 32 bits, and return its system between scaled signals."""
    recipe = dataclasses.replace(MODELS[name], seed=seed, epochs=epochs)
    trains_gamma = name.startswith("gamma trained")
    settings: dict[str, Any] = dict(
        nu=1, ny=1, nx=recipe.nx, nv=recipe.nv, hidden=recipe.hidden, init=rc.nn.long_memory
    )
    with jax.enable_x64(False):
        model: Any = build(recipe, 1, 1)
        if trains_gamma:
            model = rc.nn.LipschitzR2DN(gamma=10.0, train_gamma=True, key=jr.key(seed), **settings)
        problem = rc.train.Identification(
            record, scaling=rc.data.Scaling.fit(record), initial=rc.train.learned_state(horizon=recipe.warm_up),
            batch_size=1, regularizer=(lambda m: 1e-3 * m.gamma) if trains_gamma else None,
        )  # fmt: skip
        fitted = rc.train.train(
            problem, model, optimizer=cosine_adam(recipe.learning_rate, epochs), epochs=epochs, monitor=None,
            key=jr.key(seed + 1),
        )  # fmt: skip
        return fitted.model.parameterization.explicit()


def measured(plant: str, record: rc.data.Record, name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train and certify one model."""
    system = trained(record, name, seed, epochs)
    begin = time.perf_counter()
    certificate = rc.certify(system)
    middle = time.perf_counter()
    lower, at_equilibria = rc.certificates.lower_bound(system)
    gamma, promised = certificate.gamma, certificate.promised_gamma
    found = {
        "plant": plant, "model": name, "seed": seed, "holds": certificate.holds, "promised_gamma": promised, "gamma": gamma,
        "lower": lower, "lower_at_equilibria": at_equilibria, "promised_rate": certificate.promised_rate, "rate": certificate.rate,
        "proven_over_promised": gamma / promised if gamma and promised else None,
        "lower_over_proven": lower / gamma if gamma else None, "seconds": middle - begin,
        "search_seconds": time.perf_counter() - middle, "unproven": certificate.unproven,
    }  # fmt: skip
    print(found, flush=True)
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over all runs."""

    def median(name: str) -> float | None:
        values = [run[name] for run in runs if run[name] is not None]
        return float(np.median(values)) if values else None

    return {
        "runs": len(runs), "without_a_gain": sum(run["gamma"] is None for run in runs),
        "median_proven_over_promised": median("proven_over_promised"), "median_lower_over_proven": median("lower_over_proven"),
        "median_seconds": median("seconds"), "false": sum(is_false(run["gamma"], run["lower"]) for run in runs),
    }  # fmt: skip


def is_false(gamma: float | None, lower: float) -> bool:
    """Return whether a searched gain is above a proven one, by more than the rounding of the search."""
    return gamma is not None and lower > gamma * (1 + 1e-9)


RANDOM = {
    "ContractingR2DN": lambda key: rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3, 2), key=key),
    "LipschitzR2DN": lambda key: rc.nn.LipschitzR2DN(nu=2, nx=2, nv=2, ny=1, hidden=(3,), gamma=5.0, key=key),
    "ContractingREN": lambda key: rc.nn.ContractingREN(nu=1, nx=2, nv=3, ny=2, key=key),
    "LipschitzREN": lambda key: rc.nn.LipschitzREN(nu=1, nx=3, nv=3, ny=1, gamma=2.0, key=key),
}


def random_system(k: int, seed: int) -> tuple[str, rc.System]:
    """Return the kind and the system of a case."""
    name = list(RANDOM)[k % len(RANDOM)]
    key, draw_key = jr.split(jr.fold_in(jr.key(seed), k))
    size = 10 ** np.random.default_rng((seed, k)).uniform(-0.7, 0.7)
    return name, draw(RANDOM[name](key), draw_key, size).explicit()


def tried(k: int, seed: int) -> dict[str, Any]:
    """Prove a random system, check each proof exactly and search hard for a larger gain."""
    name, system = random_system(k, seed)
    certificate = rc.certify(system)
    lower = rc.certificates.lower_bound(system, seed=k, horizon=50, steps=30).value
    checks = (
        ("gain", certificate.gain_proof, network_gain_proven),
        ("rate", certificate.rate_proof, network_rate_proven),
    )
    given = [(what, proof, proven) for what, proof, proven in checks if proof is not None]
    wrong = [
        f"case {k}, {name}: the {what} is not proven in rational arithmetic"
        for what, proof, proven in given
        if not proven(system, proof)
    ]
    if is_false(certificate.gamma, lower):
        wrong.append(f"case {k}, {name}: found {lower}, proven {certificate.gamma}")
    ratio = lower / certificate.gamma if certificate.gamma else None
    return {"proven": [what for what, *_ in given], "ratio": ratio, "wrong": wrong}


def random_systems(found: dict[str, Any], count: int, seed: int) -> dict[str, Any]:
    """Return an account of random systems with so many more tried."""
    begin, done = time.process_time(), found.get("systems", 0)
    cases = [tried(k, seed) for k in range(done, done + count)]
    ratios = [*found.get("ratios", []), *(case["ratio"] for case in cases)]
    wrong = [*found.get("wrong", []), *(text for case in cases for text in case["wrong"])]
    tally = Counter(what for case in cases for what in case["proven"])
    gains = found.get("proofs_of_gains", 0) + tally["gain"]
    known = [ratio for ratio in ratios if ratio is not None]
    return {
        "systems": done + count, "proofs_of_gains": gains, "proofs_of_rates": found.get("proofs_of_rates", 0) + tally["rate"],
        "without_a_gain": done + count - gains, "false": len(wrong), "wrong": wrong,
        "median_lower_over_proven": float(np.median(known)), "largest_lower_over_proven": float(np.max(known)),
        "cpu_seconds": found.get("cpu_seconds", 0.0) + time.process_time() - begin, "ratios": ratios,
    }  # fmt: skip


def continued(path: Path, results: dict[str, Any], count: int, minutes: float) -> None:
    """Try random systems until all are or the time ends, from where the file ends if it is of this commit; write after each batch."""
    begin, found = time.monotonic(), results.get("random", {})
    if found.get("commit") != results["commit"]:
        found = {}
    while (left := count - found.get("systems", 0)) > 0 and time.monotonic() - begin < 60 * minutes:
        found = random_systems(found, min(left, BATCH), 0) | {"asked": count, "commit": results["commit"]}
        results["random"] = found
        write_json(path, results)


def timings(largest: int, seed: int) -> list[dict[str, Any]]:
    """Compare the estimate before a proof with what it took, in seconds of the processor, for models of growing size."""
    found = []
    for nx, nv, hidden in (size for size in SIZES if size[0] <= largest):
        model = rc.nn.LipschitzR2DN(nu=1, nx=nx, nv=nv, ny=1, hidden=hidden, gamma=10.0, key=jr.key(seed))
        system = model.explicit()
        forms = forms_of(system)
        m, N = size_of(forms, True)
        seconds, size = estimate(m, N)
        row = {
            "nx": nx,
            "nv": nv,
            "hidden": hidden,
            "unknowns": m,
            "signals": N,
            "estimate": seconds,
            "gigabytes": size / 1e9,
        }
        row |= {"gain": _timed(least_gain, forms), "rate": _timed(least_rate, forms)}
        print(row, flush=True)
        found.append(row)
    return found


def _timed(prove, forms) -> dict[str, Any]:
    begin, wall = time.process_time(), time.perf_counter()
    proof = prove(forms).proof
    return {
        "value": proof.value if proof else None, "seconds": time.process_time() - begin,
        "wall_seconds": time.perf_counter() - wall,
    }  # fmt: skip


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="others stay as the file has them"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--systems", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=60.0, help="limit of the random systems")
    parser.add_argument("--largest", type=int, default=40, help="most states of the timings")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROBUSTCTL_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    results |= provenance(0)
    if "timings" in given.parts:
        results["timings"] = timings(given.largest, 0)
    if "trained" in given.parts:
        runs = [
            measured(plant, record, name, seed, given.epochs)
            for plant, (record, names) in records(given.data).items()
            for name in names
            for seed in range(given.seeds)
        ]
        results |= {"epochs": given.epochs, "trained": runs, "summary": summary(runs)}
    if "random" in given.parts:
        continued(given.out, results, given.systems, given.minutes)
    write_json(given.out, results)
    shown = {name: value for name, value in results.get("random", {}).items() if name != "ratios"}
    print(results.get("summary"), shown)
    return 1 if any(results.get(part, {}).get("false") for part in ("summary", "random")) else 0


if __name__ == "__main__":
    sys.exit(main())
