"""From a measured log to a certified loop: model, its error over frequency, the largest gain allowed, a policy of that gain, and the proof.

    python -m benchmarks.certify_measured FOLDER --out results/certify_measured.json

`FOLDER` holds `cascaded_tanks/dataBenchmark.csv`. The model is fitted to the first record, its error is measured on the second one.
The process exits with 1 where the loop is not proven stable for every error within the measured weight.
"""

import argparse
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import robustctl as rc
from robustctl.plants import Exogenous
from robustctl.problems.records import cascaded_tanks
from robustctl.runs.provenance import provenance
from robustctl.scenario import Episode, Scenario
from robustctl.store.json_text import write_json

SHARE = 0.95
"""Of the allowed gain, that of the policy."""


class Compensation(Scenario):
    """Compensate steps of a disturbance at the output of a model, by a policy that reads the innovation."""

    plant: rc.loops.ModelPlant
    base: rc.loops.ParallelModel
    rest: jax.Array
    size: float = eqx.field(static=True)

    def draw(self, key, samples):
        """Draw a level every 40 samples."""
        levels = self.size * jr.uniform(key, (-(-samples // 40), 1), minval=-1.0)
        nothing = jnp.zeros((samples, 0))
        held = jnp.repeat(levels, 40, axis=0)[:samples]
        return Episode((), (), Exogenous(nothing, nothing, held, jnp.zeros(samples)))

    def loop(self, policy, plant=None):
        """Close the loop about the model."""
        return rc.loops.feedback(self.plant, rc.loops.Youla(self.base, policy))

    def initial(self, loop, x0):
        """Return the loop's initial state."""
        return loop.init_state()

    def cost(self, output, w):
        """Return the squared deviation of the output and a hundredth of that of the control."""
        return jnp.sum((output.y - self.rest) ** 2) + 0.01 * jnp.sum((output.u - self.plant.u0[0]) ** 2)

    def disturbance(self, w):
        """Return the disturbance."""
        return w.noise

    def disturbed(self, w, d):
        """Return `w` with a disturbance added."""
        return w._replace(noise=w.noise + d)


def policy_of(scenario: Compensation, gamma: float, epochs: int, seed: int):
    """Train a policy of a given gain; return it with its costs at the start and at best."""
    q = rc.nn.LipschitzR2DN(
        nu=1, nx=4, nv=8, ny=1, hidden=(16,), gamma=gamma, init=rc.nn.long_memory, key=jr.key(seed)
    )
    adam = optax.chain(optax.clip(10.0), optax.adam(optax.cosine_decay_schedule(1e-2, epochs)))
    learned = rc.fit_policy(
        q.quiet(), scenario, horizon=160, batch=8, epochs=epochs, optimizer=adam, monitor=None, key=jr.key(seed + 1)
    )  # fmt: skip
    cost = learned.history["validation"]
    return learned.policy.explicit(), [float(cost[0]), float(np.min(cost))]


def main() -> int:
    """Identify, measure the error, train, prove and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    begin = time.perf_counter()
    log, fresh = cascaded_tanks(given.folder)
    fit = rc.identify.subspace(log)
    error = rc.identify.model_error(fit.model, fresh)
    seen = np.where(error.seen, error.upper, 0)
    u0, y0 = (float(center[0]) for center in (fit.model.scaling.u_mean, fit.model.scaling.y_mean))
    plant = rc.loops.ModelPlant(fit.model.explicit(), u0=[u0])
    base = rc.loops.ParallelModel(plant, [u0])
    unknown = rc.certificates.ModelError(gain=1.0, at="output", weight=error.W)
    allowed = rc.certificates.allowed_gamma(plant, base, unknown)
    scenario = Compensation(plant, base, jnp.asarray([y0]), 1.0)
    everywhere = np.linspace(1e-4, np.pi / log.dt, 10_000)
    policy, cost = policy_of(scenario, SHARE * allowed.gamma, given.epochs, given.seed)
    alone = rc.certify(policy)
    loop = rc.certify(scenario.loop(policy), gains=[("n", "y"), ("n", "u")], error=unknown, seconds=600)
    stable = alone.gamma is not None and alone.gamma < allowed.gamma
    results = {
        **provenance(given.seed),
        "record": "cascaded tanks", "order": len(fit.model.parameterization.explicit().init_state()),
        "fit_percent_on_fresh_record": float(rc.simulate(fit.model, fresh).scores().fit_percent[0]),
        "largest_error_seen": float(seen.max()), "largest_weight": float(error.weight_gain(everywhere).max()),
        "unseen": error.unseen, "allowed_gamma": allowed.gamma, "proven_gamma_of_policy": alone.gamma,
        "stable_for_every_error_within_W": stable, "loop_proven": loop.holds,
        "gains": {f"{a} to {b}": value for (a, b), value in loop.gains.items()}, "unproven": loop.unproven,
        "cost_before_and_after": cost, "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    write_json(given.out, results)
    print(results)
    return 0 if stable else 1


if __name__ == "__main__":
    sys.exit(main())
