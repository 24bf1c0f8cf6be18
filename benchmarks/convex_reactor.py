"""Compare convex model-predictive control of a stirred tank reactor with nonlinear MPC on the plant and with plans over an R2DN.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.convex_reactor --out results/convex_reactor.json

The reactor starts extinguished and is to burn what is fed, with its temperature below a limit: the cost is that of the concentration
above the operating point's, and of the coolant's distance from it. The feed changes unmeasured. The input-convex network and the R2DN
have about as many weights, are trained on the same record for as many epochs, and correct their outputs by the same bias; the R2DN's plan
is improved by steps of projected Adam that take about as long. Nonlinear MPC has the plant's equations and the state, and a cost of both
signs of the error. Times are of the CPU, one step after the other.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

DT, HORIZON, SAMPLES, EPISODES = 3.0, 20, 120, 10
LOW, HIGH, LIMIT = 320.0, 356.0, 357.0
"""Coolant and highest reactor temperature, K."""
WEIGHT, MOVE = 100.0, 1 / 400
"""Of the concentration's excess, (mol/L)^-2, and of the coolant's distance from its operating point, K^-2, squared."""
STARTS = 20
"""Plans from which the same problem is solved."""


def plant() -> rc.plants.Sampled:
    """Return the sampled reactor, with one stable equilibrium at every coolant temperature."""
    return rc.plants.Sampled(
        rc.plants.StirredTankReactor(heat_transfer=jnp.asarray(8e5), setpoint=jnp.asarray(354.0)),
        DT,
        substeps=10,
    )


def record(samples: int, seed: int) -> rc.data.Record:
    """Return a record of random steps of the coolant, with noise of 0.005 mol/L and 0.2 K."""
    rng, sampled = np.random.default_rng(seed), plant()
    us = np.repeat(rng.uniform(LOW, HIGH, samples), rng.integers(2, 25, samples))[:samples, None]
    ys = eqx.filter_jit(lambda u: run_plant(sampled, u))(jnp.asarray(us))
    noise = rng.normal(size=(samples, 2)) * [0.005, 0.2]
    names: dict[str, Any] = {"inputs": ["coolant"], "outputs": ["concentration", "temperature"]}
    return rc.data.from_arrays(us, np.asarray(ys) + noise, DT, **names)


def run_plant(sampled: rc.plants.Sampled, us: jax.Array) -> jax.Array:
    """Return the outputs of the plant without disturbances."""
    w = sampled.undisturbed()

    def body(x, u):
        return sampled.advance(x, u, w), sampled.output(x, w)

    return jax.lax.scan(body, sampled.init_state(), us)[1]


def trained(model: rc.Parameterization, epochs: int) -> Any:
    """Return the model fitted to the record, cut into experiments of 300 samples."""
    windows = rc.data.windows(record(6000, 0), 300, 300)
    problem = rc.train.Identification(windows, initial=rc.train.warm_up(10), batch_size=10)
    adam = rc.train.clipped_adam(1e-2)
    return rc.train.train(problem, model, optimizer=adam, epochs=epochs, monitor=None, key=jr.key(1)).model


class Shooting(NamedTuple):
    """Plans over any model by projected Adam from the shifted plan: what `ConvexMPC` does, without convexity.

    **Arguments:**

    - `convex`: the convex controller, for limits and cost in the same scaled signals.
    - `system`: the model between scaled signals.
    - `start`: its state at the start of an episode.
    - `steps`: of Adam a sample.
    """

    convex: rc.classical.ConvexMPC
    system: Any
    start: jax.Array
    steps: int

    def init_state(self) -> tuple[jax.Array, jax.Array]:
        """Return state and plan, in the middle of the limits."""
        return self.start, jnp.full((HORIZON, 1), 0.5)

    def cost(self, x: jax.Array, bias: jax.Array, v: jax.Array) -> jax.Array:
        """Return the cost of a plan as fractions of the way between the limits."""
        us = self.scaled(v)
        _, ys, x_final = self.system.scan(x, us)
        # An output is of the state before its sample: that of the last plan is read after it.
        end = self.system.step(x_final, us[-1])[1]
        return self.convex.cost.of(jnp.concatenate([ys[1:], end[None]]) + bias[None], us)

    def scaled(self, v: jax.Array) -> jax.Array:
        """Return controls between scaled signals."""
        c = self.convex
        return (c.u_low[None] + v * (c.u_high - c.u_low)[None] - c.u_mean[None]) / c.u_std[None]

    def plan(self, x: jax.Array, bias: jax.Array, v: jax.Array) -> jax.Array:
        """Return the best of all points that Adam visits."""

        def body(k, at):
            v, m, s, best, least = at
            value, slope = jax.value_and_grad(lambda w: self.cost(x, bias, w))(v)
            best, least = jnp.where(value < least, v, best), jnp.minimum(value, least)
            m, s = 0.9 * m + 0.1 * slope, 0.99 * s + 0.01 * slope**2
            step = 0.05 * (m / (1 - 0.9 ** (k + 1.0))) / (jnp.sqrt(s / (1 - 0.99 ** (k + 1.0))) + 1e-12)
            return jnp.clip(v - step, 0.0, 1.0), m, s, best, least

        first = v, jnp.zeros_like(v), jnp.zeros_like(v), v, jnp.asarray(jnp.inf)
        return jax.lax.fori_loop(0, self.steps, body, first)[3]

    def step(self, at: tuple[jax.Array, jax.Array], y: jax.Array) -> tuple[Any, jax.Array]:
        """Return `(state and plan, control)`."""
        c, (x, v) = self.convex, at
        measured = (y - c.y_mean) / c.y_std
        # D of the model is small but not zero: its prediction of this sample is that under the plan's control.
        bias = measured - self.system.step(x, self.scaled(v)[0])[1]
        v = self.plan(x, bias, v)
        x_next, _ = self.system.step(x, self.scaled(v)[0])
        return (x_next, jnp.concatenate([v[1:], v[-1:]])), c.u_low + v[0] * (c.u_high - c.u_low)


def controllers(epochs: int, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return controllers by name, and the scores of the models on a test record."""
    common: dict[str, Any] = dict(nu=1, ny=2, gamma=20.0, key=jr.key(0))
    models = {
        "input-convex": rc.nn.InputConvexRNN(
            nx=12, directions=(0,), direct=False, memory=(2.0, 20.0), **common
        ),
        "R2DN": rc.nn.LipschitzR2DN(nx=4, nv=4, hidden=(6,), init=rc.nn.long_memory, **common),
    }
    test, fitted, scores = record(2000, 9), {}, {}
    for name, model in models.items():
        begin = time.process_time()
        fitted[name] = trained(model, epochs)
        found = rc.simulate(fitted[name], test).scores()
        scores[name] = {
            "weights": sum(a.size for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))),
            "nrmse": [float(v) for v in found.nrmse], "training_cpu_s": round(time.process_time() - begin, 1),
        }  # fmt: skip
        print(name, scores[name], flush=True)
    linear = rc.identify.subspace(record(6000, 0)).model
    scores["linear"] = {"nrmse": [float(v) for v in rc.simulate(linear, test).scores().nrmse]}
    x_e, u_e = plant().plant.operating_point()
    cost = rc.classical.ConvexCost(
        y_weight=[WEIGHT, 0.0], y_from=np.asarray(x_e), u_weight=MOVE, u_to=np.asarray(u_e)
    )
    convex = rc.classical.convex_mpc(
        fitted["input-convex"], cost, u_low=LOW, u_high=HIGH, y_high=[np.inf, LIMIT], horizon=HORIZON
    )
    nonlinear = rc.classical.nonlinear_mpc(
        plant(), [WEIGHT, 0.0], MOVE, horizon=HORIZON, u_low=LOW, u_high=HIGH, x_low=[-np.inf, -np.inf],
        x_high=[np.inf, LIMIT], penalty=10.0,
    ).controller  # fmt: skip
    inner = fitted["R2DN"].parameterization.explicit()
    shooting = Shooting(convex, inner, extinguished(convex, inner), steps)
    convex = eqx.tree_at(lambda c: c.start, convex, extinguished(convex, convex.model))
    made = {
        "convex MPC": convex,
        "nonlinear MPC on the plant": nonlinear,
        "gradient plans over an R2DN": shooting,
    }
    return made, scores


def extinguished(convex: rc.classical.ConvexMPC, system: Any) -> jax.Array:
    """Return the state of a model between scaled signals at the equilibrium of the lowest coolant temperature, where episodes begin."""
    cold = (convex.u_low - convex.u_mean) / convex.u_std
    return jax.lax.fori_loop(0, 2000, lambda _, x: system.step(x, cold)[0], system.init_state())


def episode(controller: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return states and controls of one episode: extinguished at the start, with steps of the feed."""
    sampled = plant()
    start_key, feed_key = jr.split(key)
    x0 = jnp.asarray([0.93, 320.0]) + jr.uniform(start_key, (2,), minval=-1.0, maxval=1.0) * jnp.asarray(
        [0.03, 3.0]
    )
    feed = jnp.repeat(
        jr.uniform(feed_key, (4, 2), minval=-1.0, maxval=1.0), SAMPLES // 4, axis=0
    ) * jnp.asarray([0.03, 3.0])
    first = sampled.init_state()._replace(x=x0)

    def body(at, d):
        x, c = at
        w = sampled.undisturbed()._replace(d=d)
        c, u = controller.step(c, x.x)
        return (sampled.advance(x, u, w), c), (x.x, u)

    return jax.lax.scan(body, (first, controller.init_state()), feed)[1]


def scores_of(xs: np.ndarray, us: np.ndarray) -> dict[str, float]:
    """Return cost, violations and the rest of all episodes (E, T, 2) and (E, T, 1)."""
    x_e, u_e = map(np.asarray, plant().plant.operating_point())
    over = np.maximum(xs[..., 1] - LIMIT, 0)
    cost = WEIGHT * np.maximum(xs[..., 0] - x_e[0], 0) ** 2 + MOVE * (us[..., 0] - u_e[0]) ** 2
    return {
        "cost": float(cost.sum(axis=1).mean()), "largest_excess_K": float(over.max()),
        "mean_excess_K": float(over.mean()),
    }  # fmt: skip


def step_ms(controller: Any) -> float:
    """Return the median time of a step, milliseconds of the CPU."""
    call = eqx.filter_jit(lambda c, at, y: c.step(at, y))
    at, y, found = controller.init_state(), jnp.asarray([0.9, 325.0]), []
    for _ in range(60):
        begin = time.process_time()
        at, _ = jax.block_until_ready(call(controller, at, y))
        found.append(1e3 * (time.process_time() - begin))
        y = y + 0.02 * (jnp.asarray([0.45, 353.0]) - y)
    return float(np.median(found[10:]))


def spread(controller: Any) -> float | None:
    """Return how far the costs of plans from random starts are apart, over the least, extinguished; None for a plan from one start."""
    if not hasattr(controller, "plan"):
        return None
    value, x = (
        controller.cost if isinstance(controller, Shooting) else controller.predicted_cost,
        controller.start,
    )

    def cost(start: jax.Array) -> jax.Array:
        return value(x, jnp.zeros(2), controller.plan(x, jnp.zeros(2), start))

    costs = np.asarray(eqx.filter_jit(jax.vmap(cost))(jr.uniform(jr.key(5), (STARTS, HORIZON, 1))))
    return float((costs.max() - costs.min()) / costs.min())


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare controllers of a reactor.")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    made, models = controllers(given.epochs, given.steps)
    rows = []
    for name, controller in made.items():
        xs, us = eqx.filter_jit(lambda keys, c=controller: jax.vmap(lambda k: episode(c, k))(keys))(
            jr.split(jr.key(3), EPISODES)
        )
        found = scores_of(np.asarray(xs), np.asarray(us))
        rows.append(
            {"controller": name, **found, "step_ms": step_ms(controller), "spread": spread(controller)}
        )
        print(rows[-1], flush=True)
    settings = {"epochs": given.epochs, "adam_steps": given.steps, "episodes": EPISODES, "samples": SAMPLES}
    write_json(given.out, {**provenance(0), **settings, "models": models, "rows": rows})


if __name__ == "__main__":
    main()
