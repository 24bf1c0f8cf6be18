"""Certify the loop of an identified tank model, a PI controller and a trained policy, and search for what could destabilize it.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.certify_loop --out results/certify_loop.json

The process exits with 1 where a simulated model error within the largest proven gain destabilizes the loop.
"""

import argparse
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import control as ct
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

import robustctl as rc
from robustctl.plants import Exogenous
from robustctl.problems import two_tanks
from robustctl.runs.provenance import provenance
from robustctl.scenario import Episode, Scenario
from robustctl.store.json_text import write_json

DT, KP, TI = 2.0, 0.1, 100.0
PAIRS = [("d", "y"), ("d", "u"), ("n", "u"), ("r", "e")]


class Tracking(Scenario):
    """Follow levels drawn at random with a policy that adds to a PI controller, on an identified model."""

    plant: rc.loops.ModelPlant
    pi: rc.System

    def draw(self, key, samples):
        """Draw a level every 50 samples."""
        r = jnp.repeat(jr.uniform(key, (-(-samples // 50), 1), minval=3.0, maxval=8.0), 50, axis=0)[:samples]
        nothing = jnp.zeros((samples, 0))
        return Episode(None, None, Exogenous(nothing, r, nothing, jnp.zeros(samples)))

    def loop(self, policy, plant=None):
        """Close the loop."""
        return closed(self.plant, self.pi, policy)

    def initial(self, loop, x0):
        """Return the loop's initial state."""
        return loop.init_state()

    def cost(self, output, w):
        """Return the squared error and a tenth of the squared deviation of the control."""
        return jnp.sum((output.y[0] - w.r[0]) ** 2) + 0.1 * jnp.sum((output.u - 2.75) ** 2)

    def disturbance(self, w):
        """Return the disturbance, of which there is none."""
        return w.d

    def disturbed(self, w, d):
        """Return `w` with a disturbance added."""
        return w._replace(d=w.d + d)


def closed(plant, pi, policy):
    """Return the loop of a plant with the sum of a PI controller and a policy."""
    return rc.loops.feedback(plant, rc.loops.Parallel(pi, policy), plant.undisturbed(1))


def trained(seed: int, epochs: int):
    """Identify the tanks, train a policy, and return the loop with both."""
    model_key, fit_key, policy_key, train_key = jr.split(jr.key(seed), 4)
    model = rc.nn.LipschitzR2DN(
        nu=1, nx=4, nv=8, ny=1, hidden=(16,), gamma=10.0, init=rc.nn.long_memory, key=model_key
    )
    fitted = rc.fit(model, two_tanks(600, seed=seed), epochs=epochs, monitor=None, key=fit_key)
    plant = rc.loops.ModelPlant(in_float64(fitted.model.explicit()), u0=[2.75])
    pi = rc.classical.PID(KP, KP / TI, dt=DT, y0=5.0, u0=2.75)
    q = rc.nn.LipschitzR2DN(nu=2, nx=1, nv=4, ny=1, hidden=(16,), gamma=1.0, key=policy_key)
    q = rc.nn.quiet(rc.Rescaled(q, u_scale=(1.5, 1.5), y_scale=(0.3,)))
    learned = rc.fit_policy(
        q, Tracking(plant, pi), horizon=150, batch=4, epochs=epochs // 2, monitor=None, key=train_key
    )
    policy = in_float64(learned.policy.explicit())
    cost = learned.history["validation"]
    return closed(plant, pi, policy), plant, policy, [float(cost[0]), float(np.min(cost))]


def in_float64(system):
    """Return a system with its arrays in float64, which represents them exactly."""
    return jax.tree.map(
        lambda a: a.astype(float) if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jnp.inexact) else a,
        system,
    )


def draw_error(key):
    """Draw a model error of gain 1: `cos(pace t + start) all-pass(sin(bend q) / bend)`."""
    keys = jr.split(key, 5)
    radius = 1 - 10 ** jr.uniform(keys[0], minval=-3.0, maxval=-0.05)
    angle = jnp.pi * 10 ** jr.uniform(keys[1], minval=-3.0, maxval=0.0)
    bend = 10 ** jr.uniform(keys[2], minval=-3.0, maxval=1.0)
    pace = jnp.where(jr.bernoulli(keys[3]), 0.0, jnp.pi * 10 ** jr.uniform(keys[4], minval=-3.0, maxval=0.0))
    start = jnp.pi * jnp.round(jr.uniform(keys[4]))
    return jnp.stack([-2 * radius * jnp.cos(angle), radius**2, bend, pace, start])


def apply_error(error, x, q, t):
    """Return the next state and the output of a drawn error: the all-pass has the numerator of its denominator reversed."""
    a1, a2, bend, pace, start = error
    v = jnp.sin(bend * q) / bend
    s = v - a1 * x[0] - a2 * x[1]
    return jnp.stack([s, x[0]]), jnp.cos(pace * t + start) * (a2 * s + a1 * x[0] + x[1])


@eqx.filter_jit
def growth(loop, errors, samples: int):
    """Return for each error how much the distance of two trajectories grows from the middle to the end of a simulation."""

    def one(error, gain, key):
        start = ravel_pytree(loop.init_state())
        x0 = start[0] + 0.3 * jr.normal(key, (2, *start[0].shape))

        def body(carry, t):
            x, own, p = carry

            def step(x, own, p):
                w = loop.plant.undisturbed(1)._replace(noise=jnp.atleast_1d(p), r=jnp.array([5.0]))
                after, out = loop.step(start[1](x), w)
                own, p = apply_error(error, own, out.u[0], t)
                return ravel_pytree(after)[0], own, gain * p

            after = jax.vmap(step)(x, own, p)
            return after, jnp.linalg.norm(
                jnp.concatenate([after[0][1] - after[0][0], after[1][1] - after[1][0]])
            )

        first = x0, jnp.zeros((2, 2)), jnp.zeros(2)
        _, distance = lax.scan(body, first, jnp.arange(samples))
        fifth = samples // 5
        return jnp.max(distance[-fifth:]) / jnp.max(distance[samples // 2 - fifth : samples // 2])

    return jax.vmap(one)(*errors)


def search(loop, gain: float, count: int, samples: int, seed: int) -> dict:
    """Simulate the loop with `count` drawn errors of a gain, and count those with which distances grow."""
    keys = jr.split(jr.key(seed), count)
    errors = jax.vmap(draw_error)(keys)
    ratios = []
    for k in range(0, count, 500):
        part = slice(k, k + 500)
        drawn = errors[part], jnp.full(len(keys[part]), gain), keys[part]
        ratios.append(np.asarray(growth(loop, drawn, samples)))
    ratios = np.concatenate(ratios)
    return {
        "gain": gain, "errors": count, "samples": samples, "unstable": int(np.sum(~(ratios < 1))),
        "largest_growth": float(np.max(np.where(np.isfinite(ratios), ratios, np.inf))),
    }  # fmt: skip


@eqx.filter_jit
def settled(loop, w):
    """Return the loop's state after 5,000 samples."""
    flat, restore = ravel_pytree(loop.init_state())
    return lax.fori_loop(0, 5000, lambda _, x: ravel_pytree(loop.step(restore(x), w)[0])[0], flat)


def linear_limit(loop) -> float:
    """Return the smallest gain of a model error that destabilizes the loop's linearization at one of its equilibria."""
    norms = []
    for level in (3.5, 5.0, 6.5, 8.0):
        w = loop.plant.undisturbed(1)._replace(noise=jnp.zeros(1), r=jnp.array([level]))
        restore = ravel_pytree(loop.init_state())[1]
        x = settled(loop, w)

        def moved(x, p, w=w, restore=restore):
            after, out = loop.step(restore(x), w._replace(noise=p))
            return ravel_pytree(after)[0], out.u

        (A, B), (C, D) = jax.jacobian(moved, (0, 1))(x, jnp.zeros(1))
        norms.append(rc.classical.hinf_norm(ct.ss(*(np.asarray(M) for M in (A, B, C, D)), DT)))
    return 1 / max(norms)


def table(loop, errors: list[float]) -> list[dict]:
    """Return the gains that are proven for errors of each gain, with the seconds that it takes."""
    rows = []
    for gain in errors:
        begin = time.perf_counter()
        found = rc.certify(loop, gains=PAIRS, error=rc.certificates.ModelError(gain))
        gains = {f"{a} to {b}": found.gains.get((a, b)) for a, b in PAIRS}
        rows.append({"error": gain, **gains, "seconds": time.perf_counter() - begin})
    return rows


def main() -> int:
    """Train, prove, search and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--count", type=int, default=10_000, help="simulated model errors")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    loop, plant, policy, cost = trained(given.seed, given.epochs)
    parts = {name: rc.certify(part).gamma for name, part in (("plant", plant.model), ("policy", policy))}
    nominal = rc.certify(loop, gains=PAIRS)
    print(nominal)
    largest = {
        at: rc.certificates.largest_error(loop, at, weight)
        for at, weight in (("output", None), ("input", None))
    }
    delay = rc.certificates.largest_error(loop, "input", rc.certificates.delay_error(1).weight)
    edge = largest["output"].gain
    form = loop.lft()
    results = {
        **provenance(given.seed),
        "states": form.nx, "neurons": 32, "cost_before_and_after": cost,
        "small_gain": {**parts, "product": parts["plant"] * parts["policy"], "pi": None},
        "holds": nominal.holds, "rate": nominal.rate,
        "table": table(loop, [round(edge * part, 4) for part in (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.05)]),
        "largest_error_at_output": edge, "largest_error_at_input": largest["input"].gain,
        "largest_delay_in_samples": delay.gain, "linear_limit_at_output": linear_limit(loop),
        "search": search(loop, edge, given.count, 1500, given.seed),
        "search_at_three_times": search(loop, 3 * edge, given.count // 10, 1500, given.seed),
    }  # fmt: skip
    for found in (*largest.values(), delay):
        rc.certificates.recheck(found.certificate, loop)
    write_json(given.out, results)
    print(results)
    return 1 if results["search"]["unstable"] else 0


if __name__ == "__main__":
    sys.exit(main())
