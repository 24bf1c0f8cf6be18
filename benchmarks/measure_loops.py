"""Measure the cost of loops: stepping through Diffrax, and an epoch of benchmark problem 3.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.measure_loops --out results/loops.json

Only ratios, in one process, interleaved, medians, without compilation.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array

import robustctl as rc
from robustctl.loops import Gain
from robustctl.plants import Plant, Sampled, Signal, parameter, undisturbed
from robustctl.problems import youla_feedback as youla
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.train import PolicyGradient
from robustctl.train.engine import one_epoch, start
from robustctl.train.training import prepare

from .speed.timing import interleaved


class Pendulum(Plant):
    """A damped pendulum on a cart: four states, some trigonometry."""

    states: ClassVar = (
        Signal("position", "m"),
        Signal("angle", "rad"),
        Signal("v", "m/s"),
        Signal("w", "rad/s"),
    )
    controls: ClassVar = (Signal("force", "N"),)
    disturbances: ClassVar = (Signal("push", "N"),)
    outputs: ClassVar = (Signal("position", "m"), Signal("angle", "rad"))
    mass: Array = parameter(0.2, "kg")
    length: Array = parameter(0.4, "m")

    def rates(self, x, u, d):
        """Return dx/dt."""
        sin, cos = jnp.sin(x[1]), jnp.cos(x[1])
        a = (u[0] + d[0] + self.mass * sin * (self.length * x[3] ** 2 + 9.81 * cos)) / (
            1 + self.mass * sin**2
        )
        return jnp.stack([x[2], x[3], a - 0.1 * x[2], -(a * cos + 9.81 * sin) / self.length - 0.05 * x[3]])


def hand_written(plant: Plant, dt: float, K: Array, x0: Array, ds: Array) -> Array:
    """Return the cost of a loop of a gain and a plant, by a hand-written RK4 in a scan that stores the trajectory."""

    def body(x, d):
        y = plant.output(x)
        u = K @ y
        k1 = plant.rates(x, u, d)
        k2 = plant.rates(x + dt / 2 * k1, u, d)
        k3 = plant.rates(x + dt / 2 * k2, u, d)
        k4 = plant.rates(x + dt * k3, u, d)
        return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), (x, y, u)

    xs, _, us = lax.scan(body, x0, ds)[1]
    return jnp.mean(jnp.sum(xs**2, axis=1) + jnp.sum(us**2, axis=1))


def through_diffrax(sampled: Sampled, K: Array, x0: Array, ds: Array) -> Array:
    """Return the cost of the same loop, made of the toolbox's parts."""
    zero = jnp.zeros(K.shape[0], K.dtype)
    loop = rc.loops.Feedback(sampled, Gain(K, jnp.zeros(K.shape[1], K.dtype), zero))
    ws = undisturbed(sampled, ds.shape[0])._replace(d=ds)
    run = rc.rollout(loop, ws, (sampled.state_at(x0), ()))
    return jnp.mean(jnp.sum(run.ys.x.x**2, axis=1) + jnp.sum(run.ys.u**2, axis=1))


def compared(a: Callable, b: Callable, repeats: int) -> dict:
    """Time two compiled calls, interleaved; return median milliseconds and the median of the ratios b / a."""
    found = interleaved({"b": b, "a": a}, repeats)
    return {"a_ms": found["a"]["ms"], "b_ms": found["b"]["ms"], "ratio": found["a"]["ratio"]}


def stepping(batch: int, samples: int, repeats: int) -> dict:
    """Compare stepping through Diffrax (b) with the hand-written version (a), forward and gradient in the gain."""
    plant = Pendulum()
    sampled = Sampled(plant, 0.02)
    K = jnp.array([[-0.5, 0.3]])
    x0 = 0.3 * jr.normal(jr.key(0), (batch, 4))
    ds = 0.1 * jr.normal(jr.key(1), (batch, samples, 1))
    versions = {
        "hand": lambda K, x0, ds: hand_written(plant, 0.02, K, x0, ds),
        "diffrax": lambda K, x0, ds: through_diffrax(sampled, K, x0, ds),
    }
    forward, gradient = {}, {}
    for name, loop in versions.items():

        def mean(K, x0, ds, loop=loop):
            return jnp.mean(jax.vmap(lambda x, d: loop(K, x, d))(x0, ds))

        forward[name], gradient[name] = jax.jit(mean), jax.jit(jax.value_and_grad(mean))
    difference = float(jnp.abs(forward["hand"](K, x0, ds) - forward["diffrax"](K, x0, ds)))
    return {
        "batch": batch,
        "difference_of_cost": difference,
        **{
            kind: compared(lambda: fns["hand"](K, x0, ds), lambda: fns["diffrax"](K, x0, ds), repeats)  # noqa: B023
            for kind, fns in (("forward", forward), ("gradient", gradient))
        },
    }


class Unprepared(rc.System):
    """A system without `prepare`: every term of its step is one product."""

    system: rc.System

    def init_state(self):
        """Return the inner initial state."""
        return self.system.init_state()

    def step(self, x, u):
        """Return the inner step."""
        return self.system.step(x, u)


class Plain(rc.Parameterization):
    """A parameterization whose explicit system is not prepared for speed."""

    inner: rc.Parameterization

    def explicit(self):
        """Map to the unprepared system."""
        return Unprepared(self.inner.explicit())


def epoch(repeats: int) -> dict:
    """Compare an epoch of problem 3 (4 segments, batch 64, published size): plain (b) with ours (a)."""
    protocol, scenario = youla.YoulaProtocol(), youla.YoulaScenario()
    ours = youla.model(protocol, jr.key(0))
    calls, costs = [], []
    for model in (ours, Plain(ours)):
        problem = PolicyGradient(
            scenario, horizon=protocol.horizon, segment=protocol.segment, batch=protocol.batch,
            test=scenario.published_test(),
        )  # fmt: skip
        free, _, training = prepare(problem, model, 1, protocol.optimizer(), None, jr.key(1))
        run = eqx.filter_jit(lambda training, state: one_epoch(training, state)[1].loss)
        state = start(training, free)
        costs.append(float(run(training, state)))
        calls.append(lambda run=run, training=training, state=state: run(training, state))
    return {"training_costs": costs, **compared(calls[0], calls[1], repeats)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    samples, repeats = (20, 2) if given.quick else (200, 41)
    results = {
        **provenance(0),
        "stepping_diffrax_over_hand_written": [stepping(batch, samples, repeats) for batch in (64, 1024)],
    }
    if not given.quick:
        print(json.dumps(results, indent=2))
        results["problem_3_epoch_plain_over_ours"] = epoch(9)
    print(json.dumps(results, indent=2))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
