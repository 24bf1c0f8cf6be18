"""Learn an observer that estimates unmeasured quantities sample by sample, with a bound on its error.

    python NAME.py             a minute or two on two CPU cores
    python NAME.py --quick     a few epochs, to check that it runs

The log is simulated: a cart on a spring, whose position is measured and whose speed is estimated. The lines to change for
your own plant or log are marked CHANGE. docs/observers.md and tutorials/observe_pde.py of robustctl explain each step.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import robustctl as rc
from robustctl.plants import Imperfections, Plant, Sampled, Signal, parameter


class Cart(Plant):
    """A cart on a spring that grows stiffer, with friction."""

    # CHANGE to your plant: its signals and units, its parameters, and dx/dt in `rates`.
    states = (Signal("position", "m"), Signal("speed", "m/s"))
    controls = (Signal("force", "N"),)
    disturbances = ()
    outputs = (Signal("position", "m"),)
    stiffness: jax.Array = parameter(2.0, "N/m")
    hardening: jax.Array = parameter(0.5, "N/m^3")
    friction: jax.Array = parameter(0.8, "N s/m")

    def rates(self, x, u, d):
        """Return dx/dt; the mass is 1 kg."""
        spring = self.stiffness * x[0] + self.hardening * x[0] ** 3
        return jnp.stack([x[1], u[0] - spring - self.friction * x[1]])


# CHANGE to the measured outputs, and all states of the plant, which are estimated.
MEASURED, ESTIMATED = ["position"], ["true position", "true speed"]


def read_log(experiments: int, seed: int) -> rc.data.Record:
    """Return a log of the measured output and of the states."""
    # CHANGE to a log from a test bench, where the states were measured: rc.data.read(["run1.csv", ...], inputs=..., outputs=[...], dt=...)
    rig = Sampled(Cart(), 0.1, Imperfections(noise=0.01))
    excitations = [rc.data.multisine(300, seed=seed + k) for k in range(experiments)]
    return rc.observers.simulate_log(rig, excitations, missing=0.02, key=jr.key(seed))


def main(quick: bool, out: Path) -> None:
    """Train, certify, test and save."""
    out.mkdir(parents=True, exist_ok=True)
    epochs, experiments = (5, 2) if quick else (1500, 8)
    train = rc.observers.for_observer(read_log(experiments, seed=0), MEASURED, ESTIMATED)
    test = rc.observers.for_observer(read_log(2, seed=100), MEASURED, ESTIMATED)
    print(train)

    # CHANGE the rate, the guaranteed decay of an initial error per sample. The plant with its measurements must be able to
    # forget that fast: for a slowest time constant tau choose no less than exp(-dt / tau).
    core = rc.nn.ContractingR2DN(
        nu=train.nu, nx=train.ny, nv=8, ny=train.ny, hidden=(16,), rate=0.9, key=jr.key(0)
    )
    problem = rc.train.Identification(
        train, washout=30, regularizer=rc.observers.one_step_penalty(train, weight=10.0)
    )
    fitted = rc.train.train(
        problem,
        rc.nn.StateObserver(core),  # its state is the estimate
        optimizer=rc.train.clipped_adam(optax.cosine_decay_schedule(2e-2, epochs)),
        epochs=epochs,
        key=jr.key(1),
    )
    print(fitted)

    certificate = rc.certify(fitted.model)
    print(certificate)  # HOLDS: two estimates from the same measurements approach each other at that rate
    report = rc.fit_report(fitted.model, test, fit=fitted, certificate=certificate)
    print(report)
    report.save(out / "report")
    noise = dict.fromkeys(MEASURED, 0.03)  # CHANGE: the largest measurement error, in its unit
    print(rc.observers.error_bound(fitted.model, train, noise))

    file = out / "NAME.safetensors"
    rc.save(file, fitted.model, certificate=certificate)
    print(f"observer: {file}    report: {out / 'report'}")


def use(file: Path) -> None:
    """Load the saved observer and run it sample by sample, with one lost measurement."""
    # CHANGE the limits, the readings, one number for each input and each measured output, and the inputs if there are several.
    stream = rc.observers.Stream(rc.load(file), MEASURED, limits={"position": (-5.0, 5.0)})
    for u, y in ((0.5, 0.10), (0.5, np.nan), (0.5, 0.14)):
        estimate = stream(u, y)
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in zip(ESTIMATED, estimate.values, strict=True)
        )
        print(f"{shown}; measured {estimate.stale[0]:.1f} s ago")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/NAME"), help="folder for all output files")
    parser.add_argument("--quick", action="store_true", help="few epochs, to check that it runs")
    given = parser.parse_args()
    main(given.quick, given.out)
    use(given.out / "NAME.safetensors")
