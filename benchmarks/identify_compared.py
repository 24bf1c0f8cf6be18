"""Identify measured records by `rc.identify.auto` and by other packages at equal CPU time, and write the test errors.

    python -m benchmarks.identify_compared FOLDER --jax-sysid PYTHON --tsfast PYTHON --seconds 60 --out results/identify_compared.json

`FOLDER` is that of `benchmarks.identify_auto`; `PYTHON` is the interpreter of the environment in which a package is installed.
Each identification is a process on one thread that gets the same CPU seconds, the import of the package and all compilation included.
The first 30 samples of the test part may be used for an initial state, and are not scored. What the results file has already is left as
it is, so that the same command continues where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.identify import search
from robustctl.identify.scores import channel_scores
from robustctl.problems import cascaded_tanks, silverbox
from robustctl.runs.provenance import commit, provenance
from robustctl.store.json_text import write_json

from .daisy import DAISY, daisy

HEAD = 30
"""Samples of the test part from which an initial state may be estimated."""

WORKERS = Path(__file__).parent / "compared_workers.py"

ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}  # fmt: skip

RECORDS = (*DAISY, "cascaded tanks", "silverbox")


def parts(folder: Path, record: str) -> tuple[rc.data.Record, rc.data.Record]:
    """Return the training and the test part of a record."""
    if record in DAISY:
        return daisy(folder, DAISY[record], "train"), daisy(folder, DAISY[record], "test")
    return (cascaded_tanks if record == "cascaded tanks" else silverbox)(folder)


def ours(folder: Path, record: str, seconds: float, seed: int, out: Path) -> None:
    """Identify a record in this process, and write the outputs and the CPU seconds."""
    # The limit of `auto` counts the time on the clock; here it is that of the processor.
    search.time = types.SimpleNamespace(monotonic=time.process_time)  # pyright: ignore[reportAttributeAccessIssue]
    train, test = parts(folder, record)
    minutes = (seconds - time.process_time()) / 60
    fitted = rc.identify.auto(train, minutes=minutes, monitor=None, key=jr.key(seed))
    run = rc.simulate(fitted.model, test)
    chosen = fitted.choice.recipe
    said = f"{chosen.model}, order {fitted.choice.start and fitted.choice.start.order}, {chosen.epochs} epochs of {chosen.seeds} networks"
    np.savez(out, y_hat=run.y_hat[0], cpu=time.process_time(), said=said)


def data(train: rc.data.Record, test: rc.data.Record) -> dict[str, np.ndarray]:
    """Return what the other packages are given, scaled."""
    scaling = rc.data.Scaling.fit(train)
    (a,), (b,) = scaling.apply(train).experiments, scaling.apply(test).experiments
    return {"u": a.u, "y": a.y, "u_test": b.u, "y_head": b.y[:HEAD]}


def run(package: str, python: str, folder: Path, record: str, seconds: float, seed: int) -> dict[str, Any]:
    """Identify a record by a package in a separate process, and return its score."""
    train, test = parts(folder, record)
    with tempfile.TemporaryDirectory() as name:
        out, file = Path(name) / "out.npz", Path(name) / "data.npz"
        if package == "robustctl":
            words = ["-m", "benchmarks.identify_compared", str(folder), "--ours", record, str(seed), str(out)]
            words += ["--seconds", str(seconds)]
        else:
            np.savez(file, **data(train, test))
            words = [str(WORKERS), package, str(file), str(seconds), str(seed), str(out)]
        # Compiled programs of earlier runs would make the time of ours look shorter.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
        if package != "robustctl":
            environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [python, *words], env={**environment, **ONE_THREAD}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return {"error": done.stderr.strip()[-500:] or f"exit status {done.returncode}"}
        found = np.load(out)
        y_hat = found["y_hat"]
        if package != "robustctl":
            y_hat = rc.data.Scaling.fit(train).undo_y(y_hat)
        # A delay makes the first samples that are simulated later ones.
        skipped = max(HEAD, int(np.isnan(y_hat).any(axis=1).sum()))
        scores = channel_scores(test, (np.array(y_hat),), skipped)
        return {
            "test_nrmse": scores.pooled_nrmse(),
            "cpu_seconds": round(float(found["cpu"]), 1),
            "how": str(found["said"]),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jax-sysid", help="Python in which jax-sysid is installed")
    parser.add_argument("--tsfast", help="Python in which tsfast is installed")
    parser.add_argument("--records", nargs="+", choices=RECORDS, default=list(RECORDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of each identification")
    parser.add_argument("--ours", nargs=3, metavar=("RECORD", "SEED", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.ours:
        return ours(given.folder, given.ours[0], given.seconds, int(given.ours[1]), Path(given.ours[2]))
    if given.out is None:
        parser.error("--out is required")
    packages = {"robustctl": sys.executable, "jax_sysid": given.jax_sysid, "tsfast": given.tsfast}
    found = json.loads(given.out.read_text())["runs"] if given.out.exists() else []
    for seed in given.seeds:
        for record in given.records:
            for package, python in packages.items():
                own = {"record": record, "seed": seed, "package": package, "seconds": given.seconds}
                if python is None or any(own.items() <= r.items() for r in found):
                    continue
                found.append(own | run(package, python, given.folder, record, given.seconds, seed))
                found[-1]["commit"] = commit(Path(__file__).parent)
                write_json(given.out, {**provenance(given.seeds[0]), "runs": found})
                print(json.dumps(found[-1]), flush=True)


if __name__ == "__main__":
    main()
