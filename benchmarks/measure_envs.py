"""Measure steps per second of the native vector environment against Gymnasium's SyncVectorEnv over the same plant.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.measure_envs --out results/envs.json

Both in one process, interleaved; medians, without compilation.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

import robustctl_envs  # noqa: F401
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

ID = "robustctl/CartPole-v0"


def stepped(env: gym.vector.VectorEnv, steps: int) -> float:
    """Return environment steps per second over `steps` steps of all environments."""
    actions = np.zeros(env.action_space.shape, np.float32)
    begin = time.perf_counter()
    for _ in range(steps):
        env.step(actions)
    return env.num_envs * steps / (time.perf_counter() - begin)


def compare(num_envs: int, repeats: int) -> dict:
    """Return the medians and the median ratio for a number of environments."""
    native = gym.make_vec(ID, num_envs=num_envs)
    sync = gym.vector.SyncVectorEnv([lambda: gym.make(ID) for _ in range(num_envs)])
    for env in (native, sync):
        env.reset(seed=0)
        stepped(env, 3)
    speeds = {"native": [], "sync": []}
    for _ in range(repeats):
        speeds["native"].append(stepped(native, 200))
        speeds["sync"].append(stepped(sync, max(1, 640 // num_envs)))
    return {
        "num_envs": num_envs,
        "native_steps_per_second": round(statistics.median(speeds["native"])),
        "sync_steps_per_second": round(statistics.median(speeds["sync"])),
        "ratio": round(statistics.median(a / b for a, b in zip(*speeds.values(), strict=True)), 2),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sizes, repeats = ((4,), 2) if given.quick else ((64, 1024), 11)
    results = {
        **provenance(0),
        "environment": ID,
        "native_over_sync": [compare(size, repeats) for size in sizes],
    }
    print(json.dumps(results["native_over_sync"], indent=2))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, results)


if __name__ == "__main__":
    main()
