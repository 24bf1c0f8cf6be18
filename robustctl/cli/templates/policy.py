"""Learn a controller for a plant: simulate, learn on top of a base controller that it cannot break, certify, save.

    python NAME.py             a minute or two on two CPU cores
    python NAME.py --quick     a few epochs, to see that it runs

As it stands the plant is a stage on a spring. The lines to change for a plant of yours are marked CHANGE.
What each step does: docs/closed-loop.md and tutorials/youla_feedback.py of robustctl.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import robustctl as rc
from robustctl.plants import Imperfections, Plant, Sampled, Signal, Task, parameter


class Stage(Plant):
    """A mass on a spring that grows stiffer, hardly damped."""

    # CHANGE to your plant: its signals with units and limits, its parameters, and dx/dt in `rates`.
    states = (Signal("place", "mm"), Signal("speed", "mm/s"))
    controls = (Signal("force", "N", -4.0, 4.0),)
    disturbances = (Signal("push", "N"),)
    outputs = (Signal("place", "mm"),)
    stiffness: jax.Array = parameter(4.0, "N/mm")
    hardening: jax.Array = parameter(0.5, "N/mm^3")

    def rates(self, x, u, d):
        """Return dx/dt."""
        spring = self.stiffness * x[0] + self.hardening * x[0] ** 3
        return jnp.stack([x[1], u[0] + d[0] - spring - 0.2 * x[1]])


class KeepStill(Task):
    """Keep the stage in its place while something knocks against it."""

    # CHANGE to your task: what disturbs the plant, and what a sample costs.
    def disturbance(self, key, samples):
        """Draw knocks that last 20 samples each."""
        knocks = jr.uniform(key, (-(-samples // 20), 1), minval=-1.0, maxval=1.0)
        return jnp.repeat(knocks, 20, axis=0)[:samples]

    def cost(self, x, u, r):
        """Return the cost of a sample."""
        return (x[0] / 0.1) ** 2 + 0.05 * u[0] ** 2


# CHANGE the sample time in seconds and the faults of sensor and actuator.
SAMPLED = Sampled(Stage(), 0.05, Imperfections(saturate=True, noise=0.005))

# CHANGE for a plant that does not stay by itself: rc.classical.linear_base(SAMPLED, Q, R, W, V), an LQR and a Kalman filter.
BASE = rc.loops.internal_model(SAMPLED)


def main(quick: bool, out: Path) -> None:
    """Train, certify, judge and save."""
    out.mkdir(parents=True, exist_ok=True)
    epochs, horizon, segment, batch = (2, 60, 30, 4) if quick else (150, 200, 100, 32)
    task = KeepStill(SAMPLED.plant)
    # CHANGE the spread: the parameters that are not known exactly, and how far off they may be.
    scenario = rc.loops.PlantScenario(task, SAMPLED, BASE, spread={"stiffness": 0.1})

    # CHANGE the scales, typical sizes of readings and controls, and gamma, the bound on the gain between signals of
    # that size: a smaller one is safer where the plant is not the model.
    q = rc.nn.LipschitzR2DN(
        nu=1, nx=6, nv=8, ny=1, hidden=(12,), gamma=5.0, init=rc.nn.long_memory, key=jr.key(0)
    )
    q = rc.nn.quiet(rc.Rescaled(q, u_scale=(0.1,), y_scale=(0.5,)))  # it adds next to nothing at first
    steps = epochs * horizon // segment
    fitted = rc.fit_policy(
        q, scenario, horizon=horizon, segment=segment, batch=batch, epochs=epochs, key=jr.key(1),
        optimizer=rc.train.clipped_adam(optax.cosine_decay_schedule(3e-3, steps)),
    )  # fmt: skip
    cost = fitted.history["validation"]
    print(f"cost of a sample: {cost[0]:.3f} after an epoch, {min(cost):.3f} at best")

    certificate = rc.certify(fitted.policy)
    print(certificate)
    print(rc.classical.youla_gain(SAMPLED, BASE, certificate.gamma))  # what that means for the loop, in words

    still = jax.tree.map(lambda a: a[0], rc.plants.undisturbed(SAMPLED, 1))
    silent = rc.loops.Gain(jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros(1))
    both = {"base alone": silent, "learned": fitted.policy.explicit()}
    loops = {
        name: rc.loops.feedback(SAMPLED, rc.loops.Youla(BASE, part), still) for name, part in both.items()
    }
    report = rc.robustness.report(
        loops, task=task, horizon=horizon, count=batch, search=0 if quick else 60, title="NAME"
    )
    print(report)
    report.save(out / "report")

    file = out / "NAME.safetensors"
    rc.save(file, fitted.policy, certificate=certificate)
    print(f"policy: {file}    report: {out / 'report'}")


def use(file: Path) -> None:
    """Load the saved policy and run the controller, one reading a sample."""
    policy = rc.loops.Youla(BASE, rc.load(file).explicit())
    step, state = jax.jit(lambda state, y: policy.step(state, y)), policy.init_state()
    for reading in (0.00, 0.02, 0.05):
        state, force = step(state, jnp.asarray([reading]))
        print(f"{force[0]:.4f} N")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/NAME"), help="folder for all that is written")
    parser.add_argument("--quick", action="store_true", help="few epochs, to see that it runs")
    given = parser.parse_args()
    main(given.quick, given.out)
    use(given.out / "NAME.safetensors")
