"""Identify the measured records with the settings of the documentation, and write the scores.

    python -m benchmarks.identify_records cascaded_tanks --seeds 0 1 2 --out results/cascaded_tanks.json
    python -m benchmarks.identify_records silverbox --seeds 0 --out results/silverbox.json

The records are read from --data, from the environment variable ROBUSTCTL_DATA, or from ../shared/data.
"""

import argparse
import dataclasses
import os
import time
from pathlib import Path

import robustctl as rc
from robustctl.identify.recipe import Recipe, identify
from robustctl.problems import cascaded_tanks, silverbox
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

PROBLEMS = {
    "cascaded_tanks": (cascaded_tanks, Recipe(init="memory", seeds=1, validation=0.0, epochs=600)),
    "silverbox": (
        silverbox,
        Recipe(
            model="lipschitz",
            gamma=20.0,
            init="memory",
            seeds=1,
            validation=0.0,
            nx=8,
            nv=16,
            hidden=(32,),
            warm_up=32,
            window=192,
            batch=64,
            epochs=500,
        ),
    ),
}


def run(problem: str, folder: Path, seed: int, **settings) -> dict:
    load, recipe = PROBLEMS[problem]
    recipe = dataclasses.replace(recipe, seed=seed, **settings)
    train, test = load(folder)
    begin = time.monotonic()
    fitted = identify(train, recipe)
    seconds = time.monotonic() - begin
    simulation = rc.simulate(fitted.model, test)
    scores, certificate = simulation.scores(), rc.certify(fitted.model, prove=False)
    result = {
        "recipe": dataclasses.asdict(recipe),
        "seconds": round(seconds, 1),
        "final_training_loss": float(fitted.history["loss"][-1]),
        "test": {
            "initial_state": simulation.initial,
            "skipped_samples": simulation.skipped,
            "nrmse": scores.nrmse.tolist(),
            "rmse": scores.rmse.tolist(),
            "fit_percent": scores.fit_percent.tolist(),
        },
        "certificate": {
            name: getattr(certificate, name)
            for name in ("holds", "margin", "rate", "rate_found", "gamma", "phi_bound")
        },
    }
    print(
        f"{problem} seed {seed}: test NRMSE {scores.nrmse}, certificate {certificate.holds}, {seconds:.0f} s",
        flush=True,
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="fewer than the recipe's, to check that the script runs")
    parser.add_argument("--data", type=Path, default=os.environ.get("ROBUSTCTL_DATA", "../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    settings = {} if given.epochs is None else {"epochs": given.epochs}
    runs = [run(given.problem, given.data, seed, **settings) for seed in given.seeds]
    results = {"problem": given.problem, **provenance(given.seeds[0]), "runs": runs}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
