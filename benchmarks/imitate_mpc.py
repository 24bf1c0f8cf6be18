"""Imitate a tube MPC by networks, and bound how much worse than the MPC each network can be.

    python -m benchmarks.imitate_mpc --out results/imitate_mpc.json

The expert is asked on a grid that covers a box of states; a network without state and with a Lipschitz constant is trained on its answers.
Two loops about the linear model, the MPC's and the network's, start equal and have the same disturbances, constant, switching or random;
the network reads the states with an error. Their distance and the network's cost are compared with the bound of `rc.train.deviation_bound`,
with the error of the action on the whole box (searched: between the states that were asked it needs the MPC's Lipschitz constant) and with
the largest one on the MPC's own held-out episodes (statistical). The process exits with 1 if a bound from the whole box was exceeded.
"""

import argparse
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
import optax

import robustctl as rc
from robustctl.plants import LinearPlant, Sampled, Signal
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

CELLS = 100
"""Of the grid, along each of two states."""

SAMPLES = 60
"""Of an episode."""


class Case(NamedTuple):
    """A linear plant of two states with a tube MPC.

    **Arguments:**

    - `sampled`: the plant, its equilibrium at the origin.
    - `weights`: of state and control.
    - `limits`: of the states, on either side.
    - `box`: of the states that the expert is asked about.
    - `starts`: of the initial states, as a share of the box.
    - `disturbance`: E.
    - `noise`: largest error of each measured state.
    - `gammas`: Lipschitz constants that are allowed, between scaled signals.
    """

    sampled: Sampled
    weights: tuple[list[float], list[float]]
    limits: list[float]
    box: list[float]
    starts: float
    disturbance: list[float]
    noise: list[float]
    gammas: list[float]


def mass() -> Case:
    """Return a mass with a spring and a damper, and a force that saturates."""
    plant = LinearPlant(
        [[0.0, 1.0], [-0.5, -0.8]], [[0.0], [1.0]], np.eye(2), controls=[Signal("force", "N", -1.0, 1.0)], states=["position", "speed"],
    )  # fmt: skip
    return Case(
        Sampled(plant, 0.2),
        ([1.0, 0.1], [0.5]),
        [1.5, 1.0],
        [1.05, 0.7],
        0.6,
        [0.0, 0.02],
        [0.005, 0.005],
        [0.25, 0.5, 1.0, 1.5, 2.0],
    )


def tanks() -> Case:
    """Return two tanks in series, linearized at their operating point, whose pump may differ from it by 0.6 V."""
    sampled = Sampled(rc.plants.TwoTanks(), 4.0)
    model = rc.classical.linearize(sampled.plant)
    plant = LinearPlant(
        model.A, np.asarray(model.B)[:, :1], np.eye(2), controls=[Signal("pump", "V", -0.6, 0.6)],
        states=["upper level", "lower level"],
    )  # fmt: skip
    return Case(
        Sampled(plant, 4.0),
        ([0.1, 1.0], [0.5]),
        [2.0, 2.0],
        [1.4, 1.4],
        0.6,
        [0.05, 0.0],
        [0.01, 0.01],
        [0.25, 0.5, 1.0, 1.5, 2.0],
    )


CASES = {"mass": mass, "two tanks": tanks}


def episodes(matrices, policy, x0s, ds, ns):
    """Return states and actions (count, samples, n) of a policy's loop."""
    A, B, E = matrices

    @jax.jit
    def run(x0s, ds, ns):
        def one(x0, ds, ns):
            def step(x, dn):
                d, n = dn
                u = policy.step(policy.init_state(), x + n)[1]
                return A @ x + B @ u + E * d, (x, u)

            return jax.lax.scan(step, x0, (ds, ns))[1]

        return jax.vmap(one)(x0s, ds, ns)

    x, u = run(x0s, ds, ns)
    return np.asarray(x), np.asarray(u)


def drawn(case: Case, count: int, key) -> tuple[Any, Any, Any]:
    """Return initial states, disturbances (count, samples) and errors of measurements (count, samples, 2) of the assumed size."""
    keys = jr.split(key, 5)
    x0s = case.starts * jnp.asarray(case.box) * jr.uniform(keys[0], (count, 2), minval=-1, maxval=1)
    constant = jnp.sign(jr.normal(keys[1], (count, 1)))
    switching = jnp.sign(
        jnp.sin(jnp.arange(SAMPLES)[None] / jr.uniform(keys[2], (count, 1), minval=1, maxval=6))
    )
    random = jr.uniform(keys[3], (count, SAMPLES), minval=-1, maxval=1)
    kind = jnp.arange(count)[:, None] % 3
    ds = jnp.where(kind == 0, constant, jnp.where(kind == 1, switching, random))
    ns = jnp.sign(jr.normal(keys[4], (count, SAMPLES, 2))) * jnp.asarray(case.noise)
    return x0s, ds, ns


def trained(answers, gamma: float, dt: float, epochs: int, seed: int):
    """Return a network that imitates the answers."""
    student = rc.nn.LipschitzStatic(nu=2, ny=1, gamma=gamma, hidden=(16, 16), key=jr.key(seed))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, epochs))
    demonstrations = answers.demonstrations(dt)
    return rc.train.imitate(
        student, demonstrations, epochs=epochs, optimizer=optimizer, monitor=None, key=jr.key(seed + 1)
    )


def step_time(system, x) -> float:
    """Return the CPU time of a step in microseconds, of 256 states one after the other."""
    run = eqx.filter_jit(lambda s, x: jax.lax.map(lambda one: s.step(s.init_state(), one)[1], x))
    x = jnp.asarray(x[:256])
    jax.block_until_ready(run(system, x))
    begin = time.process_time()
    for _ in range(4):
        jax.block_until_ready(run(system, x))
    return (time.process_time() - begin) / (4 * len(x)) * 1e6


def costs(case: Case, x, u) -> np.ndarray:
    """Return the mean cost of each episode."""
    Q, R = (np.asarray(w) for w in case.weights)
    return np.mean(np.sum(Q * x**2, -1) + np.sum(R * u**2, -1), axis=1)


def compared(case: Case, gamma: float, policy, bounds: dict, ready: dict) -> dict:
    """Return what a network did, with its bounds."""
    x, u = episodes(ready["matrices"], policy, *ready["drawn"])
    apart = np.abs(x - ready["x"]).max((0, 1))
    own, experts = costs(case, x, u), costs(case, ready["x"], ready["u"])
    worst = int(np.argmax(own / experts))
    found = {
        "gamma": gamma, "deviation": apart.tolist(), "action_deviation": float(np.abs(u - ready["u"]).max()),
        "cost": float(own.mean()), "cost_of_mpc": float(experts.mean()), "largest_cost_ratio": float((own / experts)[worst]),
        "broke_a_limit": int(np.sum((np.abs(x) > np.asarray(case.limits) * (1 + 1e-6)).any((1, 2)))),
        "left_the_box": int(np.sum((np.abs(x) > np.asarray(case.box) * (1 + 1e-6)).any((1, 2)))),
        "step_us": step_time(policy, ready["x"].reshape(-1, 2)),
    }  # fmt: skip
    for name, bound in bounds.items():
        found[name] = {
            "error": bound.error.value, "standing": bound.error.standing, "alpha": bound.alpha.value, "imitation": bound.imitation,
            "measurement": bound.measurement, "states": bound.states.tolist(), "action": bound.action,
            "cost": float(np.mean([bound.cost_at_most(float(c), *case.weights) for c in experts])),
            "exceeded": bool((apart > bound.states).any()),
        }  # fmt: skip
    return found


def tried(name: str, count: int, epochs: int, seed: int) -> tuple[dict, dict]:
    """Return what the networks of a case did, and their bounds by gamma."""
    case, keys, begin = CASES[name](), jr.split(jr.key(seed), 3), time.process_time()
    limits = np.asarray(case.limits)
    design = rc.classical.tube_mpc(
        case.sampled, *case.weights, case.disturbance, horizon=10, x_low=-limits, x_high=limits, iterations=25
    )
    model = rc.classical.linear_model(case.sampled).system
    A, B, E = model.A, model.B, np.asarray(case.disturbance)
    answers = rc.train.ask(design.controller, (-np.asarray(case.box), np.asarray(case.box)), cells=CELLS)
    loop = rc.train.ContractingLoop.searched(A, B, answers)
    ready: dict[str, Any] = {"matrices": (A, B, E), "drawn": drawn(case, count, keys[0])}
    x0s, ds, ns = ready["drawn"]
    ready["x"], ready["u"] = episodes(ready["matrices"], design.controller, x0s, ds, 0 * ns)
    x, u = episodes(ready["matrices"], design.controller, *drawn(case, count, keys[1])[:2], 0 * ns)
    dt = float(model.dt)
    held_out = rc.train.Demonstrations(
        rc.data.from_arrays(list(u), list(x), dt, inputs="action", outputs=["state 0", "state 1"])
    )
    few = np.random.default_rng(seed).choice(len(answers.x), 300, replace=False)
    result = {
        "plant": name, "states": [s.name for s in case.sampled.plant.states], "limits": case.limits, "noise": case.noise,
        "disturbance": case.disturbance, "episodes": count, "samples": SAMPLES, "asked": len(answers.x), "cover": answers.cover,
        "expert_lipschitz": answers.lipschitz.value, "rate": loop.rate.value, "gain": loop.gain,
        "mpc_step_us": step_time(design.controller, ready["x"].reshape(-1, 2)),
        "mpc_broke_a_limit": int(np.sum((np.abs(ready["x"]) > limits * (1 + 1e-6)).any((1, 2)))), "networks": [],
    }  # fmt: skip
    scale, drawable = (answers.x.std(0), answers.u.std(0)), {}
    for gamma in case.gammas:
        fitted = trained(answers, gamma, dt, epochs, seed)
        policy = fitted.model.explicit()
        errors = {"box": answers.error(policy), "episodes": rc.train.held_out_error(policy, held_out)}
        bounds = {
            key: rc.train.deviation_bound(policy, loop, e, noise=case.noise) for key, e in errors.items()
        }
        drawable[gamma] = bounds["episodes"]
        found = compared(case, gamma, policy, bounds, ready)
        optimum = rc.train.lipschitz_optimum(answers.x[few] / scale[0], answers.u[few] / scale[1], gamma)
        network = np.asarray(jax.vmap(lambda x, p=policy: p.step((), x)[1])(jnp.asarray(answers.x[few])))
        found |= {
            "rms": float(np.sqrt(np.mean((network - answers.u[few]) ** 2)) / scale[1][0]),
            "rms_of_optimum": optimum.rms,
        }
        result["networks"].append(found)
        print(found, flush=True)
    result["cpu_seconds"] = time.process_time() - begin
    return result, drawable


def main() -> int:
    """Imitate all cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/imitate_mpc.json"))
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plant", choices=list(CASES))
    given = parser.parse_args()
    names = [given.plant] if given.plant else list(CASES)
    plants: list[dict] = []
    results = {**provenance(given.seed), "plants": plants}
    for name in names:
        result, bounds = tried(name, given.episodes, given.epochs, given.seed)
        plants.append(result)
        write_json(given.out, results)
        if name == names[0]:
            rc.plot.deviation(bounds).savefig(given.out.with_suffix(".png"))
    return int(any(n["box"]["exceeded"] for p in plants for n in p["networks"]))


if __name__ == "__main__":
    sys.exit(main())
