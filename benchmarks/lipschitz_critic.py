"""Train by PPO with a critic of bounded slope and with a plain one, test both on plants that are not the model, and write costs and errors.

    python -m benchmarks.lipschitz_critic --out results/lipschitz_critic.json

A bound L on the slope of the value function bounds what a wrong model does to its Bellman error, by discount * L * |x+ - x+_model| (Zheng,
Wang, Xu, Huang, ICLR 2023), so a small L should make values and policies transfer. Two plants of the environments are trained on as they
are, and tested with parameters changed by 30 %: the cost of a sample under the mean action, and the error of the critic against
the discounted rewards that follow, over their root mean square.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
import robustctl_envs
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl_envs import ppo
from robustctl_envs.vector import reset_batch, step_batch

SETTINGS = ppo.PPO(num_envs=64, samples=150)
UPDATES, TESTED, SAMPLES = 40, 128, 300
GAMMAS: tuple[float | None, ...] = (None, 1.0, 3.0, 10.0)
"""Bound on the critic's slope, value over observation of about unit size; None is the plain critic."""
CHANGES: dict[str, dict[str, dict[str, float]]] = {
    "TwoTanks": {
        "as trained": {}, "outlet 30 % smaller": {"outlet": 0.7}, "outlet 30 % larger": {"outlet": 1.3},
        "pump 30 % weaker": {"pump_gain": 0.7}, "pump 30 % stronger": {"pump_gain": 1.3},
    },
    "QuadrupleTank": {
        "as trained": {}, "outlets 30 % smaller": {"outlets": 0.7}, "outlets 30 % larger": {"outlets": 1.3},
        "pumps 30 % weaker": {"pump_gain_1": 0.7, "pump_gain_2": 0.7},
        "pumps 30 % stronger": {"pump_gain_1": 1.3, "pump_gain_2": 1.3},
    },
}  # fmt: skip


class Critic(eqx.Module):
    """A static network of bounded slope in place of the plain critic."""

    network: rc.nn.LipschitzStatic

    def __call__(self, y):
        """Return the value (1,)."""
        return self.network.explicit().step((), y)[1]


def trained(env, gamma: float | None, seed: int) -> tuple[ppo.AgentController, float]:
    """Return the agent and the seconds of the CPU."""
    plain = ppo._agent

    def bounded(env, y, s, key):
        network = rc.nn.LipschitzStatic(
            nu=y.shape[1],
            ny=1,
            gamma=gamma,
            hidden=(s.width, s.width),
            activation=jnp.tanh,
            key=jr.fold_in(key, 1),
        )
        return eqx.tree_at(lambda agent: agent.critic, plain(env, y, s, key), Critic(network))

    begin = time.process_time()
    with mock.patch.object(ppo, "_agent", plain if gamma is None else bounded):
        found = ppo.train_ppo(env, updates=UPDATES, settings=SETTINGS, key=jr.key(seed)).controller
    return found, time.process_time() - begin


@eqx.filter_jit
def played(env, agent: ppo.Agent, key) -> tuple[jax.Array, ...]:
    """Return rewards, values and ends (T, B) of episodes under the mean action."""
    batch, y = reset_batch(env, jr.split(key, TESTED))

    def body(carry, _):
        batch, y = carry
        action = jax.vmap(lambda y: agent.actor(agent.normalized(y)))(y)
        after, out = step_batch(env, batch, action)
        return (after, out.observation), (
            out.reward,
            jax.vmap(agent.value)(y),
            out.terminated,
            out.truncated | batch.done,
        )

    return jax.lax.scan(body, (batch, y), None, length=SAMPLES)[1]


def scored(env, agent: ppo.Agent, seed: int) -> dict[str, float]:
    """Return the mean cost of a sample, the share of episodes that fail, and the critic's error."""
    reward, value, failed, _ = (np.asarray(a, float) for a in played(env, agent, jr.key(1000 + seed)))
    going = np.cumsum(np.vstack([np.zeros((1, TESTED)), failed[:-1]]), axis=0) == 0  # the first episode alone
    returns, later = np.zeros_like(reward), np.zeros(TESTED)
    for t in reversed(range(SAMPLES)):
        later = reward[t] + SETTINGS.discount * np.where(failed[t] > 0, 0.0, later)
        returns[t] = later
    # The last samples' returns lack what follows: half of the episode is 150 samples of a discount of 0.99.
    part = going & (np.arange(SAMPLES) < SAMPLES // 2)[:, None]
    error = np.sqrt(np.mean((value - returns)[part] ** 2)) / np.sqrt(np.mean(returns[part] ** 2))
    return {
        "cost": float(-reward[going].mean()),
        "failed": float(1 - going[-1].mean()),
        "value_error": float(error),
    }


def changed(env, factors: dict[str, float]):
    """Return the environment about a plant with other parameters; the task and its setpoints are the same."""
    plant = env.sampled.plant
    fields = {name: factor * getattr(plant, name) for name, factor in factors.items()}
    sampled = dataclasses.replace(env.sampled, plant=dataclasses.replace(plant, **fields))
    return dataclasses.replace(env, sampled=sampled)


def main() -> None:
    """Train, test and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"rows": []}
    known = {(row["environment"], row["gamma"]) for row in results["rows"]}
    for name, changes in CHANGES.items():
        env = robustctl_envs.functional(name, imperfections=rc.plants.Imperfections(saturate=True))
        for gamma in GAMMAS:
            if (name, gamma) in known:
                continue
            for seed in given.seeds:
                controller, seconds = trained(env, gamma, seed)
                tests = {
                    test: scored(changed(env, factors), controller.agent, seed)
                    for test, factors in changes.items()
                }
                results["rows"].append(
                    {"environment": name, "gamma": gamma, "seed": seed, "seconds": seconds, "tests": tests}
                )
                print(json.dumps(results["rows"][-1]), flush=True)
            jax.clear_caches()
            settings = {**dataclasses.asdict(SETTINGS), "updates": UPDATES, "seeds": given.seeds}
            write_json(given.out, {**provenance(given.seeds[0]), "settings": settings, **results})


if __name__ == "__main__":
    main()
