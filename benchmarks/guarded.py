"""Try to make guarded controllers break limits, and compare what the guard costs with tube MPC and with the base controller.

    python -m benchmarks.guarded --out results/guarded.json

A bold LQR breaks the limits of each plant; the same under a guard that predicts the trajectory of a cautious LQR must not, whatever
disturbance of the assumed size acts. Rate and size of the tube are searched on random states inside the limits, not proven. Disturbances
push against a limit that they reach some samples later, stay at an extreme, or switch at random. Then they are larger than assumed, which
the guard cannot promise anything for: the share of fallback samples is counted. The quadratic program of barriers is compared with the
exact solution of random problems, found by trying all sets of active constraints. The process exits with 1 if a limit was exceeded within
the assumed size, or a wrong control was called found.
"""

import argparse
import itertools
import json
import sys
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
from robustctl.loops import Allowed, Fallback, Guarded, Limits, Predicted, StateLimits, Tube
from robustctl.loops.half_spaces import nearest
from robustctl.plants import Sampled, limits
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

BEYOND = 3.0
"""Times the assumed size."""

STATES = 2000
"""Random states inside the limits that rate and size of a tube are searched on."""


class Case(NamedTuple):
    """A plant with limits, and two controllers by their weights.

    **Arguments:**

    - `sampled`: the plant.
    - `width`: by which each state may differ from its operating point, infinity for no limit.
    - `search`: the same where there is no limit, for the search of rate and size.
    - `size`: of the disturbances.
    - `bold`: weights of state and control of the policy.
    - `base`: those of the fallback.
    - `horizon`: of the prediction.
    """

    sampled: Sampled
    width: list[float]
    search: list[float]
    size: list[float]
    bold: tuple[Any, Any]
    base: tuple[Any, Any]
    horizon: int


INF = float("inf")
CASES = {
    "cart-pole": lambda: Case(
        Sampled(rc.plants.CartPole(), 0.05), [1.0, 0.15, 0.8, INF], [1.0, 0.15, 0.8, 0.6], [0.03],
        ([300.0, 1.0, 0.1, 0.1], [0.01]), ([1.0, 1.0, 1.0, 1.0], [1.0]), 60,
    ),
    "planar quadrotor": lambda: Case(
        Sampled(rc.plants.PlanarQuadrotor(), 0.05), [INF, INF, 0.15, 0.5, 0.5, INF], [1.0, 1.0, 0.15, 0.5, 0.5, 0.6], [0.005, 0.005],
        ([60.0, 60.0, 0.1, 0.1, 0.1, 0.1], [0.05, 0.05]), ([1.0, 1.0, 1.0, 1.0, 1.0, 0.1], [1.0, 1.0]), 50,
    ),
    "magnetic suspension": lambda: Case(
        Sampled(rc.plants.MagneticSuspension(), 0.01), [4e-3, 0.06, INF], [4e-3, 0.06, 0.6], [0.01],
        ([4e6, 1.0, 0.0], [1e-3]), ([4e4, 40.0, 0.01], [1e-2]), 40,
    ),
    "reactor": lambda: Case(
        Sampled(rc.plants.StirredTankReactor(), 3.0), [0.05, 5.0], [0.05, 5.0], [0.002, 0.2],
        ([2e5, 0.0], [0.01]), ([10.0, 1.0], [0.3]), 60,
    ),
    "two tanks": lambda: Case(
        Sampled(rc.plants.TwoTanks(), 4.0), [2.0, 2.0], [2.0, 2.0], [0.3], ([0.0, 50.0], [0.1]), ([1.0, 1.0], [3.0]), 40,
    ),
}  # fmt: skip


def gain(case: Case, weights) -> np.ndarray:
    """Return the gain of an LQR."""
    return np.asarray(rc.classical.lqr(case.sampled, *weights).K)


def law(K: np.ndarray, x: np.ndarray, u: np.ndarray) -> rc.loops.Gain:
    """Return state feedback about an operating point."""
    return rc.loops.Gain(-jnp.asarray(K), jnp.asarray(x), jnp.asarray(u))


class Made(NamedTuple):
    """The controllers of a case.

    **Arguments:**

    - `x`: the operating point.
    - `u`: its control.
    - `low`: lowest controls.
    - `high`: highest controls.
    - `rows`: limits of the states.
    - `policies`: by name.
    - `against`: disturbances that reach a limit some samples later, as signs (rows, samples, nd).
    - `start`: the filter by which starts are chosen.
    - `tube`: what was searched.
    """

    x: np.ndarray
    u: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: StateLimits
    policies: dict[str, rc.System]
    against: np.ndarray
    start: Predicted
    tube: dict


def after(sampled: Sampled, x, u, d):
    """Return the plant's next state."""
    w = sampled.undisturbed()
    return sampled.advance(sampled.state_at(x), u, w._replace(d=d)).x


def made(case: Case, seed: int) -> Made:
    """Return the controllers of a case, with a tube of searched rate and size."""
    sampled = case.sampled
    x, u = (np.asarray(a, float) for a in sampled.plant.operating_point())
    low, high = limits(sampled.plant.controls)
    bold, base = law(gain(case, case.bold), x, u), law(gain(case, case.base), x, u)
    width = np.array(case.width)
    C = np.vstack([np.eye(len(x)), -np.eye(len(x))])
    used = np.isfinite(np.tile(width, 2))
    rows = StateLimits(C[used], (np.tile(width, 2) + C @ x)[used])
    A, E = slopes(sampled, base, x, np.array(case.size))
    tube, searched = searched_tube(case, base, Tube.linear(A, E), x, seed)
    box = dict(low=low, high=high)
    within = StateLimits(
        np.vstack([rows.C, base.D, -base.D]), np.concatenate([rows.limit, *clipped(base, x, u, low, high)])
    )
    terminal = tube.ellipsoid(within, x)
    filter = Predicted(sampled, rows, case.horizon, tube=tube, terminal=terminal, **box)
    guarded = Guarded(bold, filter, base, y0=x, u0=u, plant=None)
    x_low, x_high = x - width, x + width
    mpc = rc.classical.tube_mpc(
        sampled, *case.bold, E, horizon=15, x_low=x_low, x_high=x_high, u_low=low, u_high=high, iterations=25
    )
    unguarded = Guarded(bold, Limits(**box), base, y0=x, u0=u)
    policies = {
        "guarded": guarded, "unguarded": unguarded, "base": Guarded(base, Limits(**box), base, y0=x, u0=u),
        "tube MPC": mpc.controller,
    }  # fmt: skip
    powers = np.stack([np.linalg.matrix_power(A, k) @ E for k in range(12)])
    against = np.sign(np.einsum("rn,knd->rkd", np.asarray(rows.C), powers))
    return Made(x, u, low, high, rows, policies, against, filter, searched)


def clipped(base, x, u, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of `D x` and `-D x` that keep the fallback's control inside its own."""
    offset = np.asarray(base.D) @ x
    return high - u + offset, u - low - offset


def slopes(sampled: Sampled, base, x, size) -> tuple[np.ndarray, np.ndarray]:
    """Return A and E of the base controller's loop at a state."""
    step = jax.jit(lambda x, d: after(sampled, x, base.step((), x)[1], jnp.asarray(size) * d))
    d = jnp.zeros(len(size))
    A, E = (np.asarray(jax.jacfwd(step, k)(jnp.asarray(x), d)) for k in (0, 1))
    return A, E


def searched_tube(case: Case, base, linear: Tube, x: np.ndarray, seed: int) -> tuple[Tube, dict]:
    """Return the tube in the metric of the linear one, with the largest rate and step of random states and a hundredth more."""
    drawn = x + np.array(case.search) * np.random.default_rng(seed).uniform(-1, 1, (STATES, len(x)))
    root = np.linalg.cholesky(np.asarray(linear.P)).T

    @jax.jit
    @jax.vmap
    def sizes(x):
        def step(x, d):
            return after(case.sampled, x, base.step((), x)[1], jnp.asarray(case.size) * d)

        d = jnp.zeros(len(case.size))
        J, E = jax.jacfwd(step, 0)(x, d), jax.jacfwd(step, 1)(x, d)
        moved = jnp.sqrt(jnp.sum((root @ E) ** 2, 0)).sum()
        return jnp.linalg.norm(root @ J @ np.linalg.inv(root), 2), moved

    rates, steps = map(np.asarray, sizes(jnp.asarray(drawn)))
    rate, step = 1 - (1 - rates.max()) * 0.99, 1.01 * steps.max()
    tube = eqx.tree_at(lambda t: (t.rate, t.step), linear, (jnp.asarray(rate), jnp.asarray(step)))
    tube.check_parts()
    return tube, {"rate_at_the_operating_point": float(linear.rate), "rate": float(rate), "step": float(step)}


def starts(case: Case, ready: Made, count: int, key) -> jnp.ndarray:
    """Draw states from which the fallback keeps the limits, about half of the way to them."""
    base = ready.policies["guarded"].fallback  # pyright: ignore[reportAttributeAccessIssue]

    @jax.jit
    @jax.vmap
    def has_room(x):
        state, u = base.step((), x)
        return (
            ready.start.room(x, jnp.clip(u, ready.low, ready.high), Fallback(base, state, ready.start)) >= 0
        )

    drawn = jnp.asarray(ready.x) + 0.6 * jnp.asarray(case.search) * jr.uniform(
        key, (20 * count, len(ready.x)), minval=-1, maxval=1
    )
    good = drawn[has_room(drawn)]
    if len(good) < count:
        raise SystemExit(
            f"only {len(good)} of {len(drawn)} states have room; make the limits wider or disturbances smaller"
        )
    return good[:count]


def disturbances(ready: Made, count: int, samples: int, key) -> jnp.ndarray:
    """Return signs (count, samples, nd): against a limit, in blocks of the samples that it takes, at an extreme, or at random."""
    rows, length, nd = ready.against.shape
    keys = jr.split(key, 4)
    row, phase = jr.randint(keys[0], (count,), 0, rows), jr.randint(keys[1], (count,), 1, length)
    # The disturbance k samples before the end of a block acts through A^k: the whole block pushes against one limit.
    back = phase[:, None] - 1 - jnp.arange(samples) % phase[:, None]
    pushes = jnp.asarray(ready.against)[row[:, None], back]
    random = jnp.sign(jr.normal(keys[2], (count, samples, nd)))
    constant = jnp.broadcast_to(jnp.sign(jr.normal(keys[3], (count, 1, nd))), random.shape)
    kind = jnp.arange(count)[:, None, None] % 4
    return jnp.where(kind < 2, pushes, jnp.where(kind == 2, constant, random))


@eqx.filter_jit
def episodes(case: Case, policy, rows, scale, x0s, signs):
    """Return for each episode the least distance from a limit, the cost of a sample, and the last state of the policy."""
    x_e, u_e = case.sampled.plant.operating_point()
    Q, R = (jnp.asarray(a) for a in case.bold)

    def one(x0, signs):
        def body(carry, sign):
            x, state, least, cost = carry
            state, u = policy.step(state, x)
            x_next = after(case.sampled, x, u, scale * jnp.asarray(case.size) * sign)
            cost = cost + jnp.sum(Q * (x - x_e) ** 2) + jnp.sum(R * (u - u_e) ** 2)
            return (x_next, state, jnp.minimum(least, jnp.min(rows(x_next))), cost), None

        begin = (x0, policy.init_state(), jnp.asarray(jnp.inf), jnp.asarray(0.0))
        (_, state, least, cost), _ = jax.lax.scan(body, begin, signs)
        return least, cost / signs.shape[0], state

    return jax.vmap(one)(x0s, signs)


def outcome(case: Case, ready: Made, name: str, scale: float, x0s, signs) -> dict:
    """Return what a policy did."""
    least, cost, state = episodes(case, ready.policies[name], ready.rows, scale, x0s, signs)
    least = np.nan_to_num(np.asarray(least), nan=-np.inf)
    half = np.asarray([w for w in case.width if np.isfinite(w)])
    found = {
        "episodes": len(least), "broke_a_limit": int(np.sum(least < -1e-9 * half.min())), "cost": float(np.mean(cost)),
        "least_distance": float(least.min()),
    }  # fmt: skip
    if name == "guarded":
        passed, changed, fallback = (
            np.asarray(state.counts).sum(0) / np.asarray(state.counts).sum()
        ).tolist()
        found |= {"passed": passed, "changed": changed, "fallback": fallback}
    return found


def tried(name: str, count: int, samples: int, seed: int) -> dict:
    """Return what all policies of a case did, within and beyond the assumed size."""
    case = CASES[name]()
    ready, keys = made(case, seed), jr.split(jr.key(seed), 2)
    x0s, signs = starts(case, ready, count, keys[0]), disturbances(ready, count, samples, keys[1])
    few, part, begin = max(4, count // 50), max(4, count // 5), time.process_time()
    result = {
        "plant": name, "limits": [None if w == INF else w for w in case.width], "size": case.size, "horizon": case.horizon,
        "tube": ready.tube, "samples": samples, "guarded": outcome(case, ready, "guarded", 1.0, x0s, signs),
    }  # fmt: skip
    result["cpu_seconds"] = time.process_time() - begin
    for each in ("unguarded", "base"):
        result[each] = outcome(case, ready, each, 1.0, x0s, signs)
    result["tube MPC"] = outcome(case, ready, "tube MPC", 1.0, x0s[:few], signs[:few])
    result["tube MPC"]["cost_of_base"] = outcome(case, ready, "base", 1.0, x0s[:few], signs[:few])["cost"]
    result["beyond"] = {"times": BEYOND, **outcome(case, ready, "guarded", BEYOND, x0s[:part], signs[:part])}
    print(result, flush=True)
    return result


def exact(u, low, high, G, g) -> tuple[np.ndarray, np.ndarray]:
    """Return the solutions of a batch of projections, by trying all sets of active constraints, and whether there are any."""
    count, nu = u.shape
    eye = np.broadcast_to(np.eye(nu), (count, nu, nu))
    H, h = np.concatenate([G, eye, -eye], 1), np.concatenate([g, low, -high], 1)
    best, found = np.full((count, nu), np.nan), np.zeros(count, bool)
    for k in range(nu + 1):
        for active in itertools.combinations(range(H.shape[1]), k):
            rows, values = H[:, list(active)], h[:, list(active)]
            M = rows @ rows.transpose(0, 2, 1)
            regular = np.linalg.det(M) > 1e-12 if k else np.ones(count, bool)
            M = np.where(regular[:, None, None], M, np.eye(k))
            lam = np.linalg.solve(M, (values - np.einsum("bki,bi->bk", rows, u))[..., None])[..., 0]
            v = u + np.einsum("bki,bk->bi", rows, lam)
            keeps = (np.einsum("bki,bi->bk", H, v) >= h - 1e-9).all(1) & (lam >= -1e-9).all(1) & regular
            best, found = np.where((keeps & ~found)[:, None], v, best), found | keeps
    return best, found


def programs(count: int, seed: int) -> dict:
    """Compare the quadratic program of filters with the exact solution of random problems."""
    rng, begin = np.random.default_rng(seed), time.process_time()
    right = wrong = unfound = infeasible = 0
    largest = 0.0
    shapes = [(1, 3), (2, 1), (2, 3), (3, 2)]
    for nu, k in shapes:
        n = count // len(shapes)
        u, low, high = 2 * rng.normal(size=(n, nu)), -rng.uniform(size=(n, nu)), rng.uniform(size=(n, nu))
        G, g = rng.normal(size=(n, k, nu)), 0.7 * rng.normal(size=(n, k))
        best, possible = exact(u, low, high, G, g)
        allowed = Allowed(*(jnp.asarray(a) for a in (low, high, G, g)))
        v, found = map(np.asarray, jax.jit(jax.vmap(nearest))(jnp.asarray(u), allowed))
        away = np.where(found & possible, np.abs(v - best).max(1), 0.0)
        wrong += int(np.sum(found & (~possible | (away > 1e-6))))
        right += int(np.sum(found & possible & (away <= 1e-6)))
        unfound += int(np.sum(~found & possible))
        infeasible += int(np.sum(~found & ~possible))
        largest = max(largest, float(np.nanmax(away)))
    return {
        "problems": right + wrong + unfound + infeasible, "same_optimum": right, "fallback_though_possible": unfound,
        "fallback_impossible": infeasible, "wrong": wrong, "largest_difference": largest, "cpu_seconds": time.process_time() - begin,
    }  # fmt: skip


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Try to make guarded controllers break limits.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--episodes", type=int, default=2500, help="of each plant")
    parser.add_argument(
        "--plant",
        choices=list(CASES),
        help="this one alone, in a file that has the others, with its own commit",
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    names = [given.plant] if given.plant else list(CASES)[-1:] if given.quick else list(CASES)
    count, samples = (8, 10) if given.quick else (given.episodes, 50)
    here = provenance(given.seed)
    results = {
        **here, "programs": {} if given.plant else programs(400 if given.quick else 100_000, given.seed), "plants": []
    }  # fmt: skip
    if given.plant and given.out.is_file():
        results = json.loads(given.out.read_text("utf-8"))
    plants: list[dict] = [each for each in results["plants"] if each["plant"] not in names]
    for name in names:
        plants.append(tried(name, count, samples, given.seed) | {"commit": here["commit"]})
        write_json(
            given.out, results | {"plants": sorted(plants, key=lambda each: list(CASES).index(each["plant"]))}
        )
    print(results["programs"])
    broken = sum(each["guarded"]["broke_a_limit"] for each in plants)
    return 1 if broken + results["programs"].get("wrong", 0) else 0


if __name__ == "__main__":
    sys.exit(main())
