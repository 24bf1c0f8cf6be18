"""Identify a model from a log: read, split, fit, certify, test, save.

    python NAME.py             a minute or two on two CPU cores
    python NAME.py --quick     a few epochs, to check that it runs

The log is simulated: two tanks in cascade. The lines to change for your own log are marked CHANGE.
docs/identification.md and tutorials/identify_your_log.py of robustctl explain each step.
"""

import argparse
from pathlib import Path

import jax.random as jr
import optax

import robustctl as rc
from robustctl.problems import two_tanks


def read_log() -> tuple[rc.data.Record, rc.data.Record]:
    """Return the record to train on, and another experiment to test on."""
    # CHANGE to your files: rc.data.read("log.csv", inputs=["pump"], outputs=["level"], dt=2.0, units={"pump": "V"})
    # With a single file: train, test = rc.data.split(record, (0.75, 0.25))
    return two_tanks(1000, seed=0), two_tanks(600, seed=1)


def main(quick: bool, out: Path) -> None:
    """Train, certify, test and save."""
    out.mkdir(parents=True, exist_ok=True)
    record, test = read_log()
    print(record)
    if not quick:
        print(rc.advice.advise(record))  # what the log shows before training
    # CHANGE the split, in time: its last part selects the best epoch. A warning reports a bad selection.
    train, validation = rc.data.split(record, (0.8, 0.2))

    # CHANGE the sizes: nx one or two above the order of a good linear model, nv twice that. gamma bounds the gain between
    # signals scaled to standard deviation one; rc.nn.ContractingR2DN has no such bound and guarantees contraction alone.
    model = rc.nn.LipschitzR2DN(
        nu=record.nu, nx=4, nv=8, ny=record.ny, hidden=(16,), gamma=10.0, init=rc.nn.long_memory, key=jr.key(0)
    )  # fmt: skip

    # CHANGE the times, in samples: the warm-up from which the initial state is estimated, the windows that are simulated in
    # training (some time constants of the plant), and the distance between the starts of two windows.
    warm_up, length, stride = 20, 300, 30
    epochs = 3 if quick else 600
    problem = rc.train.Identification(
        rc.data.windows(train, warm_up + length, stride),
        validation=validation,
        scaling=rc.data.Scaling.fit(train),
        initial=rc.train.warm_up(warm_up),
    )
    fitted = rc.train.train(
        problem,
        model,
        optimizer=rc.train.clipped_adam(optax.cosine_decay_schedule(1e-2, epochs)),
        epochs=epochs,
        key=jr.key(1),
    )
    print(fitted)

    certificate = rc.certify(fitted.model)
    print(certificate)  # of the model, for every input and initial state; the report shows how well it fits
    file = out / "NAME.safetensors"
    # Before the report, which refuses other channel names.
    rc.save(file, fitted.model, certificate=certificate)
    report = rc.fit_report(fitted.model, test, fit=fitted, certificate=certificate, trained_on=record)
    print(report)
    report.save(out / "report")
    print(f"model: {file}    report: {out / 'report'}")


def use(file: Path) -> None:
    """Load the saved model and step it, in the units of the log."""
    loaded = rc.load(file)
    system, (_, test) = loaded.explicit(), read_log()
    trajectory = rc.rollout(system, test.experiments[0].u[:100].astype(loaded.dtype))
    print(f"100 samples simulated again; the last output is {trajectory.ys[-1]} {test.output_units}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/NAME"), help="folder for all output files")
    parser.add_argument("--quick", action="store_true", help="few epochs, to check that it runs")
    given = parser.parse_args()
    main(given.quick, given.out)
    use(given.out / "NAME.safetensors")
