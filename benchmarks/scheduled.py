"""Models, observers and policies of a plant with a measured schedule, against designs that are made at frozen schedules.

    python -m benchmarks.scheduled --seeds 0 1 2 --out results/scheduled.json

Two currents in axes that turn at a measured speed: a model from a log, and an observer of the current that is not measured, against
pole placement at each speed. A drive of two masses that is to act gently or hard, as a signal says: a policy, against an LQR for each.
Every frozen design is stable at every schedule; where the schedule alternates, it is not.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from scipy.linalg import expm
from scipy.signal import place_poles

import robustctl as rc
from robustctl.plants import LinearPlant, Sampled, Task
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

DT, DECAY, SPEEDS, NOISE = 0.01, 2.0, (5.0, 50.0), 0.005
EXPERIMENTS, SAMPLES = 6, 300
POLES = (0.5, 0.48)
"""Of the frozen observers: an error is halved in a sample."""


def sampled(speed: float) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B of one sample at a speed, rad/s: `dx/dt = [-2, speed; -speed, -2] x + [0; 10] u`."""
    M = np.zeros((3, 3))
    M[:2] = [[-DECAY, speed, 0.0], [-speed, -DECAY, 10.0]]
    M = expm(DT * M)
    return M[:2, :2], M[:2, 2:]


def currents(u: np.ndarray, speed: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """Return both currents (T, 2) before each sample, A."""
    known = {w: sampled(w) for w in np.unique(speed)}
    xs = [x0]
    for v, w in zip(u, speed, strict=True):
        A, B = known[w]
        xs.append(A @ xs[-1] + B[:, 0] * v)
    return np.stack(xs[:-1])


def alternating(samples: int, period: int) -> np.ndarray:
    """Return a schedule between 0 and 1, `period` samples each."""
    return (np.arange(samples) // period % 2).astype(float)


def log(seed: int, schedules: list[np.ndarray]) -> rc.data.Record:
    """Return a log with one experiment a schedule (T,) in [0, 1]: voltage and speed, the first current with noise, both without."""
    rng, us, ys = np.random.default_rng(seed), [], []
    for p in schedules:
        u, speed = rng.normal(size=len(p)), SPEEDS[0] + (SPEEDS[1] - SPEEDS[0]) * p
        x = currents(u, speed, rng.normal(size=2) / 2)
        us.append(np.stack([u, speed], axis=1))
        ys.append(np.column_stack([x[:, 0] + NOISE * rng.normal(size=len(p)), x]))
    return rc.data.from_arrays(
        us, ys, DT, inputs=["voltage", "speed"], outputs=["current 1", "true current 1", "true current 2"],
        input_units=["V", "rad/s"], output_units=["A"] * 3,
    )  # fmt: skip


def random_schedules(seed: int, count: int) -> list[np.ndarray]:
    """Return schedules of 11 levels, each held for 1 to 20 samples."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        held = rng.integers(1, 21, SAMPLES)
        found.append(np.repeat(rng.integers(0, 11, SAMPLES) / 10, held)[:SAMPLES])
    return found
