"""Make trained models smaller in two ways, and compare error, bytes of C and certificate with a small model from the start.

    OPENBLAS_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false \
        python -m benchmarks.smaller_models --out results/smaller_models.json

For each record and weight of the group lasso: a training with the lasso, what it has left is found and trained again without; a model
trained without the lasso is reduced to the same sizes and trained again; and a model of these sizes is trained from random values for as
many epochs. Bytes are the code and constants of the exported C in single precision, `-Os`, of this machine's compiler. What the results
file has already is left as it is.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

import robustctl as rc
from robustctl.data.edit import windows
from robustctl.errors import RobustctlError
from robustctl.export.c_files import files
from robustctl.export.compiled import find_compiler
from robustctl.export.targets import write_texts
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.train.optimizer import cosine_adam

from .daisy import tanks_and_arm
from .runs import parameters as weights
from .which_model import nrmse

SIZES: dict[str, Any] = {"nx": 10, "nv": 16, "hidden": (24,)}
GAMMA, LEARNING_RATE, WARM_UP, WINDOW, STRIDE = 20.0, 1e-2, 32, 192, 64


def code_bytes(system: rc.System) -> int:
    """Return the bytes of code and constants of a step in C."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder, files(rc.export.program(system, dtype="float32")))
        sources = sorted(path.name for path in folder.glob("*.c"))
        subprocess.run([*find_compiler(), "-std=c99", "-Os", "-c", *sources], cwd=folder, check=True)
        found = subprocess.run(
            ["size", *(Path(s).stem + ".o" for s in sources)],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        # text (code and constants) and data, in the first two columns of each line after the heads
        return sum(int(n) for line in found.stdout.splitlines()[1:] for n in line.split()[:2])


def sizes_of(model: Any) -> dict[str, Any]:
    """Return the sizes that were made smaller."""
    sizes = model.sizes()
    return {"nx": sizes["nx"], "nv": sizes["nv"], "hidden": [layer.d.size for layer in model.core.phi.layers]}


def entry(model: rc.train.RecordModel, tests: list[rc.data.Record]) -> dict[str, Any]:
    """Return error, size and certificate of a model."""
    inner: Any = model.parameterization
    system = inner.explicit()
    certificate = rc.certify(system, seconds=2.0)
    return {
        "nrmse": nrmse(model, tests), "bytes": code_bytes(system), "weights": weights(inner), "holds": certificate.holds,
        "gamma": certificate.gamma, **sizes_of(inner),
    }  # fmt: skip


def compared(
    train: rc.data.Record, test: rc.data.Record, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the model as it is and for each weight the three smaller ones."""
    problem = rc.train.Identification(
        windows(train, WARM_UP + WINDOW, STRIDE),
        initial=rc.train.warm_up(WARM_UP),
        scaling=rc.data.Scaling.fit(train),
    )
    again, epochs = options.epochs // 2, options.epochs
    kw: dict[str, Any] = {
        "nu": train.nu,
        "ny": train.ny,
        "gamma": GAMMA,
        "dtype": jnp.float32,
        "init": rc.nn.long_memory,
    }

    def trained(problem: rc.train.Identification, model: Any, epochs: int) -> Any:
        optimizer = cosine_adam(LEARNING_RATE, epochs)
        return rc.train.train(
            problem, model, epochs=epochs, optimizer=optimizer, monitor=None, key=jr.key(seed)
        ).model

    start = rc.nn.LipschitzR2DN(**SIZES, **kw, key=jr.key(seed))
    full = trained(problem, start, epochs + again)
    base = trained(problem, start, epochs)
    u = base.prepared(train).experiments[0].u
    found = {"full": entry(full, [test]), "weights": {}}
    for weight in options.lasso:
        lasso = dataclasses.replace(problem, regularizer=rc.train.GroupLasso(weight, weight))
        sparse = trained(lasso, start, epochs)
        try:
            pruned = rc.train.prune(sparse, lasso, start, tolerance=options.tolerance)
        except RobustctlError as error:  # a weight at which nothing is left is a result, too
            found["weights"][str(weight)] = {"nothing left": str(error)}
            continue
        sizes = sizes_of(pruned)
        small: dict[str, Any] = {
            "lasso": pruned,
            "truncation": rc.nn.reduce(base.parameterization, u, **sizes),
        }
        of_weight = {name: entry(trained(problem, model, again), [test]) for name, model in small.items()}
        scratch = rc.nn.LipschitzR2DN(**sizes, **kw, key=jr.key(seed))
        found["weights"][str(weight)] = of_weight | {
            "from random values": entry(trained(problem, scratch, epochs + again), [test])
        }
        jax.clear_caches()
    return found


def main() -> None:
    """Train, reduce, certify and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--lasso", type=float, nargs="+", default=[3e-3, 1e-2])
    parser.add_argument("--tolerance", type=float, default=2e-2)
    parser.add_argument("--data", type=Path, default=os.environ.get("ROBUSTCTL_DATA", "../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    records = tanks_and_arm(options.data)
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    done = {(row["record"], row["seed"]) for row in rows}
    for seed in options.seeds:
        for name, (train, test) in records.items():
            if (name, seed) in done:
                continue
            rows.append({"record": name, "seed": seed, **compared(train, test, seed, options)})
            print(rows[-1], flush=True)
            jax.clear_caches()
            settings = {
                "epochs": options.epochs,
                "tolerance": options.tolerance,
                "seeds": sorted({row["seed"] for row in rows}),
            }
            write_json(options.out, {**provenance(options.seeds[0]), **settings, "rows": rows})


if __name__ == "__main__":
    main()
