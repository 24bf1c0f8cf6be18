"""Train a policy without and with the actuator's delay, roll both out with it, and write how much they shake.

    python -m benchmarks.actuator_delay --out results/actuator_delay.json

A mass on a damped track is to be held in the middle; position and speed are measured 20 times a second, and the force has limits. A
policy that is trained without the delay learns gains that are fast and stable without it. With it the loop oscillates between the
force's limits. One that is trained with the delay in the plant's imperfections learns gains that it endures.
"""

import argparse
import json
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import robustctl as rc
from robustctl.plants import Imperfections, LinearPlant, Sampled, Task
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

DT, DELAY, SAMPLES = 0.05, 3, 400
START = 0.5


class Hold(Task):
    """Hold the mass in the middle, from up to 0.5 m away."""

    def initial_state(self, key):
        """Draw a position."""
        return jnp.append(jr.uniform(key, (1,), minval=-START, maxval=START), 0.0)

    def cost(self, x, u, r):
        """Return the cost of a sample: one at 0.1 m."""
        return (x[0] / 0.1) ** 2 + 0.02 * u[0] ** 2


def track(delay: int) -> Sampled:
    """Return the mass on its track."""
    force, measured = rc.plants.Signal("force", "N", -4.0, 4.0), ["position", "speed"]
    plant = LinearPlant(
        [[0.0, 1.0], [0.0, -0.2]], [[0.0], [1.0]], np.eye(2), controls=[force], outputs=measured
    )
    return Sampled(plant, DT, Imperfections(saturate=True, delay=delay))


def trained(delay: int, epochs: int, seed: int) -> rc.System:
    """Return a policy that is trained on the plant with a delay."""
    sampled = track(delay)
    start_key, key = jr.split(jr.key(seed))
    policy = rc.nn.LipschitzStatic(
        nu=2, ny=1, hidden=(16, 16), gamma=60.0, activation=jnp.tanh, key=start_key
    )
    fitted = rc.fit_policy(
        policy, rc.loops.PlantScenario(Hold(sampled.plant), sampled), horizon=200, segment=200, batch=32, epochs=epochs,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, epochs))), monitor=None,
        key=key,
    )  # fmt: skip
    return fitted.policy.explicit()


def shaking(policy: rc.System, delay: int) -> dict[str, float]:
    """Return the amplitude of the position, and the mean change of the force from sample to sample, over the last quarter of a run."""
    sampled = track(delay)
    run = rc.loops.simulate(
        rc.loops.feedback(sampled, policy), rc.plants.undisturbed(sampled, SAMPLES), jnp.array([START, 0.0])
    )
    last = slice(3 * SAMPLES // 4, None)
    x, u = np.asarray(run.x[last, 0]), np.asarray(run.applied[last, 0])
    return {"amplitude_m": float(np.ptp(x) / 2), "change_of_force_N": float(np.abs(np.diff(u)).mean())}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for learned in (0, DELAY):
        policy = trained(learned, given.epochs, given.seed)
        rows += [
            {"trained_with_samples": learned, "run_with_samples": delay, **shaking(policy, delay)}
            for delay in (0, DELAY)
        ]
    results = {
        "dt_s": DT,
        "delay_samples": DELAY,
        "epochs": given.epochs,
        "rows": rows,
        **provenance(given.seed),
    }
    print(json.dumps(results, indent=2))
    if given.out:
        write_json(given.out, results)


if __name__ == "__main__":
    main()
