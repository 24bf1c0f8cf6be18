"""Train problem 1 for some seeds, certify, simulate the test levels, and write results and figure."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.random as jr
import numpy as np

from robustctl.certificates import certificate_margin, certify
from robustctl.data import Record
from robustctl.identify import simulate
from robustctl.problems import f16
from robustctl.problems.f16 import F16Protocol
from robustctl.runs import Monitor, Run
from robustctl.runs.fingerprint import data_hash
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.train import Fit
from robustctl.train import train as fit

from .f16_ours import F16Settings
from .runs import certificates, commit, draw_seeds, parameters, seconds_per_epoch

CERTIFIED = ("r2dn", "ren", "lipschitz", "linear")


def train(
    protocol: F16Protocol | F16Settings,
    seed: int,
    records: dict[int, Record],
    folder: Path,
    *,
    progress: bool = True,
) -> tuple[Fit, dict[int, np.ndarray], dict]:
    """Train one seed, continuing a run in `folder`; return the fit, its outputs by test level, and its scores for JSON."""
    start, key = jr.split(jr.key(seed))
    problem, model, optimizer = protocol.fit_arguments(records, start)
    certified = protocol.model in CERTIFIED
    monitor = Monitor(progress=progress, callback=certificate_margin if certified else None)
    fitted = fit(
        problem, model, optimizer=optimizer, epochs=protocol.epochs, run=Run(folder, resume=True), monitor=monitor, key=key
    )  # fmt: skip
    simulated = {level: simulate(fitted.model, records[level]).y_hat[0] for level in f16.TEST}
    return (
        fitted,
        simulated,
        {
            "seed": seed,
            "commit": commit(folder),
            "parameters": parameters(model),
            "final_training_loss": float(fitted.history["loss"][-1]),
            "test": f16.test_scores(simulated, records),
            "certificate_holds": certify(fitted.model, prove=False).holds if certified else None,
            "certificates": certificates(fitted.history),
            "stopped": fitted.stopped,
            "seconds_per_epoch": seconds_per_epoch(folder),
            "training_loss": fitted.history["loss"].tolist(),
        },
    )


def benchmark(
    protocol: F16Protocol | F16Settings,
    seeds: Sequence[int],
    records: dict[int, Record],
    folder: Path,
    *,
    progress: bool = True,
) -> dict:
    """Train every seed, write `f16_MODEL.json` and `f16_MODEL.png` to the folder after each, return the results.

    `average` holds the scores of the mean of the seeds' outputs, what `rc.nn.Average` of their models computes. The runs are stored in
    `f16_MODEL_seed_N`, and an interrupted benchmark continues them. MODEL is "ours" for our own settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    published = isinstance(protocol, F16Protocol)
    name = f"f16_{protocol.model if published else 'ours'}"
    runs: list[dict] = []
    outputs: list[dict[int, np.ndarray]] = []
    results: dict = {}
    for seed in seeds:
        _, simulated, scores = train(
            protocol, seed, records, folder / f"{name}_seed_{seed}", progress=progress
        )
        runs.append(scores)
        outputs.append(simulated)
        mean = {level: np.mean([own[level] for own in outputs], axis=0) for level in f16.TEST}
        results = {
            "problem": "f16",
            **provenance(seed),
            "data_sha256": data_hash(f16.training(records)),
            "protocol": dataclasses.asdict(protocol),
            "published": f16.PUBLISHED.get(protocol.model) if published else None,
            "average": {"seeds": list(seeds[: len(runs)]), "test": f16.test_scores(mean, records)},
            "mean_test_nrmse": float(np.mean([run["test"]["nrmse"] for run in runs])),
            "mean_final_training_loss": float(np.mean([run["final_training_loss"] for run in runs])),
            "runs": runs,
        }
        write_json(folder / f"{name}.json", results)
        draw(results).savefig(folder / f"{name}.png")
    return results


def draw(results: dict):
    """Draw the training loss of every seed against epochs, with the published band."""
    test = ", ".join(f"{run['test']['nrmse']:.3f}" for run in results["runs"])
    ours = "segment" not in results["protocol"]
    model = results["protocol"]["model"]
    name = {"linear": "linear model", "lipschitz": "R2DN of bounded gain"}.get(model, model.upper())
    label = "loss, mean" if ours else "loss, summed over levels and channels"
    return draw_seeds(
        results, "training_loss", label, 70,
        f"F-16 ground vibration, {'our recipe' if ours else name}", f"test NRMSE on Levels 2, 4, 6: {test}",
    )  # fmt: skip
