"""Prove regions of loops about nonlinear plants, and try to leave them in simulation.

    python -m benchmarks.regions --out results/regions.json

Starts on the surface of each region, in random directions; half of the rollouts have disturbances of the allowed size with random
signs, half the sign that raises V most in each sample. Starts on larger copies of the region show how much of it is caution: the
smallest copy from which a simulation leaves the box. The process exits with 1 if a rollout leaves its region. Peak bounds of random
linear systems are compared with the exact peak gains.
"""

import argparse
import sys
import time
from pathlib import Path

import equinox as eqx
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import robustctl as rc
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

WITHIN = rc.plants.Imperfections(saturate=True)
COPIES = (1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)


def tanks():
    """Return the two tanks with a PI controller, and a box."""
    plant = rc.plants.TwoTanks()
    x, u = plant.operating_point()
    controller = rc.classical.PID(0.5, 0.01, dt=2.0, y0=float(x[1]), u0=float(u[0]))
    box = {"upper": 3.0, "lower": 3.0, "pump": 2.5, "inflow": 1.0}
    return rc.loops.feedback(rc.plants.Sampled(plant, 2.0, WITHIN), controller), box


def suspension():
    """Return the magnetic suspension with LQG, and a box."""
    sampled = rc.plants.Sampled(rc.plants.MagneticSuspension(), 0.01, WITHIN)
    design = rc.classical.lqg(sampled, [4e4, 0.4, 0.0], [1e-3], [1e-8, 1e-4, 1e-4], [1e-8])
    return rc.loops.feedback(sampled, design.controller), {
        "gap": 2e-3,
        "speed": 0.1,
        "current": 1.5,
        "force": 5e-3,
    }


def pendulum():
    """Return the rotary pendulum with LQG, and a box."""
    sampled = rc.plants.Sampled(rc.plants.RotaryPendulum(), 0.01, WITHIN)
    weights = [4.0, 100.0, 0.0, 0.0], [4e-3], [1e-8, 1e-8, 1e-2, 1e-2], [4e-6, 4e-6]
    box = {"arm": 0.3, "pendulum": 0.05, "arm speed": 2.0, "pendulum speed": 2.0, "torque": 1e-5}
    return rc.loops.feedback(sampled, rc.classical.lqg(sampled, *weights).controller), box


LOOPS = {"two tanks, PI": tanks, "magnetic suspension, LQG": suspension, "rotary pendulum, LQG": pendulum}


@eqx.filter_jit
def rollouts(loop, P, middle, starts, signs, size):
    """Return, for each rollout, the largest V and the largest distance of each plant state from the middle.

    `signs` (B, T, nd): of random disturbances; zero: the sign that raises V most.
    """
    _, restore = ravel_pytree(loop.init_state())
    w, nx = loop.plant.undisturbed(), len(loop.plant.plant.states)

    def after(x, d):
        return ravel_pytree(loop.step(restore(x), w._replace(d=d))[0])[0]

    def V(x):
        return (x - middle) @ P @ (x - middle)

    def one(x, signs):
        def body(carry, sign):
            x, most, far = carry
            steepest = jnp.sign(jax.grad(lambda d: V(after(x, d)))(jnp.zeros_like(sign)))
            x = after(x, size * jnp.where(sign == 0, steepest, sign))
            return (x, jnp.maximum(most, V(x)), jnp.maximum(far, jnp.abs(x - middle)[:nx])), None

        return jax.lax.scan(body, (x, 0.0, jnp.zeros(nx)), signs)[0][1:]

    return jax.vmap(one)(starts, signs)


def tried(loop, region, count: int, samples: int, rng: np.random.Generator, level: float = 1.0):
    """Return the largest V and how far each state was, over rollouts from V = level."""
    sampled = loop.plant
    names = [s.name for s in sampled.plant.disturbances]
    size = jnp.array([region.disturbance.get(name, 0.0) for name in names])
    most, far = 0.0, np.zeros(len(region.states))
    for first in range(0, count, 5000):
        n = min(5000, count - first)
        signs = rng.choice([-1.0, 1.0], (n, samples, len(names))) * (rng.random((n, 1, 1)) < 0.5)
        starts = region.sample(rng, n, level)
        P, middle, starts, signs = (jnp.asarray(a) for a in (region.P, region.middle, starts, signs))
        found = rollouts(loop, P, middle, starts, signs, size)
        most = max(most, float(np.nan_to_num(np.max(found[0]), nan=np.inf)))
        far = np.maximum(far, np.nan_to_num(np.max(found[1], 0), nan=np.inf))
    return most, far


def region_of(name: str, count: int, samples: int, seed: int) -> dict:
    """Return the region of a loop and what simulations did."""
    (loop, box), rng = LOOPS[name](), np.random.default_rng(seed)
    begin = time.perf_counter()
    region = rc.certificates.region(loop, box, seconds=300.0)
    seconds = time.perf_counter() - begin
    print(region, flush=True)
    most, far = tried(loop, region, count, samples, rng)
    half = np.array([region.box[s] for s in region.states])
    leaves = next(
        (c for c in COPIES if np.any(tried(loop, region, min(count, 5000), samples, rng, c**2)[1] > half)),
        None,
    )
    return {
        "loop": name, "box": region.box, "rate": region.rate, "disturbance": region.disturbance, "bounds": region.bounds,
        "starts": region.starts, "seconds": seconds, "rollouts": count, "samples": samples, "largest_V": most,
        "left_the_region": int(most > 1 + 1e-9), "reached": dict(zip(region.states, (far / half).tolist(), strict=True)),
        "smallest_copy_that_leaves_the_box": leaves, "assumptions": list(region.assumptions),
    }  # fmt: skip


def peaks(count: int, seed: int) -> dict:
    """Return how far peak bounds of random linear systems are above the exact peak gains."""
    rng, ratios, begin = np.random.default_rng(seed), [], time.perf_counter()
    for _ in range(count):
        nx, nu = rng.integers(1, 9), rng.integers(1, 3)
        A = rng.normal(size=(nx, nx))
        A *= rng.uniform(0.3, 0.99) / np.abs(np.linalg.eigvals(A)).max()
        B, C, D = (
            rng.normal(size=(nx, nu)),
            rng.normal(size=(1, nx)),
            rng.normal(size=(1, nu)) * rng.integers(2),
        )
        exact, X = np.abs(D).sum(), B
        while np.abs(X).max() > 1e-14:
            exact, X = exact + np.abs(C @ X).sum(), A @ X
        found = rc.certificates.peak_bounds(
            rc.StateSpace(*map(jnp.asarray, (A, B, C, D)), dt=1.0), np.ones(nu)
        )
        ratios.append(found.bounds["y[0]"] / exact)
    return {
        "systems": count, "below_the_exact_peak": int(np.sum(np.array(ratios) < 1)), "median_ratio": float(np.median(ratios)),
        "largest_ratio": float(max(ratios)), "seconds_per_system": (time.perf_counter() - begin) / count,
    }  # fmt: skip


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Prove regions and peak bounds, and try to exceed them.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    names = list(LOOPS)[:1] if given.quick else list(LOOPS)
    count, samples = (50, 20) if given.quick else (given.rollouts, 100)
    results = {
        **provenance(given.seed),
        "peaks": peaks(3 if given.quick else 100, given.seed),
        "regions": [region_of(name, count, samples, given.seed) for name in names],
    }
    write_json(given.out, results)
    print(results)
    false = results["peaks"]["below_the_exact_peak"] + sum(r["left_the_region"] for r in results["regions"])
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
