"""Train problem 3 for some seeds, certify during training, and write results and figure."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.certificates import certificate_margin
from robustctl.problems.youla_feedback import PUBLISHED, YoulaProtocol, YoulaScenario, model
from robustctl.runs import Monitor, Run
from robustctl.runs.provenance import provenance
from robustctl.scenario import Episode
from robustctl.store.json_text import write_json
from robustctl.train import PolicyFit, PolicyGradient

from .runs import certificates, commit, draw_seeds, parameters, seconds_per_epoch


def train(
    protocol: YoulaProtocol, seed: int, folder: Path, *, progress: bool = True
) -> tuple[PolicyFit, dict]:
    """Train one seed, continuing a run in `folder`; return the fit and its scores for JSON."""
    start, key = jr.split(jr.key(seed))
    policy = model(protocol, start)
    problem = PolicyGradient(
        YoulaScenario(), horizon=protocol.horizon, segment=protocol.segment, batch=protocol.batch, test=_test(protocol)
    )  # fmt: skip
    fitted = rc.train.train(
        problem, policy, epochs=protocol.epochs, optimizer=protocol.optimizer(), run=Run(folder, resume=True),
        monitor=Monitor(progress=progress, callback=certificate_margin), key=key,
    )  # fmt: skip
    return fitted, {
        "seed": seed,
        "commit": commit(folder),
        "parameters": parameters(policy),
        "final_test_cost": float(fitted.history["validation"][-1]),
        "best_test_cost": float(np.min(fitted.history["validation"])),
        "best_epoch": fitted.best_epoch,
        "stopped": fitted.stopped,
        "seconds_per_epoch": seconds_per_epoch(folder),
        "certificates": certificates(fitted.history),
        "test_cost": fitted.history["validation"].tolist(),
        "training_cost": fitted.history["loss"].tolist(),
    }


def _test(protocol: YoulaProtocol) -> Episode:
    """The published test episodes, the same for all seeds; a quick run takes the first part of them."""
    episodes = YoulaScenario().published_test()
    return episodes._replace(ws=episodes.ws[: protocol.batch, : protocol.horizon])


def benchmark(protocol: YoulaProtocol, seeds: Sequence[int], folder: Path, *, progress: bool = True) -> dict:
    """Train every seed, write `youla_MODEL.json` and `youla_MODEL.png` to the folder after each, return the results.

    The runs are stored in `youla_MODEL_seed_N`, and an interrupted benchmark
    continues them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    results: dict = {}
    for seed in seeds:
        run = folder / f"youla_{protocol.model}_seed_{seed}"
        runs.append(train(protocol, seed, run, progress=progress)[1])
        results = {
            "problem": "youla",
            **provenance(seed),
            "protocol": dataclasses.asdict(protocol),
            "published": PUBLISHED[protocol.model],
            "mean_final_test_cost": float(np.mean([run["final_test_cost"] for run in runs])),
            "runs": runs,
        }
        path = folder / f"youla_{protocol.model}.json"
        write_json(path, results)
        draw(results).savefig(path.with_suffix(".png"))
    return results


def draw(results: dict):
    """Draw the test cost of every seed against epochs, with the published mean."""
    final = ", ".join(f"{run['final_test_cost']:.4f}" for run in results["runs"])
    return draw_seeds(
        results, "test_cost", "test cost, mean(|z| + 1e-4 u²)", 80,
        f"Youla feedback, contracting {results['protocol']['model'].upper()}", f"test cost at the end: {final}",
    )  # fmt: skip
