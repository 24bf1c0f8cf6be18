"""Tune rate, gamma and a regularizer of one training by bilevel gradients, against a sweep with as much time of the CPU.

    OPENBLAS_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python -m benchmarks.bilevel --out results/bilevel.json

The inner problem is the training loss in the free arrays y, the outer one the validation loss in x = (contraction rate, gamma, ridge),

    z <- z - nu (Hyy g z - grad_y f),    m <- beta m + (1 - beta) (grad_x f - Hxy g z),    x <- x - eta m / |m|

every few steps of Adam in y: the normalized outer step of Hao, Gong, Liu, "Bilevel optimization under unbounded smoothness", ICLR 2024.
The sweep is `rc.train.sweep`, Optuna's default sampler and pruner, its trials as long as a trial needs. Both return what was best on the
validation record. Compilation is not counted. The records' first 70 % are trained on, the rest selects, a second record tests.
"""

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax

import robustctl as rc
from robustctl.nn.supply import gain_supply
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.train.identification import Learned
from robustctl.train.optimizer import cosine_adam

from .daisy import tanks_and_arm
from .which_model import nrmse

SIZES: dict[str, Any] = {"nx": 6, "nv": 12, "hidden": (16,)}
LEARNING_RATE, WARM_UP, WINDOW, STRIDE = 5e-3, 32, 192, 64
TRIAL = 300
"""Gradient steps of a trial of the sweep."""
EVERY, NU, ETA, BETA = 10, 0.1, 0.05, 0.9
"""Inner steps for each outer one, and the steps of z, x and m."""
BOUNDS = {"rate": (0.5, 1.0), "gamma": (1.0, 100.0), "ridge": (1e-8, 1e-2)}
START = {"rate": 0.95, "gamma": 10.0, "ridge": 1e-5}


class Ridge(rc.Parameterization):
    """A model with the weight of its ridge, which is not trained: a number in the program, so that no trial compiles again."""

    model: rc.nn.R2DN
    weight: rc.nn.Fixed

    def explicit(self) -> rc.System:
        """Return the model's system."""
        return self.model.explicit()


def squares(core: Any) -> jax.Array:
    """Return the summed squares of free arrays."""
    return sum(jnp.sum(a**2) for a in jax.tree.leaves(eqx.filter(core, eqx.is_inexact_array)))


def ridge(model: Ridge) -> jax.Array:
    """Return the regularizer."""
    return model.weight.value(jnp.float32) * squares(model.model.core)


def built(train: rc.data.Record, seed: int, rate: float, gamma: float, ridge: float) -> Ridge:
    """Return the untrained model."""
    model = rc.nn.LipschitzR2DN(
        nu=train.nu,
        ny=train.ny,
        rate=rate,
        gamma=gamma,
        init=rc.nn.long_memory,
        key=jr.key(seed),
        dtype=jnp.float32,
        **SIZES,
    )
    return Ridge(model, rc.nn.Fixed(ridge))


def swept(
    problem: rc.train.Identification, train: rc.data.Record, seed: int, seconds: float
) -> tuple[Any, dict]:
    """Return the best model of a sweep and how it was found."""
    found: list[tuple[float, Any, dict]] = []
    best = math.inf

    def objective(trial, folder, watchers):
        nonlocal best
        x = {
            "rate": trial.suggest_float("rate", *BOUNDS["rate"]),
            "gamma": trial.suggest_float("gamma", *BOUNDS["gamma"], log=True),
            "ridge": trial.suggest_float("ridge", *BOUNDS["ridge"], log=True),
        }
        fitted = rc.train.train(
            problem, built(train, seed, **x), epochs=TRIAL, optimizer=cosine_adam(LEARNING_RATE, TRIAL),
            monitor=rc.runs.Monitor(watchers, progress=False), key=jr.key(seed),
        )  # fmt: skip
        score = float(fitted.history["validation"].min())
        if score < best:
            best = score
            found.append((score, fitted.model, x))
        return score

    trials = 0
    # The first call compiles.
    rc.train.train(
        problem,
        built(train, seed, **START),
        epochs=2,
        optimizer=cosine_adam(LEARNING_RATE, TRIAL),
        monitor=None,
        key=jr.key(seed),
    )
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        while time.process_time() - begin < seconds:
            trials += 1
            rc.train.sweep(objective, folder, trials=trials, seed=1000 * seed)
    return found[-1][1], {
        "trials": trials,
        "validation": best,
        "seconds": time.process_time() - begin,
        **found[-1][2],
    }


def bounded(x: jax.Array) -> dict[str, jax.Array]:
    """Return rate, gamma and ridge of unbounded numbers, gamma and ridge along their logarithms."""
    s = jax.nn.sigmoid(x)
    low, high = (jnp.log(jnp.array([BOUNDS[n][k] for n in ("gamma", "ridge")], x.dtype)) for k in (0, 1))
    logs = jnp.exp(low + s[1:] * (high - low))
    return {"rate": BOUNDS["rate"][0] + s[0] * (1 - BOUNDS["rate"][0]), "gamma": logs[0], "ridge": logs[1]}


def unbounded(values: dict[str, float]) -> jax.Array:
    """Return the inverse of `bounded`."""
    s = [(values["rate"] - BOUNDS["rate"][0]) / (1 - BOUNDS["rate"][0])]
    for name in ("gamma", "ridge"):
        low, high = np.log(BOUNDS[name])
        s.append((np.log(values[name]) - low) / (high - low))
    return jnp.asarray(np.log(s) - np.log1p(-np.asarray(s)), jnp.float32)


def bilevel(
    problem: rc.train.Identification, train: rc.data.Record, seed: int, seconds: float
) -> tuple[Any, dict]:
    """Return the best model of one training with its settings tuned along, and how it was found."""
    y, objective = problem.prepare(built(train, seed, **START), jr.key(seed))
    optimizer = optax.adam(LEARNING_RATE)

    def error(x, y, data):
        learned: Learned = objective.whole(y)
        values, core = bounded(x), learned.model.model.core
        system = core.explicit(values["rate"], gain_supply(values["gamma"], train.nu, train.ny))
        zero = system.init_state()
        x0 = jax.vmap(lambda u, y, i: learned.initial(u, y, i, zero))(data.head_u, data.head_y, data.index)
        # A plain scan: that of an R2DN has its own gradient, of which there is no second derivative.
        ys = jax.vmap(lambda x, u: lax.scan(lambda x, u: system.step(x, u), x, u)[1])(x0, data.u)
        return problem.loss(ys, data.y, data.mask), values["ridge"] * squares(core)

    def g(x, y):
        return sum(error(x, y, objective.data))

    def f(x, y):
        return error(x, y, objective.validation)[0]

    @eqx.filter_jit
    def cycle(x, m, y, z, state):
        def step(carry, _):
            y, state = carry
            updates, state = optimizer.update(jax.grad(g, 1)(x, y), state)
            return (optax.apply_updates(y, updates), state), None

        (y, state), _ = lax.scan(step, (y, state), None, length=EVERY)
        value, (fx, fy) = jax.value_and_grad(f, (0, 1))(x, y)
        # Of the mixed derivatives with z both at once: d/de grad g(x, y + e z)
        Hxz, Hyz = jax.jvp(lambda y: jax.grad(g, (0, 1))(x, y), (y,), (z,))[1]
        z = jax.tree.map(lambda z, h, d: z - NU * (h - d), z, Hyz, fy)
        m = BETA * m + (1 - BETA) * (fx - Hxz)
        size = jnp.linalg.norm(m)
        good = jnp.isfinite(size) & (size > 0)
        x_next = jnp.where(good, x - ETA * m / jnp.where(good, size, 1), x)
        return (
            x_next,
            jnp.where(good, m, 0),
            y,
            jax.tree.map(lambda a: jnp.where(good, a, 0), z),
            state,
            value,
        )

    x, m, z = unbounded(START), jnp.zeros(3), jax.tree.map(jnp.zeros_like, y)
    state = optimizer.init(y)
    with jax.numpy_dtype_promotion("standard"):
        jax.block_until_ready(cycle(x, m, y, z, state))
        begin, cycles, best, chosen = time.process_time(), 0, math.inf, (x, y)
        while time.process_time() - begin < seconds:
            before = x
            x, m, y, z, state, value = cycle(x, m, y, z, state)
            cycles += 1
            if float(value) < best:
                best, chosen = float(value), (before, y)
    taken = time.process_time() - begin
    values = {name: float(v) for name, v in bounded(chosen[0]).items()}
    # A new model with these numbers as its guarantee, and the trained arrays.
    learned: Any = objective.whole(chosen[1])
    model = eqx.tree_at(lambda r: r.model.core, built(train, seed, **values), learned.model.model.core)
    fitted = problem._fitted(Learned(model, learned.initial))
    return fitted, {"steps": cycles * EVERY, "validation": best, "seconds": taken, **values}


def main() -> None:
    """Tune both ways and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=15.0, help="of the CPU, for each way")
    parser.add_argument("--data", type=Path, default=os.environ.get("ROBUSTCTL_DATA", "../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    records = tanks_and_arm(options.data)
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    for seed in options.seeds:
        for name, (whole, test) in records.items():
            if any(row["record"] == name and row["seed"] == seed for row in rows):
                continue
            train, validation = rc.data.split(whole, (0.7, 0.3))
            problem = rc.train.Identification(
                rc.data.windows(train, WARM_UP + WINDOW, STRIDE), validation=validation, initial=rc.train.warm_up(WARM_UP),
                scaling=rc.data.Scaling.fit(train), regularizer=ridge,
            )  # fmt: skip
            row: dict[str, Any] = {"record": name, "seed": seed}
            for way, tune in (("sweep", swept), ("bilevel", bilevel)):
                model, how = tune(problem, train, seed, options.seconds)
                row[way] = {"nrmse": nrmse(model, [test]), **how}
                jax.clear_caches()
            rows.append(row)
            print(row, flush=True)
            settings = {"cpu_seconds": options.seconds, "seeds": sorted({row["seed"] for row in rows})}
            write_json(options.out, {**provenance(options.seeds[0]), **settings, "rows": rows})


if __name__ == "__main__":
    main()
