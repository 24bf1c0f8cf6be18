"""Measure that units change no result: norms and designs of systems in other units, stiff plants, ill-conditioned equations.

    python -m benchmarks.scaled_systems --out results/scaled_systems.json

States, inputs, outputs and time are scaled by up to 1e9 either way. The H-infinity norm is compared with a dense grid and local
maximization, designs with those of the unscaled system, sampled plants with the matrix exponential. The process exits with 1 if a
figure is beyond its bound.
"""

import argparse
import sys
import time
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))
jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize

from robustctl import classical
from robustctl.classical.riccati import riccati
from robustctl.plants import LinearPlant, Sampled
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from tests.scaled_systems import carex, darex, exact_step, generalized, random_plant, rescaled, scales, stable

_SAME = dict.fromkeys(("lqr", "kalman", "place", "hinf"), 1e-6)
BOUNDS = {"norm_below": 0.0, "norm_above": 1e-5, **_SAME, "riccati": 1e-7, "stiff": 1e-9}


def true_norm(system) -> float:
    """Return the largest singular value by a dense grid and local maximization between its points."""
    poles = np.linalg.eigvals(system.A)
    rates = np.abs(np.angle(poles)) if system.dt else np.concatenate([np.abs(poles), np.abs(poles.imag)])
    edge = np.pi if system.dt else 1e3 * rates.max()
    near = np.outer(rates[rates > 0], np.linspace(0.5, 2, 301)).ravel()
    grid = np.unique(np.concatenate([[0.0, edge], np.geomspace(1e-5 * edge, edge, 1500), near[near < edge]]))

    def gain(w):
        z = np.exp(1j * w) if system.dt else 1j * w
        return np.linalg.norm(
            system.C @ np.linalg.solve(z * np.eye(len(system.A)) - system.A, system.B) + system.D, 2
        )

    gains = np.array([gain(w) for w in grid])
    best = gains.max()
    for k in np.argsort(-gains)[:3]:
        ends = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
        found = scipy.optimize.minimize_scalar(
            lambda w: -gain(w), bounds=ends, method="bounded", options={"xatol": 1e-12 * ends[1]}
        )
        best = max(best, -found.fun)
    return best


def norms(rng: np.random.Generator, count: int) -> dict[str, float]:
    """Return by how much the norm was below and above the truth, at worst and relative."""
    below = above = -np.inf
    for _ in range(count):
        dt = float(rng.choice([0.0, 1.0]))
        P = stable(random_plant(rng, dt))
        x, u, y, rate = scales(rng, P.nstates, 1, 1, dt)
        own = rescaled(P, x, np.full(P.ninputs, u[0]), np.full(P.noutputs, y[0]), rate)
        error = classical.hinf_norm(own) * u[0] / y[0] / true_norm(P) - 1
        below, above = max(below, -error), max(above, error)
    return {"norm_below": below, "norm_above": above}


def designs(rng: np.random.Generator, count: int) -> dict[str, float]:
    """Return the largest relative change of each design by a change of units."""
    worst = dict.fromkeys(("lqr", "kalman", "place", "hinf"), 0.0)
    for _ in range(count):
        dt = float(rng.choice([0.0, 1.0]))
        P = random_plant(rng, dt)
        n, m, p = P.nstates, P.ninputs, P.noutputs
        x, u, y, rate = scales(rng, n, m, p, dt)
        w, z = 10 ** rng.uniform(-9, 9, 2)
        own = rescaled(P, x, u, y, rate)
        Q, R, W, V = (np.diag(rng.uniform(0.1, 2, k)) for k in (n, m, n, p))
        poles = rng.uniform(-0.5, 0.5, n) if dt else -rng.uniform(0.5, 3, n)
        whole, nz, nw = generalized(rng, P)
        scaled = rescaled(
            whole, x, np.concatenate([np.full(nw, 1 / w), u]), np.concatenate([np.full(nz, z), y]), rate
        )
        K, L = classical.lqr(P, Q, R).K, classical.kalman(P, W, V).L
        pairs = {
            "lqr": (classical.lqr(own, Q / x / x[:, None], R / u / u[:, None]).K / u[:, None] * x, K),
            "kalman": (classical.kalman(own, W * x * x[:, None] * rate, V * y * y[:, None] / rate).L / x[:, None] * y / rate, L),
            "place": (classical.pole_placement(own, poles * rate).K / u[:, None] * x, classical.pole_placement(P, poles).K),
            "hinf": (np.array(classical.hinf(scaled, p, m).gamma / w / z), np.array(classical.hinf(whole, p, m).gamma)),
        }  # fmt: skip
        for name, (a, b) in pairs.items():
            worst[name] = max(worst[name], float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


def stiff(rng: np.random.Generator, count: int) -> float:
    """Return the largest relative difference of a sampled stiff plant from the matrix exponential."""
    worst = 0.0
    for _ in range(count):
        n = int(rng.integers(1, 7))
        T = scipy.linalg.qr(rng.normal(size=(n, n)))[0] * 10 ** rng.uniform(-0.5, 0.5, n)
        A = T @ np.diag(-(10 ** rng.uniform(-3, 5, n))) @ np.linalg.inv(T)
        plant, dt = LinearPlant(A, rng.normal(size=(n, 1)), np.eye(n)), 10 ** rng.uniform(-3, 0)
        sampled = Sampled(plant, dt)
        F, G = exact_step(A, np.asarray(plant.B), dt)
        x, u = rng.normal(size=n), rng.normal(size=1)
        after = sampled.advance(sampled.state_at(jnp.asarray(x)), jnp.asarray(u), sampled.undisturbed()).x
        worst = max(
            worst, float(np.abs(after - F @ x - G @ u).max() / np.abs(np.concatenate([x, G @ u])).max())
        )
    return worst


def main() -> int:
    """Run all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", type=int, default=750)
    parser.add_argument("--designs", type=int, default=200)
    parser.add_argument("--plants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rng, begin = np.random.default_rng(given.seed), time.monotonic()
    worst = norms(rng, given.systems) | designs(rng, given.designs) | {"stiff": stiff(rng, given.plants)}
    cases = [*carex(), *darex()]
    left = {c.name: c.residual(riccati(c.A, c.B, c.Q, c.R, None, c.discrete).X) for c in cases}
    worst["riccati"] = max(left.values())
    failed = [name for name, bound in BOUNDS.items() if not worst[name] <= bound]
    counts = {"systems": given.systems, "designs": given.designs, "plants": given.plants}
    results = provenance(given.seed) | counts | {"seconds": round(time.monotonic() - begin, 1)}
    write_json(given.out, results | {"worst": worst, "bounds": BOUNDS, "residuals": left, "failed": failed})
    print(worst, f"beyond their bounds: {failed}" if failed else "all within their bounds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
