"""Learn a controller for a plant: simulate, learn on top of a base controller without losing stability, certify, save.

    python NAME.py             a minute or two on two CPU cores
    python NAME.py --quick     a few epochs, to check that it runs

The plant is a stage on a spring. The lines to change for your own plant are marked CHANGE.
docs/closed-loop.md and tutorials/youla_feedback.py of robustctl explain each step.
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
    """A lightly damped mass on a stiffening spring."""

    # CHANGE to your plant: its signals with units and limits, its parameters, and dx/dt in `rates`.
    states = (Signal("position", "mm"), Signal("speed", "mm/s"))
    controls = (Signal("force", "N", -4.0, 4.0),)
    disturbances = (Signal("push", "N"),)
    outputs = (Signal("position", "mm"),)
    stiffness: jax.Array = parameter(4.0, "N/mm")
    hardening: jax.Array = parameter(0.5, "N/mm^3")

    def rates(self, x, u, d):
        """Return dx/dt."""
        spring = self.stiffness * x[0] + self.hardening * x[0] ** 3
        return jnp.stack([x[1], u[0] + d[0] - spring - 0.2 * x[1]])

    # CHANGE to an equilibrium of your plant, the operating point of every design. rc.classical.equilibrium(Stage(), u0, x0), with u0 of
    # controls and disturbances, finds x for a control.
    def operating_point(self):
        """Return an equilibrium (x, u)."""
        return jnp.zeros(2), jnp.zeros(1)


class HoldStage(Task):
    """Hold the stage at its equilibrium against random pushes."""

    # CHANGE to your task: the disturbance of the plant, and the cost of a sample.
    def disturbance(self, key, samples):
        """Draw pushes of 20 samples each."""
        pushes = jr.uniform(key, (-(-samples // 20), 1), minval=-1.0, maxval=1.0)
        return jnp.repeat(pushes, 20, axis=0)[:samples]

    def cost(self, x, u, r):
        """Return the cost of a sample."""
        return (x[0] / 0.1) ** 2 + 0.05 * u[0] ** 2


# CHANGE the sample time in seconds and the imperfections of sensor and actuator.
SAMPLED = Sampled(Stage(), 0.05, Imperfections(saturate=True, noise=0.005))

# CHANGE for a plant that is not open-loop stable: rc.classical.linear_base(SAMPLED, Q, R, W, V), an LQR and a Kalman filter.
BASE = rc.loops.internal_model(SAMPLED)


def main(quick: bool, out: Path) -> None:
    """Train, certify, compare and save."""
    out.mkdir(parents=True, exist_ok=True)
    epochs, horizon, segment, batch = (2, 60, 30, 4) if quick else (150, 200, 100, 32)
    task = HoldStage(SAMPLED.plant)
    # CHANGE the spread: the parameters that are not known exactly, and their relative uncertainty.
    scenario = rc.loops.PlantScenario(task, SAMPLED, BASE, spread={"stiffness": 0.1})

    # CHANGE the scales, typical sizes of each control and each measurement, and gamma, the bound on the gain between signals of
    # that size: a smaller one is safer where the plant differs from the model.
    q = scenario.q(gamma=5.0, u_scale=(0.1,), y_scale=(0.5,), nx=6, nv=8, hidden=(12,), key=jr.key(0))
    steps = epochs * horizon // segment
    fitted = rc.fit_policy(
        q, scenario, horizon=horizon, segment=segment, batch=batch, epochs=epochs, key=jr.key(1),
        optimizer=rc.train.clipped_adam(optax.cosine_decay_schedule(3e-3, steps)),
    )  # fmt: skip
    cost = fitted.history["validation"]
    print(f"cost of a sample: {cost[0]:.3f} after an epoch, {min(cost):.3f} at best")

    certificate = rc.certify(fitted.policy)
    print(certificate)

    zero = rc.loops.zero_gain(nu=len(SAMPLED.plant.outputs), ny=len(SAMPLED.plant.controls))
    loops = {"base alone": scenario.loop(zero), "learned": scenario.loop(fitted.policy.explicit())}
    report = rc.robustness.report(
        loops, task=task, horizon=horizon, count=batch, search=0 if quick else 60, title="NAME"
    )
    print(report)
    report.save(out / "report")

    file = out / "NAME.safetensors"
    rc.save(file, fitted.policy, certificate=certificate)
    print(f"policy: {file}    report: {out / 'report'}")


def use(file: Path) -> None:
    """Load the saved policy and run the controller, one measurement per sample."""
    # CHANGE the measurements: one number for each output of the plant; `force` has one for each of its controls.
    policy = rc.loops.Youla(BASE, rc.load(file).explicit())
    step, state = jax.jit(lambda state, y: policy.step(state, y)), policy.init_state()
    for position in (0.00, 0.02, 0.05):
        state, force = step(state, jnp.asarray([position]))
        print(f"{force[0]:.4f} N")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/NAME"), help="folder for all output files")
    parser.add_argument("--quick", action="store_true", help="few epochs, to check that it runs")
    given = parser.parse_args()
    main(given.quick, given.out)
    use(given.out / "NAME.safetensors")
