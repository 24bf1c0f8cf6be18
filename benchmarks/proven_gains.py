"""Measure how tight proven gains are: linear systems and trained models; write the figures.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.proven_gains --out results/proven_gains.json

The process exits with 1 where a proven gain is below an exact one or below a lower bound.
"""

import argparse
import sys
import time
from pathlib import Path

import control as ct
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import robustctl as rc
from robustctl.certificates.prove import least_gain
from robustctl.identify.recipe import identify
from robustctl.lft import linear
from robustctl.problems import two_tanks
from robustctl.recipe import Recipe
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

NORM_ROUNDING = 1e-7
"""Relative accuracy of `hinf_norm`."""

ONCE = {"init": "memory", "seeds": 1, "validation": 0.0, "epochs": 600}
MODELS = {
    "two tanks, Lipschitz nx 4 nv 8 (16)": Recipe(
        model="lipschitz", gamma=10.0, nx=4, nv=8, hidden=(16,), **ONCE
    ),
    "two tanks, Lipschitz nx 8 nv 16 (32, 32)": Recipe(
        model="lipschitz", gamma=10.0, nx=8, nv=16, hidden=(32, 32), **ONCE
    ),
    "two tanks, contracting nx 8 nv 16 (32, 32)": Recipe(
        model="contracting", nx=8, nv=16, hidden=(32, 32), **ONCE
    ),
}


def random_linear(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return a stable system with damping down to 1e-3 and states, inputs and outputs in units from 1e-3 to 1e3."""
    nx, nu, ny = (int(n) for n in rng.integers(1, (7, 3, 3)))
    A, k = np.zeros((nx, nx)), 0
    while k < nx:
        radius, pair = 1 - 10 ** rng.uniform(-3, -0.3), k + 1 < nx and rng.random() < 0.7
        angle = rng.uniform(0, np.pi)
        if pair:
            rotation = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
            A[k : k + 2, k : k + 2] = radius * np.array(rotation)
        else:
            A[k, k] = radius * rng.choice([-1, 1])
        k += 2 if pair else 1
    T = 10 ** rng.uniform(-3, 3, (nx, 1)) * rng.normal(size=(nx, nx))
    u, y = 10 ** rng.uniform(-3, 3, nu), 10 ** rng.uniform(-3, 3, (ny, 1))
    B, C, D = (rng.normal(size=shape) for shape in ((nx, nu), (ny, nx), (ny, nu)))
    return T @ A @ np.linalg.inv(T), T @ B * u, y * (C @ np.linalg.inv(T)), D * (rng.random() < 0.5)


def linear_systems(count: int, seed: int) -> dict:
    """Compare proven gains with H-infinity norms."""
    rng, ratios, seconds = np.random.default_rng(seed), [], []
    for _ in range(count):
        A, B, C, D = random_linear(rng)
        begin = time.perf_counter()
        proof = least_gain(linear(A, B, C, D)).proof
        seconds.append(time.perf_counter() - begin)
        ratios.append(proof.value / rc.classical.hinf_norm(ct.ss(A, B, C, D, 1.0)) if proof else np.inf)
    ratios = np.array(ratios)
    return {
        "systems": count, "within_1_percent": int(np.sum(ratios <= 1.01)),
        "below_the_norm": int(np.sum(ratios < 1 - NORM_ROUNDING)), "median_excess": float(np.median(ratios) - 1),
        "largest_ratio": float(ratios.max()), "median_seconds": float(np.median(seconds)),
    }  # fmt: skip


def at_equilibria(system: rc.System, inputs: np.ndarray) -> float:
    """Return the largest H-infinity norm of linearizations at equilibria: a lower bound of the incremental gain."""
    linearized = jax.jit(lambda x, u: jax.jacfwd(system.step, (0, 1))(x, u))
    settle = jax.jit(
        lambda u: jax.lax.fori_loop(0, 5000, lambda _, x: system.step(x, u)[0], system.init_state())
    )
    found = 0.0
    for value in inputs:
        u = jnp.full(system.nu, value)
        (A, B), (C, D) = linearized(settle(u), u)
        if np.abs(np.linalg.eigvals(A)).max() < 1:
            found = max(found, rc.classical.hinf_norm(ct.ss(*map(np.asarray, (A, B, C, D)), 1.0)))
    return found


def trained(name: str, epochs: int) -> dict:
    """Train one model and compare promised gain, proven gain and a lower bound, in the scaled signals' units."""
    import dataclasses

    record = two_tanks(600, seed=0)
    fitted = identify(record, dataclasses.replace(MODELS[name], epochs=epochs))
    system = fitted.model.parameterization.explicit()
    system = jax.tree.map(
        lambda a: a.astype(float) if isinstance(a, jax.Array) and a.dtype == jnp.float32 else a, system
    )
    begin = time.perf_counter()
    certificate = rc.certify(system)
    lower = at_equilibria(system, np.linspace(-2, 2, 41))
    return {
        "model": name, "epochs": epochs, "holds": certificate.holds, "promised_gamma": certificate.promised_gamma,
        "gamma": certificate.gamma, "lower": lower, "promised_rate": certificate.promised_rate, "rate": certificate.rate,
        "seconds": time.perf_counter() - begin, "unproven": certificate.unproven,
    }  # fmt: skip


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    names = list(MODELS)[:1] if given.quick else list(MODELS)
    results = {
        **provenance(given.seed),
        "linear": linear_systems(20 if given.quick else 200, given.seed),
        "trained": [trained(name, 3 if given.quick else 150) for name in names],
    }
    write_json(given.out, results)
    print(results)
    false = results["linear"]["below_the_norm"] + sum(
        bound["gamma"] is not None and bound["gamma"] < bound["lower"] for bound in results["trained"]
    )
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
