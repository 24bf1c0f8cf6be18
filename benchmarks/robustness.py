"""Train on Silverbox with prescribed gains, test beyond the trained amplitude and under perturbed inputs, and write the scores.

    OPENBLAS_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false \
        python -m benchmarks.robustness --neural-ssm PYTHON --out results/robustness_page.json

All models have the same time of the CPU. Two tests: the "arrow" of the same file, whose amplitude grows beyond that of the training (scores
below and above it); and parts of the test record whose input is perturbed, within a share of its norm, so as to raise the error most, by
steps along the gradient through the model. `PYTHON` is the interpreter of an environment with the neural-ssm package,
`python -m venv .venv-nssm && .venv-nssm/bin/pip install neural-ssm`; without the option its rows are left out. What the results file
has already is left as it is, so that the same command continues where it stopped.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.data.edit import windows
from robustctl.plot.canvas import CYCLE, SMALL, heading, panels
from robustctl.problems import silverbox
from robustctl.problems.records import SILVERBOX_RATE
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import explicit_of
from robustctl.train.optimizer import cosine_adam

from .runs import parameters as weights
from .which_model import BATCH, LEARNING_RATE, MOST_WINDOWS, WARM_UP, WINDOW, epochs_within, sized

WASHOUT, ATTACKED, LENGTH, STEPS = 100, 8, 512, 25
SHARE = 0.1
"""Norm of a perturbation over that of the input."""
WORKER = Path(__file__).parent / "robustness_worker.py"
Build = Callable[[int, dict[str, Any]], rc.Parameterization]


def r2dn(gamma: float) -> Build:
    """Return an R2DN of size n with a gain of at most gamma."""
    return lambda n, kw: rc.nn.LipschitzR2DN(
        nx=n, nv=2 * n, hidden=(2 * n, 2 * n), gamma=gamma, init=rc.nn.long_memory, **kw
    )


def stack(gamma: float) -> Build:
    """Return a stack of size n with a gain of at most gamma."""
    return lambda n, kw: rc.nn.Stack(states=n, layers=3, nv=n, hidden=(2 * n,), gamma=gamma, **kw)


OURS: list[tuple[str, float | None, Build]] = [
    *(("R2DN", gamma, r2dn(gamma)) for gamma in (2.0, 5.0, 20.0)),
    *(("Stack", gamma, stack(gamma)) for gamma in (5.0, 20.0)),
    ("GRU", None, lambda n, kw: rc.nn.GRU(nx=n, **kw)),
]
THEIRS = ("neural-ssm", (5.0, 20.0))


@eqx.filter_jit
def simulated(system: rc.System, us):
    """Return the outputs (B, T, ny) for inputs (B, T, nu)."""
    return jax.vmap(lambda u: rc.rollout(system, u).ys)(us)


@eqx.filter_jit
def ascended(system: rc.System, us, ys, key):
    """Return the perturbations (B, T, nu) of a share of each input's norm that raise the error after the washout most."""

    def norm(a):
        return jnp.sqrt(jnp.sum(a**2, axis=1, keepdims=True))

    def step(d, _):
        slope = jax.grad(lambda d: jnp.sum((simulated(system, us + d) - ys)[:, WASHOUT:] ** 2))(d)
        d = d + 0.3 * size * slope / jnp.maximum(norm(slope), 1e-12)
        return size * d / norm(d), None

    noise = jr.normal(key, us.shape, us.dtype)
    size = SHARE * norm(us)
    return jax.lax.scan(step, size * noise / norm(noise), None, length=STEPS)[0]


class Data:
    """The record's parts, scaled as the training is."""

    def __init__(self, folder: Path):
        self.train, test = silverbox(folder)
        self.scaling = rc.data.Scaling.fit(self.train)
        whole = rc.data.read(
            folder / "silverbox" / "SNLS80mV.csv", inputs="V1", outputs="V2", dt=1 / SILVERBOX_RATE
        )
        arrow = whole.experiments[0]
        # The arrow ends before the multisine; its noise grows from the first sample to the last.
        arrow = rc.data.from_arrays(
            arrow.u[:40_000], arrow.y[:40_000], 1 / SILVERBOX_RATE, inputs=["V1"], outputs=["V2"], input_units=["V"], output_units=["V"]
        )  # fmt: skip
        self.clean, self.arrow = ((e.u, e.y) for e in (self.scaled(test), self.scaled(arrow)))
        starts = np.linspace(0, test.samples - LENGTH, ATTACKED).astype(int)
        self.u_attacked, self.y_attacked = (np.stack([a[k : k + LENGTH] for k in starts]) for a in self.clean)
        largest = np.abs(self.scaled(self.train).u).max()
        self.beyond = int(np.argmax(np.abs(self.arrow[0][:, 0]) > largest))
        self.pieces = windows(self.train, WARM_UP + WINDOW, max(64, self.train.samples // MOST_WINDOWS))

    def scaled(self, record: rc.data.Record):
        """Return the one experiment of a record in the training's units."""
        return self.scaling.apply(record).experiments[0]

    def scores(self, found: dict[str, np.ndarray]) -> dict[str, float]:
        """Return errors over the deviation of the true output: clean, below and beyond the trained amplitude, and perturbed."""

        def nrmse(y_hat, y):
            return float(np.sqrt(np.mean((y_hat - y) ** 2)) / np.std(y))

        truth = self.y_attacked[:, WASHOUT:]
        parts = {"within": slice(WASHOUT, self.beyond), "beyond": slice(self.beyond, None)}
        moved = np.linalg.norm(found["after"] - found["before"], axis=(1, 2))
        return {
            "clean": nrmse(found["clean"][WASHOUT:], self.clean[1][WASHOUT:]),
            **{name: nrmse(found["arrow"][part], self.arrow[1][part]) for name, part in parts.items()},
            "unperturbed": nrmse(found["before"][:, WASHOUT:], truth),
            "perturbed": nrmse(found["after"][:, WASHOUT:], truth),
            "amplification": float(np.max(moved / np.linalg.norm(found["d"], axis=(1, 2)))),
        }


def ours(data: Data, build: Build, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train a model with several seeds."""
    kw: dict[str, Any] = {"nu": 1, "ny": 1, "dtype": jnp.float32}
    n = sized(build, options.weights, kw)
    problem = rc.train.Identification(
        data.pieces, initial=rc.train.warm_up(WARM_UP), batch_size=BATCH, scaling=data.scaling
    )
    made = [build(n, {**kw, "key": jr.key(seed)}) for seed in options.seeds]
    epochs = epochs_within(problem, made[0], options.seconds)
    steps, rows = epochs * -(-len(data.pieces.experiments) // BATCH), []
    attacked, truth = (jnp.asarray(a, jnp.float32) for a in (data.u_attacked, data.y_attacked))
    for seed, start in zip(options.seeds, made, strict=True):
        fitted = rc.train.train(
            problem, start, epochs=epochs, optimizer=cosine_adam(LEARNING_RATE, steps), monitor=None, key=jr.key(seed)
        )  # fmt: skip
        system = explicit_of(fitted.model.parameterization)
        found = {
            name: np.asarray(simulated(system, jnp.asarray(u[None], jnp.float32)))[0]
            for name, (u, _) in (("clean", data.clean), ("arrow", data.arrow))
        }
        d = ascended(system, attacked, truth, jr.key(seed))
        found |= {"d": d, "before": simulated(system, attacked), "after": simulated(system, attacked + d)}
        certificate = rc.certify(system, seconds=options.prove)
        rows.append(
            {
                "seed": seed, "weights": weights(start), "training_steps": steps, "proven": certificate.gamma,
                **data.scores({key: np.asarray(value, float) for key, value in found.items()}),
            }
        )  # fmt: skip
    return rows


def theirs(data: Data, gamma: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train a network of neural-ssm with several seeds, in its own environment."""
    pieces, rows = data.scaling.apply(data.pieces).experiments, []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as name:
            file, out = Path(name) / "data.npz", Path(name) / "out.npz"
            np.savez(
                file, us=np.stack([e.u for e in pieces]), ys=np.stack([e.y for e in pieces]), warm=WARM_UP, washout=WASHOUT,
                u_clean=data.clean[0], u_arrow=data.arrow[0], u_attacked=data.u_attacked, y_attacked=data.y_attacked,
                share=SHARE, steps=STEPS,
            )  # fmt: skip
            words = [options.neural_ssm, WORKER, file, gamma, options.seconds, seed, out]
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
                "OMP_NUM_THREADS": "1"
            }
            subprocess.run(list(map(str, words)), env=environment, check=True)
            found = dict(np.load(out))
        rows.append(
            {
                "seed": seed, "weights": int(found["weights"]), "training_steps": int(found["training_steps"]),
                "reported_zero_state": float(found["bound"]), **data.scores(found),
            }
        )  # fmt: skip
    return rows


def picture(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw clean and perturbed error over the promised gain."""
    figure, axes = panels(1, 2, (4.2, 3.2), sharex=True)
    for axis, keys in zip(axes[0], (("unperturbed", "perturbed"), ("within", "beyond")), strict=True):
        for color, model in zip(CYCLE, dict.fromkeys(row["model"] for row in rows), strict=False):
            own = [row for row in rows if row["model"] == model]
            for key, style in zip(keys, ("o-", "s--"), strict=True):
                gammas = sorted({row["gamma"] for row in own} - {None})
                if gammas:
                    means = [np.mean([row[key] for row in own if row["gamma"] == gamma]) for gamma in gammas]
                    axis.plot(gammas, means, style, color=color, label=f"{model}, {key}")
                else:
                    axis.axhline(
                        np.mean([row[key] for row in own]),
                        linestyle=style[1:],
                        color=color,
                        label=f"{model}, {key}",
                    )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("promised gain, scaled signals", fontsize=SMALL)
        axis.set_ylabel("NRMSE", fontsize=SMALL)
        axis.legend(frameon=False, fontsize=SMALL - 2)
    heading(figure, "Silverbox: perturbed inputs (left) and the arrow beyond the trained amplitude (right)")
    figure.savefig(file)


def main() -> None:
    """Train, test and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--weights", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=6.0, help="of the CPU, for a training")
    parser.add_argument("--prove", type=float, default=10.0, help="seconds at most for a proof")
    parser.add_argument("--data", type=Path, default=os.environ.get("ROBUSTCTL_DATA", "../shared/data"))
    parser.add_argument("--neural-ssm", help="interpreter of an environment with neural-ssm")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = Data(options.data)
    results = json.loads(options.out.read_text()) if options.out.exists() else {"rows": []}
    wanted = [(name, gamma, lambda build=build: ours(data, build, options)) for name, gamma, build in OURS]
    if options.neural_ssm:
        name, gammas = THEIRS
        wanted += [(name, gamma, lambda gamma=gamma: theirs(data, gamma, options)) for gamma in gammas]
    known = {(row["model"], row["gamma"]) for row in results["rows"]}
    for name, gamma, rows in wanted:
        if (name, gamma) in known:
            continue
        begin = time.process_time()
        for row in rows():
            results["rows"].append({"model": name, "gamma": gamma, **row})
            print(results["rows"][-1], flush=True)
        print(round(time.process_time() - begin), "s", flush=True)
        jax.clear_caches()
        settings = {
            "seconds": options.seconds,
            "seeds": options.seeds,
            "share": SHARE,
            "attacked": ATTACKED,
            "length": LENGTH,
        }
        write_json(options.out, {**provenance(options.seeds[0]), **settings, **results})
    picture(results["rows"], options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
