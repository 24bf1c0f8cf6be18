"""Train stable-baselines3's PPO on one of the environments, for comparison with `robustctl_envs.ppo`.

Stable-baselines3 depends on PyTorch, so it has a separate environment, in which robustctl is installed too:

    python -m venv .venv-sb3
    .venv-sb3/bin/pip install -e . stable-baselines3
    .venv-sb3/bin/python -m benchmarks.ppo_stable_baselines3 --steps 200000 --out runs/sb3

The policy reads the last four observations, because the sensors measure no speeds. Not run by CI.
"""

import argparse
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation, FrameStackObservation

import robustctl_envs  # noqa: F401 - registers the environments

MISSING = (
    "this script needs stable-baselines3, which robustctl does not install; make a separate environment: "
    "python -m venv .venv-sb3 && .venv-sb3/bin/pip install -e . stable-baselines3"
)


def make(name: str, history: int) -> gym.Env:
    """Return the environment with the last `history` observations concatenated."""
    return FlattenObservation(FrameStackObservation(gym.make(f"robustctl/{name}-v0"), history))


def evaluate(model, env: gym.Env, normalized, episodes: int) -> tuple[float, float]:
    """Return mean return and mean length in samples of `episodes` episodes under the mean action."""
    returns, lengths = [], []
    for seed in range(episodes):
        y, _ = env.reset(seed=10_000 + seed)
        total, length, ended = 0.0, 0, False
        while not ended:
            action, _ = model.predict(normalized(y), deterministic=True)
            y, reward, terminated, truncated, _ = env.step(action)
            total, length, ended = total + float(reward), length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
    return float(np.mean(returns)), float(np.mean(lengths))


def main() -> int:
    """Train, evaluate and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", default="CartPole", help="the name between robustctl/ and -v0")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--num-envs", type=int, default=8)
    parser.add_argument("--history", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
    except ImportError:
        print(MISSING, file=sys.stderr)
        return 2

    many = DummyVecEnv([lambda: make(given.environment, given.history)] * given.num_envs)
    training = VecNormalize(many, gamma=0.99)  # scales observations and rewards to size one
    model = PPO("MlpPolicy", training, n_steps=256, batch_size=256, gamma=0.99, seed=given.seed, verbose=1)
    env = make(given.environment, given.history)
    before = evaluate(model, env, training.normalize_obs, 10)
    model.learn(given.steps)
    after = evaluate(model, env, training.normalize_obs, 10)
    given.out.mkdir(parents=True, exist_ok=True)
    model.save(given.out / "model")
    training.save(str(given.out / "normalization.pkl"))
    for when, (total, length) in (("before", before), ("after", after)):
        print(f"{when}: return {total:.1f}, length {length:.0f} samples, mean of 10 episodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
