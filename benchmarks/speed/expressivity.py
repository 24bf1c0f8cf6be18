"""Expressivity against time: the computing time of models that fit a curve more closely, R2DN compared with REN.

::

    x+ = 0.05 x + u + 0.2 sin x + 0.05 cos 2s + 0.05 sin 3s + 0.075 sin 4s atan(0.1 s^2),    s = x + u
    slope = d log(time) / d log(1 / NRMSE),     NRMSE = |x+ - model| / |x+| over test points with u = 1

Source: [BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of contracting and Lipschitz recurrent deep networks",
arXiv 2504.01250; the settings are those of its code except for `differences`. Models have one input and one
state; training uses single steps, and the times are those of 64 sequences of 128 samples.
"""

import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from robustctl import nn
from robustctl.system import Parameterization
from robustctl.trajectory import rollout

from . import cases
from .timing import compiled, interleaved

PUBLISHED = {"R2DN": {"inference": 0.073, "gradient": 0.098}, "REN": {"inference": 0.63, "gradient": 0.61}}
"""Slopes given by [BWM25], on a GPU; the timer of their gradients did not wait for the device."""
TARGET = 0.10
"""Upper bound for an R2DN's slopes."""
PASSES = ("inference", "gradient")


@dataclasses.dataclass(frozen=True)
class Study:
    """Settings: the published sizes, and a quarter of an hour of training on two CPU cores."""

    widths: tuple[int, ...] = (8, 16, 24, 32, 48, 64, 80, 96)  # of each hidden layer of the R2DN
    layers: int = 6
    features: int = 16
    neurons: tuple[int, ...] = (20, 30, 40, 60, 80, 100, 128, 200)  # of the REN
    seeds: int = 2
    steps: int = 16_000
    batch: int = 128
    learning_rate: float = 1e-2
    sequences: int = 64
    horizon: int = 128
    repeats: int = 21

    def sizes(self) -> list[tuple[str, int]]:
        """Return all kinds with their sizes."""
        return [("R2DN", width) for width in self.widths] + [("REN", count) for count in self.neurons]

    def model(self, kind: str, size: int, key: PRNGKeyArray) -> nn.R2DN | nn.REN:
        """Return a fresh model."""
        if kind == "REN":
            return nn.ContractingREN(nu=1, nx=1, nv=size, ny=1, activation=jnp.tanh, key=key)
        return nn.ContractingR2DN(nu=1, nx=1, nv=self.features, ny=1, hidden=(size,) * self.layers, key=key)

    def optimizer(self) -> optax.GradientTransformation:
        """Return Adam with a rate that rises over a tenth of the steps and falls along half a cosine, and a clipped gradient.

        At full rate from the start, units of some networks die within the first steps, and they fit only a straight line.
        """
        rate = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, self.steps // 10, self.steps)
        return optax.chain(optax.clip(10.0), optax.adam(rate))


QUICK = Study(
    widths=(2, 4), layers=2, features=3, neurons=(3, 5), seeds=2, steps=20, batch=32, sequences=2, horizon=8, repeats=2
)  # fmt: skip
"""To check that it runs; the figures are meaningless."""


def differences(study: Study) -> list[str]:
    """Return the differences from the published study."""
    return [
        f"{study.steps} training steps in place of 192000, {study.seeds} seeds in place of 5",
        f"a rate up to {study.learning_rate:g}, with a warm-up and half a cosine; there 1e-3, a tenth of it after each third",
        f"{study.batch} new points at every step; there 512 points are used for 128 steps before the next are drawn",
        "times are medians, once a size; there means, of every trained model",
        "the machine is that named here; there it was a GPU",
    ]


def curve(x: Float[Array, "..."], u: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the next state of the system to fit; it contracts."""
    s = x + u
    waves = 0.2 * jnp.sin(x) + 0.05 * jnp.cos(2 * s) + 0.05 * jnp.sin(3 * s)
    return waves + 0.075 * jnp.sin(4 * s) * jnp.arctan(0.1 * s**2) + 0.05 * x + u


def draw(key: PRNGKeyArray, count: int) -> tuple[Float[Array, "n 1"], Float[Array, "n 1"]]:
    """Return states, uniform in [-30, 30], and inputs, uniform in [-1, 1]."""
    x_key, u_key = jr.split(key)
    return jr.uniform(x_key, (count, 1), minval=-30, maxval=30), jr.uniform(
        u_key, (count, 1), minval=-1, maxval=1
    )


def one_step_loss(
    model: Parameterization, x: Float[Array, "n 1"], u: Float[Array, "n 1"]
) -> Float[Array, ""]:
    """Return the mean squared error of the next state."""
    prepared = model.explicit().prepare()
    return jnp.mean((jax.vmap(lambda x, u: prepared.step(x, u)[0])(x, u) - curve(x, u)) ** 2)


def train(study: Study, model: Parameterization, key: PRNGKeyArray) -> Parameterization:
    """Return the model after all steps of Adam, each on new points."""
    step = cases.training_step(one_step_loss, study.optimizer())

    def body(carry, key):
        return step(*carry, *draw(key, study.batch))[:2], None

    start = model, study.optimizer().init(cases.free(model))  # pyright: ignore
    return lax.scan(body, start, jr.split(key, study.steps))[0][0]


def nrmse(model: Parameterization) -> Float[Array, ""]:
    """Return the error on 2,048 test points with u = 1, relative to the fitted function."""
    x, _ = draw(jr.key(42), 2048)
    u = jnp.ones_like(x)
    return jnp.sqrt(one_step_loss(model, x, u) / jnp.mean(curve(x, u) ** 2))


def errors(study: Study, kind: str, size: int) -> dict[str, Any]:
    """Train one size from every seed; return its parameters (without the output map), test errors and seconds."""
    begin = time.perf_counter()
    models = [study.model(kind, size, jr.key(seed)) for seed in range(study.seeds)]
    keys = [jr.key(1000 + seed) for seed in range(study.seeds)]
    run = jax.jit(lambda model, key: nrmse(train(study, model, key))).lower(models[0], keys[0]).compile()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # steps are too small to keep more than one core busy
        found = [float(error) for error in pool.map(run, models, keys)]
    core = models[0].core
    output = sum(a.size for a in (core.C2, core.D21, core.D22, core.by))
    seconds = round(time.perf_counter() - begin, 1)
    return {
        "parameters": cases.parameters(models[0]) - output,
        "test_nrmse": found,
        "training_seconds": seconds,
    }


def times(study: Study) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the times of every size in ms, from free arrays to states or to gradients, interleaved."""
    x_key, u_key = jr.split(jr.key(0))
    x0 = jr.normal(x_key, (study.sequences, 1))
    us = jr.normal(u_key, (study.sequences, study.horizon, 1))
    models = {size: study.model(*size, jr.key(0)) for size in study.sizes()}
    found: dict[tuple[str, int], dict[str, Any]] = {size: {} for size in models}
    for name, fn in zip(PASSES, (_states, eqx.filter_grad(_mean_square)), strict=True):
        made = {str(size): compiled(fn, model, x0, us) for size, model in models.items()}
        taken = interleaved({size: call for size, (call, _, _) in made.items()}, study.repeats)
        for size, row in found.items():
            row[f"{name}_ms"] = taken[str(size)]["ms"]
            row[f"{name}_compile_seconds"] = round(made[str(size)][1], 2)
    return found


def _states(model: Parameterization, x0: Array, us: Array) -> tuple[Array, Array]:
    system = model.explicit()
    runs = jax.vmap(lambda x, u: rollout(system, u, x))(x0, us)
    return runs.xs, runs.x_final


def _mean_square(model: Parameterization, x0: Array, us: Array) -> Array:
    xs, x_final = _states(model, x0, us)
    return jnp.mean(xs**2) + jnp.mean(x_final**2)


def slope(expressivity: np.ndarray, ms: np.ndarray) -> dict[str, float]:
    """Return the least-squares slope of `log ms` against `log expressivity` and its standard error."""
    x, y = np.log(expressivity), np.log(ms)
    line = np.polyfit(x, y, 1)
    rest, spread = np.sum((y - np.polyval(line, x)) ** 2), np.sum((x - x.mean()) ** 2)
    error = float(np.sqrt(rest / spread / (len(x) - 2)))
    return {"slope": round(float(line[0]), 4), "error": round(error, 4), "at_one": float(np.exp(line[1]))}
